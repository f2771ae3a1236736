"""Steps of `gru`.

    r, z = sigmoid(W_i x + b_i + W_h h + b_h)
    n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
    h = n + z * (h - n)

The reset gate r stands between the two shares of n, so input and past have a product each. What is added to both gates
before the sigmoid can be added once.

Shapes: ... nothing for one text, B for many, V vocab_size, H n_hidden, E what a layer reads.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from charlm.steps.base import Array, Char, Linear, Rows, Steps, Table, Weights, laid_out, sigmoid_, tanh
from charlm.steps.stacked import stacked


class GRU:
    """One layer.

    Args:
        inputs: from what the layer reads to r, z and n, their biases in it: a table, or one matrix.
        w_hh: as it is multiplied by, (H, 3 * H).
        bias: b_hn, (H,).
    """

    def __init__(self, inputs: Table | Linear, w_hh: Array, bias: Array) -> None:
        self.inputs, self.w_hh, self.bias = inputs, w_hh, bias

    @classmethod
    def made(cls, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array, embed: Array | None) -> Self:
        """Return a layer from PyTorch's parameters, and from the embeddings if it is the first."""
        h = w_hh.shape[1]
        given = b_ih + b_hh * np.repeat(np.array([1, 1, 0], np.float32), h)
        signs = np.repeat(np.array([-1, -1, 1], np.float32), h)  # of r, z and n
        w_ih, w_hh, given = w_ih * signs[:, None], w_hh * signs[:, None], given * signs
        inputs = Linear((laid_out(w_ih), given)) if embed is None else Table(embed @ w_ih.T + given)
        return cls(inputs, laid_out(w_hh), b_hh[2 * h :])

    @property
    def states(self) -> list[Array]:
        """Return h."""
        return [self.hidden]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        h = len(self.bias)
        self.inputs.allocate(rows)
        self.hidden = np.zeros((*rows, h), np.float32)
        self.gates = np.empty((*rows, 3 * h), np.float32)
        self.rz = self.gates[..., : 2 * h]
        self.r, self.z, self.n = np.split(self.gates, 3, axis=-1)

    def step(self, x: Char | Array) -> Array:
        """Return h_t, (..., H)."""
        given, rz, n, hidden = self.inputs.step(x), self.rz, self.n, self.hidden  # type: ignore[arg-type]
        np.dot(hidden, self.w_hh, out=self.gates)
        np.add(rz, given[..., : rz.shape[-1]], out=rz)
        sigmoid_(rz)
        np.add(n, self.bias, out=n)
        np.multiply(n, self.r, out=n)
        np.add(n, given[..., rz.shape[-1] :], out=n)
        tanh(n, out=n)
        np.subtract(hidden, n, out=hidden)
        np.multiply(hidden, self.z, out=hidden)
        np.add(hidden, n, out=hidden)
        return hidden


def gru(weights: Weights) -> Steps:
    """Prepare the steps of `gru` and `gru-scratch`."""
    return stacked(weights, GRU.made, 3)
