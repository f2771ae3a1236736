"""LSTM (Hochreiter & Schmidhuber 1997) written out: `nn.LSTM` step by step.

One step is `lstm_cell`; charlm/cells/lstm.py has the formula. A test proves in float64 that outputs, states and
gradients equal those of `nn.LSTM` (tests/models/test_equivalence.py).

Shapes: E n_embed, H n_hidden, L n_layers.
"""

from __future__ import annotations

from charlm.cells import lstm_cell
from charlm.models.layers.scratch import ScratchLayers
from charlm.models.recurrent import Recurrent


class LSTMLayers(ScratchLayers):
    """`nn.LSTM`, batch first."""

    cell = staticmethod(lstm_cell)
    n_gates = 4
    n_states = 2


class LSTMScratch(Recurrent):
    """LSTM with hand-written layers."""

    make_layers = LSTMLayers
