"""What can be added to a training."""

from charlm.training.callbacks.averaging import EMA
from charlm.training.callbacks.contention import WarnOversubscription
from charlm.training.callbacks.forgiving import IgnoreIOErrors
from charlm.training.callbacks.measuring import Samples, TrainingStats, Validate
from charlm.training.callbacks.reporting import JSONLinesLogger, Progress, TensorBoard
from charlm.training.callbacks.saving import ModelCheckpoint
from charlm.training.callbacks.steering import (
    ActivationRegularization,
    ClipGradient,
    EarlyStop,
    Schedule,
    SkipNonFinite,
    StopOnSignal,
)

__all__ = [
    "ActivationRegularization",
    "ClipGradient",
    "EMA",
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
