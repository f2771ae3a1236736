"""Recipe: reading, checking, replacing values, writing TOML."""

import math
import tomllib
from dataclasses import fields

import pytest
import torch

from charlm import models, recipe, recipes
from charlm.data import feeds
from charlm.errors import DataError, InputNotFoundError, UsageError, shown
from charlm.experiments.lesson import PROTOCOL, STEPS
from charlm.recipe import Recipe
from charlm.recipes.files import FORMAT, parse_option
from charlm.training import schedules
from charlm.training.setup import fill_defaults

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", recipes.names())
def test_a_packaged_recipe_builds_a_model(name):
    resolved = fill_defaults(recipes.load(name), CPU)
    model = models.build(resolved.model, 10, **resolved.options)
    assert resolved.feed in recipe.FEEDS
    assert resolved.batch_size
    assert model.n_context in (None, resolved.n_context)
    assert 20 < len(recipes.description(name)) < 120


@pytest.mark.parametrize("name", recipes.names())
def test_a_packaged_recipe_is_unchanged_by_writing_and_reading_toml(name, tmp_path):
    resolved = fill_defaults(recipes.load(name), CPU)
    (tmp_path / "r.toml").write_text(recipes.to_toml(resolved), "utf-8")
    assert recipes.load(str(tmp_path / "r.toml")) == resolved


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
def test_a_recipe_is_unchanged_by_writing_and_reading_toml(changes, tmp_path):
    made = Recipe().replace(**changes)
    (tmp_path / "r.toml").write_text(recipes.to_toml(made), "utf-8")
    assert recipes.load(str(tmp_path / "r.toml")) == made
    assert Recipe().replace(**made.to_dict()) == made


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("order=1", ("order", 1)),
        (" n-hidden = 8 ", ("n_hidden", 8)),
        ("init=identity", ("init", "identity")),
        ("init='a=b'", ("init", "a=b")),
        ("order=" + "[" * 5000, ("order", "[" * 5000)),
        ("order=" + "9" * 5000, ("order", "9" * 5000)),
    ],
    ids=shown,
)
def test_an_option_is_one_key_and_a_value(text, parsed):
    assert parse_option(text) == parsed


@pytest.mark.parametrize("text", ["order", "", "=1", " =1", "order=1\nmodel=2", "order=1\r\n\r\n"], ids=repr)
def test_anything_but_one_key_and_a_value_is_refused(text):
    with pytest.raises(UsageError, match="must be one KEY=VALUE"):
        parse_option(text)


def test_toml_contains_the_options_in_their_own_table():
    values = tomllib.loads(recipes.to_toml(Recipe().replace(model="gru", options={"n_hidden": 8})))
    assert values["model"] == "gru"
    assert values["options"] == {"n_hidden": 8}


