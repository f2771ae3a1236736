"""An LSTM that is told what counting expects: what a small text says in so many words need not be learned again.

    e_t = (ln p_ngram(w | the last n - 1 characters) + ln V) / 3 for every w
    h_t, c_t = lstm([embedding of the character at step t; e_t], h_{t-1}, c_{t-1})
    logits_t = W h_t + b

The counts (`ngram.py`, Kneser-Ney) are made before the first step. Counts of the training text know each next
character of that very text, and what is said around it. So while training, each of eight parts of the text is expected
by counts of the other seven (cross-fitting): the LSTM learns how far counting is to be trusted on a text that was not
counted, and spends its own numbers on what counting cannot know. In evaluation all counts have their say. Nine tables
of counts are held while training, some 300 bytes a character of the text: this is a model for a few megabytes.

References: a network that learns what an n-gram leaves over, Li et al. (2022), arXiv:2210.14431; inputs made by models
that have not seen what is to be predicted, Wolpert (1992), Stacked generalization, Neural Networks 5(2).

Shapes: B batch_size, T characters, E n_embed, H n_hidden, L n_layers, V vocab_size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from charlm.models.base import State
from charlm.models.lstm import LSTM
from charlm.models.ngram import NGram

N_FOLDS = 8  # parts of the training text
SCALE = 3.0  # so that what the counts expect is about as large as an embedding


class LSTMNGram(LSTM):
    """Predict each next character by an LSTM that reads what counts expect.

    Args:
        vocab_size: V.
        order: n of the n-grams.
        n_embed: E.
        n_hidden: H.
        n_layers: L.
        dropout: share set to zero between layers, while training.
        options: the other options of `Recurrent`.
    """

    default_learning_rate = 4e-3
    counts_text = True

    def __init__(
        self,
        vocab_size: int,
        order: int = 10,
        n_embed: int = 42,
        n_hidden: int = 256,
        n_layers: int = 1,
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(vocab_size, n_embed, n_hidden, n_layers, dropout, **options)
        # The same layers, but wider at the bottom: they read what the counts expect, too.
        self.layers = self.make_layers(n_embed + vocab_size, n_hidden, n_layers, dropout if n_layers > 1 else 0.0)
        self.counts = NGram(vocab_size, order)
        self.others: list[tuple[int, int, NGram]] = []  # a part of the text, from first to stop, and counts of the rest

    @property
    def n_parameters(self) -> int:
        """How many numbers were learned, counts included."""
        return super().n_parameters + self.counts.n_parameters

    def count(self, codes: Tensor) -> None:
        """Count the training text, (N,), and it without each of its parts; these are not stored."""
        self.counts.count(codes)
        self.text, self.others = codes, []
        for i in range(N_FOLDS):
            first, stop = len(codes) * i // N_FOLDS, len(codes) * (i + 1) // N_FOLDS
            others = NGram(self.counts.head.vocab_size, self.counts.head.order).to(self.device)
            others.count(torch.cat([codes[:first], codes[stop:]]))
            self.others.append((first, stop, others))

    def _held_out(self, chars: Tensor, places: Tensor) -> Tensor:
        """Return log-probabilities after each character, (B, T, V), by the counts of the other parts of the text."""
        ahead = torch.arange(1 - self.counts.head.order, 0, device=places.device)
        before = (places.unsqueeze(1) + ahead).clamp(min=0)  # what was before the text is taken for its first character
        known = self.text[before.to(self.text.device)].to(chars)
        log_probs = torch.empty(*chars.shape, self.counts.head.vocab_size, device=chars.device)
        for first, stop, others in self.others:
            rows = (first <= places) & (places < stop)
            log_probs[rows] = others(chars[rows], known[rows])[0]
        return log_probs

    def features(self, chars: Tensor, state: State = None, places: Tensor | None = None) -> tuple[Tensor, State]:
        """Read a batch of text.

        Args:
            chars: character indices, long, (B, T).
            state: of the LSTM, a pair, and of the counts; None starts afresh.
            places: where in the counted text the rows begin, long, (B,), if they are of it.

        Returns:
            features: the last layer's h_1..h_T, float, (B, T, H).
            state: as above.
        """
        of_lstm, of_counts = (None, None) if state is None else state
        if self.others and places is not None:
            log_probs = self._held_out(chars, places)
        else:
            log_probs, of_counts = self.counts(chars, of_counts)
        expected = (log_probs + math.log(self.counts.head.vocab_size)) / SCALE
        features, of_lstm = self.layers(torch.cat([self.embed(chars), expected], dim=-1), of_lstm)
        return features, (of_lstm, of_counts)

    def forward(
        self, chars: Tensor, state: State = None, only_last: bool = False, places: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Predict the character after each one; see `CharModel.forward` and, for the places, `features`."""
        features, state = self.features(chars, state, places)
        return self.head(features[:, -1:] if only_last else features), state
