"""Binary tree of symbols, and probabilities of its decisions."""

import math

import numpy as np
import pytest

from charlm.ngrams.symbol_tree import SymbolTree


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(0).choice(6, 500, p=[0.3, 0.25, 0.2, 0.15, 0.07, 0.03])


def test_the_probability_of_a_symbol_is_the_product_of_those_of_its_decisions(ids):
    tree, rng = SymbolTree(ids, 6), np.random.default_rng(1)
    log_probs = np.log(rng.dirichlet(np.ones(6), size=20))
    symbols = rng.integers(6, size=20)
    nodes, bits, starts = tree.decisions(symbols)
    logits = tree.node_logits(log_probs, np.arange(20).repeat(np.diff(starts)), nodes)
    log_p = -np.log1p(np.exp(np.where(bits, -logits, logits)))
    np.testing.assert_allclose(np.add.reduceat(log_p, starts[:-1]), log_probs[np.arange(20), symbols], rtol=1e-4)


def test_every_symbol_has_a_path_of_its_own_and_no_path_begins_another():
    tree = SymbolTree(np.array([1, 2, 1, 2, 0]), 4)  # symbol 3 does not occur
    paths = [tuple(map(tuple, path.tolist())) for path in tree.paths]
    assert sum(2.0 ** -len(path) for path in paths) == 1
    assert not any(a == b[: len(a)] for i, a in enumerate(paths) for j, b in enumerate(paths) if i != j)
    assert tree.groups(1) == [path[0][1] for path in paths] and sorted(tree.leaves) == [0, 1, 2, 3]


def test_two_symbols_form_one_decision():
    nodes, bits, starts = SymbolTree(np.array([0, 1, 1]), 2).decisions(np.array([1, 0]))
    assert (nodes == 0).all() and set(bits) == {0, 1} and starts.tolist() == [0, 1, 2]


def information(clusters, pairs):
    """Return the mutual information of neighbouring clusters, nats."""
    n = max(clusters) + 1
    share = np.zeros((n, n))
    np.add.at(share, (np.array(clusters)[:, None], np.array(clusters)[None]), pairs / pairs.sum())
    expected = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
    return sum(x * math.log(x / e) for x, e in zip(share.flat, expected.flat, strict=True) if x > 0)


def test_the_first_merge_loses_least_mutual_information(ids):
    pairs = np.full((6, 6), 1e-3)
    np.add.at(pairs, (ids[:-1], ids[1:]), 1)
    kept = {
        (i, j): information([i if s == j else s for s in range(6)], pairs) for i in range(6) for j in range(i + 1, 6)
    }
    first, _, stop = SymbolTree(ids, 6).spans[0]
    assert tuple(sorted(SymbolTree(ids, 6).leaves[first:stop])) == max(kept, key=kept.get)
