"""Defaults by the size of the text."""

import pytest

from charlm import models
from charlm.data.corpus import make_corpus
from charlm.recipe import Recipe
from charlm.recipes import default
from charlm.training.text_defaults import LARGE, fit_to_text


def corpus(n, n_symbols=20):
    """Return a text of n characters of `n_symbols` symbols."""
    return make_corpus("".join(chr(0x4E00 + i * i % n_symbols) for i in range(n)).encode(), "text")


def chosen(n, n_symbols=20, **given):
    options = given.pop("options", {})
    start = default(given).replace(**given, options=options)
    return fit_to_text(start, {*given, *options}, corpus(n, n_symbols))[0]


def n_steps(recipe, n):
    return recipe.epochs * max(1, int(0.8 * n) // (recipe.batch_size * recipe.bptt))


@pytest.mark.parametrize("n", [300, 577, 2000, 20_000, 100_000])
def test_a_small_text_gets_tens_of_optimiser_steps_and_early_stopping(n):
    for given in ({}, {"model": "gru"}, {"model": "transformer"}):
        recipe = chosen(n, **given)
        assert n_steps(recipe, n) >= 40
        assert recipe.patience >= 3
        assert recipe.batch_size * recipe.bptt < n


def test_a_large_text_has_the_defaults_of_the_recipe():
    n = int(LARGE / 0.8) + 1
    assert chosen(n) == default({})
    assert chosen(n, model="gru") == Recipe(model="gru")


def test_counting_is_the_default_for_few_characters_and_for_many_symbols():
    assert chosen(150).model == "word-ngram"
    assert chosen(5000, n_symbols=8009).model == "word-ngram"
    assert chosen(150, model="lstm-ngram").model == "lstm-ngram"
    assert chosen(150, epochs=3).model == "lstm-ngram"


@pytest.mark.parametrize("n", [300, 20_000])
def test_what_is_given_stays(n):
    given = {"model": "gru", "epochs": 3, "batch_size": 5, "bptt": 7, "learning_rate": 0.1}
    recipe = chosen(n, **given, options={"head_dropout": 0.1})
    assert all(getattr(recipe, name) == value for name, value in given.items())
    assert recipe.options["head_dropout"] == 0.1 and recipe.patience is None


def test_a_time_limit_stays_the_only_limit():
    recipe = chosen(2000, minutes=1.0)
    assert recipe.epochs is None and recipe.patience is None


def test_a_batch_size_given_as_none_is_chosen_by_the_size_of_the_text():
    assert chosen(2000, model="gru", batch_size=None).batch_size == 4


@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
def test_a_short_text_has_dropout_and_a_large_one_has_none(model):
    rates = [chosen(n, model=model).options.get("head_dropout", 0) for n in (2000, 200_000, 600_000)]
    assert rates == [0.25, 0.25, 0]


def test_a_model_that_has_dropout_by_its_own_defaults_keeps_it():
    assert not {"dropout", "head_dropout"} & chosen(5000, model="awd-lstm").options.keys()


def test_defaults_name_only_options_that_the_model_has():
    for name in models.MODELS:
        assert chosen(5000, model=name).options.keys() <= models.options_of(name).keys()


def test_experts_of_folded_words_are_left_out_for_few_characters_unless_they_are_asked_for():
    assert [chosen(n).options["folded_words"] for n in (1000, 4000)] == [False, True]
    assert chosen(1000, options={"folded_words": True}).options["folded_words"] is True
