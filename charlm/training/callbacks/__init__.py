"""What can be added to a training."""

from charlm.training.callbacks.averaging import MovingAverage
from charlm.training.callbacks.contention import Contention
from charlm.training.callbacks.forgiving import Forgiving
from charlm.training.callbacks.measuring import Meter, Samples, Validate
from charlm.training.callbacks.reporting import History, Progress, TensorBoard
from charlm.training.callbacks.saving import Save
from charlm.training.callbacks.steering import (
    ClipGradient,
    EarlyStop,
    PenaliseActivations,
    Schedule,
    SkipNonFinite,
    StopOnSignal,
)

__all__ = [
    "ClipGradient",
    "Contention",
    "EarlyStop",
    "Forgiving",
    "History",
    "Meter",
    "MovingAverage",
    "PenaliseActivations",
    "Progress",
    "Samples",
    "Save",
    "Schedule",
    "SkipNonFinite",
    "StopOnSignal",
    "TensorBoard",
    "Validate",
]
