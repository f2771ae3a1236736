"""LSTM (Hochreiter & Schmidhuber 1997): gated cell with additive state.

PyTorch's `nn.LSTM`; formula and references are in charlm/cells/lstm.py.
"""

from __future__ import annotations

from torch import nn

from charlm.models.recurrent import Recurrent


class LSTM(Recurrent):
    """Language model with `nn.LSTM`."""

    @staticmethod
    def make_layers(n_embed: int, n_hidden: int, n_layers: int, dropout: float) -> nn.Module:
        """Return `nn.LSTM`."""
        return nn.LSTM(n_embed, n_hidden, n_layers, batch_first=True, dropout=dropout)
