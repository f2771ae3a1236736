"""Steps of `lstm` and `awd-lstm`.

    i, f, o = sigmoid(...),  g = tanh(...)      of W [h; x] + b
    c = f * c + i * g
    h = o * tanh(c)

Shapes: ... nothing for one text, B for many, H n_hidden, K what a layer reads.
"""

from __future__ import annotations

import numpy as np

from charlm.generation.steps.base import Array, Char, Rows, Steps, Weights, sigmoid_, tanh
from charlm.generation.steps.stacked import Gates, stacked

AWD = "layers.layers.{1}.{0}_l0"  # a parameter's name in `awd-lstm`


class LSTM(Gates):
    """One layer."""

    n_gates = 4

    @staticmethod
    def arranged(gates: Array) -> Array:
        """Return i, f, o with their signs turned, then g, (4 * H, ...), from PyTorch's i, f, g, o."""
        i, f, g, o = np.split(gates, 4)
        return np.concatenate([-i, -f, -o, g])

    @property
    def states(self) -> list[Array]:
        """Return h and c."""
        return [self.hidden, self.cell]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        super().allocate(rows)
        self.cell = np.zeros((*rows, self.n_hidden), np.float32)
        self.i, self.f, self.o, self.g = self.gates
        self.ifo = self.gates[:3]

    def step(self, x: Char | Array) -> Array:
        """Return h_t, (..., H)."""
        self.sums(x)
        sigmoid_(self.ifo)
        tanh(self.g, out=self.g)
        np.multiply(self.cell, self.f, out=self.cell)
        np.multiply(self.i, self.g, out=self.g)
        np.add(self.cell, self.g, out=self.cell)
        tanh(self.cell, out=self.hidden)
        np.multiply(self.hidden, self.o, out=self.hidden)
        return self.hidden


def lstm(weights: Weights) -> Steps:
    """Prepare the steps of `lstm` and `lstm-scratch`."""
    return stacked(weights, LSTM.made, LSTM.n_gates)


def awd_lstm(weights: Weights) -> Steps:
    """Prepare the steps of `awd-lstm`, which drops nothing when it writes."""
    return stacked(weights, LSTM.made, LSTM.n_gates, AWD)
