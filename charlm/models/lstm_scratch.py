"""Long short-term memory by hand; a test proves that it is `nn.LSTM`.

    i_t = sigmoid(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)          input gate
    f_t = sigmoid(W_if x_t + b_if + W_hf h_{t-1} + b_hf)          forget gate
    g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)             candidate
    o_t = sigmoid(W_io x_t + b_io + W_ho h_{t-1} + b_ho)          output gate
    c_t = f_t * c_{t-1} + i_t * g_t
    h_t = o_t * tanh(c_t)

W_ih is the four matrices W_ii, W_if, W_ig, W_io on top of one another, W_hh the four of the hidden state.

Shapes: B batch_size, E n_embed, H n_hidden, L n_layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.models.layers.scratch import ScratchLayers
from charlm.models.recurrent import Recurrent


class LSTMLayers(ScratchLayers):
    """`nn.LSTM`, batch first."""

    n_gates = 4
    n_states = 2

    def step(self, gates_in: Tensor, states: list[Tensor], weight: Tensor, bias: Tensor) -> list[Tensor]:
        """Return [h_t, c_t], each (B, H); see `ScratchLayers.step`."""
        hidden, cell = states
        i, f, g, o = (gates_in + F.linear(hidden, weight, bias)).chunk(4, dim=1)  # each (B, H)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        return [torch.sigmoid(o) * torch.tanh(cell), cell]


class LSTMScratch(Recurrent):
    """Predict each next character with an LSTM written out."""

    @staticmethod
    def make_layers(n_embed: int, n_hidden: int, n_layers: int, dropout: float) -> nn.Module:
        """Return the hand-written layers."""
        return LSTMLayers(n_embed, n_hidden, n_layers, dropout)
