"""Steps of `transformer`: what is new looks back at the keys and values that are kept of what was read.

    q, k, v = W [x] + b                     of each head, 1 / sqrt(D) in the rows of q
    y = W_o (sum over s of softmax(R_t q . R_s k_s) v_s)                        s = t - M .. t
    x = x + y,  x = x + W_2 gelu(W_1 [x])                                       [x] is RMSNorm(x)

A key is turned once, by the angles of its place in the text, and kept so: in float64, angles of any place are exact
enough. A pair of numbers that is turned is one complex number, and turning a product with exp(i angle); for that, the
rows of W are put in another order. The places of keys and values are used in turn: M + 1 of them, once so many
characters were read. A norm's scale is put into the matrix after it.

Shapes: ... nothing for one text, B for many, V vocab_size, E n_embed, H = 4 E, N heads, D head_size, M n_memory,
P places, K known characters (at most M + 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from charlm.generation.steps.base import Array, Char, Layer, Linear, Rows, Steps, Table, Weights, laid_out
from charlm.generation.steps.blocks import Residual

N_PLACES = 32  # at first; a text is often shorter than the memory
EPSILON = np.finfo(np.float32).eps  # PyTorch's, in RMSNorm
# Abramowitz and Stegun (1964), Handbook of mathematical functions, 7.1.26: erf(x) = 1 - (a_1 t + ... + a_5 t^5)
# exp(-x^2), t = 1 / (1 + p x), x >= 0, to 1.5e-7.
ERF = np.array([0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429], np.float32)
ERF_SCALE = np.float32(0.3275911)


def gelu(x: Array) -> Array:
    """Return x Phi(x) = max(x, 0) - |x| (1 - erf(|x| / sqrt(2))) / 2, in place.

    Reference: Hendrycks and Gimpel (2016), arXiv:1606.08415.
    """
    size = np.abs(x)
    t = size * (ERF_SCALE * np.float32(math.sqrt(0.5)))
    t += np.float32(1)
    np.reciprocal(t, out=t)
    tail = t * ERF[-1]
    for a in ERF[-2::-1]:
        tail += a
        tail *= t
    np.multiply(size, size, out=t)
    t *= np.float32(-0.5)
    tail *= np.exp(t, out=t)
    size *= np.float32(0.5)
    tail *= size
    np.maximum(x, 0, out=x)
    x -= tail
    return x


class Gelu(Linear):
    """gelu(W x + b)."""

    def step(self, x: Array) -> Array:
        """Return it, (..., n_out)."""
        return gelu(super().step(x))


class RMSNorm:
    """x / sqrt(mean of x^2 + epsilon), without a scale."""

    states: Sequence[Array] = ()

    def __init__(self, n: int) -> None:
        self.to_mean = np.full((n, 1), 1 / n, np.float32)

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.result = np.empty((*rows, len(self.to_mean)), np.float32)
        self.mean = np.empty((*rows, 1), np.float32)

    def step(self, x: Array) -> Array:
        """Return the normed vector, (..., E)."""
        np.multiply(x, x, out=self.result)
        np.dot(self.result, self.to_mean, out=self.mean)
        np.add(self.mean, EPSILON, out=self.mean)
        np.sqrt(self.mean, out=self.mean)
        return np.divide(x, self.mean, out=self.result)


class Clock:
    """Counts the characters, for all layers above it.

    Args:
        head_size: D.
        window_size: M.

    Attributes:
        turn: exp(i angle) of each pair of numbers at the last character's place, complex64, (D / 2,).
        place: of its key among those that are kept.
        n_known: K.
    """

    def __init__(self, head_size: int, window_size: int) -> None:
        pairs = np.arange(0, head_size, 2, dtype=np.float32)
        self.angles = (10_000 ** (-pairs / np.float32(head_size))).astype(np.float64)  # rounded as in models/
        self.n_most = window_size + 1

    @property
    def states(self) -> list[NDArray[np.int64]]:
        """Return how many characters were read."""
        return [self.n_read]

    def allocate(self, rows: Rows) -> None:
        """Begin to count; all texts are as long."""
        self.n_read = np.zeros((), np.int64)

    def step(self, char: Char) -> Char:
        """Count a character and return it."""
        t = int(self.n_read)
        self.turn = np.exp(1j * t * self.angles).astype(np.complex64)
        self.place, self.n_known = t % self.n_most, min(t + 1, self.n_most)
        self.n_read += 1
        return char


class Attention:
    """What a layer gathers from the characters known.

    Args:
        weights: of the model.
        name: of the layer.
        n_embed: E.
        head_size: D.
        synced_seconds: which steps first.
    """

    def __init__(self, weights: Weights, name: str, n_embed: int, head_size: int, synced_seconds: Clock) -> None:
        n_heads = math.ceil(n_embed / head_size)
        matrix, bias = weights.linear(f"{name}.attention.to_heads", n_embed, 3 * n_heads * head_size)
        matrix *= weights.take(f"{name}.attention_norm.weight", n_embed)[:, None]
        both = np.concatenate([matrix, bias[None]]).reshape(-1, 3, n_heads, 2, head_size // 2)  # W and b
        both[:, 0] /= np.float32(math.sqrt(head_size))
        both[:, :2] = both[:, :2].swapaxes(-1, -2).reshape(both[:, :2].shape)  # number i beside number D / 2 + i
        both = both.reshape(n_embed + 1, -1)
        self.qkv_proj = Linear((both[:-1], both[-1]))
        out_proj = weights.take(f"{name}.attention.from_heads.weight", n_embed, n_heads * head_size)
        self.out_proj = Linear((laid_out(out_proj), None))
        self.shape = (3, n_heads, head_size)
        self.synced_seconds, self.n_places = synced_seconds, min(synced_seconds.n_most, N_PLACES)

    @property
    def states(self) -> list[Array]:
        """Return the keys, turned, and the values."""
        return [self.keys, self.values]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.qkv_proj.allocate(rows)
        self.out_proj.allocate(rows)
        _, n_heads, head_size = self.shape
        self.keys, self.values = (np.zeros((*rows, n_heads, self.n_places, head_size), np.float32) for _ in range(2))

    def grow(self) -> None:
        """Make twice as many places, or as many as are ever needed."""
        n_more = min(self.n_places, self.synced_seconds.n_most - self.n_places)
        more = np.zeros((*self.keys.shape[:-2], n_more, self.shape[-1]), np.float32)
        self.keys, self.values = (np.concatenate([kept, more], axis=-2) for kept in (self.keys, self.values))
        self.n_places += n_more

    def step(self, x: Array) -> Array:
        """Return what is to be added, (..., E)."""
        heads = self.qkv_proj.step(x)
        heads = heads.reshape(*heads.shape[:-1], *self.shape)  # (..., 3, N, D)
        turning = heads[..., :2, :, :].view(np.complex64)
        np.multiply(turning, self.synced_seconds.turn, out=turning)
        if self.synced_seconds.place == self.n_places:
            self.grow()
        self.keys[..., self.synced_seconds.place, :] = heads[..., 1, :, :]
        self.values[..., self.synced_seconds.place, :] = heads[..., 2, :, :]
        keys, values = (
            kept[..., : self.synced_seconds.n_known, :] for kept in (self.keys, self.values)
        )  # (..., N, K, D)
        shares = np.matmul(keys, heads[..., 0, :, :, None])  # (..., N, K, 1)
        np.subtract(shares, np.maximum.reduce(shares, axis=-2, keepdims=True), out=shares)
        np.exp(shares, out=shares)
        gathered = np.matmul(shares.swapaxes(-1, -2), values)  # (..., N, 1, D)
        np.divide(gathered, np.add.reduce(shares, axis=-2, keepdims=True), out=gathered)
        return self.out_proj.step(gathered.reshape(*gathered.shape[:-3], -1))


def transformer(weights: Weights) -> Steps:
    """Prepare the steps of `transformer`."""
    v, e = weights.vocab_size, weights.n_embed
    head_size, window_size = weights.told("head_size", int), weights.told("window_size", int)
    if head_size < 2 or head_size % 2 or window_size < 1:
        raise ValueError(f"head_size is {head_size}, n_memory {window_size}")
    synced_seconds = Clock(head_size, window_size)
    layers: list[Layer] = [synced_seconds, Table(weights.take("embed.weight", v, e))]
    n_layers = weights.count("layers.{}.to_hidden.weight")
    for i in range(n_layers):
        name = f"layers.{i}"
        layers.append(Residual(RMSNorm(e), Attention(weights, name, e, head_size, synced_seconds)))
        to_hidden = laid_out(weights.take(f"{name}.to_hidden.weight", 4 * e, e))
        to_hidden *= weights.take(f"{name}.network_norm.weight", e)[:, None]
        from_hidden = laid_out(weights.take(f"{name}.from_hidden.weight", e, 4 * e))
        layers.append(Residual(RMSNorm(e), Gelu((to_hidden, None)), Linear((from_hidden, None))))
    matrix, bias = weights.linear("head", e, v)
    matrix *= weights.take("norm.weight", e)[:, None]
    options = {"n_embed": e, "n_layers": n_layers, "head_size": head_size, "window_size": window_size}
    return Steps([*layers, RMSNorm(e)], Linear((matrix, bias)), options, n_reach=n_layers * window_size + 1)
