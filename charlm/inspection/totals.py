"""Summaries of a scored text, made while it is read: totals, the most surprising places, lines.

Shapes: N characters of a block, M models.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.data.vocab import Codepoints
from charlm.inspection.scores import Block

BREAK = ord("\n")
APART = 10  # characters between two places at least
EXCERPT = 24  # characters shown before and after a place


def text_of(codepoints: Codepoints) -> str:
    """Return characters as text; bytes are decoded as Latin-1."""
    return codepoints.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def utf8_sizes(codepoints: Codepoints, is_bytes: bool) -> NDArray[Any]:
    """Return the number of bytes of each character in UTF-8, (N,)."""
    if is_bytes:
        return np.ones(len(codepoints), np.int64)
    result: NDArray[Any] = 1 + (codepoints >= 0x80) + (codepoints >= 0x800) + (codepoints >= 0x10000)
    return result


@dataclass
class Totals:
    """Sums over a text for each model.

    Attributes:
        n_models: M.
        is_bytes: the characters are bytes.
        n_chars: number of characters.
        n_bytes: their bytes in UTF-8.
        bits: sum of the bits, (M,).
        n_correct: characters to which the model gave the highest probability, (M,).
    """

    n_models: int
    is_bytes: bool = False

    def __post_init__(self) -> None:
        """Begin at zero."""
        self.n_chars = self.n_bytes = 0
        self.bits = np.zeros(self.n_models)
        self.n_correct = np.zeros(self.n_models, np.int64)

    def add(self, block: Block) -> None:
        """Add a block."""
        self.n_chars += len(block.codepoints)
        self.n_bytes += int(utf8_sizes(block.codepoints, self.is_bytes).sum())
        self.bits += [scores.bits.sum() for scores in block.scores]
        self.n_correct += [int((scores.ranks == 1).sum()) for scores in block.scores]

    @property
    def best(self) -> int:
        """Index of the model with the fewest bits."""
        return int(self.bits.argmin())

    def rows(self, names: list[str]) -> list[dict[str, Any]]:
        """Return the results of each model, with its name."""
        return [
            {
                "model": name,
                "n_chars": self.n_chars,
                "n_bytes": self.n_bytes,
                "bits": bits,
                "bits_per_char": bits / self.n_chars,
                "bits_per_byte": bits / self.n_bytes,
                "accuracy": n_correct / self.n_chars,
            }
            for name, bits, n_correct in zip(names, self.bits.tolist(), self.n_correct.tolist(), strict=True)
        ]


@dataclass(frozen=True, order=True)
class Place:
    """A surprising character.

    Attributes:
        bits: its bits.
        offset: its position in the text that is scored.
        line: of the text, from 1.
        column: in the line, from 1.
        before: text before it.
        char: the character.
        after: text after it.
        rank: its rank among the predictions.
        likely: the character that was likeliest.
    """

    bits: float
    offset: int
    line: int = 0
    column: int = 0
    before: str = ""
    char: str = ""
    after: str = ""
    rank: int = 0
    likely: str = ""


class Places:
    """The most surprising places of a text under the first model, at least `APART` characters apart.

    Args:
        n: number of places.
        symbols: of the model's vocabulary, in the order of their indices from 1.
    """

    def __init__(self, n: int, symbols: str) -> None:
        self.n, self.symbols = n, symbols
        self.found: list[tuple[float, int, Place]] = []  # a heap, the least surprising first
        self.line = 1
        self.line_start = 0  # offset of the line's first character
        self.previous = ""
        self.waiting: list[tuple[Block, str]] = []

    def add(self, block: Block) -> None:
        """Add a block; its places are taken when the text after it is known."""
        if self.n == 0:
            return
        text = text_of(block.codepoints)
        if self.waiting:
            self._take(*self.waiting.pop(), text)
        self.waiting = [(block, text)]

    def finish(self) -> list[Place]:
        """Return the places, the most surprising first."""
        if self.waiting:
            self._take(*self.waiting.pop(), "")
        return [place for _, _, place in sorted(self.found, key=lambda entry: (-entry[0], entry[1]))]

    def _take(self, block: Block, text: str, following: str) -> None:
        scores = block.scores[0]
        around = self.previous + text + following[:EXCERPT]
        begin = len(self.previous)
        breaks = np.flatnonzero(block.codepoints == BREAK)
        for i in self._candidates(scores.bits, block.offset):
            n_breaks = int(np.searchsorted(breaks, i))  # before the character
            start = block.offset + int(breaks[n_breaks - 1]) + 1 if n_breaks else self.line_start
            at, offset = begin + i, block.offset + i
            place = Place(
                bits=float(scores.bits[i]),
                offset=offset,
                line=self.line + n_breaks,
                column=offset - start + 1,
                before=around[max(0, at - EXCERPT) : at],
                char=around[at],
                after=around[at + 1 : at + 1 + EXCERPT],
                rank=int(scores.ranks[i]),
                likely=self.symbols[int(scores.likely_ids[i, 0]) - 1],
            )
            heapq.heappush(self.found, (place.bits, -offset, place))
            if len(self.found) > self.n:
                heapq.heappop(self.found)
        self.line += len(breaks)
        if len(breaks):
            self.line_start = block.offset + int(breaks[-1]) + 1
        self.previous = (self.previous + text)[-EXCERPT:]

    def _candidates(self, bits: NDArray[Any], offset: int) -> Iterator[int]:
        """Yield the most surprising characters of a block that are apart from one another and from earlier places."""
        least = self.found[0][0] if len(self.found) == self.n else 0.0
        taken = [-entry[1] - offset for entry in self.found if -entry[1] >= offset - APART]
        order = np.flatnonzero(bits > least)
        for i in order[np.argsort(-bits[order], kind="stable")].tolist():
            if all(abs(i - other) >= APART for other in taken):
                taken.append(i)
                yield i
                if len(taken) > self.n + APART:
                    return


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


def by_line(blocks: Iterable[Block], n_models: int, is_bytes: bool = False) -> Iterator[Line]:
    """Yield the lines of a scored text with their totals; an empty last line is left out."""
    number, text, totals = 1, "", Totals(n_models, is_bytes)
    for block in blocks:
        ends = [*(np.flatnonzero(block.codepoints == BREAK) + 1).tolist(), len(block.codepoints)]
        start = 0
        for i, end in enumerate(ends):
            part = block.part(start, end)
            if len(part.codepoints):
                totals.add(part)
                text += text_of(part.codepoints)
            if i < len(ends) - 1:
                yield Line(number, text.removesuffix("\n"), totals)
                number, text, totals = number + 1, "", Totals(n_models, is_bytes)
            start = end
    if totals.n_chars:
        yield Line(number, text, totals)
