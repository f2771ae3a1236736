"""Line limit: a line longer than the longest line of the training text ends at the next white space.

Where a line ends is the least certain part of wrapped text, and beyond the longest line of the training text the model
has no data. With L the length of the longest line, a line of l characters so far continues with the sampled w if

    l < L, or w is neither a blank nor a line break, and l < 1.3 L

and with a line break otherwise. A prompt that ends in a line longer than L counts as L characters. In a model of bytes,
the limit of continuation bytes of UTF-8 is 3 higher, so that no character is cut.

This is a rule of sampling alone. The model's probabilities, and so its bits per character, do not change.

Shapes: B batch_size, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from charlm.data.vocab import BLANK, Vocab

MAX_LINE = 1.3  # times the longest line
N_CONTINUATION = 3  # bytes of a character after its first, at most


def max_line(longest_line: int) -> int:
    """Return the maximum length of a sampled line, given that of the training text, both in symbols."""
    return int(MAX_LINE * longest_line)


class LineLimit:
    """The line limit of texts that are sampled together.

    Args:
        vocab: with the line break.
        longest_line: L, in symbols.
        context_ids: indices of the text so far, the same for all texts.
        n_texts: B; None for one text.
    """

    def __init__(self, vocab: Vocab, longest_line: int, context_ids: Sequence[int], n_texts: int | None = None) -> None:
        self.line_break = vocab.bos_id
        limits = np.where(vocab.char_classes >= BLANK, longest_line, max_line(longest_line))
        if vocab.is_bytes:
            limits[1:] += N_CONTINUATION * ((vocab.codepoints & 0xC0) == 0x80)
        self.limits: list[int] = limits.tolist()  # length of the line from which each symbol is replaced
        length = list(context_ids)[::-1].index(self.line_break) if self.line_break in context_ids else len(context_ids)
        self.lengths = [min(length, longest_line)] * (n_texts or 1)

    def apply(self, index: Any) -> Any:
        """Return the sampled index, or that of the line break in its place; int, or (B,)."""
        indices = [index] if isinstance(index, int) else index.tolist()
        for i, (symbol, length) in enumerate(zip(indices, self.lengths, strict=True)):
            if length >= self.limits[symbol]:
                indices[i] = self.line_break
            self.lengths[i] = 0 if indices[i] == self.line_break else length + 1
        return indices[0] if isinstance(index, int) else np.array(indices)
