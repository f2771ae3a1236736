"""Elman RNN (Elman 1990): PyTorch's nn.RNN.

Formula and reference are in charlm/cells/rnn.py.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from charlm.models.layers.init import check_init, identity_
from charlm.models.recurrent import Recurrent


class RNN(Recurrent):
    """Language model with `nn.RNN`.

    Args:
        vocab_size: V.
        init: "uniform", or "identity" (W_hh is the identity, biases are zero).
        options: the options of `Recurrent`.
    """

    def __init__(self, vocab_size: int, init: str = "uniform", **options: Any) -> None:
        super().__init__(vocab_size, **options)
        check_init(init)
        if init == "identity":
            identity_(self.layers)

    @staticmethod
    def make_layers(n_embed: int, n_hidden: int, n_layers: int, dropout: float) -> nn.Module:
        """Return `nn.RNN`."""
        return nn.RNN(n_embed, n_hidden, n_layers, batch_first=True, dropout=dropout)
