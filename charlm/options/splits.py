"""Splits: proportions of training, validation and test part, and the order of the text before it is cut.

A split is named in `SPLITS`, or given as proportions: "90/5/5". "random20": the feed holds out a random fifth of the
*windows* of the whole text, as in the lesson; their characters overlap those of training windows. "nanogpt" is the
split of nanoGPT's character data, except for rounding; it has no test part. "char-rnn" is that of char-rnn with its
default options. "makemore" is that of the makemore lectures, for texts with one item a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from charlm.errors import UsageError, did_you_mean, shown

PARTS = ("train", "valid", "test")
STANDARD = "standard"
Bounds = dict[str, tuple[int, int]]  # first and one-past-last position of each part
_PROPORTIONS = re.compile(r"([0-9]{1,15})/([0-9]{1,15})/([0-9]{1,15})", re.ASCII)


@dataclass(frozen=True)
class Split:
    """A split of a text.

    Attributes:
        weights: proportions of training, validation and test part.
        order: order of the text before it is cut: "text" as it is, "lanes" or "lines" (data/arrangement.py).
    """

    weights: tuple[int, int, int]
    order: str = "text"

    def cuts(self, n: int) -> tuple[Fraction, Fraction]:
        """Return the ends of the training and of the validation part of `n` items, not rounded."""
        train, valid, _ = (Fraction(n * weight, sum(self.weights)) for weight in self.weights)
        return train, train + valid

    def bounds(self, n: int) -> Bounds:
        """Return the bounds of the parts of a text of `n` characters that is cut as it is."""
        first, second = (round(cut) for cut in self.cuts(n))
        return {"train": (0, first), "valid": (first, second), "test": (second, n)}


SPLITS = {
    STANDARD: Split((80, 10, 10)),
    "tail20": Split((80, 20, 0)),
    "nanogpt": Split((90, 10, 0)),
    "char-rnn": Split((95, 5, 0), "lanes"),
    "makemore": Split((80, 10, 10), "lines"),
    "random20": Split((100, 0, 0)),
    "all": Split((100, 0, 0)),
}


def split_of(name: str) -> Split:
    """Return a split by its name or its proportions.

    Raises:
        UsageError: there is no such split, or it has no training part.
    """
    if name in SPLITS:
        return SPLITS[name]
    found = _PROPORTIONS.fullmatch(name)
    if found is None:
        known = f"one of {', '.join(SPLITS)}, or proportions such as 90/5/5"
        raise UsageError(f"split must be {known}, got {shown(name)}{did_you_mean(name, SPLITS)}")
    train, valid, test = map(int, found.groups())
    if train == 0:
        raise UsageError(f"split {name} has no training part; give proportions such as 90/5/5")
    return Split((train, valid, test))
