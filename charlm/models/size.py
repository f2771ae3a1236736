"""Size of a model before it is built: its parameters are counted on PyTorch's device "meta", which takes no memory."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from charlm.errors import UsageError
from charlm.models.base import CharModel

PARAMETER_BYTES = 4
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def machine_memory() -> float:
    """Return the memory of this machine, or of this container, in bytes; infinite where it is not known."""
    try:
        memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):  # Windows
        return math.inf
    try:
        return min(memory, float(CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no control group, or "max"
        return memory


def count_parameters(architecture: type[CharModel], vocab_size: int, options: Mapping[str, Any]) -> float:
    """Return the number of parameters of a model; infinite if a weight is too large for PyTorch."""
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            return sum(parameter.numel() for parameter in architecture(vocab_size, **options).parameters())
    except RuntimeError:
        return math.inf


def check_memory(
    architecture: type[CharModel],
    vocab_size: int,
    options: Mapping[str, Any],
    defaults: Mapping[str, Any],
    memory: float,
    where: str = "",
) -> None:
    """Check that the parameters of a model fit into memory.

    Args:
        architecture: its class.
        vocab_size: V.
        options: constructor options, within their ranges.
        defaults: all options with their defaults.
        memory: available bytes.
        where: begins the message.

    Raises:
        UsageError: they do not fit; names the option that exceeds its default by most.
    """
    sizes = {name: options.get(name, value) for name, value in defaults.items() if type(value) is int}
    widest = max([vocab_size, *(value for name, value in sizes.items() if name != "n_layers")])
    if 64 * widest**2 * sizes.get("n_layers", 1) * PARAMETER_BYTES <= memory:  # an upper bound, faster
        return
    needed = PARAMETER_BYTES * count_parameters(architecture, vocab_size, options)
    if needed > memory:
        option = max(sizes, key=lambda name: sizes[name] / defaults[name], default="vocab_size")
        value = sizes.get(option, vocab_size)
        raise UsageError(
            f"{where}{option} is {value}: the weights need {needed / 1e9:,.1f} GB of memory, and this machine has "
            f"{memory / 1e9:,.1f} GB; lower {option}"
        )
