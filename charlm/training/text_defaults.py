"""Defaults that depend on the size of the text: model, batches, epochs, regularisation, early stopping.

They replace defaults only: an option that is given, or a recipe that is named, stays as it is. How the values were
chosen: docs/log.md.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from charlm import models
from charlm.data.corpus import Corpus
from charlm.models import CountingModel
from charlm.recipe import Recipe
from charlm.recipes import DEFAULT_RECIPE

LARGE = 400_000  # characters of the training part from which the defaults no longer depend on it
FEW = 200  # below it, counting is the default
MANY_SYMBOLS = 500  # from here on, counting is the default
MIN_STEPS = 300  # optimiser steps of a network's training at least, unless this takes more than MAX_EPOCHS
MAX_EPOCHS = 100
ABOUT_THE_TEXT = {"corpus", "split", "bytes", "lower", "min_count", "seed", "device", "save_steps", "save_minutes"}


def fit_to_text(start: Recipe, given: Collection[str], corpus: Corpus) -> tuple[Recipe, str]:
    """Return a recipe with defaults for a text, and a sentence about them.

    Args:
        start: the given options over the defaults of no recipe, see `recipes.default`.
        given: keys of the recipe and of its options that were given; they stay.
        corpus: the text.
    """
    if start.init_from is not None:
        return start, f"that of {start.init_from}"
    first, stop = corpus.bounds["train"]
    n, n_symbols = stop - first, len(corpus.vocab) - 1
    if "model" not in given and ABOUT_THE_TEXT.issuperset(given) and (n < FEW or n_symbols >= MANY_SYMBOLS):
        why = "too few characters to train a network" if n < FEW else f"a network over {n_symbols:,} symbols is slow"
        return replace(start, model="word-ngram", options={}), f"{why}: n-gram counts"
    architecture = models.find(start.model)
    if not architecture.uses_gradients or n >= LARGE:
        return start, "defaults of the model" if "model" in given else f"{DEFAULT_RECIPE} (default)"
    values = _experts(n) if issubclass(architecture, CountingModel) else _network(start, n)
    options = {k: v for k, v in values.pop("options").items() if k in models.options_of(start.model) and k not in given}
    batch_size = start.batch_size if "batch_size" in given and start.batch_size else values["batch_size"]
    is_windowed = (start.feed or architecture.default_feed) == "windows"
    length = 1 if is_windowed else start.bptt if "bptt" in given else values["bptt"]
    n_steps = values.pop("n_steps")
    per_epoch = max(1, n // (batch_size * length))
    epochs = min(MAX_EPOCHS, max(values.pop("min_epochs"), -(-n_steps // per_epoch)))
    values |= {"epochs": epochs}
    if start.schedule in ("constant", "one-cycle", "cosine") and "epochs" not in given:
        values["patience"] = max(3, epochs // 4)
    if start.minutes is not None:
        del values["epochs"]
    changes = {name: value for name, value in values.items() if name not in given}
    return start.replace(**changes, options=options), f"defaults for a text of {n:,} characters"


def _experts(n: int) -> dict[str, Any]:
    """Return the defaults of `lstm-ngram` for a training part of n characters."""
    lanes = max(1, min(32, n // 400))
    sizes = {"batch_size": lanes, "bptt": min(64, max(8, n // lanes // 2))}
    if n < 4000:
        strong = {"n_hidden": 32, "n_embed": 32, "head_dropout": 0.5, "input_dropout": 0.3}
        return sizes | {"learning_rate": 4e-3, "n_steps": 60 + n // 40, "min_epochs": 2, "options": strong}
    if n < 40_000:
        medium = {"n_hidden": 64, "n_embed": 32, "head_dropout": 0.5, "input_dropout": 0.3}
        return sizes | {"learning_rate": 4e-3, "n_steps": 200, "min_epochs": 2, "options": medium}
    weak = {"n_hidden": 128, "n_embed": 64, "head_dropout": 0.4, "input_dropout": 0.2}
    return sizes | {"learning_rate": 8e-3, "n_steps": 240, "min_epochs": 1, "options": weak}


def _network(start: Recipe, n: int) -> dict[str, Any]:
    """Return the defaults of any other network for a training part of n characters."""
    is_windowed = (start.feed or models.find(start.model).default_feed) == "windows"
    lanes = max(8, min(512, n // 16)) if is_windowed else max(1, min(32, n // 512))
    length = min(64, max(8, n // lanes // 2))
    dropout = 0.5 if n < 100_000 else 0.3
    options = {"head_dropout": dropout, "dropout": dropout / 2}
    return {"batch_size": lanes, "bptt": length, "n_steps": MIN_STEPS, "min_epochs": 10, "options": options}
