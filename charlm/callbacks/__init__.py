"""What can be added to a training."""

from charlm.callbacks.measuring import Meter, Samples, Validate
from charlm.callbacks.reporting import History, Progress, TensorBoard
from charlm.callbacks.saving import Save
from charlm.callbacks.steering import ClipGradient, EarlyStop, Schedule, StopOnInterrupt

__all__ = [
    "ClipGradient",
    "EarlyStop",
    "History",
    "Meter",
    "Progress",
    "Samples",
    "Save",
    "Schedule",
    "StopOnInterrupt",
    "TensorBoard",
    "Validate",
]
