"""Numpy engines of the recurrent models: the cells of `charlm.cells`, one step per character.

Weights are transposed once. The input of the first layer, W_ih e + b_ih, is computed once for each character of the
vocabulary, so that a step only looks it up in a table. The initial state is (H,), and so it stays while all texts read
a common prompt. The first characters of B texts, (B,), turn it into (B, H) by broadcasting.

Shapes: ... nothing for one text, B for many; V vocab_size, E n_embed, H n_hidden, G gates, K extra features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from charlm.cells import concat_cell, gru_cell, loop_cell, lstm_cell, rnn_cell
from charlm.generation.numpy_weights import Array, Weights
from charlm.generation.sampler import Stepper

PYTORCH = "layers.{0}_l{1}"  # name of a parameter of a layer in nn.LSTM and the like
AWD_LSTM = "layers.layers.{1}.{0}_l0"


@dataclass(frozen=True, eq=False)
class InputLayer:
    """Input of the first recurrent layer, computed from the embedding e: W_ih e + b_ih, or the relu of it.

    Attributes:
        embed: embedding, (V, E).
        weight: W_ih transposed, (E, G H).
        bias: b_ih, (G H,).
        relu: apply relu.
    """

    embed: Array
    weight: Array
    bias: Array
    relu: bool = False

    def table(self) -> Array:
        """Return the result for each character of the vocabulary, (V, G H)."""
        gates_in: Array = self.embed @ self.weight + self.bias
        return np.maximum(gates_in, 0) if self.relu else gates_in


class RecurrentLayers:
    """Embedding and stacked recurrent layers with their state.

    Args:
        cell: one step, a function of `charlm.cells`.
        cell_weights: its arguments after the state, for each layer.
        inputs: of the first layer.
        upper: for each layer above the first, W_ih transposed, (H, G H), and b_ih, (G H,).
        n_states: number of vectors in a layer's state.
        extra_weight: W_ih transposed of features read in addition to the embedding, (K, G H).
    """

    def __init__(
        self,
        cell: Callable[..., Any],
        cell_weights: Sequence[tuple[Array, ...]],
        inputs: InputLayer,
        upper: Sequence[tuple[Array, Array]] = (),
        n_states: int = 1,
        extra_weight: Array | None = None,
    ) -> None:
        self.cell, self.cell_weights, self.inputs, self.upper = cell, cell_weights, inputs, upper
        self.table = inputs.table()
        self.n_states, self.extra_weight = n_states, cast(Array, extra_weight)
        self.n_hidden = len(cell_weights[0][0])
        self.reset()

    def reset(self) -> None:
        """Set the state to zero."""
        zeros = np.zeros(self.n_hidden, np.float32)
        self.states: list[Any] = [zeros if self.n_states == 1 else (zeros,) * self.n_states] * len(self.cell_weights)

    def fresh(self) -> RecurrentLayers:
        """Return other layers with the same weights and a state of zero."""
        layers = copy(self)
        layers.reset()
        return layers

    def step(self, char: Any, extra: Array | None = None) -> Array:
        """Read a character and return the last layer's hidden state, (..., H).

        Args:
            char: index, int, or (B,).
            extra: features read in addition to the embedding, (..., K).
        """
        gates_in = self.table[char]
        if extra is not None:
            gates_in = gates_in + np.dot(extra, self.extra_weight)
        hidden = self._advance(0, gates_in)
        for i, (weight, bias) in enumerate(self.upper, start=1):
            hidden = self._advance(i, np.dot(hidden, weight) + bias)
        return hidden

    def _advance(self, i: int, gates_in: Array) -> Array:
        state = self.states[i] = self.cell(np, gates_in, self.states[i], *self.cell_weights[i])
        hidden: Array = state if self.n_states == 1 else state[0]
        return hidden


class RecurrentStepper(Stepper):
    """Recurrent layers and a head: a `Stepper` for one text or many.

    Args:
        layers: embedding and recurrent layers.
        head: linear layers to the logits, each a matrix (n_in, n_out) and a bias (n_out,).
    """

    def __init__(self, layers: RecurrentLayers, head: Sequence[tuple[Array, Array]]) -> None:
        self.layers, self.head = layers, head

    @property
    def state(self) -> list[Any]:
        """The state of each layer."""
        return self.layers.states

    @state.setter
    def state(self, states: list[Any]) -> None:
        """Replace it."""
        self.layers.states = states

    def reset(self) -> None:
        """Set the state to zero."""
        self.layers.reset()

    def fresh(self) -> RecurrentStepper:
        """Return another stepper of the same weights, in its initial state."""
        return RecurrentStepper(self.layers.fresh(), self.head)

    def read(self, chars: Sequence[Any]) -> Array:
        """Read characters, at least one, and return the logits of the next one, (..., V)."""
        with np.errstate(over="ignore"):  # see `cells.ops.sigmoid`
            for char in chars:
                hidden = self.layers.step(char)
        return apply_head(self.head, hidden)


def apply_head(head: Sequence[tuple[Array, Array]], hidden: Array) -> Array:
    """Return the logits, (..., V), from hidden states, (..., H)."""
    for weight, bias in head:
        hidden = np.dot(hidden, weight) + bias
    return hidden


def take_layers(
    weights: Weights, cell: Callable[..., Any], n_gates: int, n_states: int = 1, name: str = PYTORCH, n_extra: int = 0
) -> tuple[RecurrentLayers, Array]:
    """Take embedding and stacked layers out of the weights.

    Args:
        weights: of the model.
        cell: one step.
        n_gates: G.
        n_states: number of vectors in a layer's state.
        name: of a parameter of a layer, see `PYTORCH`.
        n_extra: K, features that the first layer reads in addition to the embedding.

    Returns:
        the layers, and the embedding, (V, E), for a tied head.
    """
    n_embed, n_hidden, n_layers = (weights.option(key, int) for key in ("n_embed", "n_hidden", "n_layers"))
    embed = weights.pop("embed.weight", weights.vocab_size, n_embed)
    cell_weights, inputs = [], []
    for i in range(n_layers):
        n_in, n_out = n_hidden if i else n_embed + n_extra, n_gates * n_hidden
        inputs.append(
            (weights.matrix(name.format("weight_ih", i), n_in, n_out), weights.pop(name.format("bias_ih", i), n_out))
        )
        cell_weights.append(
            (
                weights.matrix(name.format("weight_hh", i), n_hidden, n_out),
                weights.pop(name.format("bias_hh", i), n_out),
            )
        )
    (weight, bias), *upper = inputs
    first = InputLayer(embed, weight[:n_embed], bias)
    return RecurrentLayers(cell, cell_weights, first, upper, n_states, weight[n_embed:] if n_extra else None), embed


def take_head(weights: Weights, embed: Array, n_hidden: int, name: str = "head") -> list[tuple[Array, Array]]:
    """Take the head of `Recurrent` out of the weights.

    Args:
        weights: of the model.
        embed: (V, E), the last matrix of a tied head.
        n_hidden: H.
        name: of the head in the model.
    """
    vocab_size, n_embed = embed.shape
    if not weights.option("tied", bool):
        return [weights.linear(f"{name}.2", n_hidden, vocab_size)]
    between = [] if n_embed == n_hidden else [weights.linear(f"{name}.1", n_hidden, n_embed)]
    return [*between, (np.ascontiguousarray(embed.T), weights.pop(f"{name}.2.bias", vocab_size))]


def _stacked(weights: Weights, *args: Any, **options: Any) -> RecurrentStepper:
    layers, embed = take_layers(weights, *args, **options)
    return RecurrentStepper(layers, take_head(weights, embed, layers.n_hidden))


def rnn(weights: Weights) -> RecurrentStepper:
    """Build the engine of `rnn` and `rnn-scratch`."""
    nonlinearity = weights.option("nonlinearity", str) if "nonlinearity" in weights.config else "tanh"
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity is {nonlinearity!r}")
    return _stacked(weights, partial(rnn_cell, nonlinearity=nonlinearity), n_gates=1)


def gru(weights: Weights) -> RecurrentStepper:
    """Build the engine of `gru` and `gru-scratch`."""
    return _stacked(weights, gru_cell, n_gates=3)


def lstm(weights: Weights) -> RecurrentStepper:
    """Build the engine of `lstm` and `lstm-scratch`."""
    return _stacked(weights, lstm_cell, n_gates=4, n_states=2)


def awd_lstm(weights: Weights) -> RecurrentStepper:
    """Build the engine of `awd-lstm`, whose dropouts are off at sampling."""
    return _stacked(weights, lstm_cell, n_gates=4, n_states=2, name=AWD_LSTM)


def loop(weights: Weights) -> RecurrentStepper:
    """Build the engine of `loop` and of `char3`, which is a loop over three characters."""
    v, e, h = weights.vocab_size, weights.option("n_embed", int), weights.option("n_hidden", int)
    inputs = InputLayer(weights.pop("embed.weight", v, e), *weights.linear("embed_to_hidden", e, h), relu=True)
    layers = RecurrentLayers(loop_cell, [weights.linear("hidden_to_hidden", h, h)], inputs)
    return RecurrentStepper(layers, [weights.linear("head", h, v)])


def concat(weights: Weights) -> RecurrentStepper:
    """Build the engine of `concat`."""
    v, e, h = weights.vocab_size, weights.option("n_embed", int), weights.option("n_hidden", int)
    embed, (weight, bias) = weights.pop("embed.weight", v, e), weights.linear("both_to_hidden", h + e, h)
    cell_weights = (weight[:h], *weights.linear("hidden_to_hidden", h, h))
    layers = RecurrentLayers(concat_cell, [cell_weights], InputLayer(embed, weight[h:], bias))
    return RecurrentStepper(layers, [weights.linear("head", h, v)])
