"""GRU (Cho et al. 2014) written out: `nn.GRU` step by step.

One step is `gru_cell`; charlm/cells/gru.py has the formula. A test proves in float64 that outputs, states and gradients
equal those of `nn.GRU` (tests/models/test_equivalence.py).

Shapes: E n_embed, H n_hidden, L n_layers.
"""

from __future__ import annotations

from charlm.cells import gru_cell
from charlm.models.layers.scratch import ScratchLayers
from charlm.models.recurrent import Recurrent


class GRULayers(ScratchLayers):
    """`nn.GRU`, batch first."""

    cell = staticmethod(gru_cell)
    n_gates = 3


class GRUScratch(Recurrent):
    """GRU with hand-written layers."""

    make_layers = GRULayers
