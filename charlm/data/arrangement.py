"""Arrangement: a text in the order in which a split cuts it, and the bounds of its parts.

"lanes", as in char-rnn: the text is cut into 50 lanes of equal length, and each lane into a training part and, at its
end, validation and test part, in steps of 50 characters. Held-out text so lies between 50 pairs of training texts. The
characters after the last full step are left out. "lines", as in the makemore lectures: the lines are shuffled, then
cut; no line is in two parts.
"""

from __future__ import annotations

import math
import random
from itertools import accumulate, pairwise

from charlm.options.splits import PARTS, Bounds, Split

N_LANES, STEP = 50, 50  # batch_size and seq_length of char-rnn
SEED = 42  # of the lectures


def arrange(text: str, split: Split) -> tuple[str, Bounds]:
    """Return a text in the order of a split, and the bounds of the parts in it, characters."""
    parts = _lanes(text, split) if split.order == "lanes" else _lines(text, split)
    ends = list(accumulate(map(len, parts), initial=0))
    return "".join(parts), dict(zip(PARTS, pairwise(ends), strict=True))


def _lanes(text: str, split: Split) -> list[str]:
    """Return the three parts; those of the lanes follow one another."""
    n_steps = len(text) // (N_LANES * STEP)
    train, valid = (STEP * math.floor(cut) for cut in split.cuts(n_steps))
    length = STEP * n_steps
    cuts = [(0, train), (train, valid), (valid, length)]
    return ["".join(text[at + i : at + j] for at in range(0, N_LANES * length, length or 1)) for i, j in cuts]


def _lines(text: str, split: Split) -> list[str]:
    """Return the three parts of the shuffled lines, each line with its line break."""
    lines = text.removesuffix("\n").split("\n")
    random.Random(SEED).shuffle(lines)
    cuts = pairwise([0, *map(math.floor, split.cuts(len(lines))), len(lines)])
    return ["".join(f"{line}\n" for line in lines[i:j]) for i, j in cuts]
