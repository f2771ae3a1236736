"""Interpolation of the distributions after contexts of different length.

With contexts h_1, ..., h_K, shortest first, and p_0 the distribution without a context:

    p_k(w) = (count_k(w) + backoff_k p_{k-1}(w)) / total_k,        total_k = sum over w of count_k(w) + backoff_k

count_k(w) is the count of symbol w after h_k, discounted by Kneser-Ney smoothing; backoff_k is the mass that goes to
the shorter contexts. Without counts after h_k, p_k = p_{k-1}.

Shapes: K contexts of different length, M positions, V vocab_size, U nodes of a level.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.ngrams.levels import Ints, Span

Floats = NDArray[np.float64]
TINY = np.finfo(np.float64).tiny


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
        backoff: shortest context first, (K, M); 1 for a context without counts.
        total: as backoff.
    """
    factor = np.ones((len(total) + 1, total.shape[1]))  # of p_K, p_{K-1}, ..., p_0 in p_K
    np.multiply.accumulate((backoff / total)[::-1], axis=0, out=factor[1:])
    return factor[-2::-1] / total, factor[-1]


def interpolate(lower: Floats, spans: Sequence[Span], discounts: Floats, subtract: bool = True) -> Floats:
    """Return p_K by the counts of K levels of a trie.

    Args:
        lower: p_0, (M, V) or (1, V).
        spans: contexts h_k, one or M, and the counts of the symbols after them, shortest context first.
        discounts: share of a count of 0, 1, 2, and 3 or more in the back-off mass, (K, 4).
        subtract: subtract the discounts from the counts (Kneser-Ney); False keeps the counts (Witten-Bell).

    Returns:
        probabilities, (M, V); M = 1 for one context.
    """
    seen, rest = interpolation_terms(spans, discounts, lower.shape[1], len(spans), subtract)
    return rest[:, None] * lower + seen


def interpolate_each(lower: Floats, spans: Sequence[Span], rows: Sequence[Any], discounts: Floats) -> Iterator[Floats]:
    """Yield p_1 by the counts of each of K levels alone, (M, V); see `interpolate`.

    Args:
        lower: p_0, (M, V) or (1, V).
        spans: different contexts of each level; the numbers may differ.
        rows: for each level the index of its context at each position, int or int64, (M,).
        discounts: see `interpolate`.
    """
    seen, rest = interpolation_terms(spans, discounts, lower.shape[1], 1)
    first = 0
    for span, row in zip(spans, rows, strict=True):
        yield rest[first + row, None] * lower + seen[first + row]
        first += np.size(span.parents)


def interpolation_terms(
    spans: Sequence[Span], discounts: Floats, vocab_size: int, n_joined: int, subtract: bool = True
) -> tuple[Floats, Floats]:
    """Return both terms of p_K = seen + rest p_0, (M, V) and (M,); see `interpolate`.

    Args:
        spans: see `interpolate`; with n_joined = 1, M contexts of all levels together.
        discounts: see `interpolate`.
        vocab_size: V.
        n_joined: K, or 1 to interpolate each context with p_0 alone.
        subtract: see `interpolate`.
    """
    is_one = not isinstance(spans[0].parents, np.ndarray)
    flat: Any = np.array if is_one else np.concatenate
    n = flat([span.stop - span.first for span in spans])  # followers of each context
    keys, counts, masses = [], [], []
    for (level, _, first, stop), discount in zip(spans, discounts, strict=True):
        children: Any = slice(first, stop)
        if not is_one:
            children = (stop - (stop - first).cumsum()).repeat(stop - first)
            children += np.arange(len(children))
        keys.append(level.keys[children])
        counts.append(level.counts[children])
        masses.append(discount.take(counts[-1], mode="clip"))
    key, count, mass = np.concatenate(keys), np.concatenate(counts), np.concatenate(masses)
    (has,) = n.nonzero()
    begin = (n.cumsum() - n)[has]
    backoff, total = np.ones((2, len(n)))
    backoff[has], total[has] = np.add.reduceat(mass, begin), np.add.reduceat(count, begin)
    if subtract:
        count = count - mass
    else:
        total[has] += backoff[has]
    weights, rest = level_weights(backoff.reshape(n_joined, -1), total.reshape(n_joined, -1))
    offset = (np.arange(len(n)) % len(rest) - flat([span.parents for span in spans])) * vocab_size
    seen: Any = np.bincount(key + offset.repeat(n), count * weights.ravel().repeat(n), len(rest) * vocab_size)
    return seen.reshape(len(rest), vocab_size), rest


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
    unseen = backoff == 0
    weights, rest = level_weights(backoff + unseen, exact @ ones + backoff + unseen)
    probs: Floats = np.einsum("kmv,km->mv", exact, weights)
    probs += rest[:, None] / counts.shape[2]
    return probs


def safe_log(probs: Floats) -> Floats:
    """Return ln p; probabilities may be 0 or below the range of float32."""
    logs: Floats = np.maximum(probs, TINY)
    return np.log(logs, out=logs)
