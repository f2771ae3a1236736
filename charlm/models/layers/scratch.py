"""The frame around recurrences written by hand: parameters, layers and steps; a subclass adds the formula.

Parameters have PyTorch's names and shapes, so that a `state_dict` moves both ways. The input's share of the gates
does not depend on the past, so it is one matrix product for all steps; only the hidden state's share is a loop.

Shapes: B batch_size, T characters, E numbers a layer reads, H n_hidden, G gates, L n_layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ScratchLayers(nn.Module):
    """Stacked recurrent layers as a loop over steps.

    Args:
        n_input: E of the first layer.
        n_hidden: H.
        n_layers: L.
        dropout: share of the numbers set to zero between layers, while training.

    Attributes:
        n_gates: G, how many vectors of H numbers a step computes from its input.
        n_states: how many vectors of H numbers are carried from step to step.
    """

    n_gates = 1
    n_states = 1

    def __init__(self, n_input: int, n_hidden: int, n_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.n_hidden, self.n_layers, self.dropout = n_hidden, n_layers, dropout
        n_out = self.n_gates * n_hidden
        for layer in range(n_layers):
            n_in = n_input if layer == 0 else n_hidden
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

    def step(self, gates_in: Tensor, states: list[Tensor], weight: Tensor, bias: Tensor) -> list[Tensor]:
        """Go one step.

        Args:
            gates_in: W_ih x_t + b_ih, float, (B, G * H).
            states: h_{t-1} and whatever else is carried, each float, (B, H).
            weight: W_hh, float, (G * H, H).
            bias: b_hh, float, (G * H,).

        Returns:
            h_t and whatever else is carried.
        """
        raise NotImplementedError

    def forward(
        self, inputs: Tensor, state: Tensor | tuple[Tensor, ...] | None = None
    ) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
        """Read a batch.

        Args:
            inputs: float, (B, T, E).
            state: float, (L, B, H), or a tuple of them where more than one vector is carried; zeros when None.

        Returns:
            features: the last layer's h_1..h_T, float, (B, T, H).
            state: as above, after step T.
        """
        if state is None:
            zeros = inputs.new_zeros(self.n_layers, len(inputs), self.n_hidden)
            given = (zeros,) * self.n_states
        else:
            given = state if isinstance(state, tuple) else (state,)
        finals = []
        for layer in range(self.n_layers):
            weight_ih, weight_hh, bias_ih, bias_hh = (
                self.get_parameter(f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            if layer > 0:
                inputs = F.dropout(inputs, self.dropout, self.training)
            states = [s[layer] for s in given]  # each (B, H)
            hiddens = []
            for gates_in in F.linear(inputs, weight_ih, bias_ih).unbind(dim=1):  # (B, G * H)
                states = self.step(gates_in, states, weight_hh, bias_hh)
                hiddens.append(states[0])
            inputs = torch.stack(hiddens, dim=1)  # (B, T, H)
            finals.append(states)
        stacked = tuple(torch.stack(layers) for layers in zip(*finals, strict=True))  # each (L, B, H)
        return inputs, stacked if self.n_states > 1 else stacked[0]
