"""Reading one character after another in numpy: what the steps of all architectures share.

A model in training reads many characters at once, and PyTorch is made for that. A model that writes reads one, and then
most of the time goes into calling, not computing. So weights are laid out once, for one step:

- the matrices that read one vector are one matrix, so that a layer is one product;
- the first layer's share of a character, W_ih e + b, is looked up in a table with one row for each character;
- where a logistic function follows, signs are turned, since sigmoid(x) = 1 / (1 + exp(-x));
- every result has its place in memory, so that a step asks for none.

One text has states of H numbers. Many texts that are written side by side have states of (B, H), and the same lines.

Shapes: ... nothing for one text, B for many, V vocab_size, E n_embed, H n_hidden, G gates.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Char = int | NDArray[np.intp]  # one character for all texts, or (B,)
Rows = tuple[()] | tuple[int]  # what "..." stands for
_ONE, _MINUS_TWO = np.float32(1), np.float32(-2)
N_MANY = 4096  # numbers: fewer are done before the quicker way has begun
T = TypeVar("T")


class Weights:
    """What a checkpoint stores, to be taken out piece by piece, each of the expected shape.

    Args:
        arrays: by the names of the model's `state_dict`.
        told: what they do not show of the model, see `CharModel.told`; a checkpoint's options may be among it.

    Raises:
        ValueError: an array is empty, or no `vocab_size` told.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], told: Mapping[str, Any]) -> None:
        if not all(array.size for array in arrays.values()):
            raise ValueError("there are weights without numbers")
        self.arrays, self._told = dict(arrays), told
        self.vocab_size = self.told("vocab_size", int)

    def told(self, name: str, kind: type[T]) -> T:
        """Return what is told and not shown.

        Raises:
            ValueError: it is not told, or of another type.
        """
        value = self._told.get(name)
        if type(value) is not kind:
            raise ValueError(f"{name} is {value!r}")
        return value

    @cached_property
    def n_embed(self) -> int:
        """The width of the embedding."""
        return self.shape("embed.weight", 2)[1]

    def shape(self, name: str, n_axes: int) -> tuple[int, ...]:
        """Return the shape of a stored array.

        Raises:
            ValueError: it is not there, or has not so many axes.
        """
        if name not in self.arrays or self.arrays[name].ndim != n_axes:
            raise ValueError(f"{name} is not there, or not of {n_axes} axes")
        return self.arrays[name].shape

    def count(self, name: str, first: int = 0) -> int:
        """Return for how many n = first, first + 1, ... there is an array of that name, which has a {} for n."""
        n = first
        while name.format(n) in self.arrays:
            n += 1
        return n - first

    def take(self, name: str, *shape: int) -> Array:
        """Take an array out, as float32.

        Raises:
            ValueError: it is not there, of another shape, or of whole numbers.
        """
        if self.shape(name, len(shape)) != shape or self.arrays[name].dtype.kind != "f":
            raise ValueError(f"{name} is not {shape}")
        return self.arrays.pop(name).astype(np.float32)

    def linear(self, name: str, n_in: int, n_out: int) -> tuple[Array, Array]:
        """Take out a linear layer: its matrix as inputs are multiplied by it, (n_in, n_out), and its bias, (n_out,)."""
        return laid_out(self.take(f"{name}.weight", n_out, n_in)), self.take(f"{name}.bias", n_out)


def laid_out(weight: Array) -> Array:
    """Return a matrix (n_out, n_in) as (n_in, n_out), row after row in memory: so products are quickest."""
    return np.ascontiguousarray(weight.T)


def sigmoid_(x: Array) -> None:
    """Turn x into 1 / (1 + exp(x)) in place: sigmoid, where signs were turned before."""
    np.exp(x, out=x)
    np.add(x, _ONE, out=x)
    np.reciprocal(x, out=x)


