"""Benchmark: same text and budget, with an n-gram baseline; resumed after an interruption; other recipes refused."""

import json
import lzma
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from charlm import models
from charlm.data.corpus import make_corpus
from charlm.errors import OutputError, UsageError
from charlm.evaluation.metrics import nats_to_bits
from charlm.experiments import bench, compressors
from charlm.experiments.baselines import baselines
from charlm.storage import runs
from charlm.training import session
from charlm.training.loop import Callback

TEXT = ("the cat sat on the mat, and the dog sat on the log. " * 40).encode()
QUICK = {"corpus": ("cats",), "epochs": 1, "batch_size": 4, "bptt": 16, "device": "cpu"}


@pytest.fixture(scope="module")
def corpus():
    return make_corpus(TEXT, "cats")


def entries(*names, **changes):
    return bench.entries(names, QUICK | changes, 1500, vocab_size=18)


def run_benchmark(entries, n_seeds, corpus, folder, announce=lambda run: None):
    return list(bench.run_benchmark(entries, n_seeds, corpus, folder, announce, sample_seconds=0.01))


def test_a_benchmark_includes_the_ngram_baseline_and_each_name_once():
    assert list(entries("rnn", "gru", "rnn")) == ["ngram", "rnn", "gru"]


def test_a_recipe_keeps_its_own_options_except_for_the_common_changes():
    found = bench.entries(["nietzsche"], QUICK, None, 18)["nietzsche"]
    assert (found.options["n_hidden"], found.clip, found.epochs, found.corpus) == (512, 1.0, 1, ("cats",))


def test_the_text_of_a_recipe_is_that_of_the_benchmark_unless_another_is_given(tmp_path):
    (tmp_path / "a.toml").write_text('model = "rnn"\ncorpus = ["mine.txt"]\nlower = true\nseed = 3\n')
    (tmp_path / "b.toml").write_text('model = "gru"\ncorpus = ["other.txt"]\n')
    a, b, said = str(tmp_path / "a.toml"), str(tmp_path / "b.toml"), []
    assert bench.shared_keys(["gru", a, "quick"], {"seed": 3}, said.append) == {"seed": 3, "corpus": ["mine.txt"]}
    assert said == [f"{a}: lower True is replaced by lower False, as for all entries; an option chooses another"]
    assert bench.shared_keys([a, b], {"corpus": ["x"], "lower": True, "seed": 0}, said.append)["corpus"] == ["x"]
    assert bench.shared_keys(["gru", "nietzsche"], {}, said.append) == {"corpus": ["nietzsche"]}
    assert len(said) == 1
    (tmp_path / "c.toml").write_text('model = "gru"\nsplit = "tail20"\n')
    bench.shared_keys([str(tmp_path / "c.toml")], {"corpus": ["names"]}, said.append)
    assert "c.toml: split tail20 is replaced by split makemore, as for all entries" in said[1]
    with pytest.raises(UsageError, match=r"the recipes name different texts \(.*mine.txt.*other.txt.*\); choose one"):
        bench.shared_keys([a, b], {}, said.append)


def test_a_name_that_is_neither_model_nor_recipe_is_refused_with_a_hint():
    with pytest.raises(UsageError, match="did you mean 'gru'"):
        bench.entries(["grue"], {}, None, 18)


@pytest.mark.parametrize("name", [name for name in models.MODELS if not bench.is_ngram(name)])
def test_hidden_sizes_match_the_number_of_parameters(name):
    entry = bench.entries([name], {}, 200_000, 60)[name]
    model = models.build(name, 60, **entry.options)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(200_000, rel=0.1)


def test_a_number_of_parameters_that_is_too_small_is_refused():
    with pytest.raises(UsageError, match="raise --parameters"):
        bench.entries(["gru"], {}, 10, 60)


def test_baselines_match_their_definitions(corpus):
    uniform, unigram, xz = baselines(corpus)
    assert uniform["test_nats"] == pytest.approx(math.log(len(corpus.vocab)))
    train, test = torch.from_numpy(corpus.part("train")).long(), torch.from_numpy(corpus.part("test")).long()
    p = torch.bincount(train, minlength=len(corpus.vocab)).add(1).double()
    assert unigram["test_nats"] == pytest.approx(-(p / p.sum()).log()[test].mean().item())
    whole, head = (len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) for text in (TEXT, TEXT[: -len(test)]))
    assert xz["test_nats"] == pytest.approx((whole - head) * 8 * math.log(2) / len(test))


