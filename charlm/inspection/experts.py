"""Weights of n-gram experts at each character.

`lstm-ngram` predicts with p = softmax(W h_t + b + g_1 e_1 + ... + g_K e_K); this is g (models/lstm_ngram.py).

Shapes: N characters, H n_hidden, K experts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import UsageError
from charlm.generation.language_model import LanguageModel
from charlm.models.lstm_ngram import LSTMNGram

Numbers = NDArray[Any]
FOLDED_CONTEXTS = ("current word", "word before", "second word before", "last mark", "column")  # word_contexts.py


def expert_names(model: LanguageModel) -> list[str]:
    """Return the names of the K experts; none for a model without experts."""
    if not isinstance(model.model, LSTMNGram):
        return []
    experts = model.model.experts
    kinds = ["characters", "words"] if experts.words is not None else ["characters"]
    names = [f"n-grams of {kind}" for kind in kinds] + [f"cache of {kind}" for kind in kinds if experts.cache_model]
    return names + [f"folded words: {context}" for context in FOLDED_CONTEXTS[: experts.n_experts - experts.n_main]]


def expert_weights(model: LanguageModel, hidden: Numbers) -> Numbers:
    """Return g for the prediction after each character, float32, (N, K).

    Args:
        model: with experts.
        hidden: h_t of the last layer, see `units.activations`, (N, H).

    Raises:
        UsageError: the model has no experts.
    """
    if not isinstance(model.model, LSTMNGram):
        raise UsageError(f"{model.metadata.model} has no n-gram experts")
    layer: Any = model.model.head.expert_weights
    weight, bias = (part.detach().float().cpu().numpy() for part in (layer.weight, layer.bias))
    result: Numbers = np.asarray(hidden @ weight.T + bias, np.float32)
    return result
