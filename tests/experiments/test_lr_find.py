"""The rates of the range test on curves whose shape is known, and the suggestion."""

import pytest

from charlm import api
from charlm.experiments.lr_find import BELOW_MINIMUM, LearningRates, find_rate, longest_fall
from charlm.recipe import Recipe

RATES = [10 ** (-5 + i / 20) for i in range(101)]  # 1e-5 to 1


def curve(loss, n_steps=422, chars_per_step=256):
    return LearningRates(RATES, [loss(i) for i in range(len(RATES))], n_steps, chars_per_step)


def test_the_rates_of_a_curve_that_falls_and_rises():
    found = curve(lambda i: 2.5 if i < 20 else 4.0 - 0.05 * (i - 20) if i < 60 else 2.0 + 0.1 * (i - 60))
    assert found.minimum == pytest.approx(1e-2)
    assert found.valley == pytest.approx(1e-3)  # the middle of the fall from 1e-4 to 1e-2


def test_the_steepest_fall_is_found():
    found = curve(lambda i: -0.01 * i - (0.5 * min(max(i - 40, 0), 5)))
    assert RATES[40] <= found.steepest <= RATES[45]


def test_the_longest_fall_skips_noise():
    assert longest_fall([5, 6, 4, 9, 3, 2, 8]) == (0, 5)
    assert longest_fall([1, 2, 3]) == (0, 0)


def test_the_suggestion_is_below_the_minimum_and_lower_for_more_steps_and_smaller_batches():
    def suggestion(n_steps, chars_per_step):
        return curve(lambda i: abs(i - 60), n_steps, chars_per_step).suggestion

    assert suggestion(422, 256) == pytest.approx(1e-2 / BELOW_MINIMUM)
    assert suggestion(2110, 256) < suggestion(422, 256) < suggestion(422, 2048) < suggestion(176, 2048)
    assert suggestion(1, 100_000) == pytest.approx(1e-2)  # never above the minimum


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


def test_the_schedule_of_a_recipe_has_no_effect(trained):
    assert nats(trained, minutes=1.0, schedule="steps", drop_epochs=[1.0], warmup_epochs=1.0) == nats(trained)


def test_the_range_test_begins_with_the_weights_of_a_trained_model(trained):
    assert nats(trained, init_from=trained[2])[0] < nats(trained)[0] - 0.5


def test_frozen_groups_and_groups_with_another_rate_change_the_curve(trained):
    start = {"init_from": trained[2]}
    free, frozen = nats(trained, **start), nats(trained, **start, freeze=["embed", "layers"])
    slower = nats(trained, **start, group_rates=[0.0, 0.0, 1.0])
    assert frozen != free
    assert slower == pytest.approx(frozen, abs=1e-4)  # a rate of 0 is as good as frozen


def test_the_length_of_the_training_is_that_of_its_epochs_or_of_its_minutes(trained):
    recipe, corpus, _ = trained
    by_epochs, by_minutes = (
        find_rate(recipe.replace(**limit), corpus, n_steps=60) for limit in ({"epochs": 20}, {"minutes": 10.0})
    )
    assert by_epochs.n_steps == 20 * 7  # an epoch: 830 characters in batches of 8 x 16
    assert by_minutes.n_steps > 1000
    assert 100 < by_minutes.chars_per_step <= 8 * 16


def test_training_at_the_suggestion_is_better_than_far_above_and_far_below_it(trained):
    recipe, corpus, _ = trained
    rate = find_rate(recipe, corpus).suggestion
    nats = [api.train(base=recipe, learning_rate=x * rate).metadata.result["valid_nats"] for x in (1, 0.1, 30)]
    assert nats[0] < min(nats[1:])
