"""Steps of `ngram`: a walk through the sorted keys of a trie, and what follows the nodes where it stands.

    key of a k-gram = (node of its first k - 1 symbols) * V + its last symbol      a node is a place among the keys
    p(w | h) = (kept(hw) + freed(h) p(w | h')) / sum_w (kept(hw) + freed(hw)),     h' = h without its first symbol

models/levels.py and models/ngram.py say what the words mean, and where the formulas come from. Keys and counts stay as
they were stored, since there may be many. What follows the shortest context is always the same, and computed once.

Shapes: ... nothing for one text, B for many, V vocab_size, n order, K = n - 1 contexts, U nodes of a level, P any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.generation.steps.base import Array, Char, Rows, Steps, Weights

Whole = NDArray[np.int64]
Exact = NDArray[np.float64]
SMOOTHINGS = ("kneser-ney", "witten-bell")


class Level(NamedTuple):
    """The k-grams of one k.

    Attributes:
        keys: ascending, int64, (U,).
        counts: int32, (U,).
    """

    keys: Whole
    counts: NDArray[np.int32]


class Trie:
    """The k-grams that end at the last character, k = 1..n - 1.

    Args:
        levels: of these k.
        vocab_size: V.

    Attributes:
        nodes: each k-gram's node plus one, so that 0 stands for a k-gram that was never counted, int64, (..., K).
    """

    def __init__(self, levels: Sequence[Level], vocab_size: int) -> None:
        self.levels, self.vocab_size = levels, vocab_size

    @property
    def states(self) -> list[Whole]:
        """Return the nodes."""
        return [self.nodes]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.nodes = np.zeros((*rows, len(self.levels)), np.int64)

    def step(self, char: Char) -> Whole:
        """Return the nodes after one more character, (..., K)."""
        is_one = type(char) is int
        before: list[Any] = [1, *(self.nodes.tolist() if is_one else self.nodes.T.copy())]  # 1: the root is known
        for k, (keys, _) in enumerate(self.levels):
            key = (before[k] - 1) * self.vocab_size + char  # below all others where the shorter k-gram is not there
            place = keys.searchsorted(key)
            if is_one:
                self.nodes[k] = place + 1 if place < len(keys) and keys[place] == key else 0
            else:
                self.nodes[:, k] = np.where(keys.take(place, mode="clip") == key, place + 1, 0)
        return self.nodes


def discounts(counts: NDArray[np.int32]) -> list[float]:
    """Return how much a count of 0, 1, 2, and 3 or more frees by modified Kneser-Ney; see models/ngram.py."""
    n = np.bincount(np.minimum(counts, 5), minlength=6).tolist()
    found = [0.0]
    for i in (1, 2, 3):
        exact = i - (i + 1) * n[1] / (n[1] + 2 * n[2]) * n[i + 1] / n[i] if n[1] and n[i] else 0.0
        found.append(exact if 0 < exact < i else i / 2)
    return found


class InterpolatedNGram:
    """From nodes to the logarithm of the probability of each symbol.

    Args:
        levels: 1, 2, ..., n.
        vocab_size: V.
        smoothing: one of `SMOOTHINGS`.
    """

    states: Sequence[Array] = ()

    def __init__(self, levels: Sequence[Level], vocab_size: int, smoothing: str) -> None:
        self.levels, self.vocab_size, self.is_kneser_ney = levels, vocab_size, smoothing == "kneser-ney"
        self.order = len(levels)
        discount_mass = [discounts(level.counts) if self.is_kneser_ney else [1.0] * 4 for level in levels]
        self.discount_mass = np.array(discount_mass, np.float32).astype(np.float64)  # (n, 4)
        self.allocate(())
        self.shortest = np.full((1, vocab_size), 1 / vocab_size)
        self.shortest = self.probs([0], [1], self.shortest)

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.rows = rows
        self.logits = np.empty((*rows, self.vocab_size), np.float32)

    def followers(self, k: int, node: Any) -> tuple[Whole, NDArray[np.int32], Any]:
        """Find what follows k-grams.

        Args:
            k: 0..n - 1.
            node: plus one, of one text or of each, int64, (B,).

        Returns:
            keys: of the (k+1)-grams, those of one text after those of another, (P,).
            counts: theirs, (P,).
            n: how many they are of each text, int, or (B,).
        """
        keys, counts = self.levels[k]
        first_key = (node - 1) * self.vocab_size
        first, stop = keys.searchsorted(first_key), keys.searchsorted(first_key + self.vocab_size)
        if not self.rows:
            return keys[first:stop], counts[first:stop], stop - first
        n = stop - first
        place = np.arange(n.sum()) + (stop - n.cumsum()).repeat(n)
        return keys[place], counts[place], n

    def probs(self, lengths: Sequence[int], nodes: Sequence[Any], shorter: Exact) -> Exact:
        """Return the probability of each symbol, (1, V), or (B, V).

        Args:
            lengths: of the contexts that lengthen the shorter ones, ascending.
            nodes: of each of them, as `followers` takes them.
            shorter: what the shorter ones expect, (1, V), or (B, V).
        """
        keys, counts, n_each = zip(*map(self.followers, lengths, nodes), strict=True)
        symbol, count = np.concatenate(keys) % self.vocab_size, np.concatenate(counts)
        discount_mass = np.concatenate(
            [self.discount_mass[k].take(part, mode="clip") for k, part in zip(lengths, counts, strict=True)]
        )
        kept = count - discount_mass if self.is_kneser_ney else count
        shape = len(keys), len(self.logits) if self.rows else 1  # of what there is for each context
        n_contexts, n_texts = math.prod(shape), shape[1]
        context = np.arange(n_contexts).repeat(np.ravel(n_each))  # of each follower
        left, total = (np.bincount(context, x, n_contexts) for x in (discount_mass, kept + discount_mass))
        unseen = total == 0  # nothing follows: all is left
        total += unseen
        shares = ((left + unseen) / total).reshape(shape)
        reach = np.ones((shape[0] + 1, n_texts))  # what all longer contexts leave to each, and to the shorter ones
        np.cumprod(shares[::-1], axis=0, out=reach[1:])
        weight = reach[-2::-1].ravel() / total
        place = context % n_texts * self.vocab_size + symbol
        longer = np.bincount(place, kept * weight[context], self.vocab_size * n_texts).reshape(n_texts, -1)
        probs: Exact = reach[-1][:, None] * shorter + longer
        return probs

    def by_chars(self, nodes: Whole) -> Exact:
        """Return the probability of each symbol after the contexts of the trie, (1, V), or (B, V)."""
        if self.order == 1:
            return self.shortest
        return self.probs(range(1, self.order), list(nodes.T) if self.rows else nodes.tolist(), self.shortest)

    @staticmethod
    def safe_log(probs: Exact, out: Array) -> None:
        """Write ln p, of p that may be too small for it."""
        np.log(np.maximum(probs, np.finfo(np.float64).tiny), out=out)

    def expert_log_probs(self, nodes: Any, out: Array) -> None:
        """Write the logarithms of what is expected into the first of K opinions, float, (B, K, V)."""
        self.safe_log(self.by_chars(nodes), out[:, 0])

    def step(self, nodes: Any) -> Array:
        """Return the logits, float, (..., V)."""
        self.safe_log(self.by_chars(nodes), self.logits if self.rows else self.logits[None])
        return self.logits


def take_whole(weights: Weights, name: str, dtype: type[np.signedinteger[Any]]) -> NDArray[Any]:
    """Take out whole numbers, (U,), as they are.

    Raises:
        ValueError: they are not there, not in a row, or of another type.
    """
    weights.shape(name, 1)
    if weights.arrays[name].dtype != dtype:
        raise ValueError(f"{name} is not {dtype.__name__}")
    return weights.arrays.pop(name)


def take_level(weights: Weights, name: str, n_keys: int) -> Level:
    """Take a level out of the weights.

    Args:
        weights: of the model.
        name: of its arrays, with a {} in the place of "keys" and "counts".
        n_keys: all keys are below it.

    Raises:
        ValueError: it is none.
    """
    keys = take_whole(weights, name.format("keys"), np.int64)
    counts = take_whole(weights, name.format("counts"), np.int32)
    if len(keys) != len(counts):
        raise ValueError(f"{name} has not as many counts as keys")
    if keys[0] < 0 or int(keys[-1]) >= n_keys:
        raise ValueError(f"{name} has keys out of their range")
    if not (keys[1:] > keys[:-1]).all() or not (counts > 0).all():
        raise ValueError(f"{name} has keys that do not ascend, or counts below 1")
    return Level(keys, counts)


def take_levels(weights: Weights, name: str) -> list[Level]:
    """Take the levels 1, 2, ..., n of a trie out of the weights.

    Args:
        weights: of the model.
        name: of the trie in it.

    Raises:
        ValueError: they are no trie.
    """
    levels: list[Level] = []
    for k in range(1, 1 + weights.count(f"{name}.keys_{{}}", 1)):
        n_above = len(levels[-1].keys) if levels else 1
        levels.append(take_level(weights, f"{name}.{{}}_{k}", n_above * weights.vocab_size))
    if not levels:
        raise ValueError("there is no trie")
    return levels


def ngram(weights: Weights) -> Steps:
    """Prepare the steps of `ngram`."""
    smoothing, levels = weights.told("smoothing", str), take_levels(weights, "counts")
    if smoothing not in SMOOTHINGS:
        raise ValueError(f"smoothing is {smoothing}")
    trie, head = Trie(levels[:-1], weights.vocab_size), InterpolatedNGram(levels, weights.vocab_size, smoothing)
    options = {"order": len(levels), "smoothing": smoothing}
    return Steps([trie], head, options, n_reach=max(1, len(levels) - 1))
