"""A scored text in colours for a terminal: the more bits a character took, the redder its background."""

from __future__ import annotations

from collections.abc import Mapping

import click

from charlm.data.vocab import to_text
from charlm.inspection.scores import Block
from charlm.messages import CONTROL

MAX_BITS = 8  # and more: the strongest colour
PALE, STRONG = (255, 243, 205), (235, 70, 50)  # red, green, blue
PALETTE = (230, 229, 223, 222, 216, 210, 203, 197)  # the same of 256 colours


def background(bits: float, truecolor: bool) -> tuple[int, int, int] | int | None:
    """Return the background of a character, for `click.style`; None below half a bit."""
    level = min(MAX_BITS, round(bits))
    if level == 0:
        return None
    if not truecolor:
        return PALETTE[level - 1]
    share = (level - 1) / (MAX_BITS - 1)
    red, green, blue = (round(p + share * (s - p)) for p, s in zip(PALE, STRONG, strict=True))
    return red, green, blue


def has_truecolor(environment: Mapping[str, str]) -> bool:
    """Return whether a terminal shows 24-bit colours, by the variable COLORTERM."""
    return environment.get("COLORTERM", "").lower() in ("truecolor", "24bit")


def coloured(block: Block, truecolor: bool) -> str:
    """Return the characters of a block with escape sequences, coloured by the first model's bits."""
    parts, run, current = [], "", None
    for char, bits in zip(to_text(block.codepoints), block.scores[0].bits.tolist(), strict=True):
        colour = background(bits, truecolor)
        if colour != current:
            parts.append(_styled(run, current))
            run, current = "", colour
        # A line break is shown only where it was surprising; a line's end has no background.
        run += "↵" * (colour is not None) if char == "\n" else CONTROL.sub("\ufffd", char)
        if char == "\n":
            parts += [_styled(run, current), "\n"]
            run, current = "", None
    return "".join([*parts, _styled(run, current)])


def _styled(text: str, colour: tuple[int, int, int] | int | None) -> str:
    if not text or colour is None:
        return text
    return click.style(text, fg="black", bg=colour)
