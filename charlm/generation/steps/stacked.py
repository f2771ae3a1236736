"""The frame of the steps of stacked layers with PyTorch's names: embedding, layers, head.

Shapes: ... nothing for one text, B for many, V vocab_size, E n_embed, H n_hidden, G gates, K what a layer reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np

from charlm.generation.steps.base import Array, Char, Layer, Linear, Rows, Steps, Table, Weights, laid_out

MakeLayer = Callable[..., Layer]  # from W_ih, W_hh, b_ih, b_hh, and embeddings in the first layer


class Product:
    """W x + b for several gates at once.

    Each gate has its own place in memory, also for many texts, so that what is done number by number goes over it
    without gaps, which takes half the time.

    Args:
        weight: as it is multiplied by, (K, G * H).
        n_gates: G.
        bias: (G * H,), or None.
    """

    def __init__(self, weight: Array, n_gates: int, bias: Array | None = None) -> None:
        self.weight, self.bias = weight, bias
        self.by_gate = weight.reshape(len(weight), n_gates, -1).swapaxes(0, 1)  # (G, K, H)

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        n_gates, _, n_hidden = self.by_gate.shape
        self.results = np.empty((n_gates, *rows, n_hidden), np.float32)
        self.row = self.results.reshape(-1)
        if self.bias is not None:
            self.bias = self.bias.reshape(n_gates, *(1 for _ in rows), n_hidden)

    def step(self, x: Array) -> Array:
        """Return it, (G, ..., H)."""
        if x.ndim == 1:
            np.dot(x, self.weight, out=self.row)
        else:
            np.matmul(x, self.by_gate, out=self.results)
        return self.results if self.bias is None else np.add(self.results, self.bias, out=self.results)


class Gates:
    """W [h; x] + b for all gates of a layer at once; a subclass says what becomes of them.

    Args:
        weight: W_hh, and W_ih below it, as they are multiplied by, (K, G * H); without what the table has.
        given: b, (G * H,), or in the first layer the table of W_ih e + b, (V, G * H).
        n_hidden: H.
    """

    n_gates = 1

    def __init__(self, weight: Array, given: Array, n_hidden: int) -> None:
        self.n_hidden, is_main_process = n_hidden, given.ndim == 2
        self.product = Product(weight, self.n_gates, None if is_main_process else given)
        self.table = Table(given.reshape(len(given), self.n_gates, n_hidden)) if is_main_process else None

    @classmethod
    def made(cls, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array, embed: Array | None = None) -> Self:
        """Return a layer from PyTorch's parameters, and from the embeddings if it is the first."""
        w_ih, w_hh, bias = (cls.arranged(array) for array in (w_ih, w_hh, b_ih + b_hh))
        if embed is not None:  # what the first layer reads beside a character's embedding is read as in upper layers
            bias, w_ih = embed @ w_ih[:, : embed.shape[1]].T + bias, w_ih[:, embed.shape[1] :]
        return cls(laid_out(np.concatenate([w_hh, w_ih], axis=1)), bias, w_hh.shape[1])

    @staticmethod
    def arranged(gates: Array) -> Array:
        """Return the gates, (G * H, ...), in the order and with the signs in which a step wants them."""
        return gates

    @property
    def states(self) -> list[Array]:
        """Return h."""
        return [self.hidden]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.both = np.zeros((*rows, len(self.product.weight)), np.float32)
        self.hidden, self.inputs = self.both[..., : self.n_hidden], self.both[..., self.n_hidden :]
        self.product.allocate(rows)
        self.gates = self.product.results
        if self.table is not None:
            self.table.allocate(rows)

    def sums(self, x: Char | Array) -> Array:
        """Return W [h; x] + b, (G, ..., H)."""
        if self.table is None:
            self.inputs[...] = x
            return self.product.step(self.both)
        given = self.table.step(x)  # type: ignore[arg-type]
        return np.add(self.product.step(self.both), given, out=self.gates)


def head_of(weights: Weights, embed: Array, n_hidden: int, name: str = "head") -> tuple[Linear, bool]:
    """Take the head of that name out of the weights, and say whether its last matrix is that of the embeddings."""
    vocab_size, n_embed = embed.shape
    is_tied, between = f"{name}.2.weight" not in weights.arrays, f"{name}.1.weight" in weights.arrays
    first = [weights.linear(f"{name}.1", n_hidden, n_embed)] if between else []
    bias = weights.take(f"{name}.2.bias", vocab_size)
    matrix = embed if is_tied else weights.take(f"{name}.2.weight", vocab_size, n_embed if between else n_hidden)
    if matrix.shape[1] != (n_embed if between else n_hidden):
        raise ValueError("the head does not fit the layers")
    return Linear(*first, (laid_out(matrix), bias)), is_tied


def layers_of(
    weights: Weights, make: MakeLayer, n_gates: int, name: str = "layers.{}_l{}", n_beside: int = 0
) -> tuple[list[Layer], Array, dict[str, int]]:
    """Take stacked layers out of the weights.

    Args:
        weights: of the model.
        make: a layer, from PyTorch's parameters.
        n_gates: G.
        name: of a parameter of a layer.
        n_beside: numbers that the first layer reads beside the embedding.

    Returns:
        the layers, the embeddings, (V, E), and the options that they show.
    """
    n_layers = weights.count(name.format("weight_hh", "{}"))
    n_hidden = weights.shape(name.format("weight_hh", 0), 2)[1]
    embed = weights.take("embed.weight", weights.vocab_size, weights.n_embed)
    layers = []
    for i in range(n_layers):
        n_in, n_out = n_hidden if i else weights.n_embed + n_beside, n_gates * n_hidden
        shapes = {"weight_ih": (n_out, n_in), "weight_hh": (n_out, n_hidden), "bias_ih": (n_out,), "bias_hh": (n_out,)}
        parameters = [weights.take(name.format(key, i), *shape) for key, shape in shapes.items()]
        layers.append(make(*parameters, None if i else embed))
    return layers, embed, {"n_embed": weights.n_embed, "n_hidden": n_hidden, "n_layers": n_layers}


def stacked(weights: Weights, make: MakeLayer, n_gates: int, name: str = "layers.{}_l{}") -> Steps:
    """Prepare the steps of stacked layers and their head; the arguments are those of `layers_of`."""
    layers, embed, options = layers_of(weights, make, n_gates, name)
    head, is_tied = head_of(weights, embed, options["n_hidden"])
    return Steps(layers, head, {**options, "tied": is_tied})
