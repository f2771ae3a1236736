"""The Elman RNN by hand; a test proves that it is `nn.RNN`.

    h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)

Shapes: B batch_size, E n_embed, H n_hidden, L n_layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.models.layers.scratch import ScratchLayers
from charlm.models.rnn import RNN


class RNNLayers(ScratchLayers):
    """`nn.RNN` with tanh, batch first."""

    def step(self, gates_in: Tensor, states: list[Tensor], weight: Tensor, bias: Tensor) -> list[Tensor]:
        """Return [h_t], (B, H); see `ScratchLayers.step`."""
        (hidden,) = states
        return [torch.tanh(gates_in + F.linear(hidden, weight, bias))]


class RNNScratch(RNN):
    """Predict each next character with an RNN written out."""

    @staticmethod
    def make_layers(n_embed: int, n_hidden: int, n_layers: int, dropout: float) -> nn.Module:
        """Return the hand-written layers."""
        return RNNLayers(n_embed, n_hidden, n_layers, dropout)
