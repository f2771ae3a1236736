"""The same models without PyTorch, for writing: one step of each architecture in numpy.

An architecture that is not listed, and a model that is not quite what its step expects, is read by PyTorch; that is
slower and no other text. A test holds both ways equal for all that are listed.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.generation.steps.base import Steps, Weights

__all__ = ["STEPS", "Steps", "agrees", "prepare"]

STEPS = {  # name in MODELS: module and function
    "ngram": "ngram:ngram",
    "word-ngram": "word_ngram:word_ngram",
    "char3": "elman:char3",
    "loop": "elman:loop",
    "concat": "elman:concat",
    "rnn": "elman:rnn",
    "rnn-scratch": "elman:rnn",
    "gru": "gru:gru",
    "gru-scratch": "gru:gru",
    "lstm": "lstm:lstm",
    "lstm-scratch": "lstm:lstm",
    "awd-lstm": "lstm:awd_lstm",
    "lstm-ngram": "lstm_ngram:lstm_ngram",
    "mogrifier": "mogrifier:mogrifier",
    "min-gru": "min_rnn:min_gru",
    "min-lstm": "min_rnn:min_lstm",
    "mamba2": "mamba2:mamba2",
    "transformer": "transformer:transformer",
}

INITS = ("uniform", "identity")  # how weights began


def prepare(
    name: str, arrays: Mapping[str, NDArray[Any]], told: Mapping[str, Any], n_context: int | None = None
) -> Steps | None:
    """Lay a model's weights out for steps.

    Args:
        name: of the architecture.
        arrays: the weights, by the names of the model's `state_dict`.
        told: what they do not show: `vocab_size` and some options, see `CharModel.told`; more does no harm.
        n_context: characters in a window; None for a model that carries its state.

    Returns:
        the steps; None where there are none for such a model.
    """
    if name not in STEPS:
        return None
    module, function = STEPS[name].split(":")
    make = getattr(importlib.import_module(f"charlm.generation.steps.{module}"), function)
    try:
        weights = Weights(arrays, told)
        with np.errstate(over="raise", invalid="raise"):  # weights that have run away
            steps: Steps = make(weights)
    except (ValueError, FloatingPointError):
        return None
    return steps if not weights.arrays and steps.n_context in (None, n_context) else None


def agrees(steps: Steps, options: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint's options are those that its weights show, and the others change nothing in a step.

    Args:
        steps: of the weights.
        options: of the model's constructor, all of them.
    """
    for key, shown in steps.options.items():
        value = options.get(key)
        if type(value) is not (int if isinstance(shown, range) else type(shown)):
            return False
        if value not in shown if isinstance(shown, range) else value != shown:
            return False
    for key in options.keys() - steps.options.keys():
        is_dropout = "dropout" in key and type(options[key]) in (int, float) and 0 <= options[key] < 1
        if not is_dropout and not (key == "init" and options[key] in INITS):
            return False
    return True
