"""Arguments of the Python interface: any value works or is refused in one line, before any work."""

import math
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import charlm
from charlm import models, recipes
from charlm.errors import CharlmError, InputNotFoundError, UsageError, shown
from charlm.generation import SamplingParams, mix
from charlm.recipe import Recipe
from charlm.storage.runs import packaged_model

RECIPE_KEYS = [key.name for key in fields(Recipe) if key.name != "options"]
TEXT = "one two three four five six seven eight nine ten\n" * 10
VALUES = [
    *(None, True, -1, 0, 2.5, 10**30, -(10**30), 10**5000, math.nan, math.inf, 1j, np.int64(-1), np.float64("nan")),
    *("", "5", "x\0y", "\ud800", "\n", "x" * 30_000, b"x", bytearray(b"x"), Path(""), Path("no/such"), np.zeros(3)),
    *([], [5], [None], ["", "x"], (b"x",), {}, {5: 5}, {"x": None}, set(), object(), print, int, torch.int8),
    *(torch.zeros(2), iter("ab"), range(3), Fraction(1, 3), ...),
]


@pytest.fixture(scope="module")
def model():
    return charlm.train(text=TEXT, model="rnn", options={"n_embed": 4, "n_hidden": 4}, epochs=1, batch_size=2, bptt=8)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


SAMPLING = ["prompt", "length", "seed", "stop", "unknown", "temperature", "top_k", "top_p", "min_p", "cache_model", "x"]
CALLS = {
    "sample": (lambda lm, /, **given: lm.sample(**{"length": 2} | given), SAMPLING),
    "stream": (lambda lm, /, **given: next(lm.stream(**{"length": 2} | given), ""), SAMPLING),
    "generate_many": (
        lambda lm, /, **given: next(next(lm.generate_many(**{"n_texts": 2, "length": 2} | given)), ""),
        ["n_texts", *SAMPLING],
    ),
    "next": (lambda lm, /, **given: lm.next(**given), ["prompt", "top", "unknown"]),
    "probs": (lambda lm, /, **given: lm.probs(**given), ["prompt", "unknown"]),
    "score": (lambda lm, /, **given: lm.score(**{"text": "one"} | given), ["text", "unknown"]),
    "bits_per_char": (lambda lm, /, **given: lm.bits_per_char(**given), ["text"]),
    "preprocess": (lambda lm, /, **given: lm.preprocess(**{"text": "one"} | given), ["text", "unknown"]),
    "stepper": (lambda lm, /, **given: lm.stepper(**given), ["n_texts"]),
    "save": (lambda lm, /, **given: lm.save(**{"path": "a.safetensors"} | given), ["path", "dtype"]),
    "LanguageModel.load": (
        lambda lm, /, **given: charlm.LanguageModel.load(**{"path": charlm_file()} | given),
        ["path", "device"],
    ),
    "load": (lambda lm, /, **given: charlm.load(**given), ["name", "device", "model"]),
    "train": (
        lambda lm, /, **given: charlm.train(**{"text": TEXT, "model": "ngram"} | given),
        [*("text", "base", "folder", "x"), *(key for key in RECIPE_KEYS if key != "corpus"), "options"],
    ),
    "train on corpus": (lambda lm, /, **given: charlm.train(**{"model": "ngram"} | given), ["corpus"]),
    "Recipe": (lambda lm, /, **given: Recipe(**given), [*RECIPE_KEYS, "options"]),
    "Recipe.replace": (lambda lm, /, **given: Recipe().replace(**given), [*RECIPE_KEYS, "options", "x"]),
    "recipes.load": (lambda lm, /, **given: recipes.load(**given), ["name_or_path"]),
    "models.build": (
        lambda lm, /, **given: models.build(given.pop("name", "lstm"), 5, **given),
        ["name", "n_hidden", "n_layers", "dropout", "tied", "init", "x"],
    ),
    "SamplingParams": (
        lambda lm, /, **given: SamplingParams(**given),
        ["temperature", "top_k", "top_p", "min_p", "cache_model"],
    ),
    "mix": (lambda lm, /, **given: mix(**{"models": [lm], "weights": [1]} | given), ["models", "weights"]),
}


def charlm_file():
    """Return the file of the packaged model."""
    return str(packaged_model())


@pytest.mark.parametrize(
    ("call", "argument"), [(call, argument) for call, (_, arguments) in CALLS.items() for argument in arguments]
)
def test_any_value_of_any_argument_works_or_is_refused_in_one_line(model, call, argument):
    function, failed = CALLS[call][0], []
    for value in VALUES:
        try:
            function(model, **{argument: value})
        except CharlmError as error:
            if "\n" in str(error) or len(str(error)) > 1000 or not str(error):
                failed.append(f"{call}({argument}={shown(value)}): {error!s:.200}")
        except Exception as error:
            failed.append(f"{call}({argument}={shown(value)}): {type(error).__name__}: {error!s:.200}")
    assert failed == []


