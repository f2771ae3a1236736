"""What can be added to a training."""

from charlm.callbacks.averaging import MovingAverage
from charlm.callbacks.measuring import Meter, Samples, Validate
from charlm.callbacks.reporting import History, Progress, TensorBoard
from charlm.callbacks.saving import Save
from charlm.callbacks.steering import ClipGradient, EarlyStop, PenaliseActivations, Schedule, StopOnSignal

__all__ = [
    "ClipGradient",
    "EarlyStop",
    "History",
    "Meter",
    "MovingAverage",
    "PenaliseActivations",
    "Progress",
    "Samples",
    "Save",
    "Schedule",
    "StopOnSignal",
    "TensorBoard",
    "Validate",
]
