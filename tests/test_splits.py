"""Splits: names, proportions, and the split of a named text as the default."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlm import api
from charlm.data.named_texts import TEXTS, default_split
from charlm.data.user_texts import add_text, user_folder
from charlm.errors import UsageError
from charlm.options.splits import SPLITS, split_of
from charlm.recipe import Recipe
from charlm.storage.transfer import resolve_recipe

TINY = {"model": "ngram", "options": {"order": 2}}


@given(st.integers(0, 10**9), st.integers(1, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_proportions_that_are_sizes_are_these_sizes(extra, train, valid, test):
    bounds = split_of(f"{train}/{valid}/{test}").bounds(train + valid + test)
    assert [stop - first for first, stop in bounds.values()] == [train, valid, test]
    n_train = split_of(f"{train}/{valid}/{test}").bounds(train + valid + test + extra)["train"][1]
    assert abs(n_train - (train + valid + test + extra) * train / (train + valid + test)) <= 1


@pytest.mark.parametrize("n", [100, 600_893, 1_115_394, 10**8])
def test_the_standard_split_and_proportions_of_percents_agree(n):
    assert SPLITS["standard"].bounds(n) == split_of("80/10/10").bounds(n) == split_of("8/1/1").bounds(n)
    assert SPLITS["standard"].bounds(n)["test"] == (round(n * 0.9), n)


@pytest.mark.parametrize(
    "name", ["", "90/5", "90/5/5/5", "a/b/c", "-1/1/1", "0.8/0.1/0.1", "\u0669/1/1", "9" * 99 + "/1/1"]
)
def test_other_proportions_are_refused(name):
    with pytest.raises(UsageError, match="split must be one of standard, tail20, .*, or proportions such as 90/5/5"):
        split_of(name)


def test_a_near_miss_of_a_split_gets_a_suggestion():
    with pytest.raises(UsageError, match="did you mean 'nanogpt'"):
        Recipe(split="nano-gpt")


@pytest.fixture
def book(tmp_path, monkeypatch):
    """Add a text with the split 90/5/5 and return its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "book.txt").write_text("the cat sat on the mat\n" * 200)
    add_text("my-book", ["book.txt"], user_folder(), split="90/5/5")
    return "my-book"


def test_the_default_split_is_that_of_a_single_named_text(book, tmp_path):
    assert default_split([book]) == "90/5/5"
    assert default_split(["names"]) == TEXTS["names"].split == "makemore"
    for sources in ([], [book, book], ["book.txt"], ["markov:3"], ["-"]):
        assert default_split(sources) == "standard"
    (tmp_path / book).write_text("a file comes before a named text")
    assert default_split([book]) == "standard"


def test_a_training_takes_and_stores_the_split_of_its_text(book):
    model = api.train(book, folder="run", **TINY)
    assert model.metadata.recipe["split"] == "90/5/5"
    assert api.train(book, split="nanogpt", **TINY).metadata.recipe["split"] == "nanogpt"
    assert api.train("book.txt", **TINY).metadata.recipe["split"] == "standard"


def test_training_on_with_another_text_takes_the_split_of_that_text(book):
    api.train(book, folder="first", **TINY)
    api.train(book, folder="second", split="tail20", **TINY)
    for run, text, expected in (
        ("first", {}, "90/5/5"),
        ("first", {"corpus": ["book.txt"]}, None),
        ("first", {"corpus": ["book.txt"], "split": "all"}, "all"),
        ("second", {"corpus": ["book.txt"]}, "tail20"),
    ):
        assert resolve_recipe(None, {"init_from": f"{run}/best.safetensors", **text}).split == expected


@pytest.mark.parametrize("split", ["char-rnn", "makemore"])
def test_a_model_of_a_rearranged_text_is_evaluated_on_its_own_parts(split, book, exit_code, capsys):
    (book_file := user_folder() / f"{book}.txt").write_text("".join(f"line {n}\n" for n in range(6000)))
    (user_folder() / f"{book}.json").unlink()
    add_text(book, [str(book_file)], user_folder())
    assert exit_code(f"train --corpus {book} --split {split} --model ngram -o order=3 --name mine --json") == 0
    result = json.loads(capsys.readouterr().out)
    assert exit_code("eval mine --part valid --json") == 0
    assert json.loads(capsys.readouterr().out)["nats_per_char"] == pytest.approx(result["valid_nats"], rel=1e-6)
    assert exit_code(f"eval mine mine --corpus {book}") == 2  # the parts cannot be compared with the text as it is
    assert "would be chosen on the characters that are evaluated" in capsys.readouterr().err
