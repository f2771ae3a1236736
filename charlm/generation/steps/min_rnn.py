"""Steps of `min-gru` and `min-lstm`: gates of the input alone.

    u = conv(s * norm(x) + t)                   the norm's own scale and shift
    min-gru         z = sigmoid(W_z u + b_z)
    min-lstm        z = i / (f + i) = sigmoid(ln i - ln f),  f, i = sigmoid(W_f u + b_f), sigmoid(W_i u + b_i)
    h = h + z * (W_n u + b_n - h)
    the block adds W_o h + b_o

Shapes: ... nothing for one text, B for many, H n_hidden, G gates.
"""

from __future__ import annotations

import numpy as np

from charlm.generation.steps.base import Array, Linear, Rows, Steps, Weights, sigmoid_
from charlm.generation.steps.blocks import WIDTH, Conv, blocks

_NOTHING = np.float32(0)


class Mixer:
    """minGRU between norm and residual.

    Args:
        weights: of the model.
        name: of the block.
        n_hidden: H.
    """

    n_gates = 2

    def __init__(self, weights: Weights, name: str, n_hidden: int) -> None:
        h, g = n_hidden, self.n_gates
        self.scale, self.shift = weights.take(f"{name}.norm.weight", h), weights.take(f"{name}.norm.bias", h)
        conv = f"{name}.mixer.conv"
        self.conv = Conv(weights.take(f"{conv}.weight", WIDTH, h), weights.take(f"{conv}.bias", h))
        matrix, bias = weights.linear(f"{name}.mixer.gates", h, g * h)
        signs = np.repeat(np.array([-1] * (g - 1) + [1], np.float32), h)  # all but the new one pass a sigmoid
        self.gates = Linear((matrix * signs, bias * signs))
        self.out = Linear(weights.linear(f"{name}.mixer.out", h, h))

    @property
    def states(self) -> list[Array]:
        """Return h and the last inputs of the convolution."""
        return [self.hidden, *self.conv.states]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        for layer in (self.conv, self.gates, self.out):
            layer.allocate(rows)
        self.hidden = np.zeros((*rows, len(self.scale)), np.float32)

    def share(self, gates: Array) -> Array:
        """Return z, (..., H), from all gates but the new one, signs turned."""
        sigmoid_(gates)
        return gates

    def step(self, x: Array) -> Array:
        """Return what the block adds, (..., H)."""
        hidden, h = self.hidden, len(self.scale)
        np.multiply(x, self.scale, out=x)
        np.add(x, self.shift, out=x)
        gates = self.gates.step(self.conv.step(x))
        z, new = self.share(gates[..., :-h]), gates[..., -h:]
        np.subtract(new, hidden, out=new)
        np.multiply(new, z, out=new)
        np.add(hidden, new, out=hidden)
        return self.out.step(hidden)


class MinLSTM(Mixer):
    """minLSTM between norm and residual."""

    n_gates = 3

    def share(self, gates: Array) -> Array:
        """Return z, (..., H), from -f and -i before their sigmoids, since -ln sigmoid(x) = ln(1 + exp(-x))."""
        np.logaddexp(gates, _NOTHING, out=gates)
        forget, enter = np.split(gates, 2, axis=-1)
        np.subtract(enter, forget, out=enter)
        sigmoid_(enter)
        return enter


def min_gru(weights: Weights) -> Steps:
    """Prepare the steps of `min-gru`."""
    return blocks(weights, Mixer)


def min_lstm(weights: Weights) -> Steps:
    """Prepare the steps of `min-lstm`."""
    return blocks(weights, MinLSTM)
