"""Cross-entropy and its units.

    score = -1/N * sum over i of ln p(c_i | c_1 .. c_{i-1})      nats per character; divided by ln 2: bits per character

Shapes: N characters of text, B batch_size, T characters, V vocab_size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class EvalResult:
    """Negative log-likelihood of a text.

    Attributes:
        nats: sum over all characters of -ln p(character).
        n_chars: number of characters.
        n_correct: number of characters to which the model gave the highest probability; None if not counted.
    """

    nats: float
    n_chars: int
    n_correct: int | None = None

    @classmethod
    def of_predictions(cls, chunks: Iterable[tuple[Tensor, Tensor]]) -> EvalResult:
        """Add up predictions: logits, float, (characters, V), and targets, long, (characters,)."""
        nats, n_chars, n_correct = 0.0, 0, 0
        for logits, targets in chunks:
            nats += F.cross_entropy(logits, targets, reduction="none").sum().item()
            n_correct += int((logits.argmax(-1) == targets).sum())
            n_chars += len(targets)
        return cls(nats, n_chars, n_correct)

    @property
    def nats_per_char(self) -> float:
        """Mean nats per character."""
        return self.nats / self.n_chars

    @property
    def bits_per_char(self) -> float:
        """Mean bits per character."""
        return nats_to_bits(self.nats_per_char)

    @property
    def accuracy(self) -> float | None:
        """Next-character accuracy, from 0 to 1; None if not counted."""
        return None if self.n_correct is None else self.n_correct / self.n_chars


def nats_to_bits(nats: float) -> float:
    """Convert nats to bits."""
    return nats / math.log(2)


def nats_per_char(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy.

    Args:
        logits: float, (B, T, V).
        targets: long, (B, T).
        label_smoothing: probability spread uniformly over all symbols. Reference: Szegedy et al. (2016),
            arXiv:1512.00567, section 7.

    Returns:
        nats per character, float, ().
    """
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=label_smoothing)
