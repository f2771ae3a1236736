"""Interpolation of the distributions after contexts of different length.

With contexts h_1, ..., h_K, shortest first, and p_0 the distribution without a context:

    p_k(w) = (count_k(w) + backoff_k p_{k-1}(w)) / total_k,        total_k = sum over w of count_k(w) + backoff_k

count_k(w) is the count of symbol w after h_k, discounted by Kneser-Ney smoothing; backoff_k is the mass that goes to
the shorter contexts. Without counts after h_k, p_k = p_{k-1}.

Shapes: K contexts of different length, M positions, V vocab_size, U nodes of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.ngrams.levels import Ints, Level

Floats = NDArray[np.float64]


def discounts(counts: NDArray[np.int32]) -> list[float]:
    """Return the discounts of a count of 0, 1, 2, and 3 or more by modified Kneser-Ney smoothing.

    With n_i the number of k-grams that have count i, Y = n_1 / (n_1 + 2 n_2) and D_i = i - (i + 1) Y n_{i+1} / n_i.
    Reference: Chen and Goodman (1998), equation 26. Where a level is too small for 0 < D_i < i, it is i / 2.

    Args:
        counts: of one level, int32, (U,).
    """
    return discounts_of(np.bincount(np.minimum(counts, 5), minlength=6).tolist())


def discounts_of(n: Sequence[int]) -> list[float]:
    """Return the discounts of a level; see `discounts`.

    Args:
        n: number of its k-grams with a count of 0, 1, 2, 3, 4.
    """
    found = [0.0]
    for i in (1, 2, 3):
        exact = i - (i + 1) * n[1] / (n[1] + 2 * n[2]) * n[i + 1] / n[i] if n[1] and n[i] else 0.0
        found.append(exact if 0 < exact < i else i / 2)
    return found


def level_weights(backoff: Floats, total: Floats) -> tuple[Floats, Floats]:
    """Return the factor of each count_k in p_K, (K, M), and that of p_0, (M,).

    Args:
        backoff: shortest context first, (K, M).
        total: 0 for a context without counts, (K, M).
    """
    unseen = total == 0
    total = total + unseen
    factor = np.ones((len(total) + 1, total.shape[1]))  # of p_K, p_{K-1}, ..., p_0 in p_K
    np.cumprod(((backoff + unseen) / total)[::-1], axis=0, out=factor[1:])
    return factor[-2::-1] / total, factor[-1]


def interpolate(
    lower: Floats, levels: Sequence[Level], nodes: Sequence[int] | Ints, discounts: Floats, subtract: bool = True
) -> Floats:
    """Return p_K by the counts of K levels of a trie.

    Args:
        lower: p_0, (M, V) or (1, V).
        levels: level k holds the symbols after contexts h_k, shortest context first.
        nodes: for each level the parents h_k, -1 for an unseen context: all int, or int64, (M,).
        discounts: share of a count of 0, 1, 2, and 3 or more in the back-off mass, (K, 4).
        subtract: subtract the discounts from the counts (Kneser-Ney); False keeps the counts (Witten-Bell).

    Returns:
        probabilities, (M, V); M = 1 for int nodes.
    """
    vocab_size, is_one = lower.shape[1], isinstance(nodes[0], int)
    n_rows = 1 if is_one else np.size(nodes[0])
    keys, counts, n_followers = [], [], []
    node: Any
    for level, node in zip(levels, nodes, strict=True):
        first, stop = level.keys.searchsorted(node * vocab_size), level.keys.searchsorted((node + 1) * vocab_size)
        n = stop - first
        children = slice(first, stop) if is_one else np.arange(n.sum()) + (stop - n.cumsum()).repeat(n)
        keys.append(level.keys[children])
        counts.append(level.counts[children])
        n_followers.append(n)
    symbol, count = np.concatenate(keys) % vocab_size, np.concatenate(counts)
    discount = np.concatenate([d.take(part, mode="clip") for d, part in zip(discounts, counts, strict=True)])
    count = count - discount if subtract else count
    shape = len(levels), n_rows
    context = np.arange(len(levels) * n_rows).repeat(np.ravel(n_followers))  # of each follower
    sums = [np.bincount(context, x, len(levels) * n_rows).reshape(shape) for x in (discount, count + discount)]
    weights, rest = level_weights(sums[0].astype(np.float64), sums[1].astype(np.float64))
    cell = context % n_rows * vocab_size + symbol
    seen = np.bincount(cell, count * weights.ravel()[context], n_rows * vocab_size).reshape(n_rows, vocab_size)
    probs: Floats = rest[:, None] * lower + seen
    return probs


def interpolate_counts(counts: Ints) -> Floats:
    """Return p_K by Witten-Bell smoothing with p_0 = 1 / V: backoff_k is the number of different symbols after h_k.

    Reference: Witten and Bell (1991), IEEE Transactions on Information Theory 37(4), method C.

    Args:
        counts: of each symbol after each context, shortest first, (K, M, V).

    Returns:
        probabilities, (M, V).
    """
    exact, ones = counts.astype(np.float64), np.ones(counts.shape[2])
    backoff = (exact > 0) @ ones
    weights, rest = level_weights(backoff, exact @ ones + backoff)
    probs: Floats = np.einsum("kmv,km->mv", exact, weights)
    probs += rest[:, None] / counts.shape[2]
    return probs


def safe_log(probs: Floats) -> Floats:
    """Return ln p; probabilities may be 0 or below the range of float32."""
    logs: Floats = np.log(np.maximum(probs, np.finfo(np.float64).tiny))
    return logs
