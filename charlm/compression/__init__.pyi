from .codec import Report, compress, decompress
from .models import CodingModel, adaptive_model, find_model, load_model, model_for

__all__ = [
    "CodingModel",
    "Report",
    "adaptive_model",
    "compress",
    "decompress",
    "find_model",
    "load_model",
    "model_for",
]
