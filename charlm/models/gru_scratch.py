"""The gated recurrent unit by hand; a test proves that it is `nn.GRU`.

    r_t = sigmoid(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)          reset
    z_t = sigmoid(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)          update
    n_t = tanh(W_in x_t + b_in + r_t * (W_hn h_{t-1} + b_hn))     new
    h_t = (1 - z_t) * n_t + z_t * h_{t-1}

W_ih is the three matrices W_ir, W_iz, W_in on top of one another, W_hh the three of the hidden state.

Shapes: B batch_size, E n_embed, H n_hidden, L n_layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.models.layers.scratch import ScratchLayers
from charlm.models.recurrent import Recurrent


class GRULayers(ScratchLayers):
    """`nn.GRU`, batch first."""

    n_gates = 3

    def step(self, gates_in: Tensor, states: list[Tensor], weight: Tensor, bias: Tensor) -> list[Tensor]:
        """Return [h_t], (B, H); see `ScratchLayers.step`."""
        (hidden,) = states
        reset_in, update_in, new_in = gates_in.chunk(3, dim=1)  # each (B, H)
        reset_h, update_h, new_h = F.linear(hidden, weight, bias).chunk(3, dim=1)
        reset = torch.sigmoid(reset_in + reset_h)
        update = torch.sigmoid(update_in + update_h)
        new = torch.tanh(new_in + reset * new_h)
        return [(1 - update) * new + update * hidden]


class GRUScratch(Recurrent):
    """Predict each next character with a GRU written out."""

    @staticmethod
    def make_layers(n_embed: int, n_hidden: int, n_layers: int, dropout: float) -> nn.Module:
        """Return the hand-written layers."""
        return GRULayers(n_embed, n_hidden, n_layers, dropout)
