"""N-gram counts with Kneser-Ney or Witten-Bell smoothing; no gradients.

Counts of the characters after the last n - 1 characters are interpolated with those after shorter contexts; formula and
references are in ngrams/char_ngram.py.

Shapes: B batch_size, T characters, V vocab_size, n order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from charlm.models.base import State
from charlm.models.counting import CountingModel
from charlm.ngrams.char_ngram import InterpolatedNGram


class NGram(CountingModel):
    """Predict each next character by n-gram counts.

    Args:
        vocab_size: V.
        order: n; a character is predicted from the n - 1 before it.
        smoothing: "kneser-ney" or "witten-bell".

    Raises:
        UsageError: another smoothing, or too high an order.
    """

    uses_gradients = False

    def __init__(self, vocab_size: int, order: int = 7, smoothing: str = "kneser-ney") -> None:
        super().__init__()
        self.counts = InterpolatedNGram(vocab_size, order, smoothing)
        self.register_buffer("_device", torch.empty(0), persistent=False)  # follows `model.to`

    def forward(self, chars: Tensor, state: State = None, only_last: bool = False) -> tuple[Tensor, State]:
        """Predict the character after each one.

        Args:
            chars: character indices, long, (B, T).
            state: from the previous call; None before the first characters.
            only_last: return the logits of the last position only.

        Returns:
            logits: log-probabilities, float, (B, T, V), or (B, 1, V).
            state: the last n - 1 characters, -1 before the first, long, (B, n - 1), in a tuple; on the CPU.
        """
        before = None if state is None else tuple(part.cpu().numpy() for part in state)
        contexts, after = self.counts.read(chars.cpu().numpy(), before)
        log_probs = self.counts.log_probs(contexts[:, :, -1:] if only_last else contexts)
        return torch.from_numpy(log_probs).to(chars.device), tuple(map(torch.from_numpy, after))
