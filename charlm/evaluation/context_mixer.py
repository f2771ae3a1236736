"""Context mixing: online logistic regression on the predictions of a network and of many contexts of the text.

The text is read once: each character is predicted from those before it, and then learned. No gradient flows into the
network. Compressors of the PAQ family predict in this way.

**Binary decisions.** A character is a path through a binary tree of the symbols (symbol_tree.py), with a decision y, 0
or 1, at each node. Its probability is the product of those of its decisions, so the probabilities of all characters sum
to 1. A decision has one probability instead of V: few observations estimate it, and logistic regression combines
several estimates.

**Estimates.** A context is a part of the text before the character, for example its last three characters. A counter
holds three statistics of a context and a node: the number c of decisions, at most 250; p, a moving average of them; and
the bit history, which is the number of zeros, the number of ones and the last two bits. These numbers are at most 15,
and a zero cuts that of the ones to 3, a one that of the zeros, since recent decisions tell more. For each kind k of
context and each node, a table gives q, the frequency of ones after a bit history (an adaptive probability map). While
p_k is of this context alone, q_k is learned from all contexts of its kind, for example how often a third one follows
two. The inputs of the regression, with logit(p) = ln(p / (1 - p)):

    x = [logit(p_k);  logit(q_k);  2 p_k - 1;  logit of the network;  0.3],    k = 1..K

**Mixing.** Several sets of weights, and a second layer that combines their logits:

    d_s = w_s x,    d = sum over s of f_s d_s,    s = 1..S

The first set is that of the node. Each other one is chosen by a selector, a small context such as the last character,
because at the beginning of a word other estimates are good than at its end. Each node has its own f.

**Final correction** (secondary symbol estimation, SSE). A table has the frequency of ones for d = -8, -7.5, ..., 8, and
is interpolated at d: it corrects probabilities that are systematically too high or too low. Each of A small contexts
has a table for each node.

    p(y = 1) = 0.34 logistic(d) + 0.66 (mean of the A tables at d)

**Learning.** Gradient steps on -ln p, separately for each d_s and for d, and moving averages:

    w_s += rate (y - logistic(d_s)) x,    f_s += 0.0005 (y - logistic(d)) d_s,    p_k += (y - p_k) / (c + 1.5),
    q_k += (y - q_k) / 500,    entry of a table += 0.02 (its share in the interpolation) (y - entry)

References: Mahoney (2005), Adaptive weighing of context models for lossless data compression, CS-2005-16, Florida Tech;
Mattern (2012), Mixing strategies in data compression, Data Compression Conference.

Shapes: n decisions of one character, K contexts, S sets of weights, A tables, I = 3 K + 2 inputs, V vocab_size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.ngrams.levels import Ints

HISTORY_SHAPE, KEPT = (16, 16, 4), 3  # zeros, ones, last two bits; the other number is cut to 3
N_HISTORIES = math.prod(HISTORY_SHAPE)
MAX_COUNT = 250
FIRST_RATE, LAST_RATE, RATE_CHARS = 0.02, 0.002, 60_000  # of w: the difference decays exponentially
COMBINING_RATE, TABLE_RATE, HISTORY_RATE = 0.0005, 0.02, 1 / 500
CONTEXT_WEIGHT, NETWORK_WEIGHT = 0.02, 0.8  # initial
BIAS = 0.3  # the input that is constant
TABLE_SHARE = 0.66
N_CELLS = 33  # of a table
MAX_LOGIT = 12.0


class ContextMixer:
    """The counters, weights and tables; all memory is allocated at the beginning.

    Args:
        n_nodes: V - 1.
        counters: those of all characters, see `read`.
        tables: those of all characters.
        selected: those of all characters.
    """

    def __init__(self, n_nodes: int, counters: Ints, tables: Ints, selected: Ints) -> None:
        n_contexts, n_sets = counters.shape[1], selected.shape[1] + 1
        n_counters, n_tables, n_selected = (int(numbers.max()) + 1 for numbers in (counters, tables, selected))
        self.n_read = 0
        self.frequency = np.full(n_counters, 0.5, np.float32)  # p_k
        self.count, self.history = np.zeros(n_counters, np.uint8), np.zeros(n_counters, np.int16)
        frequencies, self.next_history = _histories()
        self.history_map = np.tile(frequencies, n_contexts * n_nodes)  # q_k
        self.map_begins = (np.arange(n_contexts) * n_nodes + np.arange(n_nodes)[:, None]) * N_HISTORIES  # (V - 1, K)
        weights = np.full(3 * n_contexts + 2, CONTEXT_WEIGHT, np.float32)
        weights[-2:] = NETWORK_WEIGHT, 0
        self.node_weights, self.selected_weights = np.tile(weights, (n_nodes, 1)), np.tile(weights, (n_selected, 1))
        self.combining_weights = np.full((n_nodes, n_sets), 1 / n_sets, np.float32)  # f
        self.tables = np.tile(_logistic(np.linspace(-8, 8, N_CELLS, dtype=np.float32)), n_tables)

    def read(
        self, nodes: Ints, bits: Ints, counters: Ints, tables: Ints, network: NDArray[np.float32], selected: Ints
    ) -> float:
        """Predict the decisions of one character, then learn them.

        Args:
            nodes: int64, (n,), all different.
            bits: int64, (n,).
            counters: number of the pair of each context and each node, (n, K).
            tables: number of the pair of each table's context and each node, (n, A).
            network: logit of the network at each node, (n,).
            selected: number of each selector's set of weights, int64, (S - 1,).

        Returns:
            -ln p(bits), nats.
        """
        y, counters = bits[:, None].astype(np.float32), counters.astype(np.int64)  # int64 is the quickest index
        p, count, history = self.frequency[counters], self.count[counters], self.history[counters]
        map_cells = self.map_begins[nodes] + history
        q, c = self.history_map[map_cells], count.astype(np.float32)
        x = np.concatenate([_logit(p), _logit(q), 2 * p - 1, network[:, None], np.full_like(y, BIAS)], axis=1)  # (n, I)

        by_node = np.einsum("ni,ni->n", self.node_weights[nodes], x)
        by_set = np.column_stack([by_node, x @ self.selected_weights[selected].T])  # d_s, (n, S)
        by_set = _limited(by_set, -MAX_LOGIT, MAX_LOGIT)
        logit = _limited((self.combining_weights[nodes] * by_set).sum(axis=1, keepdims=True), -MAX_LOGIT, MAX_LOGIT)
        mixed = _logistic(logit)

        position = _limited(2 * logit + N_CELLS // 2, 0, N_CELLS - 1.001)
        cell = position.astype(np.int64)
        share = np.stack([1 - (position - cell), position - cell])  # (2, n, 1): of the entries below and above
        cells = tables * N_CELLS + cell + [[[0]], [[1]]]  # (2, n, A)
        entries = self.tables[cells]
        corrected = (share * entries).sum(axis=(0, 2)) / tables.shape[1]
        final = _limited(mixed[:, 0] + TABLE_SHARE * (corrected - mixed[:, 0]), 1e-5, 1 - 1e-5)

        rate = LAST_RATE + (FIRST_RATE - LAST_RATE) * math.exp(-self.n_read / RATE_CHARS)
        error = rate * (y - _logistic(by_set))
        self.node_weights[nodes] += error[:, :1] * x
        self.selected_weights[selected] += error[:, 1:].T @ x
        self.combining_weights[nodes] += COMBINING_RATE * (y - mixed) * by_set
        self.tables[cells] = entries + TABLE_RATE * share * (y - entries)
        self.frequency[counters] = _limited(p + (y - p) / (c + 1.5), 1e-4, 1 - 1e-4)
        self.count[counters] = np.minimum(count, MAX_COUNT - 1) + 1
        self.history_map[map_cells] = _limited(q + HISTORY_RATE * (y - q), 5e-4, 1 - 5e-4)
        self.history[counters] = self.next_history[bits[:, None], history]
        self.n_read += 1
        return -float(np.log(np.where(bits, final, 1 - final)).sum())


def _logit(p: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.log(p / (1 - p)))


def _logistic(x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(1 / (1 + np.exp(-x)))


def _limited(x: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """Return `np.clip(x, low, high)`, in a third of the time for small arrays."""
    return np.asarray(np.minimum(np.maximum(x, low), high))


def _histories() -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Return the initial q of each bit history, (N_HISTORIES,), and the history after each bit, (2, N_HISTORIES)."""
    zeros, ones, last = np.indices(HISTORY_SHAPE).reshape(3, -1)
    added = [np.minimum(number + 1, HISTORY_SHAPE[0] - 1) for number in (zeros, ones)]
    after_0 = added[0], np.minimum(ones, KEPT), 2 * last % 4
    after_1 = np.minimum(zeros, KEPT), added[1], (2 * last + 1) % 4
    following = [np.ravel_multi_index(after, HISTORY_SHAPE).astype(np.int16) for after in (after_0, after_1)]
    return ((ones + 0.4) / (zeros + ones + 0.8)).astype(np.float32), np.stack(following)
