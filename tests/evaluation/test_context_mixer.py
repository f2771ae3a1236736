"""The context mixer computes the formulas of its docstring: a comparison with a program of loops and dictionaries."""

import math
from collections import defaultdict

import numpy as np
import pytest

from charlm.evaluation.context_mixer import ContextMixer

N_NODES, K, A, N_SELECTORS, N_CHARS = 5, 2, 2, 2, 400


def logit(p):
    return math.log(p / (1 - p))


def logistic(x):
    return 1 / (1 + math.exp(-x))


def clip(x, low, high):
    return min(max(x, low), high)


class Reference:
    """One decision after the other, in float64."""

    def __init__(self):
        self.p, self.c = defaultdict(lambda: 0.5), defaultdict(int)
        self.history = defaultdict(lambda: (0, 0, 0, 0))  # zeros, ones, the bit before the last, the last
        self.q, self.table = {}, {}
        self.w = defaultdict(lambda: [0.02] * 3 * K + [0.8, 0.0])
        self.f = defaultdict(lambda: [1 / (N_SELECTORS + 1)] * (N_SELECTORS + 1))
        self.n_read = 0

    def read(self, nodes, bits, contexts, corrections, network, selected):
        """Return -ln p(bits); the weights change after the last decision of the character."""
        rate = 0.002 + 0.018 * math.exp(-self.n_read / 60_000)
        self.n_read += 1
        nats, steps = 0.0, []
        for node, y, net in zip(nodes, bits, network, strict=True):
            counters = [(k, context, node) for k, context in enumerate(contexts)]
            maps = [(k, node, self.history[counter]) for k, counter in enumerate(counters)]
            for key in maps:
                zeros, ones = key[2][:2]
                self.q.setdefault(key, (ones + 0.4) / (zeros + ones + 0.8))
            x = [logit(self.p[i]) for i in counters]
            x += [logit(self.q[key]) for key in maps] + [2 * self.p[i] - 1 for i in counters] + [net, 0.3]
            sets = [("node", node), *enumerate(selected)]
            d_s = [clip(sum(a * b for a, b in zip(self.w[s], x, strict=True)), -12, 12) for s in sets]
            d = clip(sum(a * b for a, b in zip(self.f[node], d_s, strict=True)), -12, 12)
            at, corrected = clip(2 * d + 16, 0, 31.999), 0.0
            for number, context in enumerate(corrections):
                for cell, share in ((int(at), 1 - at % 1), (int(at) + 1, at % 1)):
                    key = number, context, node, cell
                    entry = self.table.get(key, logistic((cell - 16) / 2))
                    corrected += share * entry / A
                    self.table[key] = entry + 0.02 * share * (y - entry)
            p = clip(0.34 * logistic(d) + 0.66 * corrected, 1e-5, 1 - 1e-5)
            nats -= math.log(p if y else 1 - p)
            steps += [(s, rate * (y - logistic(value)), x) for s, value in zip(sets, d_s, strict=True)]
            self.f[node] = [f + 0.0005 * (y - logistic(d)) * value for f, value in zip(self.f[node], d_s, strict=True)]
            for i, key in zip(counters, maps, strict=True):
                self.p[i] = clip(self.p[i] + (y - self.p[i]) / (self.c[i] + 1.5), 1e-4, 1 - 1e-4)
                self.c[i] = min(self.c[i] + 1, 250)
                self.q[key] = clip(self.q[key] + (y - self.q[key]) / 500, 5e-4, 1 - 5e-4)
                zeros, ones, _, last = self.history[i]
                numbers = (min(zeros, 3), min(ones + 1, 15)) if y else (min(zeros + 1, 15), min(ones, 3))
                self.history[i] = *numbers, last, y
        for s, step, x in steps:
            self.w[s] = [w + step * value for w, value in zip(self.w[s], x, strict=True)]
        return nats


@pytest.mark.parametrize("share_of_ones", [0.5, 0.9])
def test_its_nats_are_those_of_the_formulas(share_of_ones):
    rng = np.random.default_rng(0)
    nodes = np.stack([rng.permutation(N_NODES)[:3] for _ in range(N_CHARS)])
    bits = (rng.random(nodes.shape) < share_of_ones).astype(np.int64)
    network = rng.normal(0, 2, nodes.shape).astype(np.float32)
    contexts, corrections, selected = (rng.integers(3, size=(N_CHARS, n)) for n in (K, A, N_SELECTORS))
    counters = (np.arange(K) * 3 + contexts)[:, None] * N_NODES + nodes[..., None]
    tables = (np.arange(A) * 3 + corrections)[:, None] * N_NODES + nodes[..., None]
    sets = selected + np.arange(N_SELECTORS) * 3
    mixer = ContextMixer(N_NODES, counters.reshape(-1, K), tables.reshape(-1, A), sets)
    nats = [mixer.read(nodes[i], bits[i], counters[i], tables[i], network[i], sets[i]) for i in range(N_CHARS)]
    reference = Reference()
    rows = zip(nodes.tolist(), bits.tolist(), contexts.tolist(), corrections.tolist(), network.tolist(), strict=True)
    expected = [reference.read(*row, selected[i].tolist()) for i, row in enumerate(rows)]
    np.testing.assert_allclose(nats, expected, rtol=2e-4, atol=2e-5)
