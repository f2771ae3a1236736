"""The rates that the range test reports, on curves whose shape is known."""

import pytest

from charlm.experiments.lr_find import BELOW_MINIMUM, LearningRates, longest_fall

RATES = [10 ** (-5 + i / 20) for i in range(101)]  # 1e-5 to 1


def curve(loss):
    return LearningRates(RATES, [loss(i) for i in range(len(RATES))])


def test_the_rates_of_a_curve_that_falls_and_rises():
    found = curve(lambda i: 2.5 if i < 20 else 4.0 - 0.05 * (i - 20) if i < 60 else 2.0 + 0.1 * (i - 60))
    assert found.minimum == pytest.approx(1e-2)
    assert found.suggestion == pytest.approx(1e-2 / BELOW_MINIMUM)
    assert found.valley == pytest.approx(1e-3)  # the middle of the fall from 1e-4 to 1e-2


def test_the_steepest_fall_is_found():
    found = curve(lambda i: -0.01 * i - (0.5 * min(max(i - 40, 0), 5)))
    assert RATES[40] <= found.steepest <= RATES[45]


def test_the_longest_fall_skips_noise():
    assert longest_fall([5, 6, 4, 9, 3, 2, 8]) == (0, 5)
    assert longest_fall([1, 2, 3]) == (0, 0)
