"""Resuming is bit-exact: the final weights of a stopped training are those of an uninterrupted one."""

import json
import os
import signal

import pytest
import torch

from charlm.data.corpus import make_corpus
from charlm.data.feeds import Chunks, Stream, Windows
from charlm.errors import CheckpointError, DataError
from charlm.models import MODELS, build, options_of
from charlm.recipe import Recipe
from charlm.storage import checkpoint, weights
from charlm.training import callbacks, session
from charlm.training.loop import Callback, TrainState, fit
from charlm.training.resume import restore, snapshot

TEXT = ("the cat sat on the mat, and the dog sat on the log. " * 30).encode()
FEEDS = {
    "stream": lambda ids: Stream(ids, bptt=4, batch_size=3),
    "chunks": lambda ids: Chunks(ids, bptt=4, batch_size=4, seed=1),
    "windows": lambda ids: Windows(ids, n_context=3, batch_size=8, seed=1),
}
TRAININGS = [  # model, feed, options
    ("lstm", "stream", {"n_layers": 2, "dropout": 0.3}),
    ("awd-lstm", "stream", {}),
    ("gru", "chunks", {"head_dropout": 0.2}),
    ("char3", "windows", {}),
    ("mamba2", "stream", {"dropout": 0.2}),
    ("transformer", "stream", {"window_size": 6, "dropout": 0.1}),
]


class After(Callback):
    """Call a function after every step."""

    def __init__(self, do):
        self.do = do

    def on_batch_end(self, state):
        self.do(state)


def weights_of(state):
    return {name: weight.detach().clone() for name, weight in weights.weights_of(state.model).items()}


def make(cycle, name="awd-lstm", feed="stream", n_epochs=5, **options):
    """Return a training of 5 x 10 steps (windows: 5 x 16) with every callback that has state."""
    torch.manual_seed(0)
    model = build(name, 4, **{"n_embed": 4} | ({} if name == "transformer" else {"n_hidden": 6}) | options)
    optimizer = torch.optim.Adam(model.parameters(), 0.02, fused=True)
    state = TrainState(model, FEEDS[feed](cycle(124)), optimizer, n_epochs)
    schedule = callbacks.Schedule(0.02, lambda done: 1 - done / 2, lambda done: 0.95 - 0.1 * done)
    average = callbacks.EMA(0.8)
    return state, [schedule, callbacks.ClipGradient(1.0), average, callbacks.TrainingStats(3), callbacks.EarlyStop(9)]


def whole_training(cycle, *arguments, **options):
    """Return the final weights of an uninterrupted training, and a snapshot after every step."""
    state, listed = make(cycle, *arguments, **options)
    stored = []
    fit(state, [*listed, After(lambda state: stored.append((weights_of(state), snapshot(state, listed))))])
    return weights_of(state), stored


def resumed(cycle, stored, *arguments, change=lambda tree: tree, **options):
    """Return the final weights of a new training that resumes from a snapshot."""
    state, listed = make(cycle, *arguments, **options)
    learned, (packed, tensors) = stored
    torch.manual_seed(99)
    weights.set_weights(state.model, learned)
    restore(state, listed, change(json.loads(json.dumps(packed))), tensors)
    fit(state, listed)
    return weights_of(state)


@pytest.mark.parametrize(("name", "feed", "options"), TRAININGS, ids=[name for name, _, _ in TRAININGS])
def test_resumed_from_any_step_the_final_weights_are_bit_identical(cycle, name, feed, options):
    final, stored = whole_training(cycle, name, feed, **options)
    assert len(stored) >= 40
    for after_step in stored if name in ("lstm", "awd-lstm") else stored[::6]:
        torch.testing.assert_close(resumed(cycle, after_step, name, feed, **options), final, rtol=0, atol=0)


ALL = [name for name, architecture in MODELS.items() if architecture.uses_gradients]


@pytest.mark.parametrize("name", ALL)
def test_every_architecture_resumes_bit_exactly(cycle, name):
    feed = "windows" if MODELS[name].n_context else "stream"
    known = options_of(name)
    dropping = {key: 0.2 for key in ("dropout", "head_dropout") if key in known}
    final, stored = whole_training(cycle, name, feed, n_epochs=2, **dropping)
    for after_step in (stored[3], stored[9], stored[-6]):
        weights_now = resumed(cycle, after_step, name, feed, n_epochs=2, **dropping)
        torch.testing.assert_close(weights_now, final, rtol=0, atol=0)


