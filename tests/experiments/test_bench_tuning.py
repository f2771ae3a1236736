"""Tuning: same trials for each model, on validation text, resumed after a kill to the same table."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from charlm.data.corpus import make_corpus
from charlm.errors import CharlmError, OutputError, UsageError
from charlm.evaluation.metrics import EvalResult
from charlm.experiments.bench import Contest, Results, Tuning, parse_space, run_contest, tune
from charlm.experiments.bench.entry import entries
from charlm.experiments.bench.search import N_SOBOL, Search, Trial, has_optuna
from charlm.experiments.bench.space import Dimension, check_space, dimensions_of, with_values
from charlm.experiments.bench.tuning import TRIALS, Watch, read_trials
from charlm.recipe import Recipe
from charlm.training.callbacks import Validate
from charlm.training.loop import fit

TEXT = ("the cat sat on the mat, and the dog sat on the log. " * 40).encode()
QUICK = {"epochs": 1, "batch_size": 4, "bptt": 16, "device": "cpu"}
RATES = Dimension("learning_rate", 1e-4, 1e-1)
METHODS = [pytest.param(True, marks=pytest.mark.skipif(not has_optuna(), reason="optuna is not installed")), False]


@pytest.fixture(scope="module")
def corpus():
    return make_corpus(TEXT, "cats")


@pytest.fixture
def rnn(corpus):
    return entries(["rnn"], QUICK, 1500, len(corpus.vocab))["rnn"]


def test_the_space_is_parsed_and_wide_positive_ranges_are_logarithmic():
    rate, dropout = parse_space("learning-rate=1e-3..3e-2, dropout=0..0.5")
    assert (rate, rate.is_log) == (Dimension("learning_rate", 1e-3, 3e-2), True)
    assert (dropout, dropout.is_log) == (Dimension("dropout", 0.0, 0.5), False)
    assert rate.at(0.5) == pytest.approx((1e-3 * 3e-2) ** 0.5, rel=1e-3)


@pytest.mark.parametrize(
    "text, message",
    [
        ("learning_rate", "must be NAME=LOW..HIGH"),
        ("learning_rate=1..a", "must be NAME=LOW..HIGH"),
        ("learning_rate=2..1", "LOW is not below HIGH"),
        ("learning_rate=0..1", "learning_rate must be above 0"),
        ("bptt=1..inf", "bptt must be an integer, got inf"),
        ("clip=1..2,clip=1..2", "is given twice"),
        ("seed=1..2", "seed: is the same for all trials"),
        ("schedule=1..2", "schedule: is the same for all trials"),
    ],
)
def test_a_wrong_space_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_space(text)


@pytest.mark.parametrize(
    "space, message",
    [
        ("dropouts=0..0.5", "none of the models has this option; did you mean"),
        ("dropout=0..2", "dropout must be"),
        ("dropout=0..0.5", "the models have one layer; take head_dropout"),
        ("n_hidden=16..64", "n_hidden: --parameters chooses it"),
        ("order=2..9", "none of the models has this option"),  # the n-gram baseline has, which only counts
    ],
)
def test_a_space_that_no_model_has_is_refused_before_the_text_is_read(space, message, tmp_path):
    contest = Contest(["rnn"], {"corpus": ["nothere.txt"]}, n_parameters=1500, tuning=Tuning(parse_space(space)))
    with pytest.raises(UsageError, match=message):
        run_contest(contest, tmp_path, print)


def test_an_option_in_the_name_of_an_entry_is_not_tuned(tmp_path):
    contest = Contest(["rnn", "rnn:learning_rate=0.01"], {"corpus": ["nothere.txt"]}, tuning=Tuning([RATES]))
    with pytest.raises(UsageError, match="rnn:learning_rate=0.01: --tune chooses learning_rate; leave out one"):
        run_contest(contest, tmp_path, print)


def test_differences_from_the_protocol_are_announced_before_the_training(tmp_path):
    (tmp_path / "cats.txt").write_bytes(TEXT)
    changes, said = QUICK | {"corpus": [str(tmp_path / "cats.txt")], "split": "tail20"}, []
    tuning = Tuning([RATES], 1, by_optuna=False)
    contest = Contest(["rnn"], changes, 1, 1500, n_chars=800, tuning=tuning, sample_seconds=0.01)
    run_contest(contest, tmp_path / "x", said.append)
    assert said[0] == "split tail20 has no test part: models are tuned and compared on the same text"
    assert said[1] == "--chars 800 is less than one epoch; each training has one epoch, 1,664 characters"


def test_a_tuning_without_a_network_or_a_validation_part_is_refused(tmp_path):
    (tmp_path / "cats.txt").write_bytes(TEXT)
    changes = {"corpus": [str(tmp_path / "cats.txt")], "split": "80/0/20"}
    for name, message in (
        ("word-ngram", "the models only count"),
        ("rnn", "80/0/20 has no validation part to tune on"),
    ):
        with pytest.raises(UsageError, match=message):
            run_contest(Contest([name], changes, tuning=Tuning([RATES])), tmp_path / "x", print)


def test_dropout_between_layers_is_not_tuned_where_there_is_one_layer():
    space = parse_space("dropout=0..0.5,head_dropout=0..0.5")
    names = [
        [each.name for each in dimensions_of(Recipe(model=model, options=options), space)]
        for model, options in (("gru", {}), ("gru", {"n_layers": 2}), ("transformer", {}))
    ]
    assert names == [["head_dropout"], ["dropout", "head_dropout"], ["dropout"]]


def test_dropout_is_tuned_together_with_the_number_of_layers():
    space = parse_space("n_layers=1..2,dropout=0..0.5")
    assert [each.name for each in dimensions_of(Recipe(model="gru"), space)] == ["n_layers", "dropout"]
    check_space(space, [Recipe(model="gru")], None)


def test_values_go_to_the_recipe_or_to_the_model_and_integers_are_rounded():
    found = with_values(Recipe(model="lstm"), {"learning_rate": 0.01, "bptt": 40.4, "n_layers": 1.7, "dropout": 0.25})
    assert (found.learning_rate, found.bptt) == (0.01, 40)
    assert found.options == {"n_layers": 2, "dropout": 0.25}


def test_the_chosen_values_are_those_of_the_trainings(tmp_path):
    (tmp_path / "cats.txt").write_bytes(TEXT)
    changes = QUICK | {"corpus": [str(tmp_path / "cats.txt")]}
    contest = Contest(["rnn"], changes, 1, 1500, chosen={"rnn": {"bptt": 20.4}}, sample_seconds=0.01)
    results = run_contest(contest, tmp_path / "x", print)
    assert results.chosen["rnn"]["bptt"] == results.entries["rnn"]["bptt"] == 20


@pytest.mark.parametrize("by_optuna", METHODS)
def test_a_proposal_depends_on_the_earlier_trials_and_on_nothing_else(by_optuna):
    space = [RATES, Dimension("dropout", 0.0, 0.5)]

    def search(n_killed):
        trials = []
        for number in range(N_SOBOL + 4):
            for _ in range(n_killed):  # a killed process proposed the same values
                Search(space, {"learning_rate": 0.005}, 0, by_optuna).propose(trials)
            values, _ = Search(space, {"learning_rate": 0.005}, 0, by_optuna).propose(trials)
            nats = abs(values["learning_rate"] - 0.02) + values["dropout"]
            trials.append(Trial(values, nats, number == 2, [(100, nats)]))
        return trials

    trials = search(0)
    assert search(2) == trials
    assert trials[0].values["learning_rate"] == 0.005
    assert len({tuple(trial.values.values()) for trial in trials}) == len(trials)
    assert all(each.low <= trial.values[each.name] <= each.high for trial in trials for each in space)


def test_a_trial_far_above_the_median_is_ended():
    pytest.importorskip("optuna")
    earlier = [Trial({"learning_rate": 0.01 * k}, 1.0, False, [(100, 1.5), (200, 1.0)]) for k in (1, 2, 3)]
    ends = []
    for nats in (1.4, 1.6):
        _, pruner = Search([RATES], {}, 0, True).propose(earlier)
        pruner.report(100, nats)
        ends.append(pruner.should_end)
    assert ends == [False, True]


def test_a_trial_that_is_ended_within_an_epoch_has_one_loss_at_a_number_of_characters(make_run):
    pytest.importorskip("optuna")
    earlier = [Trial({"learning_rate": 0.01 * k}, 1.0, False, [(24, 1.0), (48, 1.0)]) for k in (1, 2, 3)]
    _, pruner = Search([RATES], {}, 0, True).propose(earlier)
    watch = Watch(pruner)
    fit(make_run(n_epochs=1), [Validate(lambda: EvalResult(50.0, 10), every=3), watch])
    assert watch.is_pruned and pruner.reports == [(24, 5.0)]


@pytest.mark.parametrize("by_optuna", METHODS)
def test_the_best_values_on_validation_text_are_chosen_and_trials_are_reused(rnn, corpus, tmp_path, by_optuna):
    tuning, announced = Tuning([RATES, Dimension("window_size", 1, 9)], 5, by_optuna=by_optuna), []
    chosen = tune("rnn", rnn, tuning, corpus, tmp_path, announce=announced.append)
    rows = read_trials(tmp_path)
    best = min((row for row in rows if not row["is_pruned"]), key=lambda row: row["valid_nats"])
    assert chosen == best["values"]
    assert list(chosen) == ["learning_rate"]  # an RNN has no window
    assert [row["trial"] for row in rows] == [0, 1, 2, 3, 4] and len(announced) == 5
    with (tmp_path / TRIALS).open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 20)  # killed while the last trial was written
    assert tune("rnn", rnn, tuning, corpus, tmp_path, announce=announced.append) == chosen
    assert len(announced) == 6
    assert [row["valid_nats"] for row in read_trials(tmp_path)] == [row["valid_nats"] for row in rows]


def test_short_trials_are_followed_by_the_best_one_and_the_default_with_the_whole_budget(rnn, corpus, tmp_path):
    tuning, announced = Tuning([RATES], 3, epochs=1, by_optuna=False), []
    chosen = tune("rnn", rnn.replace(epochs=3), tuning, corpus, tmp_path, announce=announced.append)
    rows = read_trials(tmp_path)
    best = min(rows[:3], key=lambda row: row["valid_nats"])
    assert best["trial"] > 0  # else there is nothing to compare
    assert [(row["trial"], row["is_final"]) for row in rows[3:]] == [(0, True), (best["trial"], True)]
    assert [row["reports"][-1][0] / rows[0]["reports"][-1][0] for row in rows[3:]] == [3, 3]
    assert chosen == min(rows[3:], key=lambda row: row["valid_nats"])["values"]
    with (tmp_path / TRIALS).open("r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 20)  # killed while the last trial was written
    assert tune("rnn", rnn.replace(epochs=3), tuning, corpus, tmp_path, announce=announced.append) == chosen
    assert len(announced) == 6 and "whole budget" in announced[-1]
    assert [row["valid_nats"] for row in read_trials(tmp_path)] == [row["valid_nats"] for row in rows]
    assert "3 trials of 1 epoch, the best one and the default values once more" in tuning.description


def test_trials_with_the_budget_of_the_entry_are_not_repeated(rnn, corpus, tmp_path):
    tune("rnn", rnn, Tuning([RATES], 3, epochs=1, by_optuna=False), corpus, tmp_path)
    losses = [row["valid_nats"] for row in read_trials(tmp_path)]
    assert len(losses) == 3 and losses.index(min(losses)) > 0


def test_a_trial_with_a_time_limit_keeps_the_form_of_a_schedule_in_epochs(rnn, corpus, tmp_path):
    tuning, entry = Tuning([RATES], 2, minutes=0.002, by_optuna=False), rnn.replace(epochs=4, warmup_epochs=1)
    assert (tuning.trial_entry(rnn).epochs, tuning.trial_entry(entry).epochs) == (None, 4)
    tune("rnn", entry, tuning, corpus, tmp_path)
    short = [row for row in read_trials(tmp_path) if not row["is_final"]]
    assert [row["valid_nats"] > 0 for row in short] == [True, True]


def test_a_warm_up_that_may_be_longer_than_a_training_is_refused_before_the_tuning(tmp_path):
    (tmp_path / "cats.txt").write_bytes(TEXT)
    changes = QUICK | {"corpus": [str(tmp_path / "cats.txt")], "epochs": 2}
    contest = Contest(["rnn"], changes, 1, 1500, tuning=Tuning(parse_space("warmup_epochs=0..2"), 2, by_optuna=False))
    with pytest.raises(UsageError, match="rnn, trials: warm-up and hold take all 2 epochs"):
        run_contest(contest, tmp_path / "x", lambda message: None)


def test_a_damaged_trial_is_run_again_with_its_values(rnn, corpus, tmp_path):
    tuning, announced = Tuning([RATES], 3, by_optuna=False), []
    chosen = tune("rnn", rnn, tuning, corpus, tmp_path)
    rows = read_trials(tmp_path)
    lines = (tmp_path / TRIALS).read_text("utf-8").splitlines()
    (tmp_path / TRIALS).write_text("\n".join([lines[0], lines[1][:-20], lines[2], ""]))
    assert tune("rnn", rnn, tuning, corpus, tmp_path, announce=announced.append) == chosen
    assert len(announced) == 1 and read_trials(tmp_path)[-1]["values"] == rows[1]["values"]


def test_a_final_trial_that_diverges_is_not_chosen_and_two_are_an_error(rnn, corpus, tmp_path):
    tuning = Tuning([RATES], 3, epochs=1, by_optuna=False)
    chosen = tune("rnn", rnn.replace(epochs=2), tuning, corpus, tmp_path)
    *short, default, best = read_trials(tmp_path)
    assert chosen == best["values"]
    for diverged in ([best], [default, best]):
        for row in diverged:
            row["valid_nats"] = None
        (tmp_path / TRIALS).write_text("".join(json.dumps(row) + "\n" for row in [*short, default, best]))
        if len(diverged) == 1:
            assert tune("rnn", rnn.replace(epochs=2), tuning, corpus, tmp_path) == default["values"]
    with pytest.raises(CharlmError, match="rnn, whole budget: all 2 trials diverged"):
        tune("rnn", rnn.replace(epochs=2), tuning, corpus, tmp_path)


def test_the_tuning_does_not_depend_on_the_test_part(rnn, corpus, tmp_path):
    first, _ = corpus.bounds["test"]
    other = corpus.ids.copy()
    other[first:] = 1
    tuning = Tuning([RATES], 2, by_optuna=False)
    chosen = [
        tune("rnn", rnn, tuning, each, tmp_path / str(i)) for i, each in enumerate([corpus, replace(corpus, ids=other)])
    ]
    found = [[(row["values"], row["reports"]) for row in read_trials(tmp_path / str(i))] for i in range(2)]
    assert chosen[0] == chosen[1] and found[0] == found[1]


def test_trials_of_another_search_are_refused(rnn, corpus, tmp_path):
    tune("rnn", rnn, Tuning([RATES], 1, by_optuna=False), corpus, tmp_path)
    with pytest.raises(OutputError, match="was tuned with other options; choose another --name"):
        tune("rnn", rnn, Tuning([RATES], 1, epochs=2, by_optuna=False), corpus, tmp_path)


def test_a_search_whose_trials_all_diverge_is_an_error(rnn, corpus, tmp_path):
    wild = Tuning([Dimension("learning_rate", 1e25, 1e28)], 2, by_optuna=False)
    with pytest.raises(CharlmError, match="all 2 trials diverged; lower the range"):
        tune("rnn", rnn.replace(optimizer="sgd"), wild, corpus, tmp_path)


def test_a_contest_killed_at_random_and_started_again_ends_with_the_same_table(tmp_path):
    """Processes are killed a random time after a random message, until one ends by itself."""
    (tmp_path / "cats.txt").write_bytes(TEXT)
    script = tmp_path / "contest.py"
    script.write_text(
        "import sys, pathlib, torch\n"
        "from functools import partial\n"
        "from charlm.experiments.bench import Contest, Tuning, parse_space, run_contest\n"
        "torch.set_num_threads(1)\n"
        "tuning = Tuning(parse_space('learning_rate=1e-4..1e-1'), 6)\n"
        f"changes = {QUICK} | {{'corpus': ['cats.txt']}}\n"
        "contest = Contest(['rnn', 'gru'], changes, 2, 1500, tuning=tuning, sample_seconds=0.01)\n"
        "run_contest(contest, pathlib.Path(sys.argv[1]), partial(print, flush=True))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    draw = random.Random(0)

    def run(folder, n_messages=None):
        """Run the contest, to its end or for a number of messages; return how it ended."""
        command = [sys.executable, str(script), folder]
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            for _ in islice(process.stdout, n_messages):
                pass
            if n_messages is not None:
                time.sleep(draw.uniform(0, 0.1))
                process.kill()
        return process.returncode

    assert run("whole") == 0
    assert [run("killed", draw.randint(2, 8)) for _ in range(2)] == [-signal.SIGKILL] * 2
    assert run("killed") == 0
    whole, killed = (Results.load(tmp_path / name) for name in ("whole", "killed"))
    measured = {"seconds", "train_chars_per_second", "sample_chars_per_second", "peak_bytes", "curve"}
    assert killed.chosen == whole.chosen
    for name in ("trials", "rows"):
        found, expected = (
            [{k: v for k, v in row.items() if k not in measured} for row in getattr(results, name)]
            for results in (killed, whole)
        )
        assert found == expected
    assert killed.pairs == whole.pairs