def tanh(x: Array, out: Array) -> Array:
    """Write the hyperbolic tangent of x into `out`, which may be x, and return it.

    For many numbers as 1 - 2 / (exp(2 x) + 1): numpy has a quick exp on more processors than a quick tanh.
    """
    if x.size < N_MANY:
        return np.tanh(x, out=out)
    np.add(x, x, out=out)
    np.exp(out, out=out)
    np.add(out, _ONE, out=out)
    np.divide(_MINUS_TWO, out, out=out)
    return np.add(out, _ONE, out=out)


class Table:
    """One row of numbers for each character.

    Args:
        rows: (V, N), or (V, G, N).
    """

    states: Sequence[Array] = ()

    def __init__(self, rows: Array) -> None:
        self.rows = rows

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        if rows:
            self.apart = np.ascontiguousarray(np.moveaxis(self.rows, 0, -2))  # (V, N), or (G, V, N)
            self.found = np.empty((*self.apart.shape[:-2], *rows, self.apart.shape[-1]), np.float32)

    def step(self, char: Char) -> Array:
        """Return the row of a character, (N,), or those of many, (B, N); with gates (G, ..., N)."""
        return self.rows[char] if type(char) is int else self.apart.take(char, -2, self.found, "clip")


class Layer(Protocol):
    """What goes from one vector to the next and may keep a state."""

    @property
    def states(self) -> Sequence[NDArray[Any]]:
        """The arrays that are carried from step to step, all zeros at the start."""

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts, with states of zeros."""

    def step(self, x: Any) -> Any:
        """Go one step: the first layer from a `Char`, every other from the vector of the one below it, in general."""


class Linear:
    """From features to logits, or from any vector to another, by one matrix or several in a row.

    Args:
        products: matrices, (n_in, n_out), each with a bias, (n_out,), or None.
    """

    states: Sequence[Array] = ()

    def __init__(self, *products: tuple[Array, Array | None]) -> None:
        self.products = products

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.results = [np.empty((*rows, weight.shape[1]), np.float32) for weight, _ in self.products]

    def step(self, x: Array) -> Array:
        """Return the other vector, float, (..., n_out)."""
        for (weight, bias), result in zip(self.products, self.results, strict=True):
            x = np.dot(x, weight, out=result)
            if bias is not None:
                np.add(x, bias, out=x)
        return x


class Steps:
    """A model that reads character by character; it begins with one text and goes on with as many as it is given.

    Args:
        layers: from the characters up to the features.
        head: from the features to the logits.
        options: the model's options, as far as the weights show them.
        n_context: the number of characters that a model with a fixed window needs.
        n_reach: how many characters, the last one among them, the logits depend on; what is before is not read.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        head: Layer,
        options: Mapping[str, Any],
        n_context: int | None = None,
        n_reach: int = sys.maxsize,
    ) -> None:
        self.layers, self.head, self.options, self.n_context = layers, head, options, n_context
        self.n_reach = n_reach
        self.rows: Rows = ()
        self._allocate()

    def _allocate(self) -> None:
        for layer in (*self.layers, self.head):
            layer.allocate(self.rows)

    @property
    def states(self) -> list[NDArray[Any]]:
        """The states of all layers."""
        return [state for layer in self.layers for state in layer.states]

    def reset(self) -> None:
        """Forget what was read."""
        for state in self.states:
            state.fill(0)

    def _spread(self, n_texts: int) -> None:
        before = self.states
        self.rows = (n_texts,)
        self._allocate()
        for state, of_one in zip(self.states, before, strict=True):
            state[...] = of_one

    def read(self, chars: Sequence[Char]) -> Array:
        """Read characters and return the logits of the next one.

        Args:
            chars: one step each, at least one; from the first (B,) on there are B texts, equal until then. Of more
                than `n_reach` the last ones are read.

        Returns:
            logits: float, (V,), or (B, V); the next call writes over them.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # exp(x) may well be infinite in 1 / (1 + exp(x))
            for char in chars[-self.n_reach :]:
                x: Any = char
                if isinstance(char, np.ndarray):
                    if not self.rows:
                        self._spread(len(char))
                elif self.rows:
                    x = np.full(self.rows, char)
                for layer in self.layers:
                    x = layer.step(x)
            logits: Array = self.head.step(x)
            return logits
