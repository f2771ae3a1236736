"""A scored text as an HTML page: coloured by surprise, with the likeliest characters at each position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from charlm.inspection.html import document
from charlm.inspection.scores import Block

MAX_CHARS = 50_000  # of the text, in a page
SCRIPTS = ("textview.js", "score.js")


class ScorePage:
    """Collects the first characters of a scored text for a page.

    Args:
        title: of the page.
        symbols: vocabulary of each model, in the order of the indices from 1.
        unit: "character" or "byte", what the symbols are.
        max_chars: number of characters that are shown.
    """

    def __init__(self, title: str, symbols: Sequence[str], unit: str = "character", max_chars: int = MAX_CHARS) -> None:
        self.title, self.symbols, self.unit, self.max_chars = title, symbols, unit, max_chars
        self.codepoints: list[int] = []
        self.rows: list[list[list[Any]]] = [[] for _ in symbols]

    def add(self, block: Block) -> None:
        """Add the characters of a block as long as there is room."""
        n = max(0, min(len(block.codepoints), self.max_chars - len(self.codepoints)))
        self.codepoints += block.codepoints[:n].tolist()
        for rows, scores in zip(self.rows, block.scores, strict=True):
            columns = (
                scores.bits[:n].round(3),
                scores.ranks[:n],
                scores.likely_ids[:n],
                scores.likely_probs[:n].round(4),
            )
            rows += map(list, zip(*(column.tolist() for column in columns), strict=True))

    def html(self, totals: Sequence[dict[str, Any]]) -> str:
        """Return the page.

        Args:
            totals: one row per model, of `Totals.rows`.
        """
        models = [
            {"totals": row, "symbols": list(map(ord, symbols)), "rows": rows}
            for row, symbols, rows in zip(totals, self.symbols, self.rows, strict=True)
        ]
        data = {"title": self.title, "unit": self.unit, "codepoints": self.codepoints, "models": models}
        return document(self.title, "score.html", SCRIPTS, data)
