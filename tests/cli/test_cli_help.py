"""Help, version, and the lists of models, texts and recipes."""

import json
import re
import shlex
import subprocess
import sys
import types
from dataclasses import fields
from pathlib import Path

import pytest

import charlm
from charlm import models, recipe, recipes
from charlm.cli import COMMANDS, main
from charlm.data import named_texts


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Return a function that runs a command line in an empty folder and returns its stdout; it must succeed."""
    monkeypatch.chdir(tmp_path)

    def called(line):
        with pytest.raises(SystemExit) as stop:
            main(shlex.split(line))
        out, err = capsys.readouterr()
        assert (stop.value.code, err) == (0, "")
        return out

    return called


@pytest.mark.parametrize(
    "line", ["--help", "-h", "--version", *(f"{name} {flag}" for name in COMMANDS for flag in ("-h", "--help"))]
)
def test_help_is_on_stdout(line, call):
    out = call(line)
    assert "Usage: charlm" in out or out == f"charlm, version {charlm.__version__}\n"
    assert max(map(len, out.splitlines())) <= 100


def test_the_help_lists_every_command(call):
    out = call("--help")
    assert [name for name in COMMANDS if f"\n  {name} " not in out] == []


def first_column(out):
    """Return the first column, and check that no line is wider than a terminal."""
    assert max(map(len, out.splitlines())) <= 80
    return [line.split()[0] for line in out.splitlines() if line[2] != " "]


def test_models_are_listed_with_their_options(call):
    assert first_column(call("models")) == list(models.MODELS)
    assert json.loads(call("models --json")) == {name: models.options_of(name) for name in models.MODELS}
    assert json.loads(call("models gru --json")) == {"gru": models.options_of("gru")}


def test_a_model_whose_file_has_no_docstring_is_listed_by_that_of_its_class(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", types.ModuleType("mine"))
    mine = type("Mine", (models.RNN,), {"__module__": "mine", "__doc__": "RNN of my own.\n\n    More."})
    monkeypatch.setitem(models.MODELS, "mine", mine)
    assert call("models").splitlines()[-1].split(None, 1) == ["mine", "RNN of my own."]
    assert call("models mine").startswith("RNN of my own.\n\nMore.\n\nOptions:")


@pytest.mark.parametrize("name", list(models.MODELS))
def test_a_model_is_shown_with_its_formula_and_options(name, call):
    out = call(f"models {name}")
    assert re.search(r"^    .*\S (=|<-) \S|(cells|ngrams)/\w+\.py", out, re.MULTILINE)  # here, or the file that has it
    train_help = call("train --help").replace("/", " ")
    for option, default in models.options_of(name).items():
        flag, pair = f"--{option.replace('_', '-')}", f"-o {option}="
        shown = next(given for given in (flag, pair) if f"  {given}  [default: {default}]" in out)
        assert (shown == flag) == (f" {flag} " in train_help)


def test_corpora_are_listed_with_source_and_licence(call):
    report = json.loads(call("corpora --json"))
    out = call("corpora")
    assert list(report) == list(named_texts.TEXTS)
    for name, facts in report.items():
        assert f"{name}\n" in out and facts["licence"] in out and facts["source"] in out


def test_corpora_are_listed_with_the_local_file(call, tmp_path):
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "nietzsche.txt").write_text("anything")
    assert json.loads(call("corpora --json"))["nietzsche"]["found"] == "corpora/nietzsche.txt"
    assert "found:   corpora/nietzsche.txt" in call("corpora")


def test_recipes_are_listed_and_printed_as_toml(call, tmp_path):
    assert first_column(call("recipes")) == recipes.names()
    for name in recipes.names():
        (tmp_path / "printed.toml").write_text(call(f"recipes {name}"))
        assert recipes.load("printed.toml") == recipes.load(name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_on_stdout_is_one_line_and_an_exit_code():
    command = [sys.executable, "-m", "charlm", "recipes"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=Path(charlm.__file__).parents[1]
        )
    assert done.returncode == 74
    assert done.stderr.startswith("charlm: ") and done.stderr.count("\n") == 1


def test_without_a_command_the_help_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == ""
    assert err.startswith("Usage: charlm") and "Commands:" in err


def groups_of(out):
    """Return the flags of a help page by its headings."""
    groups = {}
    for line in out.splitlines():
        if re.fullmatch(r"\w+:", line):
            flags = groups.setdefault(line[:-1], [])
        elif line.startswith("  -"):
            flags += re.findall(r"--[\w-]+", line.split("  ")[1])
    return groups


def test_the_options_of_train_are_in_groups(call):
    groups = groups_of(call("train --help"))
    assert tuple(groups) == recipe.GROUPS
    for group, flag in (
        ("Text", "--corpus"),
        ("Model", "--n-hidden"),
        ("Optimiser", "--learning-rate"),
        ("Schedule", "--epochs"),
        ("Regularisation", "--dropout"),
        ("Regularisation", "--weight-decay"),
        ("Saving", "--checkpoints"),
        ("Output", "--help"),
    ):
        assert flag in groups[group]
    flags = sum(groups.values(), [])
    assert len(flags) == len(set(flags))
    named = {key.metadata.get("flag") or f"--{key.name.replace('_', '-')}" for key in fields(recipe.Recipe)}
    assert named - set(flags) == {"--options"}


def test_the_range_test_has_only_the_options_that_change_its_result(call):
    train, find = (set(sum(groups_of(call(f"{name} --help")).values(), [])) for name in ("train", "lr-find"))
    assert {"--corpus", "--batch-size", "--optimizer", "--clip", "--dropout", "--seed", "--device"} <= find & train
    assert find & {"--learning-rate", "--schedule", "--patience", "--save-steps", "--ema"} == set()
    assert find - train == {"--lowest", "--highest", "--n-steps", "--plot"}