def test_each_installed_compressor_is_a_baseline_by_what_a_part_adds_to_its_output(corpus):
    found = {row["entry"]: row for row in baselines(corpus, compressors=compressors.installed())}
    assert list(found) == ["uniform", "unigram", *compressors.installed()]
    n_test = len(corpus.part("test"))
    for name, compress in compressors.installed().items():
        n_bits = 8 * (len(compress(TEXT)) - len(compress(TEXT[:-n_test])))
        assert found[name]["test_nats"] == pytest.approx(n_bits * math.log(2) / n_test)


@pytest.mark.parametrize("is_bytes", [False, True])
def test_a_compressor_reads_the_text_in_utf_8_and_a_character_outside_the_vocabulary_as_one_byte(is_bytes):
    text, read = "na\u00efve. \u65e5\u672c " * 40 + "\u20ac.", []
    corpus = make_corpus(text.encode(), "words", "standard", is_bytes)
    baselines(corpus, compressors={"size": lambda data: read.append(data) or data})
    assert read[2] == (text.encode() if is_bytes else text.replace("\u20ac", "\x1a").encode())


def test_without_a_test_part_baselines_are_for_validation_only():
    assert [set(row) for row in baselines(make_corpus(TEXT, "cats", "tail20"))] == [
        {"entry", "valid_nats", "valid_bits_per_byte"}
    ] * 3


def test_each_entry_is_trained_with_each_seed_but_an_ngram_model_once(corpus, tmp_path):
    rows = run_benchmark(entries("rnn", "gru"), 2, corpus, tmp_path)
    assert [(row["entry"], row["seed"]) for row in rows] == [
        *(("ngram", 0), ("rnn", 0), ("gru", 0)),
        *(("rnn", 1), ("gru", 1)),
    ]
    assert {run.name for run in runs.all_runs(tmp_path)} == {"rnn-0", "gru-0", "ngram-0", "rnn-1", "gru-1"}
    for row in rows:
        assert row["train_chars_per_second"] > 0 < row["sample_chars_per_second"]
        assert row["test_nats"] < math.log(len(corpus.vocab))


def test_the_same_benchmark_again_trains_only_missing_runs(corpus, tmp_path):
    chosen, announced = entries("rnn"), []
    first = run_benchmark(chosen, 1, corpus, tmp_path, announced.append)
    (tmp_path / "ngram-0" / "row.json").unlink()  # as if interrupted
    second = run_benchmark(chosen, 2, corpus, tmp_path, announced.append)
    lines = ["ngram-0: training 1 of 2", "rnn-0: training 2 of 2", "ngram-0: training 1 of 3", "rnn-1: training 3 of 3"]
    assert announced == lines
    assert second[1] == first[1]


class Stop(Callback):
    """Interrupt a training after its third step, as Ctrl-C does."""

    def on_batch_end(self, state):
        state.stop = signal.SIGINT if state.step == 3 else state.stop


def test_an_interrupted_run_resumes_to_the_same_result(corpus, tmp_path):
    chosen = entries("gru")
    _, whole = run_benchmark(chosen, 1, corpus, tmp_path / "whole")
    session.train(chosen["gru"], corpus, tmp_path / "stopped" / "gru-0", [Stop()])
    _, stopped = run_benchmark(chosen, 1, corpus, tmp_path / "stopped")
    assert (stopped["test_nats"], stopped["n_chars"]) == (whole["test_nats"], whole["n_chars"])


def test_a_training_that_diverges_is_a_row_and_the_others_follow(corpus, tmp_path):
    chosen, said = entries("rnn", "gru"), []
    chosen["rnn"] = chosen["rnn"].replace(optimizer="sgd", learning_rate=1e25)
    for _ in range(2):  # trained, then read
        rows = run_benchmark(chosen, 2, corpus, tmp_path, said.append)
        assert [row.get("outcome") == "diverged" for row in rows] == [False, True, False, True, False]
    assert [message for message in said if "diverged" in message or "not finite" in message] == [said[2], said[5]]
    [diverged] = [row for row in bench.summary(rows) if row["entry"] == "rnn"]
    assert diverged["n_diverged"] == 2 and "test_nats" not in diverged
    assert {pair["first"] for pair in bench.compare_pairs(rows, len(corpus.part("test")))} <= {"ngram", "gru"}


