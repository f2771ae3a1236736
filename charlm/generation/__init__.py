"""A trained model in use: text generation and scoring.

Read first: sampler.py (logits to the next character, in a loop), then language_model.py (`LanguageModel`: sample,
score, save). generator.py is its base class: prompt and options to text. A stepper computes the logits:
torch_stepper.py by the forward pass, numpy_engine.py without PyTorch (numpy_generator.py reads a checkpoint for it).
mixture.py: the mean of several models.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
