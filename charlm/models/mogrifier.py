"""Mogrifier LSTM (Melis et al. 2020): input and hidden state gate each other before every step.

For rounds i = 1..r, starting from x = x_t and h = h_{t-1}:

    x <- 2 sigmoid(Q_i h + b_i) * x             for odd i
    h <- 2 sigmoid(R_i x + b_i) * h             for even i

and then h_t, c_t = lstm(x, h, c_{t-1}). Q_i and R_i are products of two matrices of low rank.

Reference: Melis, Kocisky, Blunsom (2020), Mogrifier LSTM, arXiv:1909.01792 (1.120 bits per character on the Penn
Treebank, LSTM 1.143; 1.146 on enwik8, LSTM 1.195; without dynamic evaluation).

Shapes: B batch_size, T characters, E n_embed, H n_hidden, L n_layers, V vocab_size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from charlm.models.awd_lstm import AWDLSTM, WeightDropLSTM


class MogrifierLSTM(WeightDropLSTM):
    """Stacked Mogrifier LSTM layers with the dropout of `WeightDropLSTM`.

    Args:
        n_embed: E.
        n_hidden: H of each layer.
        n_layers: L.
        dropout: locked dropout probability between layers.
        weight_dropout: dropout probability of W_hh.
        n_rounds: r.
        rank: maximum rank of Q_i and R_i.
    """

    def __init__(
        self,
        n_embed: int,
        n_hidden: int,
        n_layers: int,
        dropout: float,
        weight_dropout: float,
        n_rounds: int,
        rank: int,
    ) -> None:
        super().__init__(n_embed, n_hidden, n_layers, dropout, weight_dropout)
        sizes = [n_embed] + [n_hidden] * (n_layers - 1)
        self.gates = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(nn.Linear(a, min(rank, a, b), bias=False), nn.Linear(min(rank, a, b), b))
                for a, b in ((n_hidden, n) if i % 2 == 0 else (n, n_hidden) for i in range(n_rounds))
            )
            for n in sizes
        )

    def run_layer(self, i: int, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run layer i over x, (B, T, E or H), from h and c, (B, H); return outputs, (B, T, H), and final h and c."""
        gates, weights, steps = self.gates[i], self.weights(i), []
        assert isinstance(gates, nn.ModuleList)
        for x_t in x.unbind(dim=1):  # (B, E or H)
            for j, gate in enumerate(gates):
                if j % 2 == 0:
                    x_t = 2 * torch.sigmoid(gate(h)) * x_t
                else:
                    h = 2 * torch.sigmoid(gate(x_t)) * h
            h, c = torch.lstm_cell(x_t, (h, c), *weights)
            steps.append(h)
        return torch.stack(steps, dim=1), h, c


class Mogrifier(AWDLSTM):
    """Language model with a Mogrifier LSTM.

    Args:
        vocab_size: V.
        n_rounds: r.
        rank: maximum rank of Q_i and R_i.
        options: the options of `AWDLSTM`.
    """

    make_layers = MogrifierLSTM

    def __init__(self, vocab_size: int, n_rounds: int = 5, rank: int = 48, **options: Any) -> None:
        super().__init__(vocab_size, n_rounds=n_rounds, rank=rank, **options)
