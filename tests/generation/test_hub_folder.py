"""Folder for model hubs: whole or absent, read back as the model, described by its card."""

import json
import os
import re
import tomllib
from dataclasses import replace

import pytest
import torch

import charlm
from charlm.errors import OutputError
from charlm.files import atomic_write
from charlm.generation import LanguageModel, save_hub_folder
from charlm.generation.hub_folder import FILES
from charlm.recipe import Recipe
from charlm.recipes import load
from charlm.storage import runs


@pytest.fixture(scope="module")
def model():
    return LanguageModel.load(runs.packaged_model())


def test_the_folder_is_read_back_as_the_model(model, tmp_path):
    save_hub_folder(model, tmp_path / "mine")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == FILES
    again = charlm.load(tmp_path / "mine")
    assert again.metadata == model.metadata
    assert again.sample("supposing", 50, seed=1) == model.sample("supposing", 50, seed=1)


def test_float16_halves_the_weights(model, tmp_path):
    for name, dtype in (("whole", None), ("half", torch.float16)):
        save_hub_folder(model, tmp_path / name, dtype)
    whole, half = ((tmp_path / name / runs.HUB).stat().st_size for name in ("whole", "half"))
    assert half < 0.51 * whole


def test_the_card_has_bits_text_split_and_the_fields_of_hubs(model, tmp_path):
    save_hub_folder(model, tmp_path / "mine")
    card = (tmp_path / "mine" / "README.md").read_text("utf-8")
    front = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1]
    assert "license: unknown  # fill in" in front and "pipeline_tag: text-generation" in front
    assert "| test | 1.9075 | 1.3222 | all |" in card
    assert f"`nietzsche`, 600,893 characters, SHA-256 `{model.metadata.corpus['sha256']}`" in card
    assert "Split: `standard`" in card and 'charlm sample mine --prime "text"' in card


def test_the_card_says_how_much_of_a_long_part_was_read(tmp_path):
    trained = charlm.train(text="abc " * 1000, model="ngram")
    trained.metadata.result |= {"test_chars": 125_000, "test_part_chars": 9_000_000}
    save_hub_folder(trained, tmp_path / "long")
    assert "the first 125,000 of 9,000,000 |" in (tmp_path / "long" / "README.md").read_text("utf-8")


def test_the_recipe_is_that_of_the_training_and_config_json_has_the_options(model, tmp_path):
    save_hub_folder(model, tmp_path / "mine")
    recipe = load(str(tmp_path / "mine" / "train.toml"))
    assert (recipe.model, recipe.epochs, recipe.corpus) == ("gru", 14, ("nietzsche",))
    assert recipe == Recipe().replace(**{key: value for key, value in model.metadata.recipe.items()})
    assert tomllib.loads((tmp_path / "mine" / "train.toml").read_text("utf-8"))["options"]["n_hidden"] == 512
    config = json.loads((tmp_path / "mine" / "config.json").read_text("utf-8"))
    assert (config["model_type"], config["vocab_size"], config["options"]["n_hidden"]) == ("gru", 83, 512)


def test_the_name_of_the_text_need_not_be_utf8(model, tmp_path):
    corpus = model.metadata.corpus | {"name": os.fsdecode(b"b\xfcch.txt")}
    named = LanguageModel(model.model, replace(model.metadata, corpus=corpus))
    save_hub_folder(named, tmp_path / "mine")
    assert "trained on `b?ch.txt`" in (tmp_path / "mine" / "README.md").read_text("utf-8")


def test_an_existing_folder_is_replaced_only_on_request_and_only_if_an_export_wrote_it(model, tmp_path):
    folder = tmp_path / "mine"
    save_hub_folder(model, folder)
    (folder / "config.json").write_text("old")
    with pytest.raises(OutputError, match="mine: exists already; --force replaces it"):
        save_hub_folder(model, folder)
    save_hub_folder(model, folder, replace=True)
    assert (folder / "config.json").read_text("utf-8") != "old"
    (folder / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match="mine: holds 'thesis.tex', which no export wrote; choose another name"):
        save_hub_folder(model, folder, replace=True)
    assert (folder / "thesis.tex").read_text() == "precious" and [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("kind", ["file", "link", "fifo"])
def test_other_things_than_folders_are_never_replaced(kind, model, tmp_path):
    (tmp_path / "target").mkdir()
    path = tmp_path / "mine"
    {"file": path.touch, "link": lambda: path.symlink_to("target"), "fifo": lambda: os.mkfifo(path)}[kind]()
    with pytest.raises(OutputError, match="mine: cannot be written: it is not a folder; choose another name"):
        save_hub_folder(model, path, replace=True)
    assert {found.name for found in tmp_path.iterdir()} == {"mine", "target"}


@pytest.mark.parametrize("replace", [False, True])
def test_a_failure_leaves_the_old_folder_or_none(replace, model, tmp_path):
    folder = tmp_path / "mine"
    if replace:
        save_hub_folder(model, folder)
        (folder / "config.json").write_text("old")
    broken = LanguageModel.load(runs.packaged_model())
    with torch.no_grad():
        next(broken.model.parameters()).fill_(float("nan"))
    with pytest.raises(charlm.errors.DataError, match="weights are not finite"):
        save_hub_folder(broken, folder, replace=replace)
    assert [path.name for path in tmp_path.iterdir()] == (["mine"] if replace else [])
    assert not replace or (folder / "config.json").read_text() == "old"


def test_a_missing_parent_is_one_line(model, tmp_path):
    with pytest.raises(OutputError, match="mine: cannot be written: No such file or directory"):
        save_hub_folder(model, tmp_path / "none" / "mine")
    atomic_write(tmp_path / "file", b"")
    with pytest.raises(OutputError, match="mine: cannot be written: Not a directory"):
        save_hub_folder(model, tmp_path / "file" / "mine")
