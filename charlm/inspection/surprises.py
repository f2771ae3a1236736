"""The most surprising characters of a scored text, found while it is read.

Shapes: N characters of a block.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.data.vocab import to_text
from charlm.inspection.scores import Block
from charlm.inspection.totals import BREAK

MIN_DISTANCE = 10  # characters between two surprises
EXCERPT_CHARS = 16  # shown before and after a surprise; a row of `charlm score` has at most 80 columns


@dataclass(frozen=True)
class Surprise:
    """A surprising character.

    Attributes:
        bits: -log2 of its probability.
        offset: its position in the text that is scored.
        line: number of its line in the text that is scored, from 1.
        column: in the line, from 1.
        before: text before it.
        char: the character.
        after: text after it.
        rank: its rank among the predictions, from 1.
        likely: the most probable character.
    """

    bits: float
    offset: int
    line: int
    column: int
    before: str
    char: str
    after: str
    rank: int
    likely: str


class Surprises:
    """Collects the characters with the most bits under the first model, at least `MIN_DISTANCE` from one another.

    Args:
        n: number of surprises.
        symbols: of the model's vocabulary, in the order of their indices from 1.
    """

    def __init__(self, n: int, symbols: str) -> None:
        self.n, self.symbols = n, symbols
        self.found: list[tuple[float, int, Surprise]] = []  # heap of (bits, -offset, surprise), the fewest bits first
        self.line = 1
        self.line_start = 0  # offset of the line's first character
        self.previous = ""  # text before the block
        self.pending: tuple[Block, str] | None = None  # a block and its text, until the text after it is known

    def add(self, block: Block) -> None:
        """Add a block."""
        if self.n == 0:
            return
        text = to_text(block.codepoints)
        if self.pending:
            self._search(*self.pending, text)
        self.pending = (block, text)

    def finish(self) -> list[Surprise]:
        """Return the surprises, the one with the most bits first."""
        if self.pending:
            self._search(*self.pending, "")
            self.pending = None
        return [surprise for *_, surprise in sorted(self.found, key=lambda entry: entry[:2], reverse=True)]

    def _search(self, block: Block, text: str, following: str) -> None:
        """Keep the surprises of a block, given its text and the text after it."""
        scores = block.scores[0]
        around = self.previous + text + following[:EXCERPT_CHARS]
        breaks = np.flatnonzero(block.codepoints == BREAK)
        for i in islice(self._candidates(scores.bits, block.offset), self.n):
            n_breaks = int(np.searchsorted(breaks, i))  # before the character
            line_start = block.offset + int(breaks[n_breaks - 1]) + 1 if n_breaks else self.line_start
            at, offset = len(self.previous) + i, block.offset + i
            surprise = Surprise(
                bits=float(scores.bits[i]),
                offset=offset,
                line=self.line + n_breaks,
                column=offset - line_start + 1,
                before=around[max(0, at - EXCERPT_CHARS) : at],
                char=around[at],
                after=around[at + 1 : at + 1 + EXCERPT_CHARS],
                rank=int(scores.ranks[i]),
                likely=self.symbols[int(scores.likely_ids[i, 0]) - 1],
            )
            heapq.heappush(self.found, (surprise.bits, -offset, surprise))
            if len(self.found) > self.n:
                heapq.heappop(self.found)
        self.line += len(breaks)
        if len(breaks):
            self.line_start = block.offset + int(breaks[-1]) + 1
        self.previous = (self.previous + text)[-EXCERPT_CHARS:]

    def _candidates(self, bits: NDArray[Any], offset: int) -> Iterator[int]:
        """Yield positions in a block, the most bits first, that are not near to one another or to earlier surprises."""
        least = self.found[0][0] if len(self.found) == self.n else 0.0
        taken = [surprise.offset - offset for *_, surprise in self.found if surprise.offset >= offset - MIN_DISTANCE]
        order = np.flatnonzero(bits > least)
        for i in order[np.argsort(-bits[order], kind="stable")].tolist():
            if all(abs(i - other) >= MIN_DISTANCE for other in taken):
                taken.append(i)
                yield i
