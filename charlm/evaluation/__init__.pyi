from .dynamic import DynamicConfig, dynamic_nll
from .metrics import EvalResult, evaluate, nats_to_bits, per_char_nll

__all__ = [
    "DynamicConfig",
    "EvalResult",
    "dynamic_nll",
    "evaluate",
    "nats_to_bits",
    "per_char_nll",
]
