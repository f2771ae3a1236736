"""GRU (Cho et al. 2014): reset and update gates.

PyTorch's `nn.GRU`; formula and reference are in charlm/cells/gru.py.
"""

from __future__ import annotations

from torch import nn

from charlm.models.recurrent import Recurrent


class GRU(Recurrent):
    """Language model with `nn.GRU`."""

    @staticmethod
    def make_layers(n_embed: int, n_hidden: int, n_layers: int, dropout: float) -> nn.Module:
        """Return `nn.GRU`."""
        return nn.GRU(n_embed, n_hidden, n_layers, batch_first=True, dropout=dropout)
