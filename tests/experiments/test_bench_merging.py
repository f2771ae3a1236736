"""Merging: models or seeds of one benchmark from several files, and a benchmark that continues from its file alone."""

import json
import re
import shutil
from dataclasses import replace

import pytest

from charlm.errors import DataError, OutputError
from charlm.experiments.bench import Contest, Results, Tuning, parse_space, run_contest
from charlm.experiments.bench.merging import merge
from charlm.experiments.bench.tables import caption

TEXT = "the cat sat on the mat, and the dog sat on the log. " * 40
LOSSES = ("entry", "seed", "outcome", "valid_nats", "test_nats")


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Return a function that runs a contest, tuned in two trials, in a new folder, and returns the folder."""

    def made(*names, n_seeds=2, n_trials=2, seed=0, earlier=None, announce=lambda message: None):
        folder = tmp_path_factory.mktemp("merging")
        (folder / "cats").write_text(TEXT)
        if earlier is not None:
            shutil.copytree(earlier, folder / "x")
        changes = {"corpus": [str(folder / "cats")], "batch_size": 4, "bptt": 16, "device": "cpu", "epochs": 1}
        changes |= {"seed": seed}
        tuning = Tuning(parse_space("learning_rate=1e-3..1e-1"), n_trials, by_optuna=False)
        contest = Contest(names, changes, n_seeds, 1500, tuning=tuning, sample_seconds=0.01)
        run_contest(contest, folder / "x", announce)
        return folder / "x"

    return made


@pytest.fixture(scope="module")
def whole(make):
    return Results.load(make("rnn", "gru"))


@pytest.fixture(scope="module")
def rnn(make):
    return make("rnn")


@pytest.fixture(scope="module")
def gru(make):
    return make("gru", n_seeds=1)


def losses(results):
    """Return what depends neither on the machine nor on the order of the trainings."""
    return sorted(([row.get(key) for key in LOSSES] for row in results.rows), key=str)


def test_models_of_several_folders_become_one_benchmark_in_a_given_order(whole, rnn, gru):
    merged = merge({str(folder): Results.load(folder) for folder in (gru, rnn)}, ["ngram", "rnn", "gru"])
    assert (list(merged.entries), merged.n_seeds, merged.chosen) == (["ngram", "rnn", "gru"], 2, whole.chosen)
    tried = [{(t["entry"], t["trial"], t["valid_nats"]) for t in results.trials} for results in (merged, whole)]
    assert tried[0] == tried[1] and len(merged.trials) == 4
    assert losses(merged) == [row for row in losses(whole) if row[:2] != ["gru", 1]]


def test_seeds_of_several_files_are_counted_together(rnn):
    first, second = Results.load(rnn), Results.load(rnn)
    for results, seed in ((first, 0), (second, 1)):
        results.n_seeds, results.rows = 1, [row for row in results.rows if row.get("seed", seed) == seed]
        results.entries = {
            name: recipe | {"seed": seed, "corpus": [f"{seed}/cats"]} for name, recipe in results.entries.items()
        }
    first.machine, second.machine = "one", "two; one"  # a benchmark that was continued on another machine
    merged = merge({"second": second, "first": first}, [])
    assert (merged.n_seeds, merged.first_seed, merged.machine) == (2, 0, "two; one")
    assert losses(merged) == losses(Results.load(rnn))


def test_a_model_that_counts_is_one_training_for_all_seeds(rnn):
    first, second = Results.load(rnn), Results.load(rnn)
    second.rows = [row | {"seed": row["seed"] + 5} if "seed" in row else row for row in second.rows]
    merged = merge({"first": first, "second": second})
    seeds = [(row["entry"], row["seed"]) for row in merged.rows if "seed" in row]
    assert seeds == [("ngram", 0), ("rnn", 0), ("rnn", 1), ("rnn", 5), ("rnn", 6)]


def test_the_caption_has_the_number_of_trainings_also_after_other_seeds(make, whole, rnn):
    results = Results.load(make("rnn", n_seeds=1, seed=5, earlier=rnn))
    assert [row["seed"] for row in results.rows if row["entry"] == "rnn"] == [0, 1, 5]
    assert [row["seed"] for row in results.rows if row["entry"] == "ngram"] == [0]
    assert "standard deviation over 3 seeds." in caption(results)
    part = replace(whole, rows=[row for row in whole.rows if (row["entry"], row.get("seed")) != ("gru", 1)])
    assert "standard deviation over 1 to 2 seeds." in caption(part)


def test_the_machine_is_that_of_the_trainings(make, rnn, tmp_path):
    earlier = Results.load(rnn)
    here, earlier.machine = earlier.machine, "another"
    earlier.save(tmp_path)
    found = [Results.load(make("rnn", n_seeds=n, earlier=tmp_path)).machine for n in (2, 3)]
    assert found == ["another", f"another; {here}"]


def test_another_recipe_of_an_entry_is_refused_before_the_tuning_of_others(make, rnn, tmp_path):
    earlier, announced = Results.load(rnn), []
    earlier.entries["rnn"]["clip"] = 1.0
    earlier.save(tmp_path)
    with pytest.raises(
        OutputError, match=r"rnn has another recipe than in .* \(clip None and not 1.0\); choose another --name"
    ):
        make("gru", "rnn", earlier=tmp_path, announce=announced.append)
    assert not [message for message in announced if "trial 1" in message]


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("n_parameters", 2000, r"a and b are different benchmarks \(n_parameters 1500 and 2000\)"),
        ("sha256", "0", r"a and b are different benchmarks \(sha256 '.+' and '0'\)"),
        ("tuning", "", r"a and b are different benchmarks \(tuning '.+' and ''\)"),
        ("rnn", {"learning_rate": 0.5}, r"b: rnn has another recipe than in a \(learning_rate 0.5 and not 0\.\d+\)"),
        ("rnn", {"options": {"n_hidden": 9}}, r"than in a \(n_hidden 9 and not \d+\)"),
        ("rnn, seed 1", {"test_nats": 9.0}, "b: rnn, seed 1, has another loss than in a"),
    ],
)
def test_what_does_not_belong_together_is_refused(key, value, message, rnn):
    other = Results.load(rnn)
    if key == "rnn":
        other.entries["rnn"] |= value
    elif key == "rnn, seed 1":
        other.rows[-1] |= value
    else:
        setattr(other, key, value)
    with pytest.raises(DataError, match=message):
        merge({"a": Results.load(rnn), "b": other}, [])


def test_a_benchmark_continues_from_results_json_alone(make, whole, rnn, tmp_path):
    announced = []
    (tmp_path / "results.json").write_bytes((rnn / "results.json").read_bytes())
    folder = make("gru", earlier=tmp_path, announce=announced.append)
    assert announced[0].startswith("cats, standard, 1,664 characters of training text; gru: ")
    assert [message.split(":")[0] for message in announced[1:]] == [
        *("gru, trial 1 of 2", "gru, trial 2 of 2", "gru", "gru-0", "gru-1")
    ]
    results = Results.load(folder)
    assert (losses(results), results.chosen) == (losses(whole), whole.chosen)
    assert {trial["entry"] for trial in results.trials} == {"rnn", "gru"}


def test_trials_of_older_versions_are_kept_once(make, rnn, tmp_path):
    for file in ("results.json", "trials.jsonl"):  # older versions had no final trials
        (tmp_path / file).write_text((rnn / file).read_text("utf-8").replace('"is_final": false, ', ""), "utf-8")
    assert len(Results.load(make("rnn", earlier=tmp_path)).trials) == 2


def test_results_of_another_benchmark_are_left_as_they_are(rnn, exit_code, capsys):
    before = (rnn / "results.json").read_bytes()
    assert exit_code(f"bench gru --corpus {rnn.parent}/cats --epochs 9 --checkpoints {rnn.parent} --name x") == 74
    message = capsys.readouterr().err
    assert "and this command are different benchmarks" in message
    assert "1 epoch' and '14,976 characters, 9 epochs'); choose another --name" in message
    assert (rnn / "results.json").read_bytes() == before


def test_the_page_of_record_is_run_in_parts_merged_and_continued(tmp_path, page_of_record, monkeypatch, capsys):
    (tmp_path / "cats.txt").write_text(TEXT)
    (tmp_path / "dogs.txt").write_text(TEXT.replace("cat", "cow"))

    def script(line):
        page_of_record(line.split())
        return capsys.readouterr().err

    monkeypatch.chdir(tmp_path)

    run = "--texts cats.txt dogs.txt --text-chars 1500 --parameters 1500 --chars 1600 --seeds 1 --trials 1"
    script(f"run A {run} --models rnn")
    for text in ("cats", "dogs"):
        script(f"merge merged/{text}.json A/{text} --note alone")
        (tmp_path / "B" / text).mkdir(parents=True)
        shutil.copy(tmp_path / "merged" / f"{text}.json", tmp_path / "B" / text / "results.json")
    said = script(f"run B {run} --models rnn")
    assert "trial 1" not in said and "rnn-0" not in said
    script("page merged")
    page = (tmp_path / "merged.md").read_text("utf-8")
    assert "test part of dogs, first 1,500 characters, standard (150 characters)" in page
    assert re.search(r"Machine: .*; alone\.", page)
    assert "**Missing**: defaults, nietzsche, python-docs, bible-kjv, dict-gcide, 10-minutes." in page
    assert "**A smaller budget** than that of the page of record: 1,500 parameters instead of 1,000,000, 1," in page
    assert json.loads((tmp_path / "B" / "dogs" / "results.json").read_text("utf-8"))["tuning"] == ""
    with pytest.raises(SystemExit) as refused:
        script("run C --texts cats.txt gone.txt --models rnn")
    assert refused.value.code == 66 and "gone.txt" in capsys.readouterr().err and not (tmp_path / "C").exists()
