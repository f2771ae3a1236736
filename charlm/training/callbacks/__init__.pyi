from .ema import EMA
from .freezing import Freeze
from .gradient_flow import MeasureGradientFlow
from .ignore_errors import IgnoreIOErrors
from .measuring import Samples, TrainingStats, Validate, ValidationCurve
from .oversubscription import WarnOversubscription
from .reporting import JSONLinesLogger, Progress, TensorBoard, write_final_scores
from .saving import ModelCheckpoint
from .signals import StopOnSignal
from .steering import (
    ActivationRegularization,
    AllReduceGradients,
    ClipGradient,
    EarlyStop,
    Schedule,
    SkipNonFinite,
)

__all__ = [
    "EMA",
    "ActivationRegularization",
    "AllReduceGradients",
    "ClipGradient",
    "EarlyStop",
    "Freeze",
    "IgnoreIOErrors",
    "JSONLinesLogger",
    "MeasureGradientFlow",
    "ModelCheckpoint",
    "Progress",
    "Samples",
    "Schedule",
    "SkipNonFinite",
    "StopOnSignal",
    "TensorBoard",
    "TrainingStats",
    "Validate",
    "ValidationCurve",
    "WarnOversubscription",
    "write_final_scores",
]