def without(part):
    """Return a function that resets one part of a snapshot."""
    fresh = {
        "hidden": lambda value: [None],
        "optimizer": lambda value: {"dict": [[k, {"dict": []} if k == "state" else v] for k, v in value["dict"]]},
        "generators": lambda value: [{"dict": [["cpu", {"tensor": "fresh"}]]}],
    }

    def change(tree):
        content = dict(tree["dict"])
        if part in ("average", "_raw", "n_steps"):
            for name, values in content["callbacks"]:
                if name == "EMA":
                    values["dict"] = [
                        [key, 0 if key == "n_steps" else []] if key == part else [key, v] for key, v in values["dict"]
                    ]
        elif part in fresh:
            content[part] = fresh[part](content[part])
        else:
            counters = content["counters"]["dict"]
            content["counters"]["dict"] = [[key, 0 if key == part else value] for key, value in counters]
        return {"dict": [[key, value] for key, value in content.items()]}

    return change


@pytest.mark.parametrize("part", ["hidden", "optimizer", "generators", "epoch", "step_in_epoch", "average", "n_steps"])
def test_leaving_out_any_part_changes_the_final_weights(cycle, part):
    final, stored = whole_training(cycle)
    learned, (packed, tensors) = stored[16]  # in the middle of an epoch
    tensors = tensors | {"fresh": torch.Generator().manual_seed(5).get_state()}
    replace = resumed(cycle, (learned, (packed, tensors)), change=without(part))
    assert any(not torch.equal(replace[name], final[name]) for name in final)
    torch.testing.assert_close(resumed(cycle, stored[16]), final, rtol=0, atol=0)  # with every part it is the same


class Stop(Callback):
    """Stop a training after a step: as Ctrl-C does, or by an error."""

    def __init__(self, step, in_order):
        self.step, self.in_order = step, in_order

    def on_batch_end(self, state):
        if state.step == self.step:
            if not self.in_order:
                raise KeyboardInterrupt
            state.stop = signal.SIGINT


@pytest.fixture(scope="module")
def corpus():
    return make_corpus(TEXT, "cats")


def recipe(**changes):
    options = {"n_hidden": 12, "n_embed": 6}
    common = {"model": "awd-lstm", "epochs": 3, "batch_size": 8, "bptt": 16, "patience": 5, "device": "cpu"}
    return Recipe().replace(**common | {"ema": 0.9, "options": options} | changes)


def stored_of(folder):
    metadata, tensors = checkpoint.read(folder / "last.safetensors")
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    known = {"step", "n_chars", "valid_nats", "sample"}
    rows = [{key: row[key] for key in sorted(known & row.keys())} for row in map(json.loads, lines) if "step" in row]
    return tensors, rows, {key: metadata.counters[key] for key in ("epoch", "step", "n_chars")}


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    model = session.train(recipe(), corpus, folder)
    return folder, model, model.metadata.counters["step"]


@pytest.mark.parametrize("in_order", [True, False], ids=["by a signal", "by an error"])
@pytest.mark.parametrize("share", [0.1, 1 / 3, 0.5, 0.9])
def test_a_stopped_run_resumes_to_the_same_weights_best_and_metrics(corpus, whole, tmp_path, share, in_order):
    folder, step = tmp_path / "run", round(share * whole[2])  # a third of three epochs is the last step of the first
    try:
        session.train(recipe(), corpus, folder, [Stop(step, in_order)])
    except KeyboardInterrupt:
        assert not in_order
    differs = []
    model = session.train(recipe(), corpus, folder, resume=differs.extend)
    assert differs == []
    tensors, rows, counters = stored_of(folder)
    expected_tensors, expected_rows, expected_counters = stored_of(whole[0])
    torch.testing.assert_close(tensors, expected_tensors, rtol=0, atol=0)
    assert counters == expected_counters
    assert [row for row in rows if "valid_nats" in row] == [row for row in expected_rows if "valid_nats" in row]
    torch.testing.assert_close(model.model.state_dict(), whole[1].model.state_dict(), rtol=0, atol=0)
    assert model.metadata.result["test_nats"] == whole[1].metadata.result["test_nats"]


