"""The frame of the minimal RNNs: gates from the input alone, a linear recurrence; a subclass adds the formula.

    x_t = causal convolution of width 4 over the normed residual stream
    a_t, b_t = formula(W x_t + b)
    h_t = a_t * h_{t-1} + b_t
    the residual stream gets W_o h_t + b_o, then a perceptron's share (see `blocks`)

The gates of all steps are one matrix product and `scan` does the rest; with T = 1 the same lines are one step.

Reference: Feng et al. (2024), Were RNNs all we needed?, arXiv:2410.01201. Its log space bends what enters to be
positive; `scan` does not need that.

Shapes: B batch_size, T characters, E n_embed, H n_hidden, G gates, L n_layers, V vocab_size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from charlm.models.layers.blocks import Block, Blocks, CausalConv, MixerState
from charlm.models.layers.scan import scan
from charlm.models.recurrent import Recurrent


class MinMixer(nn.Module):
    """The recurrence between a convolution and a matrix.

    Args:
        n_hidden: H.

    Attributes:
        n_gates: G, how many vectors of H numbers a step computes from its input.
    """

    n_gates: int

    def __init__(self, n_hidden: int) -> None:
        super().__init__()
        self.conv = CausalConv(n_hidden)
        self.gates = nn.Linear(n_hidden, self.n_gates * n_hidden)
        self.out = nn.Linear(n_hidden, n_hidden)

    def decay_and_input(self, *gates: Tensor) -> tuple[Tensor, Tensor]:
        """Return a, the share of h that is kept, and b, what is added, from G gates, all float, (B, T, H)."""
        raise NotImplementedError

    def forward(self, inputs: Tensor, state: MixerState | None = None) -> tuple[Tensor, MixerState]:
        """Read a batch.

        Args:
            inputs: float, (B, T, H).
            state: h_0, float, (B, H), and the convolution's last inputs, float, (B, 3, H); zeros when None.

        Returns:
            outputs: float, (B, T, H).
            state: h_T and the last inputs.
        """
        first, last = (torch.zeros_like(inputs[:, 0]), None) if state is None else state
        inputs, last = self.conv(inputs, last)
        keep, add = self.decay_and_input(*self.gates(inputs).chunk(self.n_gates, dim=2))
        hidden = scan(keep, add, first)
        return self.out(hidden), (hidden[:, -1], last)


class MinRNN(Recurrent):
    """Predict each next character with blocks around a `MinMixer`; a subclass says which.

    Args:
        vocab_size: V.
        n_hidden: H.
        n_layers: L.
        options: the other options of `Recurrent`.
    """

    mixer: type[MinMixer]

    def __init__(self, vocab_size: int, n_hidden: int = 128, n_layers: int = 3, **options: Any) -> None:
        super().__init__(vocab_size, n_hidden=n_hidden, n_layers=n_layers, **options)

    @classmethod
    def make_layers(cls, n_embed: int, n_hidden: int, n_layers: int, dropout: float) -> nn.Module:
        """Return the blocks; the state is h, float, (L, B, H), and the convolutions' last inputs, (L, B, 3, H)."""

        def make_block() -> Block:
            return Block(cls.mixer(n_hidden), n_hidden, n_inner=2 * n_hidden)

        return Blocks(make_block, n_embed, n_hidden, n_layers, dropout)
