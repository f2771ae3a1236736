"""Shell completion, as the shells ask for it."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

import charlm
from charlm import models, recipes
from charlm.cli import COMMANDS, cli
from charlm.data import named_texts
from charlm.options.splits import SPLITS


@pytest.fixture
def complete(tmp_path, monkeypatch):
    """Return a function that completes the last word of a command line in a folder with two runs."""
    monkeypatch.chdir(tmp_path)
    for folder, name in (("checkpoints", "gru"), ("checkpoints", "gru-2"), ("other", "lstm")):
        (tmp_path / folder / name).mkdir(parents=True)
        (tmp_path / folder / name / "metrics.jsonl").touch()

    def completed(line):
        *words, last = line.split(" ")
        items = ShellComplete(cli, {}, "charlm", "_CHARLM_COMPLETE").get_completions(words, last)
        return [item.value for item in items if item.type == "plain"]

    return completed


def test_commands_are_completed(complete):
    assert complete("") == list(COMMANDS)
    assert complete("le") == ["lesson"]
    assert complete("--ver") == ["--version"]


def test_options_and_their_choices_are_completed(complete):
    assert complete("train --learn") == ["--learning-rate"]
    assert complete("train --split ") == list(SPLITS)
    assert complete("lr-find --pat") == []


@pytest.mark.parametrize("line", ["train --model ", "lr-find --model ", "models "])
def test_models_are_completed(line, complete):
    assert complete(line) == list(models.MODELS)
    assert complete(f"{line}min-") == ["min-gru", "min-lstm"]


@pytest.mark.parametrize("line", ["train --recipe ", "recipes "])
def test_recipes_are_completed(line, complete):
    assert complete(line) == recipes.names()


def test_the_entries_of_a_benchmark_are_models_and_recipes(complete):
    assert complete("bench rnn ") == [*models.MODELS, *recipes.names()]


def test_texts_are_completed(complete):
    assert complete("train --corpus ") == list(named_texts.TEXTS)


@pytest.mark.parametrize("line", ["sample", "eval gru", "info", "export", "compare gru", "train --resume"])
def test_runs_are_completed_from_the_folder_of_runs(line, complete):
    assert set(complete(f"{line} ")) == {"gru", "gru-2"}
    command, *rest = line.split(" ")
    assert complete(" ".join([command, "--checkpoints other", *rest, ""])) == ["lstm"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(shell, capsys, monkeypatch):
    monkeypatch.setenv("_CHARLM_COMPLETE", f"{shell}_source")
    with pytest.raises(SystemExit) as stop:
        charlm.cli.main([])
    assert stop.value.code == 0 and "_CHARLM_COMPLETE" in capsys.readouterr().out


def test_completion_does_not_import_torch():
    code = """
import os, sys
sys.modules["torch"] = None  # importing it fails
from charlm.cli import main
os.environ |= {"_CHARLM_COMPLETE": "bash_complete", "COMP_WORDS": "charlm train --model ls", "COMP_CWORD": "3"}
main([])
"""
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, cwd=Path(charlm.__file__).parents[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [f"plain,{name}" for name in models.MODELS if name.startswith("ls")]
