from .baselines import baselines
from .bench import entries, run_benchmark, summary
from .compare import compare_runs
from .evaluate import evaluate_models
from .lesson import train_ladder, train_protocol
from .lr_find import find_rate

__all__ = [
    "baselines",
    "compare_runs",
    "entries",
    "evaluate_models",
    "find_rate",
    "run_benchmark",
    "summary",
    "train_ladder",
    "train_protocol",
]
