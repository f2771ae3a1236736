"""LSTM (Hochreiter & Schmidhuber 1997): gated cell with additive state.

    i_t = sigmoid(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)          input gate
    f_t = sigmoid(W_if x_t + b_if + W_hf h_{t-1} + b_hf)          forget gate
    g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)             candidate
    o_t = sigmoid(W_io x_t + b_io + W_ho h_{t-1} + b_ho)          output gate
    c_t = f_t * c_{t-1} + i_t * g_t
    h_t = o_t * tanh(c_t)

References: Hochreiter and Schmidhuber (1997), Long short-term memory; forget gate: Gers, Schmidhuber, Cummins (2000),
Learning to forget.

Shapes: B batch_size, T characters, E n_embed, H n_hidden, L n_layers, V vocab_size.
"""

from __future__ import annotations

from torch import nn

from charlm.models.recurrent import Recurrent


class LSTM(Recurrent):
    """Language model with `nn.LSTM`."""

    @staticmethod
    def make_layers(n_embed: int, n_hidden: int, n_layers: int, dropout: float) -> nn.Module:
        """Return `nn.LSTM`."""
        return nn.LSTM(n_embed, n_hidden, n_layers, batch_first=True, dropout=dropout)
