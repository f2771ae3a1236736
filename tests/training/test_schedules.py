"""Learning rate schedules: progress to a factor."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm import recipe
from charlm.training.schedules import (
    SCHEDULES,
    constant,
    cosine,
    make_schedule,
    one_cycle,
    one_cycle_momentum,
    restarts,
    steps,
    with_lead,
)

shares = st.floats(0, 1)
patient = settings(deadline=None, max_examples=60)


def test_a_recipe_can_name_every_schedule():
    assert set(SCHEDULES) == set(recipe.SCHEDULES)


@patient
@given(shares, st.integers(1, 20), st.integers(0, 3), st.integers(0, 3))
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_factor_is_between_0_and_1(name, progress, n_epochs, warmup, hold):
    factor = make_schedule(name, n_epochs + warmup + hold, warmup, hold, drop_epochs=(warmup + 1,))
    assert 0 <= factor(progress) <= 1 + 1e-12


@given(shares)
def test_constant_is_one(progress):
    assert constant(progress) == 1


def test_steps_multiply_at_each_drop():
    factor = make_schedule("steps", 10, drop_epochs=(4, 8))
    assert [factor(epoch / 10) for epoch in range(11)] == pytest.approx([1] * 4 + [0.1] * 4 + [0.01] * 3)
    assert steps(0.5, drops=[0.5], factor=0.3) == 0.3
    assert make_schedule("steps", 10)(0.99) == 1


def test_cosine_falls_from_one_through_the_middle_to_the_floor():
    assert cosine(0) == 1
    assert cosine(0.5) == pytest.approx(0.5)
    assert cosine(1) == pytest.approx(0)
    assert cosine(0.25) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert cosine(0.5, floor=0.2) == pytest.approx(0.6)
    assert cosine(1.2, floor=0.2) == pytest.approx(0.2)  # stays there


@patient
@given(shares, shares)
def test_cosine_never_rises(a, b):
    assert cosine(min(a, b)) >= cosine(max(a, b))


def test_restarts_are_those_of_pytorch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=16, T_mult=2, eta_min=0.05)
    for step in range(16 * 15):  # cycles of 16, 32, 64, 128 steps
        ours = restarts(step / (16 * 15), n_cycles=4, floor=0.05)
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-9), step
        optimizer.step()
        theirs.step()


def test_restarts_of_equal_length_repeat():
    factors = [restarts(progress, n_cycles=3, multiply=1) for progress in (0.1, 0.1 + 1 / 3, 0.1 + 2 / 3)]
    assert factors == pytest.approx([cosine(0.3)] * 3)
    assert restarts(1.0, n_cycles=3) == pytest.approx(0)


def test_one_cycle_rises_to_the_peak_and_falls_to_almost_nothing():
    assert one_cycle(0) == pytest.approx(0.04)
    assert one_cycle(0.125) == pytest.approx(0.52)
    assert one_cycle(0.25) == 1
    assert one_cycle(0.625) == pytest.approx(0.50005)
    assert one_cycle(1) == pytest.approx(0.0001)
    factors = [one_cycle(k / 200) for k in range(201)]
    assert factors[:51] == sorted(factors[:51])
    assert factors[50:] == sorted(factors[50:], reverse=True)


def test_momentum_is_low_where_the_learning_rate_is_high():
    assert [one_cycle_momentum(progress) for progress in (0, 0.125, 0.25, 1)] == pytest.approx([0.95, 0.9, 0.85, 0.95])


def test_a_linear_warmup_and_a_hold_come_before_the_schedule():
    factor = with_lead(cosine, warmup=0.2, hold=0.3)
    assert [factor(progress) for progress in (0, 0.1, 0.2, 0.4, 0.5, 0.75, 1)] == pytest.approx(
        [0, 0.5, 1, 1, 1, 0.5, 0]
    )
    assert with_lead(cosine, 0, 0) is cosine


def test_lengths_are_in_epochs_of_the_whole_training():
    factor = make_schedule("restarts", 17, hold_epochs=2, n_cycles=4)  # the lesson's LSTM: 1, 2, 4, 8 epochs
    for epoch in (0, 1, 2, 3, 5, 9):
        assert factor((epoch + 1e-9) / 17) == pytest.approx(1)
    for epoch in (3, 5, 9, 17):
        assert factor((epoch - 1e-4) / 17) == pytest.approx(0, abs=1e-6)


@patient
@given(st.integers(0, 4), st.integers(0, 4), st.integers(1, 9))
def test_drops_are_counted_from_the_start_of_the_training(warmup, hold, rest):
    drop = warmup + hold + rest
    factor = make_schedule("steps", drop + 3, warmup, hold, drop_epochs=(drop,))
    assert factor((drop - 1e-6) / (drop + 3)) == pytest.approx(1)
    assert factor((drop + 1e-6) / (drop + 3)) == pytest.approx(0.1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_and_hold_may_take_the_whole_training(name):
    factor = make_schedule(name, 4, warmup_epochs=2, hold_epochs=2, drop_epochs=(3,))
    assert [factor(progress) for progress in (0, 0.25, 0.5, 0.75, 1)] == [0, 0.5, 1, 1, 1]
