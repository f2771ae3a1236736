"""Dropout for recurrent networks: one mask for a whole sequence, and for whole characters.

Reference: Gal and Ghahramani (2016), arXiv:1512.05287.

Shapes: B batch_size, T characters, E n_embed, H n_hidden, V vocab_size.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LockedDropout(nn.Module):
    """Set the same numbers to zero at every step of a sequence, so that what is dropped cannot come back.

    Args:
        p: share set to zero, while training.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, (B, T, H), with a mask drawn for each row of the batch."""
        if not self.training or self.p == 0:
            return x
        return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.p)


class CharDropout(nn.Module):
    """Hide whole characters: every place of the batch where they stand gets a zero embedding.

    Args:
        p: share of the vocabulary that is hidden, while training.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, embedded: Tensor, chars: Tensor, vocab_size: int) -> Tensor:
        """Return `embedded`, (B, T, E), with the characters that were drawn set to zero; `chars` is long, (B, T)."""
        if not self.training or self.p == 0:
            return embedded
        mask = F.dropout(embedded.new_ones(vocab_size), self.p)
        return embedded * mask[chars].unsqueeze(-1)
