"""Weights: out of a model and into one, with what must be checked of weights that come from a file."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from charlm.models import CharModel, build
from charlm.models.counting import counting_parts


def weights_of(model: CharModel) -> dict[str, Tensor]:
    """Return all that a model learned, parameters and counts, by name; what is shared once."""
    named = model.state_dict(keep_vars=True)
    first_name = {id(weight): name for name, weight in reversed(named.items())}
    return {name: weight for name, weight in named.items() if first_name[id(weight)] == name}


def check_sizes(name: str, vocab_size: int, options: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Check that the model can be made without much more memory and time than the file's size tells.

    Raises:
        ValueError: an option that asks for more, or weights that do not fit.
    """
    n_weights = sum(weight.numel() for weight in weights.values())
    sizes = {option: value for option, value in options.items() if isinstance(value, int)}
    for option, value in sizes.items():
        if abs(value) > (max(1, len(weights)) if option == "n_layers" else max(4096, n_weights)):
            raise ValueError(f"{option} is {value}, too much for what is in the file")
    if max(sizes.values(), default=0) ** 2 > max(2**20, n_weights):  # larger than a matrix that is there
        with torch.device("meta"):  # takes no memory, but seconds to import what it needs
            check_shapes(build(name, vocab_size, **options), weights)


def check_shapes(model: CharModel, weights: dict[str, Tensor]) -> None:
    """Check that a model has just these weights; the shapes of counts are the counting model's business.

    Raises:
        ValueError: a weight is missing, in excess or of another shape.
    """
    own = weights_of(model)
    if own.keys() != weights.keys():
        names = ", ".join(sorted(own.keys() ^ weights.keys())[:3])
        raise ValueError(f"weights missing or in excess: {names}")
    counts = tuple(counting_parts(model))
    for name, weight in own.items():
        if weight.shape != weights[name].shape and not name.startswith(counts):
            raise ValueError(f"{name} is {tuple(weights[name].shape)}, not {tuple(weight.shape)}")


def set_weights(model: CharModel, weights: dict[str, Tensor]) -> None:
    """Copy weights into a model, converted to its types; what counts takes over the counts.

    Raises:
        ValueError: a weight is missing, in excess or of another shape, or counts do not hold together.
    """
    check_shapes(model, weights)
    counting = counting_parts(model)
    for begin, part in counting.items():
        part.load_counts({name.removeprefix(begin): w for name, w in weights.items() if name.startswith(begin)})
    for name, weight in weights_of(model).items():
        if not name.startswith(tuple(counting)):
            weight.data.copy_(weights[name])
