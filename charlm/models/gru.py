"""GRU (Cho et al. 2014): reset and update gates.

    r_t = sigmoid(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)          reset
    z_t = sigmoid(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)          update
    n_t = tanh(W_in x_t + b_in + r_t * (W_hn h_{t-1} + b_hn))     new
    h_t = (1 - z_t) * n_t + z_t * h_{t-1}

Reference: Cho et al. (2014), arXiv:1406.1078; the reset gate is applied after the matrix product, as in cuDNN and
PyTorch.

Shapes: B batch_size, T characters, E n_embed, H n_hidden, L n_layers, V vocab_size.
"""

from __future__ import annotations

from torch import nn

from charlm.models.recurrent import Recurrent


class GRU(Recurrent):
    """Language model with `nn.GRU`."""

    @staticmethod
    def make_layers(n_embed: int, n_hidden: int, n_layers: int, dropout: float) -> nn.Module:
        """Return `nn.GRU`."""
        return nn.GRU(n_embed, n_hidden, n_layers, batch_first=True, dropout=dropout)
