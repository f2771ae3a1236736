"""An LSTM that is told what counting expects: what a small text says in so many words need not be learned again.

    e_t = (ln p_ngram(w | the last n - 1 characters) + ln V) / 3 for every w
    h_t, c_t = lstm([embedding of the character at step t; e_t], h_{t-1}, c_{t-1})
    logits_t = W [h_t; e_t] + b

The counts (`ngram.py`, Kneser-Ney) are made before the first step. Counts of the training text know each next
character of that very text, so while training each character is expected by the counts of all the others: its own
occurrence is taken out of them, at every order (leave-one-out). So the LSTM learns how far counting is to be trusted on
a text that was not counted, and spends its own numbers on what counting cannot know. What the counts expect after the
last character of a piece is left open while training, because what to take out is not known there: zeros, as likely as
chance, stand for that.

References: leave-one-out, Ney, Essen, Kneser (1994), On structuring probabilistic dependences in stochastic language
modelling, Computer Speech and Language 8(1); a network that learns what an n-gram leaves over, Li et al. (2022),
arXiv:2210.14431.

Shapes: B batch_size, T characters, E n_embed, H n_hidden, L n_layers, V vocab_size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.models.awd_lstm import AWDLSTM, WeightDropLSTM
from charlm.models.base import State
from charlm.models.dropout import LockedDropout
from charlm.models.ngram import NGram

SCALE = 3.0  # so that what the counts expect is about as large as an embedding


class Head(nn.Module):
    """Logits from what the LSTM knows, with locked dropout, and from what the counts expect, all of it.

    Args:
        n_hidden: H.
        vocab_size: V.
        dropout: of what the LSTM knows.
    """

    def __init__(self, n_hidden: int, vocab_size: int, dropout: float) -> None:
        super().__init__()
        self.n_hidden = n_hidden
        self.dropout = LockedDropout(dropout)
        self.decoder = nn.Linear(n_hidden + vocab_size, vocab_size)

    def forward(self, features: Tensor) -> Tensor:
        """Turn features, (B, T, H + V), into logits, (B, T, V)."""
        known, expected = features[..., : self.n_hidden], features[..., self.n_hidden :]
        logits: Tensor = self.decoder(torch.cat([self.dropout(known), expected], dim=-1))
        return logits


class LSTMNGram(AWDLSTM):
    """Predict each next character by an LSTM that reads what counts expect.

    Args:
        vocab_size: V.
        n_embed: E, numbers to describe a character.
        n_hidden: H, numbers to describe what was read, in each layer.
        n_layers: L.
        order: n of the n-grams.
        dropout: locked, between layers.
        head_dropout: locked, before the head.
        input_dropout: locked, on the embedding.
        weight_dropout: share of W_hh set to zero, the same for a whole sequence.
    """

    default_learning_rate = 4e-3
    counts_text = True

    def __init__(
        self,
        vocab_size: int,
        n_embed: int = 42,
        n_hidden: int = 256,
        n_layers: int = 1,
        order: int = 7,
        dropout: float = 0.3,
        head_dropout: float = 0.3,
        input_dropout: float = 0.0,
        weight_dropout: float = 0.0,
    ) -> None:
        super().__init__(vocab_size, n_embed=n_embed, n_hidden=n_hidden, input_dropout=input_dropout)
        layers = n_embed + vocab_size, n_hidden, n_layers, dropout, weight_dropout
        self.layers = WeightDropLSTM(*layers)
        self.head = Head(n_hidden, vocab_size, head_dropout)
        self.counts = NGram(vocab_size, order)

    @property
    def n_parameters(self) -> int:
        """How many numbers were learned, counts included."""
        return super().n_parameters + self.counts.n_parameters

    def count(self, codes: Tensor) -> None:
        """Count the training text, (N,)."""
        self.counts.count(codes)

    def expected(self, chars: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what counting expects after each character.

        Args:
            chars: long, (B, T); while training, from the text that was counted.
            state: of the counts, long, (B, n).

        Returns:
            expected: 0 is as likely as chance, float, (B, T, V).
            state: as above.
        """
        nodes, state = self.counts.features(chars, state)
        if self.training:
            log_probs = self.counts.head(nodes[:, :-1], without=chars[:, 1:])
            log_probs = F.pad(log_probs, (0, 0, 0, 1), value=-math.log(self.counts.head.vocab_size))
        else:
            log_probs = self.counts.head(nodes)
        return (log_probs + math.log(self.counts.head.vocab_size)) / SCALE, state

    def features(self, chars: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Read a batch of text.

        Args:
            chars: character indices, long, (B, T).
            state: of the LSTM, a pair, and of the counts; None starts afresh.

        Returns:
            features: the last layer's h_1..h_T and what the counts expect, float, (B, T, H + V).
            state: as above.
        """
        of_lstm, of_counts = (None, None) if state is None else state
        expected, of_counts = self.expected(chars, of_counts)
        embedded = self.char_dropout(self.embed(chars), chars, self.embed.num_embeddings)
        known, of_lstm = self.layers(torch.cat([self.input_dropout(embedded), expected], dim=-1), of_lstm)
        return torch.cat([known, expected], dim=-1), (of_lstm, of_counts)
