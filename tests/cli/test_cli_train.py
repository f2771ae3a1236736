"""`charlm train` and its run folder; `charlm lesson` and `charlm lr-find`."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import charlm
from charlm import models, recipes
from charlm.cli import main
from charlm.data import named_texts
from charlm.data.generated_texts import human_numbers, python_docs
from charlm.experiments.lesson import protocol_recipes
from charlm.storage import checkpoint

TINY = "--n-hidden 16 --n-embed 8 --bptt 16 --batch-size 8"
TRAIN = f"train --corpus human-numbers:100 {TINY} --epochs 1"
DEFAULT = recipes.load(recipes.DEFAULT_RECIPE).model
RUNS = Path("checkpoints")


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Return a function that runs a command line in an empty folder, without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CHARLM_CORPORA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    nowhere = replace(named_texts.TEXTS["nietzsche"], source="https://localhost:1/nietzsche.txt")
    monkeypatch.setitem(named_texts.TEXTS, "nietzsche", nowhere)

    def run(line):
        with pytest.raises(SystemExit) as stop:
            main(shlex.split(line))
        out, err = capsys.readouterr()
        assert stop.value.code == 0, err
        return out, err

    return run


def test_training_prints_a_sample_on_stdout_and_leaves_a_run_folder(call):
    out, err = call(TRAIN)
    assert set(out) <= set(human_numbers("100"))
    assert 300 < len(out) < 402
    assert "epoch 1/1: train " in err and f"checkpoints/{DEFAULT}" in err
    assert "bits per character, each part read once from its start: valid " in err
    assert sum(line.startswith("epoch") for line in err.splitlines()) == 1
    run = RUNS / DEFAULT
    names = {path.name.split(".tfevents")[0] for path in run.iterdir() if path.is_file()}
    assert {"best.safetensors", "last.safetensors", "metrics.jsonl", "recipe.toml", "events.out"} <= names
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-2]["valid_nats"] > 0 and rows[-2]["n_chars"] == rows[-1]["result"]["n_chars"]
    assert rows[-1]["result"] == checkpoint.read(run / "best.safetensors")[0].result


def test_json_reports_the_run_and_its_result(call):
    report = json.loads(call(f"{TRAIN} --json --name mine")[0])
    assert report["run"] == "checkpoints/mine"
    assert report["interrupted"] is False
    assert {"n_parameters", "n_chars", "seconds", "valid_nats", "test_nats"} <= report.keys()


def test_runs_without_a_name_are_numbered(call):
    folders = [json.loads(call(f"{TRAIN} --json --model {model}")[0])["run"] for model in ("gru", "gru", "rnn", "gru")]
    assert folders == ["checkpoints/gru", "checkpoints/gru-2", "checkpoints/rnn", "checkpoints/gru-3"]


def test_the_seed_determines_the_model(call):
    runs = [json.loads(call(f"{TRAIN} --model rnn --json --seed {seed}")[0]) for seed in (1, 1, 2)]
    first, again, other = (checkpoint.read(Path(run["run"]) / "best.safetensors")[1] for run in runs)
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert not all(torch.equal(weight, other[name]) for name, weight in first.items())


def test_the_recipe_of_a_run_reproduces_it(call):
    options = "--model rnn --feed chunks --seed 7 --clip 1 --schedule cosine --optimizer adamw -o init=identity"
    first = json.loads(call(f"{TRAIN} {options} --json --name first")[0])
    again = json.loads(call("train --recipe checkpoints/first/recipe.toml --json --name again")[0])
    assert again["test_nats"] == first["test_nats"]
    assert (RUNS / "first" / "recipe.toml").read_bytes() == (RUNS / "again" / "recipe.toml").read_bytes()
    wanted = {"n_hidden": 16, "n_embed": 8, "init": "identity"}
    assert recipes.load("checkpoints/first/recipe.toml").options.items() >= wanted.items()


def test_the_recipe_in_the_folder_has_its_defaults_filled_in(call):
    call("train --recipe lesson-multi --corpus human-numbers:100 --epochs 1 --n-hidden 16 --name x")
    values = tomllib.loads((RUNS / "x" / "recipe.toml").read_text())
    assert values["corpus"] == ["human-numbers:100"]
    assert (values["feed"], values["batch_size"], values["epochs"]) == ("chunks", 512, 1)
    assert values["options"]["n_hidden"] == 16


def test_model_options_have_flags_of_their_own_or_are_given_as_key_value(call):
    call(f"{TRAIN} --model lstm --dropout 0.1 --tied -o n_layers=2 -o head_dropout=0.2 --name x")
    metadata, _ = checkpoint.read(RUNS / "x" / "best.safetensors")
    wanted = {"n_hidden": 16, "n_embed": 8, "n_layers": 2, "dropout": 0.1, "head_dropout": 0.2, "tied": True}
    assert metadata.options == models.options_of("lstm") | wanted


def test_a_limit_in_minutes_ends_the_training(call):
    report = json.loads(call(f"train --model rnn --corpus human-numbers:100 {TINY} --minutes 0.005 --json")[0])
    assert report["seconds"] >= 0.3
    assert "epochs" not in tomllib.loads((Path(report["run"]) / "recipe.toml").read_text())


def test_without_nietzsche_the_default_text_is_python_docs(call, monkeypatch):
    shorter = replace(named_texts.TEXTS["python-docs"], make=lambda argument: python_docs()[:5000])
    monkeypatch.setitem(named_texts.TEXTS, "python-docs", shorter)
    out, err = call(f"train --model rnn {TINY} --epochs 1 --json")
    first = err.splitlines()[0]
    assert first.startswith("charlm: nietzsche") and first.endswith("using python-docs instead")
    assert tomllib.loads((Path(json.loads(out)["run"]) / "recipe.toml").read_text())["corpus"] == ["python-docs"]


def test_several_texts_are_joined_from_folders_and_as_bytes(call, tmp_path):
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "texts" / name).write_bytes(b"\xff\xfeabc" * 40)
    report = json.loads(
        call(f"{TRAIN} --model rnn --corpus texts --bytes --json".replace("human-numbers:100", "texts"))[0]
    )
    metadata, _ = checkpoint.read(Path(report["run"]) / "best.safetensors")
    assert metadata.is_bytes and metadata.vocab_size == 257
    assert metadata.corpus["n_chars"] == 4 * 200 + 3
    assert metadata.corpus["name"] == "texts + texts"


def test_the_lesson_prints_published_results_and_ours(call):
    out, err = call("lesson --steps char3,multi --corpus human-numbers:300 --epochs 1 --no-protocol")
    rows = [line.split() for line in out.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("char3", "multi", "gru")] == ["char3", "multi"]
    assert "1.8450" in out and "2.0011" in out
    assert "training lesson-char3" in err
    assert {path.name for path in RUNS.iterdir()} == {"lesson-char3", "lesson-multi"}


def test_the_lesson_estimates_the_time_of_each_step_and_quick_is_marked(call):
    out, err = call("lesson --quick --steps char3,gru --corpus human-numbers:300 --epochs 1")
    assert re.search(r"^  char3 +(seconds|\d+ seconds)$", err, re.MULTILINE)
    assert err.index("in all") < err.index("training lesson-char3")
    assert "QUICK" in out and "The one protocol" not in out
    assert "gru* " in out and "char3 " in out


def test_finished_steps_of_the_lesson_are_kept_unless_recipe_or_text_differ(call):
    line = "lesson --steps {} --corpus {} --epochs {} --no-protocol --json"
    [first] = json.loads(call(line.format("char3", "human-numbers:100", 1))[0])
    out, err = call(line.format("char3,multi", "human-numbers:100", 1))
    assert json.loads(out)[0] == first
    assert "lesson-char3 is finished; its result is kept\nchar3: published" in err and "training lesson-multi\n" in err
    for text, epochs, run in [("human-numbers:100", 2, "lesson-char3-2"), ("human-numbers:99", 1, "lesson-char3-3")]:
        assert f"training {run}\n" in call(line.format("char3", text, epochs))[1]
    assert "lesson-char3-2 is finished" in call(line.format("char3", "human-numbers:100", 2))[1]
    last = RUNS / "lesson-char3-2" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    assert "training lesson-char3-4\n" in call(line.format("char3", "human-numbers:100", 2))[1]


def test_an_interrupted_step_of_the_lesson_names_the_command_that_finishes_it(call, tmp_path):
    line = [*shlex.split("-m charlm lesson --steps multi --corpus human-numbers:30 --epochs"), "40000"]
    path = os.pathsep.join([str(Path(charlm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, *line], stderr=subprocess.PIPE, env=environment, text=True) as lesson:
        next(row for row in lesson.stderr if row.startswith("epoch 1/"))
        lesson.send_signal(signal.SIGINT)
        *_, remedy, last = lesson.communicate()[1].splitlines()
    assert (lesson.returncode, last) == (130, "charlm: interrupted")
    assert remedy.startswith("`charlm train --resume checkpoints/lesson-multi` finishes this step; ")


def test_the_lesson_and_the_one_protocol_as_json(call):
    out, _ = call("lesson --steps char3 --corpus human-numbers:100 --epochs 1 --protocol --json")
    report = json.loads(out)
    assert report[0]["step"] == "char3" and report[0]["published_nats"] == 1.845 and report[0]["nats"] > 0
    assert [row["protocol"] for row in report[1:]] == [
        "ngram",
        "word-ngram",
        "char3",
        "loop",
        "concat",
        "rnn",
        "identity",
        "gru",
        "lstm",
    ]
    assert all(row["test_nats"] > 0 for row in report[1:])


def test_the_one_protocol_has_the_standard_split_also_for_a_text_with_another():
    assert {choices.split for choices in protocol_recipes({"corpus": ["enwik8"]}).values()} == {"standard"}


def test_a_learning_rate_is_found(call, tmp_path):
    find = f"lr-find --corpus human-numbers:100 {TINY} --n-steps 60"
    found = json.loads(call(f"{find} --json --plot curve.png")[0])
    assert 1e-5 < found["suggestion"] < 1
    assert found["rates"] == sorted(found["rates"]) and len(found["rates"]) == len(found["nats"]) > 20
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    out, _ = call(find)
    for key in ("suggestion", "steepest", "valley", "minimum_tenth"):
        assert f"{found[key]:.1e}" in out
    assert found["minimum_tenth"] < found["suggestion"] < 10 * found["minimum_tenth"]
    assert not RUNS.exists()


def test_the_range_test_clips_gradients_as_training_does(call):
    find = f"lr-find --model rnn --corpus human-numbers:100 {TINY} --n-steps 60 --json"
    free, clipped = (json.loads(call(f"{find} --clip {clip}")[0])["nats"] for clip in ("1e9", "1e-30"))
    assert clipped[-1] > free[-1] + 0.05


@pytest.mark.parametrize(("name", "folder"), [("a b", "checkpoints"), ("-x", "checkpoints"), ("x", "sub")])
def test_the_next_command_works_as_printed(call, name, folder):
    _, err = call(f"{TRAIN} --model rnn --no-samples --name={shlex.quote(name)} --checkpoints {folder}")
    sample, compare, board = err.splitlines()[-3:]
    assert call(f"{sample.removeprefix('charlm ')} --length 5")[0]
    assert name in call(compare.removeprefix("charlm "))[0]
    assert board == f"tensorboard --logdir {folder}"


def test_a_header_of_80_columns_comes_before_any_work(call):
    _, err = call(f"{TRAIN} --model gru --device cpu --name x")
    head = err.split("\n\n")[0].splitlines()
    assert max(map(len, head)) < 80
    rows = {line[:12].strip(): line[12:] for line in head}
    assert rows["model"] == "gru: GRU (Cho et al. 2014): reset and update gates."
    assert rows["text"] == "human-numbers:100" and rows["folder"] == "checkpoints/x"
    assert rows["characters"] == "830 train, 103 valid, 104 test"
    assert rows["parameters"].replace(",", "").isdigit() and rows["device"] == "cpu, 1 thread"
    assert rows["training"] == "1 epoch of 7 steps of 8 x 16 characters"


def test_below_the_size_where_a_network_helps_the_default_counts_and_says_so(call, tmp_path):
    (tmp_path / "short.txt").write_text(human_numbers("100")[:150])
    _, err = call("train --corpus short.txt --name x")
    assert "word-ngram" in err and "too few characters to train a network: n-gram counts" in err
    assert checkpoint.read(RUNS / "x" / "best.safetensors")[0].model == "word-ngram"


def test_a_small_text_gets_enough_steps_and_the_best_epoch_is_named(call):
    out, err = call("train --corpus human-numbers:50 --name x")
    result = checkpoint.read(RUNS / "x" / "best.safetensors")[0].result
    assert 0 <= result["best_epoch"] <= result["last_epoch"] and result["outcome"] in (
        "overfitted",
        "improving",
        "converged",
    )
    assert f"best epoch: {result['best_epoch']} of {result['last_epoch']}" in err or "untrained model was better" in err
    assert "early stopping" in err and "too few to learn" in err
    assert err.count(out.strip()[:40]) == 0  # the sample is printed once


def test_a_signal_ends_a_training_in_order(tmp_path):
    source = str(Path(charlm.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    line = f"train --model rnn --corpus human-numbers:100 {TINY} --epochs 1000000"
    trainings = {
        number: subprocess.Popen(
            [sys.executable, "-m", "charlm", *shlex.split(line), "--name", number.name],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        for number, training in trainings.items():
            next(line for line in training.stderr if line.startswith("epoch 1/"))
            training.send_signal(number)
            out, err = training.communicate()
            run = f"checkpoints/{number.name}"
            assert training.returncode == 128 + number
            assert out == ""
            assert err.splitlines()[-1] == f"charlm: interrupted; `charlm train --resume {run}` resumes"
            assert "Traceback" not in err
            model = charlm.load(tmp_path / run / "last.safetensors")
            assert model.metadata.counters["step"] > 0
            assert len(model.sample(length=10)) == 10
    finally:
        for training in trainings.values():
            training.kill()


def test_a_text_can_come_from_standard_input(call, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(human_numbers("100").encode())))
    report = json.loads(call(f"{TRAIN} --json".replace("human-numbers:100", "-"))[0])
    metadata, _ = checkpoint.read(Path(report["run"]) / "best.safetensors")
    assert metadata.corpus["n_chars"] == len(human_numbers("100"))