def test_a_run_interrupted_while_validating_resumes_to_the_same_weights_and_metrics(corpus, whole, tmp_path):
    """The signal comes during the second validation; the best epoch so far is the first one."""

    class Interrupt(Callback):
        def on_fit_start(self, state):
            state.model.register_forward_pre_hook(self.look)
            self.state = state

        def look(self, model, inputs):
            if not model.training and self.state.epoch == 2 and not self.state.interrupted:
                os.kill(os.getpid(), signal.SIGTERM)

    stopped = session.train(recipe(), corpus, tmp_path / "run", [Interrupt()])
    assert stopped.metadata.result["signal"] == signal.SIGTERM and stopped.metadata.counters["epoch"] == 1
    model = session.train(recipe(), corpus, tmp_path / "run", resume=lambda differs: None)
    tensors, rows, counters = stored_of(tmp_path / "run")
    expected_tensors, expected_rows, expected_counters = stored_of(whole[0])
    torch.testing.assert_close(tensors, expected_tensors, rtol=0, atol=0)
    assert counters == expected_counters
    assert [row for row in rows if "valid_nats" in row] == [row for row in expected_rows if "valid_nats" in row]
    torch.testing.assert_close(model.model.state_dict(), whole[1].model.state_dict(), rtol=0, atol=0)


def test_save_steps_limits_the_steps_that_a_killed_run_loses(corpus, tmp_path):
    steps = []

    def look(state):
        file = tmp_path / "run" / "last.safetensors"
        steps.append(checkpoint.read(file)[0].counters["step"] if file.exists() else None)

    session.train(recipe(epochs=1, save_steps=2), corpus, tmp_path / "run", [After(look)])
    assert steps[:6] == [None, 2, 2, 4, 4, 6]


def test_another_number_of_threads_is_reported(corpus, tmp_path):
    session.train(recipe(), corpus, tmp_path / "run", [Stop(5, in_order=True)])
    differs = []
    torch.set_num_threads(2)
    try:
        session.train(recipe(), corpus, tmp_path / "run", resume=differs.extend)
    finally:
        torch.set_num_threads(1)
    assert differs == ["threads: 1 then, 2 now; results may differ by rounding"]


def test_a_text_that_has_changed_is_refused(corpus, tmp_path):
    session.train(recipe(), corpus, tmp_path / "run", [Stop(5, in_order=True)])
    with pytest.raises(DataError, match="changed since"):
        session.train(recipe(), make_corpus(TEXT + b"!", "cats"), tmp_path / "run", resume=print)


def test_a_checkpoint_without_training_state_is_refused(corpus, tmp_path):
    session.train(recipe(), corpus, tmp_path / "run", [Stop(5, in_order=True)])
    file = tmp_path / "run" / "last.safetensors"
    model, metadata = checkpoint.load(file)
    checkpoint.save(file, model, metadata)
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        session.train(recipe(), corpus, tmp_path / "run", resume=print)


def test_an_average_of_the_weights_in_another_precision_is_refused(cycle):
    state, calls = make(cycle, n_epochs=1)
    fit(state, calls)
    calls[2].average = [weight.half() for weight in calls[2].average]
    with pytest.raises(ValueError, match="average is"):
        restore(*make(cycle), *snapshot(state, calls))


def test_the_command_resumes_and_refuses_finished_runs_and_other_options(whole, tmp_path, capsys):
    from charlm.cli import main

    (tmp_path / "cats.txt").write_bytes(TEXT)
    mine = recipe(corpus=(str(tmp_path / "cats.txt"),))
    session.train(mine, make_corpus(TEXT, "cats"), tmp_path / "run", [Stop(12, in_order=True)])

    def call(line):
        with pytest.raises(SystemExit) as end:
            main([*line.split(), "--checkpoints", str(tmp_path)])
        return end.value.code, capsys.readouterr().err.splitlines()[-1]

    assert call("train --resume run --epochs 4") == (
        2,
        "charlm: --resume uses the run's own recipe; leave out the other options; see `charlm train --help`",
    )
    assert call("train --resume run")[0] == 0
    torch.testing.assert_close(stored_of(tmp_path / "run")[0], stored_of(whole[0])[0], rtol=0, atol=0)
    assert call("train --resume run") == (
        2,
        f"charlm: {tmp_path / 'run'}: is finished; there is nothing to resume",
    )
    assert call("train --resume runn")[0] == 66
