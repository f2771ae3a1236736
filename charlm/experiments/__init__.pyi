from .baselines import baselines
from .bench import entries, run_benchmark, summary
from .lesson import train_ladder
from .lr_find import find_rate

__all__ = [
    "baselines",
    "entries",
    "find_rate",
    "run_benchmark",
    "summary",
    "train_ladder",
]