def test_a_training_whose_sample_has_no_finite_logits_has_diverged(corpus, tmp_path):
    chosen = {"gru": entries("gru")["gru"].replace(optimizer="sgd", learning_rate=1e28)}
    [row] = run_benchmark(chosen, 1, corpus, tmp_path)
    assert row["outcome"] == "diverged"


def test_a_run_with_another_recipe_or_text_is_refused(corpus, tmp_path):
    run_benchmark(entries("rnn"), 1, corpus, tmp_path)
    with pytest.raises(OutputError, match=r"another recipe \(epochs 1 and not 2\); choose another --name"):
        run_benchmark(entries("rnn", epochs=2), 1, corpus, tmp_path)
    with pytest.raises(OutputError, match="another text; choose another --name"):
        run_benchmark(entries("rnn"), 1, make_corpus(TEXT + b"!", "cats"), tmp_path)


def test_a_folder_that_is_not_a_run_is_left_unchanged(corpus, tmp_path):
    (tmp_path / "ngram-0").mkdir()
    (tmp_path / "ngram-0" / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        run_benchmark(entries("rnn"), 1, corpus, tmp_path)
    assert (tmp_path / "ngram-0" / "thesis.txt").read_text() == "precious"


def test_two_entries_cannot_have_the_same_name(tmp_path):
    (tmp_path / "rnn.toml").write_text('model = "gru"')
    with pytest.raises(UsageError, match="there is an entry 'rnn' already"):
        bench.entries(["rnn", str(tmp_path / "rnn.toml")], {}, None, 18)


def rows_of(*nats):
    return [{"entry": "gru", "model": "gru", "seed": i, "test_nats": n, "seconds": 2.0} for i, n in enumerate(nats)]


def test_a_summary_has_means_and_standard_deviations_best_first():
    other = {"entry": "xz", "test_nats": 1.5}
    best, second = bench.summary([other, *rows_of(1.0, 1.2, 1.4)])
    assert (best["entry"], best["n_seeds"], second["entry"]) == ("gru", 3, "xz")
    assert best["test_nats"] == pytest.approx(1.2)
    assert best["test_nats_spread"] == pytest.approx(0.2)
    assert "test_nats_spread" not in second


def test_options_of_an_entry_follow_a_colon_and_are_part_of_its_name():
    found = bench.entries(["lstm:n_layers=2,learning_rate=0.01", "lstm"], QUICK, None, 18)
    two = found["lstm:n_layers=2,learning_rate=0.01"]
    assert (two.options, two.learning_rate, found["lstm"].options) == ({"n_layers": 2}, 0.01, {})


@pytest.mark.parametrize(
    "name, message",
    [
        ("lstm:n_layer=2", "no option 'n_layer'; did you mean 'n_layers'"),
        ("lstm:n_layers=0", "n_layers must be at least 1"),
        ("lstm:n_hidden=64", "lstm:n_hidden=64: --parameters chooses n_hidden; leave out one of the two"),
        ("lstm:seed=3", "seed is the same for all entries"),
        ("grue:n_layers=2", "did you mean 'gru'"),
        ("lstm:n_layers=2,dropout", "lstm:n_layers=2,dropout: after the colon stand KEY=VALUE, separated by commas"),
    ],
)
def test_a_wrong_option_of_an_entry_is_refused(name, message):
    with pytest.raises(UsageError, match=message):
        entries(name)


@pytest.mark.parametrize(
    "name, message",
    [
        ("char3:feed=stream", "char3:feed=stream: model char3 has a fixed window"),
        ("rnn:init=none", "rnn:init=none: init = 'none' is not known"),
        ("gru:warmup_epochs=1", "gru:warmup_epochs=1: warm-up and hold take all 1 epochs"),
    ],
)
def test_an_entry_that_cannot_be_trained_is_refused_before_the_first_training(name, message, tmp_path):
    (tmp_path / "cats.txt").write_bytes(TEXT)
    contest, announced = bench.Contest(["gru", name], QUICK | {"corpus": [str(tmp_path / "cats.txt")]}, 1), []
    with pytest.raises(UsageError, match=message):
        bench.run_contest(contest, tmp_path / "x", announced.append)
    assert len(announced) == 1  # the plan


def test_the_plan_of_models_that_only_count_has_no_budget(tmp_path):
    (tmp_path / "cats.txt").write_bytes(TEXT)
    contest = bench.Contest(["ngram", "word-ngram"], {"corpus": [str(tmp_path / "cats.txt")]}, sample_seconds=0.01)
    announced = []
    bench.run_contest(contest, tmp_path / "x", announced.append)
    plan = f"1,664 characters of training text; ngram, word-ngram: counted once; folder {tmp_path / 'x'}"
    assert announced[0] == f"cats.txt, standard, {plan}"


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "cats.txt").write_bytes(TEXT)
    contest = bench.Contest(["rnn"], QUICK | {"corpus": [str(tmp_path / "cats.txt")]}, 1)
    with pytest.raises(OutputError, match="cats.txt: cannot be created: .*; choose another --name"):
        bench.run_contest(contest, tmp_path / "cats.txt", lambda message: None)


