"""Weights of a model by name, and the checks of weights that were read from a file."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from charlm.models import CharModel, CountingModel, build, find, options_of
from charlm.models.counting import counting_parts, counts_of
from charlm.ngrams.trie import COUNTS
from charlm.options.ranges import MAX_MODULES, MAX_SIZE

MODULES = ("n_layers", "n_rounds")  # options that are numbers of modules, each with weights of its own


def weights_of(model: CharModel) -> dict[str, Tensor]:
    """Return parameters, buffers and counts by name; a shared parameter occurs once, under its first name."""
    named = model.state_dict(keep_vars=True)
    first_name = {id(weight): name for name, weight in reversed(named.items())}
    return {name: weight for name, weight in named.items() if first_name[id(weight)] == name} | counts_of(model)


def check_architecture(
    name: str, vocab_size: int, options: dict[str, Any], n_context: int | None, weights: dict[str, Tensor]
) -> None:
    """Check metadata against the architecture, and before a model is built, its size against that of the weights.

    Args:
        name: architecture.
        vocab_size: V.
        options: of the constructor.
        n_context: characters in a window; None for a model that carries a state.
        weights: of the file.

    Raises:
        ValueError: the window is not one of the architecture, an option is too large, or the weights do not fit.
    """
    architecture = find(name)
    if architecture.n_context is not None and n_context != architecture.n_context:
        raise ValueError(f"n_context is {n_context}, that of model {name} is {architecture.n_context}")
    if n_context is not None and issubclass(architecture, CountingModel) and architecture.uses_gradients:
        raise ValueError(f"n_context is {n_context}, but model {name} has no window")
    known = options_of(name) | options
    sizes = {key: value for key, value in known.items() if isinstance(value, int) and not isinstance(value, bool)}
    for key, value in sizes.items():
        if abs(value) > MAX_SIZE:
            raise ValueError(f"{key} is {value}, more than {MAX_SIZE}")
    if empty := [key for key, weight in weights.items() if weight.numel() == 0 and COUNTS not in key]:
        raise ValueError(f"weights without values: {', '.join(empty[:3])}")
    n_modules = math.prod(sizes.pop(key, 1) for key in MODULES)
    if n_modules > min(MAX_MODULES, max(len(weights), 64)):
        raise ValueError(f"{' x '.join(MODULES)} is {n_modules} for {len(weights)} weights; at most {MAX_MODULES}")
    n_weights, largest = sum(weight.numel() for weight in weights.values()), max(sizes.values(), default=0)
    if (vocab_size + n_modules * largest) * largest > max(2**20, 4 * n_weights):  # far larger than the file
        with torch.device("meta"):  # takes no memory, but seconds of imports
            check_shapes(build(name, vocab_size, **options), weights)


def check_shapes(model: CharModel, weights: dict[str, Tensor]) -> None:
    """Check the names and shapes of a model's weights, except the shapes of counts, which `load_counts` checks.

    Raises:
        ValueError: a weight is missing, unexpected, of another shape or kind of number, or not finite.
    """
    own, counts = weights_of(model), counts_of(model)
    if own.keys() != weights.keys():
        names = ", ".join(sorted(own.keys() ^ weights.keys())[:3])
        raise ValueError(f"weights missing or unexpected: {names}")
    for name in own.keys() - counts.keys():
        if own[name].shape != weights[name].shape:
            raise ValueError(f"{name} is {tuple(weights[name].shape)}, not {tuple(own[name].shape)}")
        if own[name].is_floating_point() != weights[name].is_floating_point():
            raise ValueError(f"{name} is of type {weights[name].dtype}")
        if not weights[name].isfinite().all():
            raise ValueError(f"{name} is not finite")


def set_weights(model: CharModel, weights: dict[str, Tensor]) -> None:
    """Copy weights into a model, converted to its types, and load its counts.

    Raises:
        ValueError: a weight is missing, unexpected or of another shape, or counts are not valid.
    """
    check_shapes(model, weights)
    counts = counts_of(model)
    for name, weight in weights_of(model).items():
        if name not in counts:
            weight.data.copy_(weights[name])
    for prefix, part in counting_parts(model).items():
        part.load_counts({name: weights[f"{prefix}{COUNTS}{name}"] for name in part.counts.arrays()})
