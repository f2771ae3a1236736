from .loop import Callback, TrainState, fit, train_epoch
from .session import train
from .trainer import Trainer

__all__ = [
    "Callback",
    "TrainState",
    "Trainer",
    "fit",
    "train",
    "train_epoch",
]
