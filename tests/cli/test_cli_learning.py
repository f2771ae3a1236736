"""The commands with several models, or with one that goes on learning: `eval A B`, `eval --dynamic`, and `sample`."""

import json
import math

import pytest

from charlm.evaluation import dynamic

TRAIN = "train --corpus text.txt --n-hidden 16 --n-embed 8 --bptt 16 --batch-size 8 --epochs 2 --learning-rate 0.03"
RUNS = {"gru": "--model gru", "lstm": "--model lstm", "window": "--model char3", "tail": "--split nanogpt"}
RATES = "--rate 0.1 --decay 0.01"


def test_a_mixture_is_reported_beside_each_of_its_models(call):
    report = json.loads(call("eval gru lstm window --json")[0])
    alone = [json.loads(call(f"eval {name} --json")[0]) for name in ("gru", "lstm", "window")]
    for row, own in zip(report["mixture"], alone, strict=True):
        assert row["model"] == own["model"]
        assert row["bits_per_char"] == pytest.approx(own["bits_per_char"], rel=1e-6)
    assert sum(row["weight"] for row in report["mixture"]) == pytest.approx(1)
    assert report["nats_per_char"] == pytest.approx(report["bits_per_char"] * math.log(2))
    lines = call("eval gru lstm window")[0].splitlines()
    assert [line.split(", weight ")[-1] for line in lines[:3]] == [f"{r['weight']:.4f}" for r in report["mixture"]]
    assert lines[3].startswith(f"{report['bits_per_char']:.4f} bits") and lines[3].endswith(": the mixture")


def test_the_weights_of_a_mixture_are_fitted_on_the_validation_part_and_may_be_given(call):
    weights = [row["weight"] for row in json.loads(call("eval gru window --json")[0])["mixture"]]

    def valid_bits(w):
        return json.loads(call(f"eval gru window --part valid --weights {w},{1 - w} --json")[0])["bits_per_char"]

    best = valid_bits(weights[0])
    assert best <= min(valid_bits(w) for w in (0.0, 0.5, 1.0)) + 1e-4
    given = json.loads(call("eval gru window --weights 3,1 --json")[0])
    assert [row["weight"] for row in given["mixture"]] == [0.75, 0.25]


def test_models_of_another_split_can_have_seen_what_counts(call):
    assert "had another text or split" in call("eval gru tail")[1]
    assert "had another" not in call("eval gru lstm")[1]


def test_no_rate_of_a_mixture_is_picked_on_what_counts(call, exit_code, capsys):
    assert exit_code("eval gru tail --weights 1,1 --dynamic sgd") == 2  # the last of tail's validation part
    assert "--rate and --decay would be chosen" in capsys.readouterr().err
    assert "dynamic" in call("eval gru tail --weights 1,1 --dynamic sgd --rate 0.01 --decay 0.01")[0]


def test_without_a_test_part_the_weights_must_be_given(call, exit_code, capsys):
    assert exit_code("eval tail gru") == 2
    assert "--weights would be chosen" in capsys.readouterr().err
    assert json.loads(call("eval tail gru --weights 1,1 --json")[0])["part"] == "valid"


def test_a_mixture_writes(call):
    texts = [call(f"sample gru window --prime one --length 40 --seed {seed}")[0] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2] and texts[0].startswith("one") and len(texts[0]) == 44
    alone = call("sample lstm --length 40 --seed 1")
    assert call("sample gru lstm --weights 0,1 --length 40 --seed 1") == alone


@pytest.mark.parametrize("method", ["sgd", "rms"])
@pytest.mark.parametrize("name", ["gru", "window"])
def test_dynamic_evaluation_is_stated_beside_the_other_one(call, name, method):
    options = RATES if method == "sgd" else "--rate 0.001 --decay 0.01"
    static = json.loads(call(f"eval {name} --json")[0])
    report = json.loads(call(f"eval {name} --dynamic {method} {options} --json")[0])
    dynamic = report.pop("dynamic")
    assert report == static
    assert (dynamic["method"], dynamic["decay"], dynamic["n_piece"]) == (method, 0.01, 32)
    assert dynamic["bits_per_char"] != static["bits_per_char"]
    first, second = call(f"eval {name} --dynamic {method} {options}")[0].splitlines()
    assert f"{first}\n" == call(f"eval {name}")[0]
    assert second.startswith(f"{dynamic['bits_per_char']:.4f} bits")
    assert second.endswith(f"dynamic ({method}): another game: the model learns from the text it has read")


@pytest.mark.parametrize("method", ["sgd", "rms"])
def test_what_is_not_given_is_picked_on_validation_text_and_said(call, method):
    out, err = call(f"eval gru --dynamic {method} --json")
    dynamic = json.loads(out)["dynamic"]
    assert f"--rate {dynamic['rate']:g} --decay {dynamic['decay']:g} picked" in err
    given = f"--rate {dynamic['rate']} --decay {dynamic['decay']}"
    again, silence = call(f"eval gru --dynamic {method} {given} --json")
    assert json.loads(again)["dynamic"] == dynamic and "picked" not in silence


