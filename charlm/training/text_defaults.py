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
FOLDED = 2_000  # from here on, experts of folded words are used
MANY_SYMBOLS = 500  # from here on, counting is the default
MIN_STEPS, MIN_EPOCHS = 300, 10  # of a network without counts at least
MAX_EPOCHS = 100
DROPOUT = {"head_dropout": 0.25, "dropout": 0.25}  # of a network without counts that has none by its own defaults
EXPERT_DROPOUT = {"head_dropout": 0.5, "input_dropout": 0.3}
NOT_ABOUT_THE_MODEL = {"corpus", "split", "bytes", "lower", "min_count", "seed", "device", "save_steps", "save_minutes"}


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
    if "model" not in given and NOT_ABOUT_THE_MODEL.issuperset(given) and (n < FEW or n_symbols >= MANY_SYMBOLS):
        why = "too few characters to train a network" if n < FEW else f"a network over {n_symbols:,} symbols is slow"
        return replace(start, model="word-ngram", options={}), f"{why}: n-gram counts"
    architecture = models.find(start.model)
    if not architecture.uses_gradients or n >= LARGE:
        return start, "defaults of the model" if "model" in given else f"{DEFAULT_RECIPE} (default)"
    is_windowed = (start.feed or architecture.default_feed) == "windows"
    lanes = max(8, min(512, n // 16)) if is_windowed else max(1, min(32, n // 400))
    values: dict[str, Any] = {"batch_size": lanes, "bptt": min(64, max(8, n // lanes // 2))}
    n_steps, n_epochs = MIN_STEPS, MIN_EPOCHS
    own = models.options_of(start.model)
    options: dict[str, Any] = {name: rate for name, rate in DROPOUT.items() if own.get(name) == 0}
    if issubclass(architecture, CountingModel):
        n_hidden, values["learning_rate"] = (64, 4e-3) if n < 40_000 else (128, 8e-3)
        n_steps, n_epochs = min(200, 60 + n // 40), 1
        options = {**EXPERT_DROPOUT, "n_hidden": n_hidden, "n_embed": n_hidden // 2}
        if "folded_words" in own:
            options["folded_words"] = n >= FOLDED
    values = {k: v for k, v in values.items() if k not in given or getattr(start, k) is None}
    options = {k: v for k, v in options.items() if k not in given}
    recipe = start.replace(**values, options=options)
    assert recipe.batch_size is not None
    per_epoch = max(1, n // (recipe.batch_size * (1 if is_windowed else recipe.bptt)))
    if start.minutes is None and "epochs" not in given:
        epochs = min(MAX_EPOCHS, max(n_epochs, -(-n_steps // per_epoch)))
        stops = "patience" not in given and start.schedule in ("constant", "one-cycle", "cosine")
        recipe = recipe.replace(epochs=epochs, **({"patience": max(3, epochs // 4)} if stops else {}))
    return recipe, f"defaults for a text of {n:,} characters"
