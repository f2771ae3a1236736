"""Elman RNN (Elman 1990) written out: `nn.RNN` step by step.

One step is `rnn_cell`; charlm/cells/rnn.py has the formula. A test proves in float64 that outputs, states and gradients
equal those of `nn.RNN` (tests/models/test_equivalence.py).

Shapes: E n_embed, H n_hidden, L n_layers.
"""

from __future__ import annotations

from charlm.cells import rnn_cell
from charlm.models.layers.scratch import ScratchLayers
from charlm.models.rnn import RNN


class RNNLayers(ScratchLayers):
    """`nn.RNN`, batch first."""

    cell = staticmethod(rnn_cell)


class RNNScratch(RNN):
    """Elman RNN with hand-written layers."""

    make_layers = RNNLayers
