"""Base class of minGRU and minLSTM: residual blocks with a linear recurrence whose gates depend on the input only.

    x_t = causal convolution of width 4 of the normalised residual stream
    a_t, b_t = formula(W x_t + b)               in the subclass
    h_t = a_t * h_{t-1} + b_t                   elementwise
    W_o h_t + b_o is added to the residual stream, and then the output of an MLP (layers/blocks.py)

The gates of all steps are one matrix product; layers/scan.py computes the recurrence.

Reference: Feng et al. (2024), Were RNNs all we needed?, arXiv:2410.01201. The paper computes in log space, which
requires b_t > 0; the scan here does not.

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
    """Causal convolution, linear recurrence, output projection.

    Args:
        n_hidden: H.

    Attributes:
        n_gates: G, number of gate vectors, each (H,), computed from an input.
    """

    n_gates: int

    def __init__(self, n_hidden: int) -> None:
        super().__init__()
        self.conv = CausalConv(n_hidden)
        self.gates = nn.Linear(n_hidden, self.n_gates * n_hidden)
        self.out = nn.Linear(n_hidden, n_hidden)

    def decay_and_input(self, *gates: Tensor) -> tuple[Tensor, Tensor]:
        """Return a (decay of h) and b (input to h) from the preactivations of G gates, all float, (B, T, H)."""
        raise NotImplementedError

    def forward(self, inputs: Tensor, state: MixerState | None = None) -> tuple[Tensor, MixerState]:
        """Process a batch.

        Args:
            inputs: float, (B, T, H).
            state: h_0, float, (B, H), and the last inputs of the convolution, float, (B, 3, H); None for zeros.

        Returns:
            outputs: float, (B, T, H).
            state: h_T and the last inputs of the convolution.
        """
        initial_state, conv_state = (torch.zeros_like(inputs[:, 0]), None) if state is None else state
        inputs, conv_state = self.conv(inputs, conv_state)
        decay, added = self.decay_and_input(*self.gates(inputs).chunk(self.n_gates, dim=2))
        hidden = scan(decay, added, initial_state)
        return self.out(hidden), (hidden[:, -1], conv_state)


class MinRNN(Recurrent):
    """Language model with residual blocks around a `MinMixer`.

    Args:
        vocab_size: V.
        n_hidden: H.
        n_layers: L.
        options: the other options of `Recurrent`.

    Attributes:
        mixer: class of the mixer; set by the subclass.
    """

    mixer: type[MinMixer]

    def __init__(self, vocab_size: int, n_hidden: int = 128, n_layers: int = 3, **options: Any) -> None:
        super().__init__(vocab_size, n_hidden=n_hidden, n_layers=n_layers, **options)

    @classmethod
    def make_layers(cls, n_embed: int, n_hidden: int, n_layers: int, dropout: float) -> nn.Module:
        """Return the blocks; the state is h, (L, B, H), and the last inputs of the convolutions, (L, B, 3, H)."""

        def make_block() -> Block:
            return Block(cls.mixer(n_hidden), n_hidden, n_inner=2 * n_hidden)

        return Blocks(make_block, n_embed, n_hidden, n_layers, dropout)