def test_epochs_of_the_command_replace_the_minutes_of_a_recipe(tmp_path):
    (tmp_path / "cats.txt").write_bytes(TEXT)
    (tmp_path / "timed.toml").write_text('model = "rnn"\nminutes = 5\n')
    found = []
    for i, limits in enumerate(({}, {"minutes": 9.0})):
        changes = QUICK | {"corpus": [str(tmp_path / "cats.txt")]} | limits
        contest = bench.Contest([str(tmp_path / "timed.toml")], changes, 1, 1500, sample_seconds=0.01)
        results = bench.run_contest(contest, tmp_path / str(i), lambda message: None)
        found.append((results.entries["timed"].get("minutes"), results.budget))
    assert found == [(None, "1,664 characters, 1 epoch"), (9.0, "at most 9 minutes and 1,664 characters, 1 epoch")]


def test_a_model_of_an_installed_package_takes_part(tmp_path, monkeypatch):
    (tmp_path / "their_package.py").write_text("from charlm.models import GRU\n\nclass Theirs(GRU):\n    pass\n")
    info = tmp_path / "their_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[charlm.models]\ntheir-gru = their_package:Theirs\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        found = bench.entries(["their-gru:n_layers=2"], {}, None, 18)["their-gru:n_layers=2"]
        assert (found.model, found.options) == ("their-gru", {"n_layers": 2})
    finally:
        del models.MODELS["their-gru"], sys.modules["their_package"]


@pytest.mark.parametrize(
    "line", ["bench rnn", "bench rnn --tune learning_rate=1e-3..1e-2", "lesson --steps gru --no-protocol"]
)
def test_a_terminated_study_ends_with_the_code_of_the_signal(line, tmp_path):
    (tmp_path / "cats.txt").write_bytes(TEXT)
    command = [sys.executable, "-m", "charlm", *line.split(), "--corpus", "cats.txt", "--epochs", "1000000"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as study:
        assert next((line for line in study.stderr if line.startswith("epoch 1/")), None)
        study.terminate()
        said = study.stderr.read()
    assert study.returncode == 143
    assert said.splitlines()[-1] == "charlm: terminated"


def test_the_command_prints_tables_and_writes_results_tables_and_figures(tmp_path, capsys):
    from charlm.cli import main

    (tmp_path / "cats.txt").write_bytes(TEXT)
    line = f"bench rnn --corpus {tmp_path}/cats.txt --epochs 1 --seeds 2 --parameters 1000 --checkpoints {tmp_path}"
    with pytest.raises(SystemExit) as end:
        main(line.split())
    out, err = capsys.readouterr()
    assert end.value.code == 0, err
    entry_lines, pair_lines = out.split("\n\n")
    assert {row.split()[0] for row in entry_lines.splitlines()[2:]} == {"rnn", "ngram", "xz", "unigram", "uniform"}
    assert " ± " in entry_lines
    assert pair_lines.splitlines()[0].startswith("better  worse")
    results = json.loads((tmp_path / "bench" / "results.json").read_text("utf-8"))
    rnn = next(row for row in results["summary"] if row["entry"] == "rnn")
    assert f"{nats_to_bits(rnn['test_nats']):.3f}" in (tmp_path / "bench" / "table.md").read_text("utf-8")
    assert (tmp_path / "bench" / "curves.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "bench" / "scatter.pdf").read_bytes().startswith(b"%PDF")
