"""Context mixing: an online learner that mixes a network with adaptive counts of many contexts.

A character is coded as binary decisions at the nodes of a tree (symbol_tree.py). Each context k has seen c decisions of
a node: p_k is their adaptive frequency of ones, and q_k that after the same bit history (numbers of zeros and ones, of
which the past is forgotten when the other bit comes, and the last two bits). With st(p) = ln(p / (1 - p)):

    x = [c / (c + 1/2) st(p_k);  st(q_k);  2 p_k - 1;  st(network);  0.3],    k = 1..K
    d_s = w_s x,    d = sum over s of f_s d_s,    p = (1 - A) / (1 + exp(-d)) + A (mean of the tables at d)

One set of weights w_s is chosen by the node, the others by small contexts (selectors); f by the node; the tables by
other contexts and the node, interpolated over d. Then, with y the bit, w_s += rate (y - p_s) x with p_s the logistic of
d_s, f += rate' (y - p) d_s, and p_k, q_k and the two entries of each table move towards y. No gradient flows into the
network.

References: Mahoney (2005), Adaptive weighing of context models for lossless data compression, CS-2005-16, Florida Tech;
Mattern (2012), Mixing strategies in data compression, Data Compression Conference.

Shapes: K contexts, S sets of weights, A tables, n nodes, V vocab_size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.ngrams.levels import Ints

N_STATES, MAX_RUN, KEPT = 1024, 15, 3  # numbers of bits in a history are at most 15; that of the other bit becomes 3
RATE, LAST_RATE, RATE_CHARS = 0.02, 0.002, 60_000  # from the first to the second, exponentially
FINAL_RATE, TABLE_RATE, HISTORY_RATE = 0.0005, 0.02, 1 / 500
MAX_COUNT = 250  # p_k moves by 1 / (c + 1.5), at least by 1 / 250
TABLE_WEIGHT = 0.66  # A
CONTEXT_WEIGHT, NETWORK_WEIGHT = 0.02, 0.8  # initial
N_CELLS = 33  # of a table: st(p) = -8, -7.5, ..., 8
LIMIT = 12.0  # of |d|


class ContextMixer:
    """The adaptive counts and weights.

    Args:
        n_nodes: V - 1.
        n_contexts: K.
        n_slots: number of pairs of a context and a node.
        n_tables: number of pairs of a table's context and a node.
        n_selected: number of values of all selectors together.
        n_sets: S, one more than selectors.
    """

    def __init__(
        self, n_nodes: int, n_contexts: int, n_slots: int, n_tables: int, n_selected: int, n_sets: int
    ) -> None:
        self.n_read, self.next_history = 0, _next_histories()
        self.frequency = np.full(n_slots, 0.5, np.float32)  # p_k
        self.count, self.history = np.zeros(n_slots, np.uint8), np.zeros(n_slots, np.int16)
        zeros, ones = np.divmod(np.arange(N_STATES, dtype=np.float32) // 4, MAX_RUN + 1)
        self.after_history = np.tile((ones + 0.4) / (zeros + ones + 0.8), n_contexts * n_nodes)  # q_k
        self.context_row = np.arange(n_contexts)[:, None] * n_nodes
        weights = np.full(3 * n_contexts + 2, CONTEXT_WEIGHT, np.float32)
        weights[-2:] = NETWORK_WEIGHT, 0
        self.node_weights, self.selected_weights = np.tile(weights, (n_nodes, 1)), np.tile(weights, (n_selected, 1))
        self.final_weights = np.full((n_nodes, n_sets), 1 / n_sets, np.float32)
        line = _logistic((np.arange(N_CELLS, dtype=np.float32) - N_CELLS // 2) / 2)
        self.table = np.tile(line, n_tables)
        counts = np.arange(256, dtype=np.float32)
        self.confidence, self.is_seen = (
            counts / (counts + np.float32(0.5)),
            np.where(counts > 0, np.float32(2), np.float32(0)),
        )
        self.step_size = np.maximum(1 / (counts + np.float32(1.5)), np.float32(1 / MAX_COUNT))

    def read(
        self, nodes: Ints, bits: Ints, slots: Ints, tables: Ints, network: NDArray[np.float32], selected: Ints
    ) -> float:
        """Predict the bits of one character, then learn them.

        Args:
            nodes: int64, (n,), all different.
            bits: int64, (n,).
            slots: number of each pair of a context and a node, (K, n).
            tables: number of each pair of a table's context and a node, (A, n).
            network: st(p) of the network at each node, (n,).
            selected: number of each selector's set of weights, int64, (S - 1,).

        Returns:
            -ln p(bits), nats.
        """
        n_contexts, n = slots.shape
        y = bits.astype(np.float32)
        frequency, count, history = self.frequency[slots], self.count[slots], self.history[slots]
        rows = (self.context_row + nodes) * N_STATES + history
        after = self.after_history[rows]
        x = np.empty((3 * n_contexts + 2, n), np.float32)
        probs = np.concatenate([frequency, after])
        np.log(probs / (1 - probs), out=x[: 2 * n_contexts])
        x[:n_contexts] *= self.confidence[count]
        np.multiply(frequency - np.float32(0.5), self.is_seen[count], out=x[2 * n_contexts : -2])
        x[-2], x[-1] = network, 0.3
        by_set = np.empty((len(selected) + 1, n), np.float32)
        np.einsum("ni,in->n", self.node_weights[nodes], x, out=by_set[0])
        np.matmul(self.selected_weights[selected], x, out=by_set[1:])
        np.clip(by_set, -LIMIT, LIMIT, out=by_set)
        logit = np.clip(np.einsum("ns,sn->n", self.final_weights[nodes], by_set), -LIMIT, LIMIT)
        mixed, position = _logistic(logit), np.clip(2 * logit + N_CELLS // 2, 0, N_CELLS - 1.001)
        cell = position.astype(np.int64)
        fraction, cells = position - cell, tables * N_CELLS + cell
        low, high = self.table[cells], self.table[cells + 1]
        corrected = (low + (high - low) * fraction).mean(axis=0)
        final = np.clip(mixed + np.float32(TABLE_WEIGHT) * (corrected - mixed), 1e-5, 1 - 1e-5)

        rate = np.float32(LAST_RATE + (RATE - LAST_RATE) * np.exp(-self.n_read / RATE_CHARS))
        error = rate * (y - _logistic(by_set))
        self.node_weights[nodes] += error[0, :, None] * x.T
        self.selected_weights[selected] += error[1:] @ x.T
        self.final_weights[nodes] += (np.float32(FINAL_RATE) * (y - mixed) * by_set).T
        self.table[cells] = low + (y - low) * (np.float32(TABLE_RATE) * (1 - fraction))
        self.table[cells + 1] = high + (y - high) * (np.float32(TABLE_RATE) * fraction)
        frequency += (y - frequency) * self.step_size[count]
        self.frequency[slots] = np.clip(frequency, 1e-4, 1 - 1e-4)
        self.count[slots] = np.minimum(count, 254) + 1
        after += (y - after) * np.float32(HISTORY_RATE)
        self.after_history[rows] = np.clip(after, 5e-4, 1 - 5e-4)
        self.history[slots] = self.next_history[history, bits]
        self.n_read += 1
        return -float(np.log(np.abs(1 - y - final.astype(np.float64))).sum())


def _logistic(x: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(1 / (1 + np.exp(-x)))


def _next_histories() -> NDArray[np.int16]:
    """Return the history after each history and bit, (histories, 2): 64 zeros + 4 ones + the last two bits."""
    history, after = np.arange(N_STATES), np.empty((N_STATES, 2), np.int16)
    runs = history >> 6, history >> 2 & MAX_RUN
    for bit in (0, 1):
        zeros, ones = (np.minimum(*((run + 1, MAX_RUN) if b == bit else (run, KEPT))) for b, run in enumerate(runs))
        after[:, bit] = zeros << 6 | ones << 2 | (history << 1 | bit) & 3
    return after
