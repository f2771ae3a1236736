"""Steps of `rnn`, `loop`, `char3` and `concat`.

    rnn             tanh(W_hh h + (W_ih e + b))
    loop, char3     tanh(W_hh (h + x) + b) = tanh(W_hh h + (W_hh x + b)), where x belongs to the character alone
    concat          x = relu(W_xh h + (W_xe e + b_x)), then tanh(W_hh x + b)

What stands in brackets at the end is looked up in a table.

Shapes: ... nothing for one text, B for many, V vocab_size, E n_embed, H n_hidden.
"""

from __future__ import annotations

import numpy as np

from charlm.generation.steps.base import Array, Char, Linear, Steps, Weights, tanh
from charlm.generation.steps.stacked import Gates, stacked


class Elman(Gates):
    """One layer of `rnn`."""

    def step(self, x: Char | Array) -> Array:
        """Return h_t, (..., H)."""
        return tanh(self.sums(x)[0], out=self.hidden)


class Concat(Gates):
    """The layer of `concat`.

    Args:
        w_xh: as it is multiplied by, (H, H).
        table: W_xe e + b_x, (V, H).
        w_hh: the same, (H, H).
        bias: (H,).
    """

    def __init__(self, w_xh: Array, table: Array, w_hh: Array, bias: Array) -> None:
        super().__init__(w_xh, table, len(bias))
        self.w_hh, self.bias = w_hh, bias

    def step(self, x: Char | Array) -> Array:
        """Return h_t, (..., H)."""
        both = self.sums(x)[0]
        np.maximum(both, 0, out=both)
        hidden = np.dot(both, self.w_hh, out=self.hidden)
        np.add(hidden, self.bias, out=hidden)
        return tanh(hidden, out=hidden)


def rnn(weights: Weights) -> Steps:
    """Prepare the steps of `rnn` and `rnn-scratch`."""
    return stacked(weights, Elman.made, 1)


def loop(weights: Weights, n_context: int | None = None) -> Steps:
    """Prepare the steps of `loop`."""
    v, e, h = weights.vocab_size, weights.n_embed, weights.shape("hidden_to_hidden.weight", 2)[1]
    to_hidden, bias_in = weights.linear("embed_to_hidden", e, h)
    w_hh, bias = weights.linear("hidden_to_hidden", h, h)
    x = np.maximum(weights.take("embed.weight", v, e) @ to_hidden + bias_in, 0)  # (V, H)
    layer = Elman(w_hh, x @ w_hh + bias, h)
    return Steps([layer], Linear(weights.linear("head", h, v)), {"n_embed": e, "n_hidden": h}, n_context)


def char3(weights: Weights) -> Steps:
    """Prepare the steps of `char3`: three of `loop`."""
    return loop(weights, n_context=3)


def concat(weights: Weights) -> Steps:
    """Prepare the steps of `concat`."""
    v, e, h = weights.vocab_size, weights.n_embed, weights.shape("hidden_to_hidden.weight", 2)[1]
    both, bias_in = weights.linear("both_to_hidden", h + e, h)  # the past comes first
    table = weights.take("embed.weight", v, e) @ both[h:] + bias_in
    layer = Concat(both[:h], table, *weights.linear("hidden_to_hidden", h, h))
    return Steps([layer], Linear(weights.linear("head", h, v)), {"n_embed": e, "n_hidden": h})
