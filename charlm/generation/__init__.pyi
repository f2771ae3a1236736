from .generator import TextGenerator
from .hub_folder import save_hub_folder
from .language_model import LanguageModel
from .mixture import Mixture, mix
from .onnx_export import onnx_model
from .sampler import SamplingParams, Stepper

__all__ = [
    "LanguageModel",
    "Mixture",
    "SamplingParams",
    "Stepper",
    "TextGenerator",
    "mix",
    "onnx_model",
    "save_hub_folder",
]
