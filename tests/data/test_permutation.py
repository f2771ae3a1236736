"""Permutation: a bijection that looks random, computed at any position."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charlm.data.permutation import permute

patient = settings(deadline=None, max_examples=200)
N = 100_000


def order(n, seed=0, epoch=0):
    return permute(np.arange(n), n, seed, epoch)


@patient
@given(st.integers(0, 3000), st.integers(0, 2**64 - 1), st.integers(-1, 10**6))
@example(1, 2**64 - 1, -1)
@example(2**10, 0, 0)
@example(2**10 + 1, 0, 0)
def test_every_element_occurs_once(n, seed, epoch):
    assert sorted(order(n, seed, epoch).tolist()) == list(range(n))


@patient
@given(st.data(), st.integers(1, 500))
def test_the_element_at_a_position_does_not_depend_on_the_other_positions(data, n):
    positions = data.draw(st.lists(st.integers(0, n - 1)))
    np.testing.assert_array_equal(permute(np.array(positions, dtype=np.int64), n, 1, 2), order(n, 1, 2)[positions])


def test_batches_of_a_trillion_elements_are_distinct_and_uniform():
    n = 10**12 + 39
    numbers = np.concatenate([permute(np.arange(at, at + 512), n, 0, 0) for at in range(0, 100_000, 512)])
    assert len(np.unique(numbers)) == len(numbers)
    assert 0 <= numbers.min() < numbers.max() < n
    assert numbers.mean() / n == pytest.approx(0.5, abs=0.005)


def deviations(numbers):
    """Return the deviation of each statistic from a random order's, in standard deviations."""
    n = len(numbers)
    positions = np.arange(n)
    steps = np.abs(np.diff(numbers))
    tenths = np.bincount(numbers[:1000] * 10 // n, minlength=10)
    pairs = np.bincount(numbers[:-1] * 8 // n * 8 + numbers[1:] * 8 // n, minlength=64)
    return {
        "fixed points": (numbers == positions).sum() - 1,
        "correlation of position and element": abs(np.corrcoef(positions, numbers)[0, 1]) * n**0.5,
        "correlation of neighbours": abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) * n**0.5,
        "neighbours that stay neighbours": ((steps == 1).sum() - 2) / 2**0.5,
        "uneven first thousand": np.abs(tenths - 100).max() / 90**0.5,
        "uneven pairs of eighths": np.abs(pairs - n / 64).max() / (n / 64) ** 0.5,
    }


@pytest.mark.parametrize("seed", range(8))
def test_an_order_is_statistically_random(seed):
    reference = deviations(np.random.default_rng(seed).permutation(N))
    assert max(reference.values()) < 5
    assert max(deviations(order(N, seed, epoch=seed)).values()) < 5


@pytest.mark.parametrize(
    "other",
    [
        np.arange(N),
        np.arange(N)[::-1],
        np.roll(np.arange(N), N // 3),
        np.arange(N) * 7919 % N,
        np.arange(N).reshape(100, -1).T.ravel(),
        np.random.default_rng(0).permutation(N // 10)[:, None].repeat(10, 1).ravel() * 10
        + np.tile(np.arange(10), N // 10),
    ],
    ids=["sorted", "backwards", "rolled", "strides", "columns", "blocks"],
)
def test_the_statistics_detect_a_regular_order(other):
    assert sorted(other) == list(range(N))
    assert max(deviations(other).values()) > 5


def test_orders_of_different_epochs_and_seeds_are_independent():
    orders = [order(N, seed, epoch) for seed in (0, 1, 2**63) for epoch in (-1, 0, 1)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert (one == other).sum() < 10  # 1 on average
            assert abs(np.corrcoef(one, other)[0, 1]) * N**0.5 < 5
            assert (one - other == (one - other)[0]).sum() < 20


def test_every_element_is_equally_likely_at_the_first_position():
    firsts = [permute(np.array([0]), 10, 0, epoch)[0] for epoch in range(2000)]
    counts = np.bincount(firsts, minlength=10)
    assert np.abs(counts - 200).max() < 6 * 180**0.5
