"""The rates that the range test reports, on curves whose shape is known."""

import pytest

from charlm import api
from charlm.experiments.lr_find import BELOW_MINIMUM, LearningRates, find_rate, longest_fall
from charlm.recipe import Recipe

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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the recipe and text of a trained model, and its file."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    recipe = Recipe(model="gru", corpus=("human-numbers:100",), batch_size=8, bptt=16, device="cpu", epochs=12)
    recipe = recipe.replace(options={"n_hidden": 16, "n_embed": 8}, learning_rate=0.02)
    api.train(base=recipe, folder=folder)
    return recipe, api.read_corpus(recipe), str(folder / "best.safetensors")


def nats(trained, **changes):
    """Return the losses of a range test, nats per character."""
    recipe, corpus, _ = trained
    return find_rate(recipe.replace(**changes), corpus, n_steps=60).nats


def test_the_range_test_begins_with_the_weights_of_a_trained_model(trained):
    assert nats(trained, init_from=trained[2])[0] < nats(trained)[0] - 0.5


def test_frozen_groups_and_groups_with_another_rate_change_the_curve(trained):
    start = {"init_from": trained[2]}
    free, frozen = nats(trained, **start), nats(trained, **start, freeze=["embed", "layers"])
    slower = nats(trained, **start, group_rates=[0.0, 0.0, 1.0])
    assert frozen != free
    assert slower == pytest.approx(frozen, abs=1e-4)  # a rate of 0 is as good as frozen