def test_every_step_of_the_lesson_has_a_recipe():
    assert {f"lesson-{step}" for step in STEPS} <= set(recipes.names())
    for choice in PROTOCOL.values():
        fill_defaults(Recipe().replace(**choice), CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modell": "gru"}, "no recipe key 'modell'; did you mean 'model'?"),
        ({"learningrate": 1}, "did you mean 'learning_rate'?"),
        ({"colour": "red"}, "no recipe key 'colour'"),
        ({"epochs": 2.5}, "epochs must be an integer, got 2.5"),
        ({"epochs": True}, "epochs must be an integer, got True"),
        ({"bytes": 1}, "bytes must be true or false, got 1"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, got 'fast'"),
        ({"model": None}, "model must be a string, not empty, got None"),
        ({"corpus": 5}, "corpus must be a string, not empty, got 5"),
        ({"corpus": ""}, "corpus must be a string, not empty"),
        ({"model": ""}, "model must be a string, not empty"),
        ({"corpus": [1]}, "corpus must be a string, not empty, got 1"),
        ({"corpus": ["\udcff.txt"]}, r"corpus is '\udcff.txt', which is not UTF-8; rename it"),
        ({"drop_epochs": ["1"]}, "drop_epochs must be a number, got '1'"),
        ({"drop_epochs": [True]}, "drop_epochs must be a number, got True"),
        ({"options": [1]}, "options must be a table of named options, got [1]"),
        ({"options": {5: 5}}, "options must be a table of named options, got {5: 5}"),
        ({"feed": "stram"}, "feed must be one of windows, chunks, stream, got 'stram'; did you mean 'stream'?"),
        ({"optimizer": "lion"}, "optimizer must be one of adam, adamw, sgd, rmsprop, got 'lion'"),
        ({"split": "80-10-10"}, "split must be one of standard"),
        ({"split": "0/5/5"}, "split 0/5/5 has no training part"),
        ({"schedule": "linear"}, "one of constant"),
        ({"device": "tpu"}, "one of auto"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": -1}, "at least 1"),
        ({"bptt": 0}, "at least 1"),
        ({"n_context": 0}, "at least 1"),
        ({"n_context": 10**9}, "n_context must be at least 1 and at most 4,096, got 1000000000"),
        ({"min_count": 0}, "at least 1"),
        ({"patience": 0}, "at least 1"),
        ({"seed": -1}, "at least 0"),
        ({"seed": 2**64}, "seed"),
        ({"learning_rate": -0.1}, "learning_rate must be above 0, got -0.1"),
        ({"learning_rate": 0}, "learning_rate must be above 0, got 0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0 and finite, got nan"),
        ({"learning_rate": math.inf}, "learning_rate must be above 0 and at most 1e+30, got inf"),
        ({"clip": 0.0}, "clip must be above 0, got 0"),
        ({"minutes": 0}, "minutes must be above 0, got 0"),
        ({"minutes": math.inf}, "minutes must be above 0 and at most 1e+18, got inf"),
        ({"momentum": 1}, "momentum must be at least 0 and below 1, got 1"),
        ({"n_cycles": 10**6}, "n_cycles must be at least 1 and at most 64, got 1000000"),
        ({"min_count": 10**20}, "min_count must be at least 1 and at most 2^53, got 100000000000000000000"),
        ({"epochs": 10**5000}, "epochs must be at least 1 and at most 2^53, got a number of thousands of digits"),
        ({"learning_rate": 10**400}, "learning_rate must be above 0 and at most 1e+30, got 1000"),
        ({"group_rates": [1, 1e9]}, "group_rates must be at least 0 and at most 1000, got 1000000000.0"),
        ({"drop_epochs": [1, -1]}, "drop_epochs must be at least 0, got -1"),
        ({"epochs": None}, "neither epochs nor minutes is given"),
    ],
    ids=shown,
)
def test_an_invalid_value_is_refused(changes, message):
    with pytest.raises(UsageError) as error:
        Recipe().replace(**changes)
    assert message in str(error.value)


def test_minutes_remove_the_limit_in_epochs_unless_both_are_given():
    assert Recipe().replace(minutes=2).epochs is None
    assert Recipe().replace(minutes=2, epochs=3).epochs == 3
    assert Recipe(epochs=5, minutes=1.0).replace(seed=1).epochs == 5
    assert Recipe().replace(seed=1).epochs == Recipe().epochs


def test_replace_merges_options_and_leaves_the_original_unchanged():
    before = Recipe().replace(options={"n_hidden": 8, "n_layers": 2})
    after = before.replace(options={"n_hidden": 16})
    assert after.options == {"n_hidden": 16, "n_layers": 2}
    assert before.options == {"n_hidden": 8, "n_layers": 2}


def test_integers_are_accepted_as_floats_and_lists_as_tuples():
    made = Recipe().replace(learning_rate=1, corpus=["a"], drop_epochs=[1, 2])
    assert made.learning_rate == 1.0
    assert isinstance(made.learning_rate, float)
    assert made.corpus == ("a",)
    assert made.drop_epochs == (1, 2)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_recipe_is_read_from_a_file_also_with_a_byte_order_mark(encoding, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('model = "gru"\nminutes = 5\n\n[options]\nn_hidden = 8\n', encoding)
    assert recipes.load(str(path)) == Recipe().replace(model="gru", minutes=5, options={"n_hidden": 8})


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"model = ", DataError, "mine.toml"),
        (b'model = "gru"\nmodel = "rnn"', DataError, "overwrite a value"),
        (b"modle = 1", UsageError, "mine.toml: no recipe key 'modle'; did you mean 'model'?"),
        (b"epochs = 0", UsageError, "mine.toml: epochs must be at least 1, got 0"),
        (b"[options.more]\nx = 1\n[model]", UsageError, "model must be a string, not empty, got {}"),
        (b"model = \xff", DataError, "mine.toml"),
        (b"epochs = " + b"9" * 5000, DataError, "mine.toml: has a number of thousands of digits"),
        (b"drop_epochs = " + b"[" * 900 + b"]" * 900, DataError, "mine.toml: is nested 900 deep"),
        (b".".join([b"a"] * 20_000) + b" = 1", DataError, "mine.toml: is nested 20,000 deep"),
        (b'"a" . ' * 20_000 + b"a = 1", DataError, "mine.toml: is nested 20,001 deep"),
        (b"drop_epochs = [true]", UsageError, "mine.toml: drop_epochs must be a number, got True"),
        (b"epochs = true", UsageError, "mine.toml: epochs must be an integer, got True"),
        (b"batch_size = 10000000000000000000000", UsageError, "mine.toml: batch_size must be at least 1"),
    ],
    ids=shown,
)
def test_an_invalid_recipe_file_is_reported_with_its_name_and_the_error(content, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(error) as raised:
        recipes.load("mine.toml")
    assert message in str(raised.value)


@pytest.mark.parametrize(("name", "hint"), [("lesson-gruu", "did you mean 'lesson-gru'"), ("zzz", "`charlm recipes`")])
def test_an_unknown_recipe_gets_a_suggestion_or_the_list(name, hint):
    with pytest.raises(InputNotFoundError, match=hint):
        recipes.load(name)


def test_the_choices_of_a_recipe_match_the_implementations():
    assert set(recipe.SCHEDULES) == set(schedules.SCHEDULES)
    assert {name.lower() for name in vars(feeds)} >= set(recipe.FEEDS)
    assert Recipe().model in models.MODELS


def test_every_key_has_a_help_text():
    for key in fields(Recipe):
        assert key.name == "options" or len(key.metadata["help"]) > 5


def test_a_written_recipe_has_a_format_and_a_newer_one_is_refused(tmp_path):
    text = recipes.to_toml(Recipe())
    assert tomllib.loads(text)["format"] == FORMAT
    (tmp_path / "r.toml").write_text(text.replace(f"format = {FORMAT}", "format = 9"))
    with pytest.raises(DataError, match=f"has format 9; this charlm reads {FORMAT}; upgrade charlm"):
        recipes.load(str(tmp_path / "r.toml"))


def test_a_recipe_of_format_1_loads_with_its_options_renamed(tmp_path):
    (tmp_path / "r.toml").write_text('model = "transformer"\naccumulate = 2\n\n[options]\nn_memory = 64\n')
    loaded = recipes.load(str(tmp_path / "r.toml"))
    assert loaded == Recipe().replace(model="transformer", options={"window_size": 64})