REFUSED = [
    *({"length": value} for value in (None, -1, 2.5, "5", 10**30, True, math.nan)),
    *({"top_k": 1.5}, {"top_k": 0}, {"seed": "1"}, {"seed": -1}, {"seed": 2**64}, {"temperature": math.nan}),
    *({"temperature": "1"}, {"temperature": math.inf}, {"prompt": None}, {"prompt": b"one"}, {"stop": b"x"}),
    *({"stop": ["x", None]}, {"stop": None}, {"unknown": None}, {"temprature": 1}, {"cache_model": []}),
]


@pytest.mark.parametrize("given", REFUSED, ids=lambda given: shown(given, 40))
def test_a_sampling_argument_of_the_wrong_type_or_range_is_refused_by_its_name(model, given):
    for call in (model.sample, lambda **given: model.generate_many(1, **given)):
        if given == {"length": None} and call != model.sample:
            continue
        with pytest.raises(UsageError, match=next(iter(given)).partition(" ")[0]):
            call(**given)


def test_endless_text_is_a_stream(model):
    with pytest.raises(UsageError, match=r"endless text is stream\(length=None\)"):
        model.sample(length=None)
    endless = model.stream(length=None, seed=1)
    assert "".join(next(endless) for _ in range(500)) == model.sample(length=500, seed=1)


@pytest.mark.parametrize(
    "given",
    [
        *(
            {"base": 5},
            {"base": ""},
            {"base": {}},
            {"options": {5: 5}},
            {"options": 5},
            {"options": [5]},
            {"epochs": 0},
        ),
        *({"epochs": 1.5}, {"epochs": True}, {"folder": ""}, {"folder": b"x"}, {"folder": 5}, {"text": b"x" * 200}),
        *({"text": 5}, {"learning_rate": "x"}, {"learning_rate": math.nan}, {"epochs": 0}),
        *({"model": None}, {"modle": "gru"}),
    ],
    ids=str,
)
def test_an_argument_of_train_of_the_wrong_type_or_range_is_refused_by_its_name(given):
    with pytest.raises(UsageError, match=next(iter(given))):
        charlm.train(**{"text": TEXT} | given)


@pytest.mark.parametrize("corpus", [[], (), 5, b"nietzsche", {"x": 1}, [5], [None], "", ["x", ""]], ids=str)
def test_no_corpus_is_taken_for_no_argument(corpus):
    with pytest.raises(CharlmError, match=r"corpus|name of the text is empty|x: no such file"):
        charlm.train(corpus)


def test_a_text_in_place_of_its_name_is_shortened_with_the_argument_for_texts():
    for text in ("word " * 50_000, TEXT):
        with pytest.raises(
            InputNotFoundError, match=r"characters\): no such file .*charlm\.train\(text=\.\.\.\)"
        ) as error:
            charlm.train(text)
        assert len(str(error.value)) < 250


def test_saving_refuses_names_types_and_models_that_cannot_be_saved(model, tmp_path):
    for path in ("", "a\0b", 5, None, b"x"):
        with pytest.raises(UsageError, match="path"):
            model.save(path)
    for dtype in (torch.int8, torch.complex64, "float16", np.float32, 16):
        with pytest.raises(UsageError, match="dtype must be one of torch.float16, "):
            model.save("x.safetensors", dtype)
    with pytest.raises(UsageError, match="save the models that it is made of"):
        mix([model, model], [1, 1]).save("x.safetensors")
    assert not Path("x.safetensors").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_model_saved_in_any_of_the_types_samples_and_scores(model, dtype):
    model.save("x.safetensors", dtype)
    loaded = charlm.load("x.safetensors")
    assert loaded.bits_per_char("one two") == pytest.approx(model.bits_per_char("one two"), rel=0.05)
    assert len(loaded.sample(length=5)) == 5


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", 5, None, []])
def test_a_device_that_is_not_there_is_refused(device):
    for load in (charlm.load, charlm.LanguageModel.load):
        with pytest.raises(UsageError, match="device"):
            load(str(packaged_model()), device)


def test_numbers_of_numpy_are_numbers(model, tmp_path):
    given = {"length": np.int64(9), "seed": np.uint32(1), "top_k": np.int16(3), "temperature": np.float32(0.5)}
    assert model.sample(**given) == model.sample(length=9, seed=1, top_k=3, temperature=0.5)
    assert len(list(model.generate_many(np.int8(2), length=2))) == 2
    sizes = {
        "n_hidden": np.int32(4),
        "n_embed": np.int64(4),
        "dropout": np.float64(0.5),
        "head_dropout": np.float32(0.5),
    }
    keys = {"epochs": np.int64(1), "learning_rate": np.float32(0.01), "batch_size": np.uint8(2), "seed": np.uint64(3)}
    trained = charlm.train(text=TEXT, model="lstm", bptt=np.int64(8), folder="run", options=sizes, **keys)
    loaded = charlm.load("run")
    assert loaded.metadata == trained.metadata
    assert loaded.metadata.recipe["epochs"] == 1 and loaded.metadata.options["n_hidden"] == 4
    assert mix([model, model], [np.float64(1), np.int64(1)]).model.weights == [0.5, 0.5]
