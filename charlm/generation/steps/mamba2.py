"""Steps of `mamba2`: a state that is a matrix.

    d = softplus(W_d u + b_d),  a = exp(-d A)
    h = a h + d x B^T
    y = h C + D x
    the block adds W_o norm(y * silu(W_g u))

x, B and C come from W_x u through a convolution and silu; u is the normed residual stream.

Shapes: ... nothing for one text, B for many, H n_hidden, K n_heads, P numbers a head, N n_state, I = K * P.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from charlm.generation.steps.base import Array, Linear, Rows, Steps, Weights, laid_out, sigmoid_
from charlm.generation.steps.blocks import WIDTH, Conv, Norm, after_norm, blocks

_NOTHING = np.float32(0)


class Silu:
    """x * sigmoid(x) in place, with room for the sigmoid."""

    def __init__(self, n: int) -> None:
        self.n = n

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.sigmoid = np.empty((*rows, self.n), np.float32)

    def step(self, x: Array) -> Array:
        """Return x, (..., N)."""
        np.negative(x, out=self.sigmoid)
        sigmoid_(self.sigmoid)
        return np.multiply(x, self.sigmoid, out=x)


class Mixer:
    """Mamba-2 between norm and residual.

    Args:
        weights: of the model.
        name: of the block.
        n_hidden: H.
    """

    def __init__(self, weights: Weights, name: str, n_hidden: int) -> None:
        inside = f"{name}.mixer"
        self.n_heads, self.n_inner = (weights.shape(f"{inside}.{key}", 1)[0] for key in ("skip", "norm.weight"))
        n_conv = weights.shape(f"{inside}.conv.weight", 2)[1]
        self.n_state, k, i = (n_conv - self.n_inner) // 2, self.n_heads, self.n_inner
        project = laid_out(weights.take(f"{inside}.project.weight", i + n_conv + k, n_hidden))
        matrix, bias = after_norm(weights, f"{name}.norm", project, None)
        bias[-k:] += weights.take(f"{inside}.step_bias", k)
        self.project = Linear((matrix, bias))
        conv = f"{inside}.conv"
        self.conv = Conv(weights.take(f"{conv}.weight", WIDTH, n_conv), weights.take(f"{conv}.bias", n_conv))
        self.rate = -np.exp(weights.take(f"{inside}.log_rate", k))  # -A
        self.skip = weights.take(f"{inside}.skip", k)[:, None]  # D
        self.norm = Norm(i)
        out = laid_out(weights.take(f"{inside}.out.weight", n_hidden, i))
        self.out = Linear(after_norm(weights, f"{inside}.norm", out, None))
        self.silu_of_gate, self.silu_of_conv = Silu(i), Silu(n_conv)

    @property
    def states(self) -> list[Array]:
        """Return h and the last inputs of the convolution."""
        return [self.matrix, *self.conv.states]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        for part in (self.project, self.conv, self.norm, self.out, self.silu_of_gate, self.silu_of_conv):
            part.allocate(rows)
        shape = (*rows, self.n_heads, self.n_inner // self.n_heads)
        self.matrix, self.entering = (np.zeros((*shape, self.n_state), np.float32) for _ in range(2))
        self.y, self.d_x = (np.empty(shape, np.float32) for _ in range(2))
        self.keep = np.empty(shape[:-1], np.float32)

    def step(self, x: Array) -> Array:
        """Return what the block adds, (..., H)."""
        k, i, n = self.n_heads, self.n_inner, self.n_state
        projected = self.project.step(x)
        gate, d = self.silu_of_gate.step(projected[..., :i]), projected[..., -k:]
        convolved = self.silu_of_conv.step(self.conv.step(projected[..., i:-k]))
        x, b, c = convolved[..., :i].reshape(self.y.shape), convolved[..., i : i + n], convolved[..., i + n :]
        np.logaddexp(d, _NOTHING, out=d)
        np.multiply(d, self.rate, out=self.keep)
        np.exp(self.keep, out=self.keep)
        np.multiply(x, d[..., None], out=self.d_x)
        np.multiply(self.d_x[..., None], b[..., None, None, :], out=self.entering)
        np.multiply(self.matrix, self.keep[..., None, None], out=self.matrix)
        np.add(self.matrix, self.entering, out=self.matrix)
        np.matmul(self.matrix, c[..., None, :, None], out=self.y[..., None])
        np.multiply(x, self.skip, out=x)
        np.add(self.y, x, out=self.y)
        y = self.y.reshape(gate.shape)
        np.multiply(y, gate, out=y)
        return self.out.step(self.norm.step(y))


def mamba2(weights: Weights) -> Steps:
    """Prepare the steps of `mamba2`."""
    mixers: list[Mixer] = []

    def make(*arguments: Any) -> Mixer:
        mixers.append(Mixer(*arguments))
        return mixers[-1]

    steps = blocks(weights, make)
    (n_heads, n_state), *others = {(mixer.n_heads, mixer.n_state) for mixer in mixers}
    if others:
        raise ValueError("layers of several sizes")
    steps.options = {**steps.options, "n_heads": n_heads, "n_state": n_state}
    return steps
