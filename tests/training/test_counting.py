"""Runs of models that only count: the same files as any run, a flat line as the curve."""

import json
import shlex

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import charlm
from charlm import api
from charlm.cli import main
from charlm.errors import UsageError
from charlm.evaluation.metrics import nats_to_bits
from charlm.experiments.lr_find import find_rate
from charlm.models import MODELS
from charlm.recipe import Recipe
from charlm.storage import checkpoint

TEXT = "human-numbers:300"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run."""
    folder = tmp_path_factory.mktemp("runs") / "counted"
    api.train(TEXT, model="ngram", folder=folder, options={"order": 4})
    return folder


def test_the_curve_is_a_flat_line_over_the_training_part(run):
    first, last, end = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    n_chars = round(0.8 * len(charlm.data.generated_texts.human_numbers("300")))
    assert (first["n_chars"], last["n_chars"], end["result"]["n_chars"]) == (0, n_chars, n_chars)
    assert first["valid_nats"] == last["valid_nats"] == pytest.approx(end["result"]["valid_nats"], abs=0.2)
    assert len(last["sample"]) == 200
    events = EventAccumulator(str(run)).Reload()
    finals = [f"final_bits_per_char/{part}" for part in ("valid", "test")]
    assert sorted(events.Tags()["scalars"]) == ["bits_per_char/valid", *sorted(finals), "nats_per_char/valid"]
    codepoints = [(event.step, event.value) for event in events.Scalars("bits_per_char/valid")]
    assert codepoints == [(n, pytest.approx(nats_to_bits(first["valid_nats"]))) for n in (0, n_chars)]


def test_best_and_last_have_the_same_counts_which_are_the_parameters(run):
    best, last = (charlm.load(run / f"{name}.safetensors") for name in ("best", "last"))
    assert best.model.n_parameters == last.model.n_parameters == best.metadata.result["n_parameters"] > 0
    assert best.sample("one ", 50, seed=1) == last.sample("one ", 50, seed=1)
    assert best.bits_per_char("one hundred") < 1 < best.bits_per_char("xqz")
    assert best.metadata.counters["n_chars"] == best.metadata.result["n_chars"]


@pytest.mark.parametrize(
    "line",
    ["compare", "info counted", "eval counted", "sample counted --length 20", "export counted x.safetensors --half"],
)
def test_every_command_works_on_such_a_run(line, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([*shlex.split(line), "--checkpoints", str(run.parent)])
    out, err = capsys.readouterr()
    assert stop.value.code == 0, err
    n_parameters = checkpoint.load(run / "best.safetensors")[0].n_parameters
    assert f"parameters: {n_parameters:,}" in out or not line.startswith("info")


def test_progress_reports_the_validation(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--model", "ngram", "-o", "order=2", "--corpus", TEXT, "--checkpoints", str(tmp_path)])
    err = capsys.readouterr().err
    assert "epoch 1/1: valid " in err and " train " not in err


def test_without_a_validation_part_only_last_is_saved_with_its_training_loss(tmp_path):
    model = api.train(TEXT, model="ngram", split="all", folder=tmp_path / "x")
    assert {path.stem for path in (tmp_path / "x").glob("*.safetensors")} == {"last"}
    assert 0 < model.metadata.result["train_nats"] < 1


def test_a_window_shorter_than_the_order_limits_the_context():
    scores = [
        api.train(TEXT, model="ngram", **options).metadata.result["valid_nats"]
        for options in ({"feed": "windows", "n_context": 2}, {"feed": "windows", "n_context": 9}, {})
    ]
    assert scores[0] > scores[1] == pytest.approx(scores[2], abs=0.05)


def test_held_out_windows_and_a_learning_rate_search_are_refused():
    with pytest.raises(UsageError, match="random20 would hold out nothing"):
        api.train(TEXT, model="ngram", split="random20")
    choices = Recipe(model="ngram", corpus=(TEXT,))
    with pytest.raises(UsageError, match="has no learning rate"):
        find_rate(choices, api.read_corpus(choices))


def interrupted_once(base, method):
    """Return an architecture whose first call of a method, in training or in evaluation, ends as by Ctrl-C."""
    errors = [KeyboardInterrupt]

    def call(self, *arguments, **options):
        if errors and (method == "fit_counts" or not self.training):
            raise errors.pop()
        return getattr(base, method)(self, *arguments, **options)

    return type("Interrupted", (base,), {method: call})


@pytest.mark.parametrize("name", ["ngram", "lstm-ngram"])
def test_a_training_that_is_interrupted_while_it_counts_leaves_its_name_free(name, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "interrupted", interrupted_once(MODELS[name], "fit_counts"))
    folder = tmp_path / "runs" / "mine"
    options = {"order": 4} if name == "ngram" else {"order": 4, "n_hidden": 8}
    with pytest.raises(KeyboardInterrupt):
        api.train(TEXT, model="interrupted", folder=folder, options=options, epochs=1)
    assert not folder.exists() and folder.parent.exists()
    api.train(TEXT, model="interrupted", folder=folder, options=options, epochs=1)
    monkeypatch.setitem(MODELS, "kept", interrupted_once(MODELS[name], "forward"))
    with pytest.raises(KeyboardInterrupt):  # all is learned, and the evaluation is interrupted
        api.train(TEXT, model="kept", split="all", folder=folder.with_name("kept"), options=options, epochs=1)
    assert (folder.with_name("kept") / "last.safetensors").is_file()


def test_interrupting_the_evaluation_of_counts_prints_the_command_that_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS, "interrupted", interrupted_once(MODELS["ngram"], "forward"))
    line = f"train --corpus {TEXT} --split all --model interrupted -o order=2 --name mine"
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    message = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 130
    assert message == "charlm: interrupted; `charlm train --resume checkpoints/mine` resumes"
    with pytest.raises(SystemExit) as stop:
        main(message.split("`")[1].split()[1:])
    assert stop.value.code == 0
