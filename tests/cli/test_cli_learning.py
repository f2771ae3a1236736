"""`charlm eval` and `charlm sample` with mixtures and with dynamic evaluation."""

import json
import math

import pytest

TRAIN = "train --corpus text.txt --n-hidden 16 --n-embed 8 --bptt 16 --batch-size 8 --epochs 2 --learning-rate 0.03"
RUNS = {"gru": "--model gru", "lstm": "--model lstm", "window": "--model char3", "tail": "--split nanogpt"}
RATES = "--rate 0.1 --decay 0.01"


def test_a_mixture_is_reported_with_each_of_its_models(call):
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


def test_mixture_weights_are_fitted_on_the_validation_part_or_given(call):
    weights = [row["weight"] for row in json.loads(call("eval gru window --json")[0])["mixture"]]

    def valid_bits(w):
        return json.loads(call(f"eval gru window --part valid --weights {w},{1 - w} --json")[0])["bits_per_char"]

    best = valid_bits(weights[0])
    assert best <= min(valid_bits(w) for w in (0.0, 0.5, 1.0)) + 1e-4
    given = json.loads(call("eval gru window --weights 3,1 --json")[0])
    assert [row["weight"] for row in given["mixture"]] == [0.75, 0.25]


def test_models_trained_on_another_split_are_named(call):
    assert "trained on another text or split" in call("eval gru tail")[1]
    assert "another" not in call("eval gru lstm")[1]


def test_no_rate_is_chosen_on_the_characters_that_are_evaluated(call, exit_code, capsys):
    assert (
        exit_code("eval gru tail --weights 1,1 --dynamic sgd") == 2
    )  # they are the end of the validation part of tail
    assert "--rate and --decay would be chosen" in capsys.readouterr().err
    assert "dynamic" in call("eval gru tail --weights 1,1 --dynamic sgd --rate 0.01 --decay 0.01")[0]


def test_without_a_test_part_the_weights_must_be_given(call, exit_code, capsys):
    assert exit_code("eval tail gru") == 2
    assert "--weights would be chosen" in capsys.readouterr().err
    assert json.loads(call("eval tail gru --weights 1,1 --json")[0])["part"] == "valid"


def test_a_mixture_is_sampled(call):
    texts = [call(f"sample gru window --prime one --length 40 --seed {seed}")[0] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2] and texts[0].startswith("one") and len(texts[0]) == 44
    alone = call("sample lstm --length 40 --seed 1")
    assert call("sample gru lstm --weights 0,1 --length 40 --seed 1") == alone


@pytest.mark.parametrize("method", ["sgd", "rms"])
@pytest.mark.parametrize("name", ["gru", "window"])
def test_dynamic_evaluation_is_reported_after_the_static_result(call, name, method):
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
    assert second.endswith(
        f"dynamic ({method}): not comparable with static evaluation: the model learns from the text as it reads it"
    )


@pytest.mark.parametrize("method", ["sgd", "rms"])
def test_missing_options_are_chosen_on_validation_text_and_printed(call, method):
    out, err = call(f"eval gru --dynamic {method} --decay 0.01 --json")
    dynamic = json.loads(out)["dynamic"]
    assert f"--rate {dynamic['rate']:g} --decay 0.01, chosen on the last " in err
    again, err = call(f"eval gru --dynamic {method} --rate {dynamic['rate']} --decay 0.01 --json")
    assert json.loads(again)["dynamic"] == dynamic and "chosen" not in err


def test_rms_is_the_default_method(call):
    assert json.loads(call("eval gru --rate 0.001 --decay 0.01 --json --dynamic")[0])["dynamic"]["method"] == "rms"


def test_at_rate_zero_dynamic_evaluation_is_the_static_one(call):
    report = json.loads(call("eval gru --dynamic sgd --rate 0 --decay 0 --json")[0])
    assert report["dynamic"]["nats_per_char"] == pytest.approx(report["nats_per_char"], rel=1e-6)


