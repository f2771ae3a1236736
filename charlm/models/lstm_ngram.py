"""An LSTM with counting beside it: what a small text says in so many words need not be learned again.

    p(w | h) = (1 - share) * p_lstm(w | h) + share * p_ngram(w | the last n - 1 characters of h)

where h is the text so far.

The LSTM (`awd_lstm.py`) is trained as if it were alone, for counts of the training text would tell it each next
character of that very text. The counts (`ngram.py`, Kneser-Ney) are made before the first step and have their say only
in evaluation, so a training shows the mixture wherever it validates. Counting knows rare words by heart, the LSTM
knows grammar; their errors differ.

References: Jelinek and Mercer (1980), Interpolated estimation of Markov source parameters; Mikolov et al. (2011),
Empirical evaluation and combination of advanced language modeling techniques, Interspeech.

Shapes: B batch_size, T characters, V vocab_size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.errors import UsageError
from charlm.models.awd_lstm import AWDLSTM
from charlm.models.base import State
from charlm.models.ngram import NGram


class LSTMNGram(AWDLSTM):
    """Predict each next character by an LSTM and by counts, interpolated.

    Args:
        vocab_size: V.
        order: n of the n-grams.
        share: of the counts in the prediction.
        options: the options of `AWDLSTM`.

    Raises:
        UsageError: a share that is none.
    """

    counts_text = True

    def __init__(self, vocab_size: int, order: int = 7, share: float = 0.3, **options: Any) -> None:
        super().__init__(vocab_size, **options)
        if not 0 < share < 1:
            raise UsageError(f"share is {share}; it must be above 0 and below 1")
        self.share = share
        self.counts = NGram(vocab_size, order)

    @property
    def told(self) -> dict[str, Any]:
        """See `CharModel.told`."""
        return super().told | {"share": self.share}

    @property
    def n_parameters(self) -> int:
        """How many numbers were learned, counts included."""
        return super().n_parameters + self.counts.n_parameters

    def count(self, codes: Tensor) -> None:
        """Count the training text, (N,)."""
        self.counts.count(codes)

    def forward(self, chars: Tensor, state: State = None, only_last: bool = False) -> tuple[Tensor, State]:
        """Predict the character after each one; see `CharModel.forward`.

        Args:
            chars: character indices, long, (B, T).
            state: of the LSTM and of the counts, a pair; None starts afresh.
            only_last: give the logits of the last position alone.

        Returns:
            logits: float, (B, T, V), or (B, 1, V); of the LSTM alone while training, and where nothing was counted.
            state: as above.
        """
        of_lstm, of_counts = (None, None) if state is None else state
        logits, of_lstm = super().forward(chars, of_lstm, only_last)
        if self.training or self.counts.n_parameters == 0:
            return logits, (of_lstm, of_counts)
        counted, of_counts = self.counts(chars, of_counts, only_last)
        learned = F.log_softmax(logits, dim=-1) + math.log1p(-self.share)
        return torch.logaddexp(learned, counted + math.log(self.share)), (of_lstm, of_counts)
