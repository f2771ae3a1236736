from .dynamic import DynamicConfig, dynamic_nll
from .metrics import EvalResult, nats_to_bits
from .mixing import mixed_nll
from .protocol import TextRange, evaluate, per_char_nll

__all__ = [
    "DynamicConfig",
    "EvalResult",
    "TextRange",
    "dynamic_nll",
    "evaluate",
    "mixed_nll",
    "nats_to_bits",
    "per_char_nll",
]
