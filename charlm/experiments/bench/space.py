"""Hyper-parameters that are tuned: names, ranges, and the recipe with values for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from charlm import models
from charlm.errors import UsageError, did_you_mean, shown
from charlm.experiments.bench.entry import EntryName, is_ngram, size_option
from charlm.options.ranges import RANGES, Range, checked_number, model_option_range
from charlm.recipe import Recipe

NOT_TUNED = {"seed", "min_count", "epochs", "minutes", "patience", "save_steps", "save_minutes", "unfreeze_epochs"}
TUNED_KEYS = {key.name for key in fields(Recipe) if key.name in RANGES and "tuple" not in str(key.type)} - NOT_TUNED


@dataclass(frozen=True)
class Dimension:
    """A hyper-parameter and its range.

    Attributes:
        name: a key of the recipe, or an option of the model.
        low: lowest value.
        high: highest value. If it is at least 10 times a positive lowest one, the scale is logarithmic.
    """

    name: str
    low: float
    high: float

    @property
    def is_log(self) -> bool:
        """Whether the scale is logarithmic."""
        return self.low > 0 and self.high >= 10 * self.low

    def at(self, fraction: float) -> float:
        """Return the value at a fraction of the range, rounded."""
        if self.is_log:
            return self.rounded(self.low * (self.high / self.low) ** fraction)
        return self.rounded(self.low + fraction * (self.high - self.low))

    def rounded(self, value: float) -> float:
        """Return a value within the range, of 4 significant digits except at its ends."""
        return min(max(float(f"{value:.4g}"), self.low), self.high)


def parse_space(text: str) -> list[Dimension]:
    """Return the dimensions of `learning_rate=1e-3..3e-2,dropout=0..0.5`.

    Raises:
        UsageError: it has another form, a name twice, or a range that is empty or invalid for a key of the recipe.
    """
    found: dict[str, Dimension] = {}
    for part in text.split(","):
        name, _, bounds = part.strip().partition("=")
        name = name.replace("-", "_")
        try:
            low, high = map(float, bounds.split(".."))
        except ValueError:
            raise UsageError(f"--tune {shown(part)}: must be NAME=LOW..HIGH, as learning_rate=1e-3..3e-2") from None
        if name in found or not low < high:
            raise UsageError(
                f"--tune {shown(part)}: " + ("is given twice" if name in found else "LOW is not below HIGH")
            )
        if name in NOT_TUNED or (name in {key.name for key in fields(Recipe)} and name not in TUNED_KEYS):
            raise UsageError(f"--tune {name}: is the same for all trials; take it out")
        if name in TUNED_KEYS:
            _check(name, low, high, RANGES[name])
        found[name] = Dimension(name, low, high)
    return list(found.values())


def _check(name: str, low: float, high: float, bounds: Range) -> None:
    for value in (low, high):
        checked_number(
            f"--tune {name}", int(value) if bounds.kind is int and float(value).is_integer() else value, bounds
        )


def dimensions_of(recipe: Recipe, space: Sequence[Dimension], n_parameters: int | None = None) -> list[Dimension]:
    """Return the dimensions in which a recipe is tuned: those that its model has; none if the model only counts.

    Dropout between layers is tuned only if there are several or if their number is tuned, the hidden size only if
    `n_parameters` is None.

    Raises:
        UsageError: a range is invalid for an option of the model.
    """
    if is_ngram(recipe.model):
        return []
    known, found = models.options_of(recipe.model), []
    has_one_layer = "head_dropout" in known and (known | recipe.options).get("n_layers") == 1
    has_one_layer &= all(dimension.name != "n_layers" for dimension in space)
    size = None if n_parameters is None else size_option(recipe.model)
    for dimension in space:
        if dimension.name in TUNED_KEYS:
            found.append(dimension)
        elif dimension.name in known:
            bounds = model_option_range(dimension.name, known[dimension.name])
            if bounds is None:
                raise UsageError(f"--tune {dimension.name}: is no number for model {recipe.model}; take it out")
            _check(dimension.name, dimension.low, dimension.high, bounds)
            if dimension.name != size and not (dimension.name == "dropout" and has_one_layer):
                found.append(dimension)
    return found


def check_space(space: Sequence[Dimension], entries: Sequence[Recipe], n_parameters: int | None) -> None:
    """Check that each dimension is valid for the models, and that at least one of them is tuned in it.

    Raises:
        UsageError: one is not.
    """
    networks = [entry for entry in entries if not is_ngram(entry.model)]
    if not networks:
        raise UsageError("--tune: the models only count, and are not tuned; leave it out")
    tuned = {dimension.name for entry in networks for dimension in dimensions_of(entry, space, n_parameters)}
    known = {option for entry in networks for option in models.options_of(entry.model)} | TUNED_KEYS
    for dimension in space:
        if dimension.name not in known:
            raise UsageError(
                f"--tune {dimension.name}: none of the models has this option{did_you_mean(dimension.name, known)}"
            )
        if dimension.name not in tuned and dimension.name != "dropout":
            raise UsageError(f"--tune {dimension.name}: --parameters chooses it; leave out one of the two")
        if dimension.name not in tuned:
            raise UsageError(
                f"--tune {dimension.name}: it is between layers, and the models have one layer; take head_dropout, or "
                "more layers, as gru:n_layers=2"
            )


def check_names(names: Sequence[str], space: Sequence[Dimension]) -> None:
    """Check that no entry has an option in its name that the tuning would replace.

    Raises:
        UsageError: one has.
    """
    for name in map(EntryName.parse, names):
        for dimension in space:
            if dimension.name in {**name.keys, **name.options}:
                raise UsageError(f"{name.text}: --tune chooses {dimension.name}; leave out one of the two")


def rounded_values(recipe: Recipe, values: Mapping[str, float]) -> dict[str, Any]:
    """Return values of hyper-parameters, those of integers rounded."""
    known, found = models.options_of(recipe.model), {}
    for name, value in values.items():
        bounds = RANGES[name] if name in TUNED_KEYS else model_option_range(name, known[name])
        assert bounds is not None
        found[name] = bounds.kind(round(value) if bounds.kind is int else value)
    return found


def with_values(recipe: Recipe, values: Mapping[str, float]) -> Recipe:
    """Return a recipe with values of hyper-parameters, integers rounded."""
    found = rounded_values(recipe, values)
    options = {name: found.pop(name) for name in values if name not in TUNED_KEYS}
    return recipe.replace(**found, options=options)
