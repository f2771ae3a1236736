"""Steps of `mogrifier`: input and past rescale one another, then a step of `lstm`.

    x = 2 sigmoid(Q h) * x      in odd rounds
    h = 2 sigmoid(R x) * h      in even ones

The embedding is rescaled, too, so its share of the gates cannot be looked up.

Shapes: ... nothing for one text, B for many, H n_hidden, E what a layer reads.
"""

from __future__ import annotations

import numpy as np

from charlm.generation.steps.base import Array, Char, Linear, Rows, Steps, Table, Weights, laid_out, sigmoid_
from charlm.generation.steps.lstm import AWD, LSTM
from charlm.generation.steps.stacked import stacked

_TWO = np.float32(2)


class Mogrifier(LSTM):
    """One layer.

    Attributes:
        rounds: Q and R in turn, each two thin matrices, signs turned; to be set once the layer is made.
    """

    rounds: list[Linear]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        super().allocate(rows)
        for gate in self.rounds:
            gate.allocate(rows)

    def step(self, x: Char | Array) -> Array:
        """Return h_t, (..., H)."""
        self.inputs[...] = x
        scaled, by = self.inputs, self.hidden
        for gate in self.rounds:
            scale = gate.step(by)
            sigmoid_(scale)
            np.multiply(scale, _TWO, out=scale)
            np.multiply(scaled, scale, out=scaled)
            scaled, by = by, scaled
        return super().step(self.inputs)


def mogrifier(weights: Weights) -> Steps:
    """Prepare the steps of `mogrifier`."""
    n_hidden = weights.shape(AWD.format("weight_hh", 0), 2)[1]
    tables: list[Table] = []
    sizes: list[tuple[int, int]] = []  # of each gate: the width within, and the largest it could have
    n_rounds = weights.count("layers.gates.0.{}.0.weight")
    n_layers = 0

    def make(w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array, embed: Array | None) -> Mogrifier:
        nonlocal n_layers
        layer = Mogrifier.made(w_ih, w_hh, b_ih, b_hh)
        layer.rounds = []
        tables.extend([] if embed is None else [Table(embed)])
        for j in range(n_rounds):
            name = f"layers.gates.{n_layers}.{j}"
            n_by, n_scaled = (n_hidden, w_ih.shape[1]) if j % 2 == 0 else (w_ih.shape[1], n_hidden)
            width = weights.shape(f"{name}.0.weight", 2)[0]
            thin = laid_out(weights.take(f"{name}.0.weight", width, n_by))
            wide, bias = weights.linear(f"{name}.1", width, n_scaled)
            layer.rounds.append(Linear((thin, None), (-wide, -bias)))
            sizes.append((width, min(n_by, n_scaled)))
        n_layers += 1
        return layer

    steps = stacked(weights, make, LSTM.n_gates, AWD)
    rank = max(width for width, _ in sizes)
    if any(width != min(rank, most) for width, most in sizes):
        raise ValueError("gates of several ranks")
    is_full = all(width == most for width, most in sizes)  # then the rank may have been larger
    options = {"n_rounds": n_rounds, "rank": range(rank, 2**63) if is_full else rank}
    return Steps([*tables, *steps.layers], steps.head, {**steps.options, **options})