def test_it_is_picked_on_the_end_of_the_validation_part(call, monkeypatch):
    nats_of, read = dynamic.dynamic_nll, set()

    def dynamic_nll(model, ids, first, stop, *others):
        read.add((first, stop, len(ids)))
        return nats_of(model, ids, first, stop, *others)

    monkeypatch.setattr(dynamic, "dynamic_nats", dynamic_nll)
    monkeypatch.setattr(dynamic, "N_TUNE", 30)
    _, err = call("eval gru --dynamic sgd --json")
    assert "picked" in err
    ((first, stop, n),) = [span for span in read if span[1] < 0.95 * span[2]]  # what is beyond is the test part
    assert stop - first == 30 and stop == pytest.approx(0.9 * n, abs=2)


def test_rms_is_meant_where_no_method_is_named(call):
    assert json.loads(call(f"eval gru {RATES} --json --dynamic")[0])["dynamic"]["method"] == "rms"


def test_at_rate_zero_dynamic_evaluation_is_the_static_one(call):
    report = json.loads(call("eval gru --dynamic sgd --rate 0 --decay 0 --json")[0])
    assert report["dynamic"]["nats_per_char"] == pytest.approx(report["nats_per_char"], rel=1e-6)


def test_in_a_mixture_each_model_learns(call):
    line = "eval gru lstm --dynamic sgd --decay 0 --json"
    still = json.loads(call(f"{line} --rate 0")[0])
    assert still["dynamic"]["nats_per_char"] == pytest.approx(still["nats_per_char"], rel=1e-6)
    assert still["dynamic"]["rate"] == [0, 0]
    alone = json.loads(call("eval lstm --dynamic sgd --rate 0.1 --decay 0 --json")[0])["dynamic"]
    one = json.loads(call(f"{line} --rate 0.1 --weights 0,1")[0])["dynamic"]
    both = json.loads(call(f"{line} --rate 0.1 --weights 1,1")[0])["dynamic"]
    assert one["nats_per_char"] == pytest.approx(alone["nats_per_char"], rel=1e-9)
    assert both["nats_per_char"] != pytest.approx(alone["nats_per_char"], rel=1e-3)
    assert ": the mixture\n" in (shown := call(f"{line.removesuffix('--json')} --rate 0.1")[0])
    assert "per character, the mixture, dynamic (sgd): another game" in shown


def test_counts_learn_without_a_rate(call):
    call("train --model ngram --corpus text.txt --name counts")
    out, err = call("eval counts --dynamic --json")
    report = json.loads(out)
    assert report["dynamic"]["nats_per_char"] < report["nats_per_char"] and "picked" not in err


def test_another_text_is_learned_from_with_what_was_picked_on_the_own_one(call, home):
    (home / "other.txt").write_text("hundred one " * 100)
    report = json.loads(call("eval gru --corpus other.txt --dynamic sgd --json")[0])
    assert report["part"] == "all"
    assert report["dynamic"]["bits_per_char"] < report["bits_per_char"]


@pytest.mark.parametrize("method", ["", "sgd", "rms"])
def test_a_model_learns_from_the_prime_before_it_writes(call, home, method):
    (home / "start.txt").write_text("hundred one " * 60)
    line = "sample gru --prime-file start.txt --length 48 --temperature 0"
    learned = call(f"{line} --rate {0.5 if method == 'sgd' else 0.01} --dynamic {method}")[0]
    assert call(line)[0] != learned == "hundred one " * 64 + "\n"
    assert call(f"{line} --dynamic {method or 'rms'} --rate 0 --decay 0")[0] == call(line)[0]


def test_all_models_of_a_mixture_learn_from_the_prime(call, home):
    (home / "start.txt").write_text("hundred one " * 60)
    line = "sample gru lstm --weights 1,1 --prime-file start.txt --length 48 --temperature 0"
    assert call(f"{line} --dynamic sgd --rate 0.5")[0] == "hundred one " * 64 + "\n" != call(line)[0]


@pytest.mark.parametrize(
    ("line", "mend"),
    [
        ("eval gru --corpus other.txt --dynamic rms", "--dynamic sgd"),
        ("eval gru --corpus other.txt --dynamic sgd", "give --rate and --decay"),
        ("sample gru --prime one --dynamic rms", "--dynamic sgd"),
        ("sample gru lstm", "give --weights"),
    ],
)
def test_without_its_own_text_a_model_says_what_to_do(home, exit_code, capsys, line, mend):
    (home / "text.txt").unlink()
    (home / "other.txt").write_text("one two three\n" * 20)
    assert exit_code(line) == 66
    err = capsys.readouterr().err
    assert err.startswith("charlm: text.txt: no such file") and err.count("\n") == 1 and mend in err
