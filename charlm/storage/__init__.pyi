from .checkpoint import Metadata, load, read, save
from .runs import all_runs, find_checkpoint, find_run

__all__ = [
    "Metadata",
    "all_runs",
    "find_checkpoint",
    "find_run",
    "load",
    "read",
    "save",
]
