"""Elman RNN (Elman 1990) written out: `nn.RNN` step by step.

One step is `rnn_cell`; charlm/cells/rnn.py has the formula. A test proves in float64 that outputs, states and gradients
equal those of `nn.RNN` (tests/models/test_equivalence.py).

Shapes: E n_embed, H n_hidden, L n_layers.
"""

from __future__ import annotations

from functools import partial

from charlm.cells import rnn_cell
from charlm.models.layers.scratch import ScratchLayers
from charlm.models.rnn import RNN


class RNNLayers(ScratchLayers):
    """`nn.RNN`, batch first.

    Args:
        n_embed, n_hidden, n_layers, dropout: see `ScratchLayers`.
        nonlinearity: "tanh" or "relu".
    """

    def __init__(
        self, n_embed: int, n_hidden: int, n_layers: int = 1, dropout: float = 0.0, nonlinearity: str = "tanh"
    ) -> None:
        super().__init__(n_embed, n_hidden, n_layers, dropout)
        self.cell = partial(rnn_cell, nonlinearity=nonlinearity)


class RNNScratch(RNN):
    """Elman RNN with hand-written layers."""

    make_layers = RNNLayers
