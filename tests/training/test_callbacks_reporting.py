"""Loggers: JSON Lines, TensorBoard events, lines on stderr."""

import io
import json
import math
import re
import signal
import sys

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray

from charlm.data.feeds import Windows
from charlm.data.vocab import Vocab
from charlm.evaluation.metrics import EvalResult, nats_to_bits
from charlm.evaluation.protocol import TextRange
from charlm.recipe import Recipe
from charlm.recipes import to_toml
from charlm.training.callbacks import (
    JSONLinesLogger,
    MeasureGradientFlow,
    Progress,
    Samples,
    TensorBoard,
    TrainingStats,
    Validate,
    write_final_scores,
)
from charlm.training.loop import Callback, fit

VOCAB = Vocab(map(ord, " ab"))
DEFAULTS = Recipe(model="rnn")
RECIPE = DEFAULTS.replace(learning_rate=0.01, corpus="mine.txt", options={"n_hidden": 8})


def validate(*nats):
    """Return a Validate with given results, nats per character."""
    scores = iter(nats)
    return Validate(lambda: EvalResult(10 * next(scores), 10))


def test_measured_values_are_written_as_json_lines(make_run, tmp_path):
    path = tmp_path / "metrics.jsonl"
    sample = Samples(lambda: "Übermensch\n")
    for _ in range(2):  # the second training appends to the file
        fit(make_run(n_epochs=2), [TrainingStats(every=3), validate(2.5, 1.5), sample, JSONLinesLogger(path)])
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert rows[6:12] != rows[:6] and len(rows) == 12
    assert [row["step"] for row in rows[:6]] == [3, 6, 7, 9, 12, 14]
    assert [row["n_chars"] for row in rows[:6]] == [24, 48, 56, 72, 96, 112]
    assert [row["epoch"] for row in rows[:6]] == [0, 0, 1, 1, 1, 2]
    assert [row.get("valid_nats") for row in rows[:6]] == [None, None, 2.5, None, None, 1.5]
    assert [row.get("sample") for row in rows[:6]] == [None, None, "Übermensch\n"] * 2
    assert [row["seconds"] for row in rows[:6]] == sorted(row["seconds"] for row in rows[:6])
    assert all({"train_nats", "chars_per_second", "learning_rate"} <= row.keys() for row in rows)


def write_events(state, folder):
    sample = Samples(lambda: "one\ntwo")
    board = TensorBoard(folder, RECIPE, DEFAULTS, VOCAB)
    fit(state, [TrainingStats(every=2), validate(2.5, 1.5), sample, board])
    return EventAccumulator(str(folder)).Reload()


def test_tensorboard_tags_are_the_same_for_all_models_over_characters(make_run, cycle, tmp_path):
    rnn = write_events(make_run("rnn"), tmp_path / "rnn")
    char3 = write_events(make_run("char3", feed=Windows(cycle(50), 3, 8)), tmp_path / "char3")
    assert rnn.Tags() == char3.Tags()
    training = ["training/learning_rate", "training/chars_per_second", "training/gradient_norm"]
    losses = [f"{unit}_per_char/{part}" for unit in ("bits", "nats") for part in ("train", "valid")]
    assert sorted(rnn.Tags()["scalars"]) == sorted([*losses, *training])
    assert [event.value for event in rnn.Scalars("nats_per_char/valid")] == [2.5, 1.5]
    valid = rnn.Scalars("bits_per_char/valid")
    assert [(event.step, event.value) for event in valid] == [
        (56, pytest.approx(nats_to_bits(2.5))),
        (112, pytest.approx(nats_to_bits(1.5))),
    ]
    for tag in ["bits_per_char/train", *training]:
        assert [event.step for event in rnn.Scalars(tag)] == [16, 32, 48, 56, 64, 80, 96, 112]
    assert [event.step for event in rnn.Tensors("sample/text_summary")] == [56, 112]
    assert len(list((tmp_path / "rnn").glob("events*"))) == 1  # one run, not several


@pytest.mark.parametrize(("name", "has_flow"), [("gru", True), ("loop", True), ("char3", False)])
def test_gradient_flow_is_logged_for_models_with_a_state(name, has_flow, make_run, cycle, tmp_path):
    feed = Windows(cycle(57), n_context=3, batch_size=8) if name == "char3" else None
    flow = MeasureGradientFlow(TextRange(cycle(200), 0, 200))
    board = TensorBoard(tmp_path, RECIPE, DEFAULTS, VOCAB)
    fit(make_run(name, feed), [Samples(lambda: ""), flow, JSONLinesLogger(tmp_path / "a.jsonl"), board])
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]
    expected = [f"gradient_flow/lag_{lag}" for lag in (1, 4, 16, 64)] if has_flow else []
    assert [tag for tag in tags if tag.startswith("gradient_flow")] == expected