def test_each_model_of_a_mixture_adapts(call):
    line = "eval gru lstm --dynamic sgd --decay 0 --json"
    still = json.loads(call(f"{line} --rate 0")[0])
    assert still["dynamic"]["nats_per_char"] == pytest.approx(still["nats_per_char"], rel=1e-6)
    assert still["dynamic"]["rate"] == [0, 0]
    alone = json.loads(call("eval lstm --dynamic sgd --rate 0.1 --decay 0 --json")[0])["dynamic"]
    one = json.loads(call(f"{line} --rate 0.1 --weights 0,1")[0])["dynamic"]
    both = json.loads(call(f"{line} --rate 0.1 --weights 1,1")[0])["dynamic"]
    assert one["nats_per_char"] == pytest.approx(alone["nats_per_char"], rel=1e-9)
    assert both["nats_per_char"] != pytest.approx(alone["nats_per_char"], rel=1e-3)
    assert ": the mixture\n" in (shown := call(f"{line.removesuffix('--json')} --rate 0.1 --weights 1,1")[0])
    assert "per character, the mixture, dynamic (sgd): not comparable" in shown


def test_counts_are_updated_without_a_rate(call, exit_code, capsys):
    call("train --model ngram --corpus text.txt --name counts")
    out, err = call("eval counts --dynamic --json")
    report = json.loads(out)
    assert report["dynamic"]["nats_per_char"] < report["nats_per_char"] and "chosen" not in err
    for options, remedy in (("rms --rate 0.1", "leave them out"), ("mix", "use --dynamic rms")):
        assert exit_code(f"eval counts --dynamic {options}") == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and remedy in err


def test_a_text_of_five_characters_is_read_after_the_training_part(call, home):
    (home / "five.txt").write_text("one o")
    report = json.loads(call("eval gru --corpus five.txt --dynamic mix --json")[0])
    assert report["n_chars"] == 5 and 0 < report["dynamic"]["nats_per_char"] < 5


def test_the_model_adapts_to_another_text_with_options_chosen_on_its_own(call, home):
    (home / "other.txt").write_text("hundred one\n" * 60)
    report = json.loads(call("eval gru --corpus other.txt --dynamic sgd --decay 0 --json")[0])
    assert report["part"] == "all"
    assert report["dynamic"]["bits_per_char"] < report["bits_per_char"]


@pytest.mark.parametrize("method", ["sgd", "rms"])
def test_a_model_adapts_to_the_prompt_before_sampling(call, home, method):
    (home / "start.txt").write_text("hundred one\n" * 60)
    line = "sample gru --prime-file start.txt --length 48 --temperature 0"
    adapted = call(f"{line} --rate {0.5 if method == 'sgd' else 0.01} --dynamic {method}")[0]
    assert call(line)[0] != adapted and adapted == "hundred one\n" * 64 + "\n"
    assert call(f"{line} --dynamic {method} --rate 0 --decay 0")[0] == call(line)[0]


def test_all_models_of_a_mixture_adapt_to_the_prompt(call, home):
    (home / "start.txt").write_text("hundred one\n" * 60)
    line = "sample gru lstm --weights 1,1 --prime-file start.txt --length 48 --temperature 0"
    adapted = call(f"{line} --dynamic sgd --rate 0.5")[0]
    assert call(line)[0] != adapted and adapted == "hundred one\n" * 64 + "\n"


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("eval gru --corpus other.txt --dynamic rms", "--dynamic sgd"),
        ("eval gru --corpus other.txt --dynamic mix", "--dynamic sgd"),
        ("eval gru --corpus other.txt --dynamic sgd", "give --rate and --decay"),
        ("sample gru --prime one --dynamic rms", "--dynamic sgd"),
        ("sample gru lstm", "give --weights"),
    ],
)
def test_without_the_training_text_the_error_names_the_remedy(home, exit_code, capsys, line, remedy):
    (home / "text.txt").unlink()
    (home / "other.txt").write_text("one two three\n" * 20)
    assert exit_code(line) == 66
    err = capsys.readouterr().err
    assert err.startswith("charlm: text.txt: no such file") and err.count("\n") == 1 and remedy in err
