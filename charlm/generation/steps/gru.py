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

from charlm.generation.steps.base import Array, Char, Rows, Steps, Table, Weights, laid_out, sigmoid_, tanh
from charlm.generation.steps.stacked import Product, stacked


class GRU:
    """One layer.

    Args:
        inputs: from what the layer reads to r, z and n, their biases in it, (3, ..., H).
        w_hh: as it is multiplied by, (H, 3 * H).
        bias: b_hn, (H,).
    """

    def __init__(self, inputs: Table | Product, w_hh: Array, bias: Array) -> None:
        self.inputs, self.product, self.bias = inputs, Product(w_hh, 3), bias

    @classmethod
    def made(cls, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array, embed: Array | None) -> Self:
        """Return a layer from PyTorch's parameters, and from the embeddings if it is the first."""
        h = w_hh.shape[1]
        given = b_ih + b_hh * np.repeat(np.array([1, 1, 0], np.float32), h)
        signs = np.repeat(np.array([-1, -1, 1], np.float32), h)  # of r, z and n
        w_ih, w_hh, given = w_ih * signs[:, None], w_hh * signs[:, None], given * signs
        if embed is not None:
            return cls(Table((embed @ w_ih.T + given).reshape(-1, 3, h)), laid_out(w_hh), b_hh[2 * h :])
        return cls(Product(laid_out(w_ih), 3, given), laid_out(w_hh), b_hh[2 * h :])

    @property
    def states(self) -> list[Array]:
        """Return h."""
        return [self.hidden]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.inputs.allocate(rows)
        self.product.allocate(rows)
        self.hidden = np.zeros((*rows, len(self.bias)), np.float32)
        self.rz = self.product.results[:2]
        self.r, self.z, self.n = self.product.results

    def step(self, x: Char | Array) -> Array:
        """Return h_t, (..., H)."""
        given, rz, n, hidden = self.inputs.step(x), self.rz, self.n, self.hidden  # type: ignore[arg-type]
        self.product.step(hidden)
        np.add(rz, given[:2], out=rz)
        sigmoid_(rz)
        np.add(n, self.bias, out=n)
        np.multiply(n, self.r, out=n)
        np.add(n, given[2], out=n)
        tanh(n, out=n)
        np.subtract(hidden, n, out=hidden)
        np.multiply(hidden, self.z, out=hidden)
        np.add(hidden, n, out=hidden)
        return hidden


def gru(weights: Weights) -> Steps:
    """Prepare the steps of `gru` and `gru-scratch`."""
    return stacked(weights, GRU.made, 3)
