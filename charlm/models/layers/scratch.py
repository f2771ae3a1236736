"""Stacked recurrent layers written by hand: parameters and the loop over steps; a subclass names its cell.

Parameters have PyTorch's names and shapes, so `state_dict`s are interchangeable with those of `nn.LSTM` and others. The
product with the inputs is computed for all steps at once; the product with the hidden state is in a loop over steps.

Shapes: B batch_size, T characters, E input size of a layer, H n_hidden, G gates, L n_layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.models.base import State


class ScratchLayers(nn.Module):
    """Stacked recurrent layers, batch first.

    Args:
        n_embed: E of the first layer.
        n_hidden: H.
        n_layers: L.
        dropout: dropout probability between layers.

    Attributes:
        cell: one step, a function of `charlm.cells`.
        n_gates: G, number of vectors (B, H) that a step computes from its input.
        n_states: number of vectors (B, H) in a layer's state.
    """

    cell: Callable[..., Any]
    n_gates = 1
    n_states = 1

    def __init__(self, n_embed: int, n_hidden: int, n_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.n_hidden, self.n_layers, self.dropout = n_hidden, n_layers, dropout
        n_out = self.n_gates * n_hidden
        for layer in range(n_layers):
            n_in = n_embed if layer == 0 else n_hidden
            shapes = {
                "weight_ih": (n_out, n_in),
                "weight_hh": (n_out, n_hidden),
                "bias_ih": (n_out,),
                "bias_hh": (n_out,),
            }
            for name, shape in shapes.items():
                bound = n_hidden**-0.5
                parameter = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
                self.register_parameter(f"{name}_l{layer}", parameter)

    def forward(self, inputs: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Read a batch.

        Args:
            inputs: float, (B, T, E).
            state: h_0, float, (L, B, H), or the pair (h_0, c_0) for an LSTM; zeros when None.

        Returns:
            features: the last layer's h_1..h_T, float, (B, T, H).
            state: h_T, or (h_T, c_T), as above.
        """
        if state is None:
            zeros = inputs.new_zeros(self.n_layers, len(inputs), self.n_hidden)
            state = zeros if self.n_states == 1 else (zeros,) * self.n_states
        finals = []
        for layer in range(self.n_layers):
            weight_ih, weight_hh, bias_ih, bias_hh = (
                self.get_parameter(f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            if layer > 0:
                inputs = F.dropout(inputs, self.dropout, self.training)
            current: Any = state[layer] if self.n_states == 1 else tuple(part[layer] for part in state)  # each (B, H)
            weight, hiddens = weight_hh.t(), []
            for gates_in in F.linear(inputs, weight_ih, bias_ih).unbind(dim=1):  # (B, G H)
                current = self.cell(torch, gates_in, current, weight, bias_hh)
                hiddens.append(current if self.n_states == 1 else current[0])
            inputs = torch.stack(hiddens, dim=1)  # (B, T, H)
            finals.append(current)
        if self.n_states == 1:
            return inputs, torch.stack(finals)
        return inputs, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
