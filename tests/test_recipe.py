"""All choices of a run: read, checked, changed, written, and read again."""

import math
import tomllib
from dataclasses import fields

import pytest
import torch

from charlm import models, recipe
from charlm.data import corpus, feeds
from charlm.errors import DataError, InputNotFoundError, UsageError
from charlm.experiments.lesson import PROTOCOL, STEPS
from charlm.recipe import Recipe
from charlm.training import schedules
from charlm.training.setup import resolve

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", recipe.names())
def test_a_recipe_of_the_package_loads_and_resolves(name):
    resolved = resolve(recipe.load(name), CPU)
    model = models.build(resolved.model, 10, **resolved.options)
    assert resolved.feed in recipe.FEEDS
    assert resolved.batch_size
    assert model.n_context in (None, resolved.n_context)
    assert 20 < len(recipe.about(name)) < 120


@pytest.mark.parametrize("name", recipe.names())
def test_a_recipe_of_the_package_comes_back_from_toml(name, tmp_path):
    resolved = resolve(recipe.load(name), CPU)
    (tmp_path / "r.toml").write_text(resolved.to_toml(), "utf-8")
    assert recipe.load(str(tmp_path / "r.toml")) == resolved


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"minutes": 0.5},
        {"minutes": 2, "epochs": 3},
        {"corpus": ["nietzsche", "C:\\texts", 'a "b"\n\tc', "näme"]},
        {"corpus": ["\U0001f600.txt"]},
        {"corpus": ["\x7f.txt"]},
        {"learning_rate": 1e-5, "weight_decay": 1e-20, "clip": 1e16, "drop_epochs": [0.5, 1, 2.25]},
        {"bytes": True, "lower": True, "patience": 3, "seed": 2**31},
        {"options": {"n_hidden": 512, "dropout": 0.5, "tied": True, "init": "identity"}},
    ],
    ids=str,
)
def test_any_recipe_comes_back_from_toml(changes, tmp_path):
    made = Recipe().replace(**changes)
    (tmp_path / "r.toml").write_text(made.to_toml(), "utf-8")
    assert recipe.load(str(tmp_path / "r.toml")) == made
    assert Recipe().replace(**made.to_dict()) == made


def test_toml_has_the_options_in_a_table_of_their_own():
    values = tomllib.loads(Recipe().replace(model="gru", options={"n_hidden": 8}).to_toml())
    assert values["model"] == "gru"
    assert values["options"] == {"n_hidden": 8}


def test_there_is_a_recipe_for_every_step_of_the_lesson():
    assert {f"lesson-{step}" for step in STEPS} <= set(recipe.names())
    for choice in PROTOCOL.values():
        resolve(Recipe().replace(**choice), CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modell": "gru"}, "no recipe key 'modell'; did you mean 'model'?"),
        ({"learningrate": 1}, "did you mean 'learning_rate'?"),
        ({"colour": "red"}, "no recipe key 'colour'"),
        ({"epochs": 2.5}, "epochs is 2.5; it must be int"),
        ({"epochs": True}, "epochs is True; it must be int"),
        ({"bytes": 1}, "bytes is 1; it must be bool"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; it must be float"),
        ({"model": None}, "model is None; it must be str"),
        ({"corpus": 5}, "it must be"),
        ({"corpus": [1]}, "it must be"),
        ({"drop_epochs": ["1"]}, "it must be"),
        ({"options": [1]}, "options is [1]; it must be dict"),
        ({"feed": "stram"}, "feed is 'stram'; did you mean 'stream'?; it is one of: windows, chunks, stream"),
        ({"optimizer": "lion"}, "optimizer is 'lion'; it is one of: adam, adamw, sgd, rmsprop"),
        ({"split": "80/10/10"}, "one of: standard"),
        ({"schedule": "linear"}, "one of: constant"),
        ({"device": "tpu"}, "one of: auto"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"batch_size": -1}, "at least 1"),
        ({"bptt": 0}, "at least 1"),
        ({"n_context": 0}, "at least 1"),
        ({"n_context": 10**9}, "n_context is 1000000000; it must be at most 1048576"),
        ({"min_count": 0}, "at least 1"),
        ({"patience": 0}, "at least 1"),
        ({"seed": -1}, "at least 0"),
        ({"seed": 2**64}, "seed"),
        ({"learning_rate": -0.1}, "at least 0"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"learning_rate": math.inf}, "finite"),
        ({"clip": 0.0}, "clip is 0"),
        ({"minutes": 0}, "minutes is 0"),
        ({"minutes": math.inf}, "finite"),
        ({"drop_epochs": [1, -1]}, "drop_epochs is -1"),
        ({"epochs": None}, "neither epochs nor minutes"),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_meant_is_refused(changes, message):
    with pytest.raises(UsageError) as error:
        Recipe().replace(**changes)
    assert message in str(error.value)


def test_a_minutes_limit_lifts_that_of_the_epochs_unless_both_are_given():
    assert Recipe().replace(minutes=2).epochs is None
    assert Recipe().replace(minutes=2, epochs=3).epochs == 3
    assert Recipe(epochs=5, minutes=1.0).replace(seed=1).epochs == 5
    assert Recipe().replace(seed=1).epochs == Recipe().epochs


def test_options_are_merged_and_the_recipe_before_is_as_it_was():
    before = Recipe().replace(options={"n_hidden": 8, "n_layers": 2})
    after = before.replace(options={"n_hidden": 16})
    assert after.options == {"n_hidden": 16, "n_layers": 2}
    assert before.options == {"n_hidden": 8, "n_layers": 2}


def test_whole_numbers_pass_for_floats_and_lists_for_tuples():
    made = Recipe().replace(learning_rate=1, corpus=["a"], drop_epochs=[1, 2])
    assert made.learning_rate == 1.0
    assert isinstance(made.learning_rate, float)
    assert made.corpus == ("a",)
    assert made.drop_epochs == (1, 2)


def test_a_recipe_can_be_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('model = "gru"\nminutes = 5\n\n[options]\nn_hidden = 8\n')
    assert recipe.load(str(path)) == Recipe().replace(model="gru", minutes=5, options={"n_hidden": 8})


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"model = ", DataError, "mine.toml"),
        (b'model = "gru"\nmodel = "rnn"', DataError, "overwrite a value"),
        (b"modle = 1", UsageError, "mine.toml: no recipe key 'modle'; did you mean 'model'?"),
        (b"epochs = 0", UsageError, "mine.toml: epochs is 0"),
        (b"[options.more]\nx = 1\n[model]", UsageError, "model is {}"),
        (b"model = \xff", DataError, "mine.toml"),
    ],
    ids=str,
)
def test_a_file_that_is_no_recipe_is_named_with_its_fault(content, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(error) as raised:
        recipe.load("mine.toml")
    assert message in str(raised.value)


@pytest.mark.parametrize(("name", "hint"), [("lesson-gruu", "did you mean 'lesson-gru'"), ("zzz", "`charlm recipes`")])
def test_an_unknown_recipe_gets_a_suggestion_or_the_list(name, hint):
    with pytest.raises(InputNotFoundError, match=hint):
        recipe.load(name)


def test_the_choices_of_a_recipe_are_those_that_exist():
    assert set(recipe.SPLITS) == set(corpus.SPLITS)
    assert set(recipe.SCHEDULES) == set(schedules.SCHEDULES)
    assert {name.lower() for name in vars(feeds)} >= set(recipe.FEEDS)
    assert Recipe().model in models.MODELS


def test_every_key_says_what_it_means():
    for key in fields(Recipe):
        assert key.name == "options" or len(key.metadata["help"]) > 5
