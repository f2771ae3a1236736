"""Dropout for recurrent networks: locked (variational) dropout and character dropout.

Reference: Gal and Ghahramani (2016), arXiv:1512.05287.

Shapes: B batch_size, T characters, E n_embed, H n_hidden, V vocab_size.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LockedDropout(nn.Module):
    """Dropout with one mask for all steps of a sequence.

    Args:
        p: dropout probability.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, (B, T, H), multiplied by one mask a row of the batch."""
        if not self.training or self.p == 0:
            return x
        return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.p)


class CharDropout(nn.Module):
    """Embedding dropout: the embedding of a dropped character is zero at all its positions in the batch.

    Args:
        p: probability that a character of the vocabulary is dropped.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, embedded: Tensor, chars: Tensor, vocab_size: int) -> Tensor:
        """Return `embedded`, float, (B, T, E), with dropped characters set to zero; `chars` is long, (B, T)."""
        if not self.training or self.p == 0:
            return embedded
        mask = F.dropout(embedded.new_ones(vocab_size), self.p)
        return embedded * mask[chars].unsqueeze(-1)
