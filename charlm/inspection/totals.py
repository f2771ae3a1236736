"""Totals of a scored text and of its lines, added up while it is read.

Shapes: M models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charlm.data.vocab import to_text
from charlm.inspection.scores import Block

BREAK = ord("\n")


@dataclass
class Totals:
    """Sums over a text for each model.

    Attributes:
        n_models: M.
        n_chars: number of characters.
        n_bytes: their bytes in UTF-8; a character that the model does not know counts as one byte, (M,).
        bits: sum of the bits, (M,).
        n_correct: characters to which the model gave the highest probability, (M,).
    """

    n_models: int

    def __post_init__(self) -> None:
        """Begin at zero."""
        self.n_chars = 0
        self.n_bytes = np.zeros(self.n_models, np.int64)
        self.bits = np.zeros(self.n_models)
        self.n_correct = np.zeros(self.n_models, np.int64)

    def add(self, block: Block) -> None:
        """Add a block."""
        self.n_chars += len(block.codepoints)
        self.n_bytes += [int(scores.n_bytes.sum()) for scores in block.scores]
        self.bits += [scores.bits.sum() for scores in block.scores]
        self.n_correct += [int((scores.ranks == 1).sum()) for scores in block.scores]

    @property
    def best(self) -> int:
        """Index of the model with the fewest bits."""
        return int(self.bits.argmin())

    def rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return the results of each model, with its name."""
        return [
            {
                "model": name,
                "n_chars": self.n_chars,
                "n_bytes": n_bytes,
                "bits": bits,
                "bits_per_char": bits / self.n_chars,
                "bits_per_byte": bits / n_bytes,
                "accuracy": n_correct / self.n_chars,
            }
            for name, n_bytes, bits, n_correct in zip(
                names, self.n_bytes.tolist(), self.bits.tolist(), self.n_correct.tolist(), strict=True
            )
        ]


@dataclass(frozen=True, eq=False)
class Line:
    """A line of a text.

    Attributes:
        number: from 1.
        text: without its line break.
        totals: with its line break.
    """

    number: int
    text: str
    totals: Totals


def by_line(blocks: Iterable[Block], n_models: int) -> Iterator[Line]:
    """Yield the lines of a scored text with their totals; an empty last line is left out."""
    number, text, totals = 1, "", Totals(n_models)
    for block in blocks:
        ends = [*(np.flatnonzero(block.codepoints == BREAK) + 1).tolist(), len(block.codepoints)]
        start = 0
        for i, end in enumerate(ends):
            part = block.part(start, end)
            if len(part.codepoints):
                totals.add(part)
                text += to_text(part.codepoints)
            if i < len(ends) - 1:
                yield Line(number, text.removesuffix("\n"), totals)
                number, text, totals = number + 1, "", Totals(n_models)
            start = end
    if totals.n_chars:
        yield Line(number, text, totals)