def test_the_text_of_the_recipe_begins_with_what_differs_from_the_defaults(make_run, tmp_path):
    (text,) = write_events(make_run(), tmp_path).Tensors("recipe/text_summary")[0].tensor_proto.string_val
    changed, whole = text.decode().split("\n\nThe whole recipe:\n\n")
    first, *lines = changed.splitlines()
    assert first == "Other than the defaults:"
    assert sorted(line.strip() for line in lines if line) == [
        'corpus = ["mine.txt"]',
        "learning_rate = 0.01",
        'model = "rnn"',
        "n_hidden = 8",
    ]
    assert "\n".join(line[4:] for line in whole.splitlines()) == to_toml(RECIPE).rstrip("\n")


def test_tensorboard_has_hyperparameters_and_final_bits_in_the_run_itself(make_run, tmp_path):
    for name, bits in (("first", 2.0), ("second", 1.0)):
        write_events(make_run(), tmp_path / name)
        write_final_scores(tmp_path / name, {"valid_nats": 1.0, "test_nats": bits * math.log(2), "n_chars": 112})
    events = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    assert set(events.Runs()) == {"first", "second"}
    (final,) = events.Tensors("second", "final_bits_per_char/test")
    assert make_ndarray(final.tensor_proto) == pytest.approx(1.0) and final.step == 112
    content = events.SummaryMetadata("first", "_hparams_/session_start_info").plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["model"].string_value == "rnn" and values["corpus"].string_value == "mine.txt"
    assert values["learning_rate"].number_value == 0.01 and values["options.n_hidden"].number_value == 8


def test_tensorboard_labels_the_rows_of_the_embedding(make_run, tmp_path):
    write_events(make_run(), tmp_path)
    (labels,) = tmp_path.rglob("metadata.tsv")
    assert labels.read_text("utf-8").splitlines() == ["(unknown)", "(space)", "a", "b"]
    (rows,) = tmp_path.rglob("tensors.tsv")
    assert len(rows.read_text("utf-8").splitlines()) == 4


def test_tensorboard_labels_every_byte(make_run, tmp_path):
    state = make_run()
    state.model.embed = torch.nn.Embedding(257, 4)
    fit(state, [TensorBoard(tmp_path, RECIPE, DEFAULTS, Vocab.of_bytes())])
    (labels,) = tmp_path.rglob("metadata.tsv")
    names = labels.read_text("utf-8").split("\n")[:257]
    assert "" not in names and len(set(names)) == 257


def test_tensorboard_prints_nothing_if_a_training_resumes_without_a_step(make_run, tmp_path, capsys):
    state = make_run()
    for _ in range(2):
        fit(state, [TensorBoard(tmp_path, RECIPE, DEFAULTS, VOCAB)])
    assert capsys.readouterr().out == ""


def test_an_epoch_that_a_time_limit_ends_is_reported_by_its_number(make_run, capsys):
    fit(make_run(n_epochs=math.inf, minutes=1e-9), [TrainingStats(every=3), Progress()])
    assert capsys.readouterr().err.startswith("epoch 1: train ")


def test_without_a_terminal_progress_is_one_line_per_epoch_on_stderr(make_run, capsys):
    fit(
        make_run(),
        [TrainingStats(every=3), validate(2 * math.log(2), math.log(2)), Samples(lambda: "text"), Progress()],
    )
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("epoch 1/2: train ") and "valid ~2.000 bits/char, " in first
    assert second.startswith("epoch 2/2: train ") and "valid ~1.000 bits/char, " in second


class Terminal(io.StringIO):
    """A stream that counts as a terminal."""

    def isatty(self):
        """Return True."""
        return True


def test_on_a_terminal_of_80_columns_the_bar_shows_progress_beside_time_and_losses(make_run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setattr(sys, "stderr", Terminal())
    fit(make_run(n_epochs=100), [TrainingStats(every=1), validate(*[math.log(4)] * 100), Progress()])
    frames = re.split("[\r\n]", sys.stderr.getvalue())
    bars = [frame for frame in frames if frame.startswith("training") and "valid" in frame]
    assert bars and all(len(bar) <= 80 for bar in bars)
    assert all(
        re.search(r"\|.{8,}\| \d\d:\d\d left, epoch \d+/100: train \d\.\d{3} valid ~2\.000 *$", bar) for bar in bars
    )


class Interrupt(Callback):
    """Stop the training within its second epoch, as a signal does."""

    def on_batch_end(self, state):
        """Stop after ten steps."""
        state.stop = signal.SIGINT if state.step == 10 else False


def test_an_interrupted_epoch_is_not_reported_with_the_validation_of_the_epoch_before(make_run, capsys):
    fit(make_run(n_epochs=3), [TrainingStats(every=3), validate(1.0), Interrupt(), Progress()])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("epoch 1/3: train ")
