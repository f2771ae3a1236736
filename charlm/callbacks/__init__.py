"""What can be added to a training."""

from charlm.callbacks.averaging import MovingAverage
from charlm.callbacks.contention import Contention
from charlm.callbacks.forgiving import Forgiving
from charlm.callbacks.measuring import Meter, Samples, Validate
from charlm.callbacks.reporting import History, Progress, TensorBoard
from charlm.callbacks.saving import Save
from charlm.callbacks.steering import (
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
