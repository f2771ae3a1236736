"""Numpy engines: architectures that sample without PyTorch.

An engine is optional. Without one, a model is sampled by its own forward pass, with the same text for the same seed.
This also applies to weights or options that an engine does not expect, and to `ngram` and `word-ngram` if several texts
are sampled at once. The other engines read several texts as one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.generation import numpy_ngrams as ngrams
from charlm.generation import numpy_recurrent as recurrent
from charlm.generation.numpy_weights import Weights
from charlm.generation.sampler import Stepper

ENGINES: dict[str, Callable[[Weights], Stepper]] = {
    "char3": recurrent.loop,
    "loop": recurrent.loop,
    "concat": recurrent.concat,
    "rnn": recurrent.rnn,
    "rnn-scratch": recurrent.rnn,
    "gru": recurrent.gru,
    "gru-scratch": recurrent.gru,
    "lstm": recurrent.lstm,
    "lstm-scratch": recurrent.lstm,
    "awd-lstm": recurrent.awd_lstm,
    "ngram": ngrams.ngram,
    "word-ngram": ngrams.word_ngram,
    "lstm-ngram": ngrams.lstm_ngram,
}
WINDOWS = {"char3": 3}  # n_context of architectures with a fixed window


def make_engine(
    name: str,
    arrays: Mapping[str, NDArray[Any]],
    config: Mapping[str, Any],
    vocab_size: int,
    n_context: int | None = None,
    n_texts: int | None = None,
) -> Stepper | None:
    """Build the numpy engine of a model.

    Args:
        name: architecture.
        arrays: weights as a checkpoint contains them.
        config: options of the model's constructor, defaults included.
        vocab_size: V.
        n_context: characters in a window; None for a model that carries a state.
        n_texts: number of texts read at once; None for one.

    Returns:
        the engine; None if there is none for this architecture and number of texts, or for such weights or options.
    """
    if name not in ENGINES or WINDOWS.get(name, n_context) != n_context:
        return None
    weights = Weights(arrays, config, vocab_size)
    try:
        with np.errstate(over="raise", invalid="raise"):  # diverged weights
            engine = ENGINES[name](weights)
        weights.check_all_used()
    except (ValueError, FloatingPointError):
        return None
    return None if n_texts is not None and isinstance(engine, ngrams.NGramStepper) else engine
