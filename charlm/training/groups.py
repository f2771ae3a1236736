"""Layer groups: the parameters of a model from embedding to head, for freezing and for learning rates of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from charlm.errors import UsageError

_NUMBER = re.compile(r"\.(\d+)\.|_l(\d+)")  # of a layer in a list of modules, and in PyTorch's recurrent layers

Groups = dict[str, list[nn.Parameter]]


def layer_groups(model: nn.Module) -> Groups:
    """Return the parameters by group, in order: "embed", "layers.0", "layers.1", ..., "head".

    A group is a module of the model, or a numbered layer of its `layers`. A shared parameter is in its first group.
    """
    groups: Groups = {}
    for name, parameter in model.named_parameters():
        group, _, rest = name.partition(".")
        if group == "layers":
            number = _NUMBER.search(f".{rest}")
            group += "." + (next(filter(None, number.groups())) if number else rest.partition(".")[0])
        groups.setdefault(group, []).append(parameter)
    return groups


def frozen_groups(groups: Groups, freeze: Sequence[str]) -> set[str]:
    """Return the groups that keep their weights.

    Args:
        groups: of the model.
        freeze: names of groups; "layers" stands for all groups that begin with "layers.".

    Raises:
        UsageError: there is no such group, or no other is left.
    """
    frozen = set()
    for name in freeze:
        found = {group for group in groups if group == name or group.startswith(f"{name}.")}
        if not found:
            raise UsageError(f"freeze: no layer group {name!r}; the model has: {', '.join(groups) or 'none'}")
        frozen |= found
    if frozen == set(groups):
        raise UsageError("freeze: all layer groups are frozen and nothing is left to train; leave out one of them")
    return frozen


def rate_factors(groups: Groups, rates: Sequence[float]) -> dict[str, float]:
    """Return the factor of the learning rate of each group.

    Args:
        groups: of the model.
        rates: one for each group, or three: of the first, of those between, and of the last.

    Raises:
        UsageError: another number of rates.
    """
    if len(rates) == 3 and len(groups) > 3:
        rates = [rates[0], *[rates[1]] * (len(groups) - 2), rates[2]]
    if len(rates) != len(groups):
        raise UsageError(
            f"group_rates: {len(rates)} for {len(groups)} layer groups ({', '.join(groups)}); give one for each, "
            "or three: first, those between, last"
        )
    return dict(zip(groups, rates, strict=True))
