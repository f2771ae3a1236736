from .averaging import EMA
from .contention import WarnOversubscription
from .forgiving import IgnoreIOErrors
from .measuring import Samples, TrainingStats, Validate
from .reporting import JSONLinesLogger, Progress, TensorBoard
from .saving import ModelCheckpoint
from .steering import ActivationRegularization, ClipGradient, EarlyStop, Schedule, SkipNonFinite, StopOnSignal

__all__ = [
    "EMA",
    "ActivationRegularization",
    "ClipGradient",
    "EarlyStop",
    "IgnoreIOErrors",
    "JSONLinesLogger",
    "ModelCheckpoint",
    "Progress",
    "Samples",
    "Schedule",
    "SkipNonFinite",
    "StopOnSignal",
    "TensorBoard",
    "TrainingStats",
    "Validate",
    "WarnOversubscription",
]
