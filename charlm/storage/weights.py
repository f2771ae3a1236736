"""Weights of a model by name, and the checks of weights that were read from a file."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from charlm.models import CharModel, build
from charlm.models.counting import counting_parts, counts_of
from charlm.ngrams.trie import COUNTS


def weights_of(model: CharModel) -> dict[str, Tensor]:
    """Return parameters, buffers and counts by name; a shared parameter occurs once, under its first name."""
    named = model.state_dict(keep_vars=True)
    first_name = {id(weight): name for name, weight in reversed(named.items())}
    return {name: weight for name, weight in named.items() if first_name[id(weight)] == name} | counts_of(model)


def check_sizes(name: str, vocab_size: int, options: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Check, before a model is built, that its size is about that of the weights in the file.

    Raises:
        ValueError: an option is too large, or the weights do not fit.
    """
    n_weights = sum(weight.numel() for weight in weights.values())
    sizes = {option: value for option, value in options.items() if isinstance(value, int)}
    for option, value in sizes.items():
        if abs(value) > (max(1, len(weights)) if option == "n_layers" else max(4096, n_weights)):
            raise ValueError(f"{option} is {value}, too large for the weights in the file")
    if max(sizes.values(), default=0) ** 2 > max(2**20, n_weights):  # larger than any matrix in the file
        with torch.device("meta"):  # takes no memory, but seconds of imports
            check_shapes(build(name, vocab_size, **options), weights)


def check_shapes(model: CharModel, weights: dict[str, Tensor]) -> None:
    """Check the names and shapes of a model's weights, except the shapes of counts, which `load_counts` checks.

    Raises:
        ValueError: a weight is missing, unexpected or of another shape.
    """
    own, counts = weights_of(model), counts_of(model)
    if own.keys() != weights.keys():
        names = ", ".join(sorted(own.keys() ^ weights.keys())[:3])
        raise ValueError(f"weights missing or unexpected: {names}")
    for name in own.keys() - counts.keys():
        if own[name].shape != weights[name].shape:
            raise ValueError(f"{name} is {tuple(weights[name].shape)}, not {tuple(own[name].shape)}")


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
