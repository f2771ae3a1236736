"""Steps of residual blocks: the frame of `min-gru`, `min-lstm` and `mamba2`, the norm and the convolution.

    x = x + mixer(norm(x)),  x = x + W_2 relu(W_1 norm(x))

Where a norm's scale and shift are followed by a matrix, they are put into it: W (s * x + t) + b = (W s) x + (W t + b).

Shapes: ... nothing for one text, B for many, V vocab_size, E n_embed, H n_hidden, L n_layers, C channels, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from charlm.generation.steps.base import Array, Layer, Linear, Rows, Steps, Table, Weights
from charlm.generation.steps.stacked import head_of

WIDTH = 4  # of the convolutions
EPSILON = np.float32(1e-5)  # PyTorch's, in LayerNorm


class Norm:
    """(x - mean) / sqrt(variance + epsilon), and nothing after it."""

    states: Sequence[Array] = ()

    def __init__(self, n: int) -> None:
        self.to_mean = np.full((n, 1), 1 / n, np.float32)

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.result, self.square = (np.empty((*rows, len(self.to_mean)), np.float32) for _ in range(2))
        self.mean = np.empty((*rows, 1), np.float32)

    def step(self, x: Array) -> Array:
        """Return the normed vector, (..., N)."""
        np.dot(x, self.to_mean, out=self.mean)
        np.subtract(x, self.mean, out=self.result)
        np.multiply(self.result, self.result, out=self.square)
        np.dot(self.square, self.to_mean, out=self.mean)
        np.add(self.mean, EPSILON, out=self.mean)
        np.sqrt(self.mean, out=self.mean)
        return np.divide(self.result, self.mean, out=self.result)


def after_norm(weights: Weights, norm: str, matrix: Array, bias: Array | None) -> tuple[Array, Array]:
    """Return matrix, (n_in, n_out), and bias of a linear layer with the scale and shift of the norm before it."""
    scale, shift = (weights.take(f"{norm}.{name}", len(matrix)) for name in ("weight", "bias"))
    bias = np.zeros(matrix.shape[1], np.float32) if bias is None else bias
    return scale[:, None] * matrix, shift @ matrix + bias


class Conv:
    """y = b + sum over k of w_k * x_{t-k}, for each channel.

    Args:
        weight: the oldest first, (W, C).
        bias: (C,).
    """

    def __init__(self, weight: Array, bias: Array) -> None:
        self.weight, self.bias = weight, bias

    @property
    def states(self) -> list[Array]:
        """Return the last inputs, (..., W, C), of which the first is not needed any more."""
        return [self.last]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.last, self.products = (np.zeros((*rows, *self.weight.shape), np.float32) for _ in range(2))
        self.result = np.empty((*rows, len(self.bias)), np.float32)

    def step(self, x: Array) -> Array:
        """Return y, (..., C)."""
        last = self.last
        last[..., :-1, :] = last[..., 1:, :]
        last[..., -1, :] = x
        np.multiply(last, self.weight, out=self.products)
        np.add.reduce(self.products, axis=-2, out=self.result)
        return np.add(self.result, self.bias, out=self.result)


class Residual:
    """Layers one after another, and what comes out added to what went in.

    Args:
        layers: the last one gives as many numbers as the first one takes.
    """

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    @property
    def states(self) -> list[Array]:
        """Return the states of the layers."""
        return [state for layer in self.layers for state in layer.states]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        for layer in self.layers:
            layer.allocate(rows)

    def step(self, x: Array) -> Array:
        """Return the sum, (..., H)."""
        y = x
        for layer in self.layers:
            y = layer.step(y)
        return np.add(x, y, out=y)


class Relu(Linear):
    """relu(W x + b)."""

    def step(self, x: Array) -> Array:
        """Return it, (..., n_out)."""
        x = super().step(x)
        return np.maximum(x, 0, out=x)


def blocks(weights: Weights, make: Callable[[Weights, str, int], Layer]) -> Steps:
    """Prepare the steps of a model of blocks.

    Args:
        weights: of the model.
        make: a mixer with the norm before it, from the weights, the block's name and H.
    """
    v, e, h = weights.vocab_size, weights.n_embed, weights.shape("layers.embed_to_hidden.weight", 2)[0]
    embed = weights.take("embed.weight", v, e)
    to_hidden, bias = weights.linear("layers.embed_to_hidden", e, h)
    layers: list[Layer] = [Table(embed @ to_hidden + bias)]
    n_layers = weights.count("layers.blocks.{}.norm.weight")
    for i in range(n_layers):
        name = f"layers.blocks.{i}"
        layers.append(Residual(Norm(h), make(weights, name, h)))
        if f"{name}.mlp.0.weight" in weights.arrays:
            n_inner = weights.shape(f"{name}.mlp.1.weight", 2)[0]
            inner = after_norm(weights, f"{name}.mlp.0", *weights.linear(f"{name}.mlp.1", h, n_inner))
            layers.append(Residual(Norm(h), Relu(inner), Linear(weights.linear(f"{name}.mlp.3", n_inner, h))))
    head, is_tied = head_of(weights, embed, h)
    (matrix, bias_out), *rest = head.products
    head = Linear(after_norm(weights, "layers.norm", matrix, bias_out), *rest)
    options = {"n_embed": e, "n_hidden": h, "n_layers": n_layers, "tied": is_tied}
    return Steps([*layers, Norm(h)], head, options)
