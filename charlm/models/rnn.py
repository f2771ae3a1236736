"""Elman RNN (Elman 1990): PyTorch's nn.RNN.

Formula and reference are in charlm/cells/rnn.py.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from charlm.errors import UsageError
from charlm.models.layers.init import init_recurrent
from charlm.models.recurrent import Recurrent

NONLINEARITIES = ("tanh", "relu")


class RNN(Recurrent):
    """Language model with `nn.RNN`.

    Args:
        vocab_size: V.
        init: "uniform", "identity" or "orthogonal"; the last two apply to W_hh and set the biases to zero.
        nonlinearity: "tanh" or "relu".
        options: the options of `Recurrent`.

    Raises:
        UsageError: another value of `init` or `nonlinearity`.
    """

    def __init__(self, vocab_size: int, init: str = "uniform", nonlinearity: str = "tanh", **options: Any) -> None:
        if nonlinearity not in NONLINEARITIES:
            known = ", ".join(NONLINEARITIES)
            raise UsageError(f"nonlinearity = {nonlinearity!r} is not known; it is one of: {known}")
        super().__init__(vocab_size, nonlinearity=nonlinearity, **options)
        init_recurrent(self.layers, init)

    @staticmethod
    def make_layers(n_embed: int, n_hidden: int, n_layers: int, dropout: float, nonlinearity: str) -> nn.Module:
        """Return `nn.RNN`."""
        return nn.RNN(n_embed, n_hidden, n_layers, nonlinearity, batch_first=True, dropout=dropout)
