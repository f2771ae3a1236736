from .generator import TextGenerator
from .language_model import LanguageModel
from .mixture import Mixture, mix
from .sampler import SamplingParams, Stepper

__all__ = [
    "LanguageModel",
    "Mixture",
    "SamplingParams",
    "Stepper",
    "TextGenerator",
    "mix",
]
