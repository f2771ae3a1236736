"""Numpy engines: architectures that sample without PyTorch.

An engine is optional. An architecture without one, and a model whose weights or options are not exactly those expected,
is sampled by its own forward pass, with the same text for the same seed. So are several texts at once of models that
count; the recurrent engines read them as one batch.
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
WINDOWS = {"char3": 3}  # n_context of architectures that read nothing else


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
        the engine; None if the architecture has none for so many texts, or a weight or an option is not as expected.
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
    return engine if n_texts is None or isinstance(engine, recurrent.RecurrentStepper) else None
