from .contest import Contest, run_contest
from .entry import entries, is_ngram, match_parameters, shared_keys
from .intervals import compare_pairs
from .reproduction import reproduce
from .results import Results, summary
from .rows import run_benchmark
from .space import parse_space
from .tuning import Tuning, tune

__all__ = [
    "Contest",
    "Results",
    "Tuning",
    "compare_pairs",
    "entries",
    "is_ngram",
    "match_parameters",
    "parse_space",
    "reproduce",
    "run_benchmark",
    "run_contest",
    "shared_keys",
    "summary",
    "tune",
]
