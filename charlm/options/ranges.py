"""Types and ranges of all numeric options, in one table: recipes, Python and the command line check a value with it."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any

from charlm.errors import UsageError, shown

MAX_COUNT = 2**53  # integers up to here are exact in JSON
MAX_NUMBER = 1e18  # the product of two such numbers fits into float32
MAX_RATE = 1e30  # also in float32 after a factor of 1000
MAX_CONTEXT = 4096  # characters of a window, all of which are read again for each character sampled
MAX_SEGMENT = 1 << 20  # characters
MAX_MODULES = 1000  # layers, and rounds of each; a file with more is refused
MAX_SIZE = 1 << 16  # of any other option of a model


@dataclass(frozen=True)
class Range:
    """Type and bounds of a number.

    Attributes:
        minimum: lower bound.
        maximum: upper bound.
        above: the number must exceed `minimum`.
        below: the number must be less than `maximum`.
        kind: int or float.
    """

    minimum: int = 0
    maximum: int | float = MAX_COUNT
    above: bool = False
    below: bool = False
    kind: type = int

    def convert(self, value: Any) -> int | float | None:
        """Return a value as a number of this type; None if it is none. A Boolean is not a number."""
        try:
            if self.kind is int:
                return None if isinstance(value, bool) else operator.index(value)
            return float(value) if isinstance(value, Real) and not isinstance(value, bool) else None
        except TypeError:
            return None
        except OverflowError:
            return float("inf")

    def contains(self, number: float) -> bool:
        """Return whether a number is within the bounds; NaN never is."""
        exceeds = self.minimum < number if self.above else self.minimum <= number
        return exceeds and (number < self.maximum if self.below else number <= self.maximum)

    def describe(self, number: float) -> str:
        """Describe the bounds; an upper one that only keeps numbers representable, if `number` is above it."""
        low = f"{'above' if self.above else 'at least'} {self.minimum}"
        keeps_representable = self.maximum == MAX_COUNT or (self.kind is float and self.maximum >= MAX_NUMBER)
        if keeps_representable and not number > self.maximum:
            return f"{low} and finite" if math.isnan(number) else low
        if self.kind is int and self.maximum >= 2**32:
            high = f"2^{int(self.maximum).bit_length() - 1}"
        else:
            high = f"{self.maximum:g}" if self.kind is float else f"{self.maximum:,}"
        return f"{low} and {'below' if self.below else 'at most'} {high}"


_number = partial(Range, maximum=MAX_NUMBER, kind=float)
_fraction = partial(Range, maximum=1, kind=float)
_rate = _number(maximum=MAX_RATE, above=True)
_positive = Range(1)
_size = Range(1, MAX_SIZE)

RANGES = {
    # text
    "min_count": _positive,
    "n_context": Range(1, MAX_CONTEXT),
    "stride": _positive,
    "bptt": _positive,
    "batch_size": _positive,
    # optimiser
    "learning_rate": _rate,
    "momentum": _fraction(below=True),
    "weight_decay": _number(),
    "clip": _number(above=True),
    "label_smoothing": _fraction(below=True),
    "ar": _number(),
    "tar": _number(),
    "ema": _fraction(below=True),
    "group_rates": _number(maximum=1000),
    "seed": Range(0, 2**64, below=True),
    # schedule, in epochs or minutes
    "unfreeze_epochs": _number(),
    "warmup_epochs": _number(),
    "hold_epochs": _number(),
    "drop_epochs": _number(),
    "n_cycles": Range(1, 64),
    "epochs": _positive,
    "minutes": _number(above=True),
    "patience": _positive,
    "save_steps": _positive,
    "save_minutes": _number(),
    # model
    "n_embed": _size,
    "n_hidden": _size,
    "n_layers": Range(1, MAX_MODULES),
    "n_rounds": Range(1, MAX_MODULES),
    "order": Range(1, 32),  # of n-grams
    "dropout": _fraction(below=True),
    # learning-rate range test, benchmark
    "lowest": _rate,
    "highest": _rate,
    "n_steps": Range(20, 10**6),
    "seeds": Range(1, 10**6),
    "parameters": _positive,
    "chars": _positive,
    "trials": Range(1, 10_000),
    "rows": _positive,
    # sampling
    "length": Range(0),
    "n_texts": _positive,
    "lines": _positive,
    "top": Range(0),
    "port": Range(0, 65535),
    "blocks": Range(1, 1024),  # parts of a text that are compressed in lockstep
    "temperature": _number(),
    "top_k": _positive,
    "top_p": _fraction(above=True),
    "min_p": _fraction(above=True),
    # dynamic evaluation
    "rate": _number(maximum=1e38),
    "decay": _fraction(),
    "segment_len": Range(1, MAX_SEGMENT),
}


def model_option_range(name: str, default: Any) -> Range | None:
    """Return the range of an option of a model's constructor; None if the option is not a number.

    Args:
        name: of the option; one that the table lacks has the range of a dropout rate, of a number, or of a size.
        default: its default value.
    """
    if isinstance(default, bool) or not isinstance(default, (int, float)):
        return None
    if "dropout" in name:
        return RANGES["dropout"]
    return RANGES.get(name, _size if isinstance(default, int) else _number())


def checked_number(name: str, value: Any, bounds: Range | None = None, where: str = "") -> Any:
    """Return a number, converted to the type of an option, if it is in the range.

    Args:
        name: of the option.
        value: any.
        bounds: its range; None takes that of the table.
        where: begins the message.

    Raises:
        UsageError: the value has another type, or is out of range.
    """
    bounds = bounds or RANGES[name]
    number = bounds.convert(value)
    if number is None:
        kind = "an integer" if bounds.kind is int else "a number"
        raise UsageError(f"{where}{name} must be {kind}, got {shown(value)}")
    if not bounds.contains(number):
        raise UsageError(f"{where}{name} must be {bounds.describe(number)}, got {shown(value)}")
    return number


def plain_number(value: Any) -> Any:
    """Return a number, also one of numpy, as int or float; any other value as it is."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return operator.index(value) if isinstance(value, Integral) else float(value)
