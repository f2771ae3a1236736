"""Binary tree of symbols: a symbol is a path of binary decisions, and similar symbols share the first ones.

Symbols are clustered by the bigrams of a text: those two clusters are merged that lose least of the mutual information
I between neighbouring clusters, until one is left (Brown et al., 1992, Class-based n-gram models of natural language,
Computational Linguistics 18(4)). With x_ab the share of cluster a followed by cluster b, r and c the sums of rows and
columns, and f(x) = x ln x, I = sum over a, b of f(x_ab) - sum over a of f(r_a) - sum over b of f(c_b).

Node i is the decision between two children: bit 0 is the left one. The symbols below a node are adjacent leaves, so its
probability is a difference of cumulative sums.

Shapes: V vocab_size, A clusters, N characters, n decisions of all their paths.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from charlm.ngrams.interpolation import Floats
from charlm.ngrams.levels import Ints

SMALLEST = 1e-7  # probability of a branch


class SymbolTree:
    """Binary tree of V symbols, made from a text.

    Args:
        ids: the text as indices, (N,).
        vocab_size: V, at least 2; time grows with its fourth power.

    Attributes:
        n_nodes: V - 1.
        paths: for each symbol the nodes from the root to it and the decisions at them, int64, (depth, 2).
        leaves: symbols from left to right, int64, (V,).
        spans: for each node its first leaf, the first of its right child, and the end, int64, (V - 1, 3).
    """

    def __init__(self, ids: Ints, vocab_size: int) -> None:
        self.n_nodes = vocab_size - 1
        paths: list[list[tuple[int, int]]] = [[] for _ in range(vocab_size)]
        below = [[symbol] for symbol in range(vocab_size)]  # symbols of each cluster, from left to right
        children = _merges(ids, vocab_size)
        for node, (left, right) in enumerate(children):
            for bit, cluster in enumerate((left, right)):
                for symbol in below[cluster]:
                    paths[symbol].insert(0, (node, bit))
            below.append(below[left] + below[right])
        self.paths = [np.array(path) for path in paths]
        self.leaves = np.array(below[-1])
        place = np.argsort(self.leaves)
        firsts = [(place[below[left][0]], place[below[right][0]], len(below[right])) for left, right in children]
        self.spans = np.array([(first, middle, middle + n_right) for first, middle, n_right in firsts])

    def decisions(self, ids: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the decisions of a text.

        Args:
            ids: (N,).

        Returns:
            nodes, int64, (n,).
            bits, int64, (n,).
            position of each character's first decision, and n, int64, (N + 1,).
        """
        nodes, bits = np.concatenate([self.paths[symbol] for symbol in ids.tolist()]).T.copy()
        depths = np.array([len(path) for path in self.paths])
        return nodes, bits, np.concatenate([[0], depths[ids].cumsum()])

    def groups(self, depth: int) -> list[int]:
        """Return the first `depth` decisions of each symbol's path as a number below 2^depth, V of them."""
        return [sum(int(bit) << step for step, bit in enumerate(path[:depth, 1])) for path in self.paths]

    def node_logits(self, log_probs: NDArray[np.floating], rows: Ints, nodes: Ints) -> NDArray[np.float32]:
        """Return ln p(bit 1) - ln p(bit 0) at nodes, (n,).

        Args:
            log_probs: of the symbols at each position, (N, V).
            rows: position of each node, (n,).
            nodes: (n,).
        """
        sums = np.zeros((len(log_probs), len(self.leaves) + 1))
        np.cumsum(np.exp(log_probs[:, self.leaves].astype(np.float64)), axis=1, out=sums[:, 1:])
        first, middle, stop = (sums[rows, leaf] for leaf in self.spans[nodes].T)
        left, right = np.maximum(middle - first, SMALLEST), np.maximum(stop - middle, SMALLEST)
        logits: NDArray[np.float32] = np.log(right / left).astype(np.float32)
        return logits


def _merges(ids: Ints, vocab_size: int) -> list[tuple[int, int]]:
    """Return the two clusters that become cluster V, V + 1, ..., 2 V - 2; clusters 0..V - 1 are the symbols."""
    clusters, found = list(range(vocab_size)), []
    pairs = np.bincount(ids[:-1] * vocab_size + ids[1:], minlength=vocab_size**2).reshape(vocab_size, -1) + 1e-3
    share = pairs / pairs.sum()
    while len(clusters) > 1:
        change = _change_of_information(share)
        change[np.tril_indices(len(clusters))] = -np.inf
        i, j = np.unravel_index(change.argmax(), change.shape)
        found.append((clusters[i], clusters[j]))
        clusters[i] = vocab_size + len(found) - 1
        del clusters[j]
        share[i] += share[j]
        share[:, i] += share[:, j]
        share = np.delete(np.delete(share, j, axis=0), j, axis=1)
    return found


def _change_of_information(share: Floats) -> Floats:
    """Return the change of I if two clusters are merged, (A, A), from x_ab, (A, A)."""
    fx, change = _f(share), np.zeros_like(share)
    for x, f in ((share, fx), (share.T, fx.T)):
        sums = x.sum(axis=1)
        change += _pair_sums(_f(sums)) - _f(_pair_sums(sums))
        merged = _f(_pair_sums(x)) - _pair_sums(f)  # (A, A, A): of rows a and b, in column c
        within = np.einsum("abb->ab", merged)  # columns a and b are merged, too: added below
        change += merged.sum(axis=2) - within - within.T
    inside: Floats = _f(share + share.T + _pair_sums(np.diag(share))) - fx - fx.T - _pair_sums(np.diag(fx))
    return change + inside


def _pair_sums(x: Floats) -> Floats:
    """Return x_a + x_b, (A, A, ...)."""
    sums: Floats = x[:, None] + x[None]
    return sums


def _f(x: Floats) -> Floats:
    return x * np.log(x)
