from .codec import Report, compress, decompress
from .models import CodingModel, find_model, load_model

__all__ = ["CodingModel", "Report", "compress", "decompress", "find_model", "load_model"]
