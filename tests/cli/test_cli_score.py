"""`charlm score` and `charlm next`."""

import csv
import io
import json

import pytest

from charlm.data.vocab import Vocab
from charlm.generation.language_model import LanguageModel
from charlm.models import build
from charlm.storage.checkpoint import Metadata

TRAIN = "train --corpus text.txt --device cpu"
RUNS = {"counts": "--model ngram", "net": "--model char3 --epochs 1"}
MISPRINT = "one\ntwo\nthree\ntwenty-sxven\neight\n"


def test_next_lists_characters_by_probability(call):
    found = json.loads(call("next counts --prime one --top 3 --json")[0])
    assert found["prompt"] == "one"
    probs = list(found["next"].values())
    assert len(probs) == 3 and probs == sorted(probs, reverse=True)
    assert call("next counts --prime one --top 3")[0].splitlines()[0].startswith(repr(next(iter(found["next"]))))


def test_score_adds_up_to_eval(call):
    expected = json.loads(call("eval counts --part valid --json")[0])
    lines = [json.loads(line) for line in call("score counts --part valid --json")[0].splitlines()]
    *chars, totals = lines
    assert abs(totals["bits_per_char"] - expected["bits_per_char"]) < 1e-6
    assert sum(line["bits"] for line in chars) == pytest.approx(totals["bits"])
    assert [line["offset"] for line in chars] == list(range(expected["n_chars"]))
    assert len(chars[0]["likely"]) == 5


def test_score_and_eval_count_an_unknown_character_as_one_byte(call, tmp_path):
    text = "one\u00a0two \U0001f600 \u6f22\n" * 9
    (tmp_path / "a.txt").write_text(text, "utf-8")
    expected = json.loads(call(f"eval counts --corpus {tmp_path / 'a.txt'} --json")[0])
    totals = json.loads(call(f"score counts {tmp_path / 'a.txt'} --json")[0].splitlines()[-1])
    assert expected["n_unknown"] == 3 * 9
    assert totals["n_bytes"] == len(text)
    assert totals["bits_per_byte"] == pytest.approx(expected["bits_per_byte"], rel=1e-6)


def test_the_last_argument_is_the_text_if_it_is_no_model(call, tmp_path):
    (tmp_path / "a.txt").write_text(MISPRINT, "utf-8")
    found = call(f"score counts {tmp_path / 'a.txt'} --top 1")[0]
    assert "'x'" in found.splitlines()[2]
    assert found.splitlines()[2].split()[:2] == ["4", "9"]
    assert found == call(f"score counts --corpus {tmp_path / 'a.txt'} --top 1")[0]


def test_csv_has_a_row_for_each_character(call, tmp_path):
    (tmp_path / "a.txt").write_text(MISPRINT, "utf-8")
    rows = list(csv.reader(io.StringIO(call(f"score counts {tmp_path / 'a.txt'} --csv")[0])))
    assert rows[0] == ["offset", "char", "bits", "rank", "likely"]
    assert "".join(row[1] for row in rows[1:]) == MISPRINT


def test_several_models_are_compared_line_by_line_and_file_by_file(call, tmp_path):
    for name in ("x", "y"):
        (tmp_path / "texts" / name).mkdir(parents=True)
        (tmp_path / "texts" / name / "a.txt").write_text(MISPRINT, "utf-8")
    lines = call(f"score counts net {tmp_path / 'texts/x/a.txt'} --by line --json")[0].splitlines()
    assert [json.loads(line)["text"] for line in lines] == MISPRINT.splitlines()
    *files, table = map(json.loads, call(f"score counts net {tmp_path / 'texts'} --by file --json")[0].splitlines())
    assert [row["best"] for row in files] == ["counts", "counts"]
    assert table == {"confusion": {"x": {"counts": 1}, "y": {"counts": 1}}}
    assert "best: counts" in call(f"score counts net {tmp_path / 'texts'}")[0]


def test_options_that_exclude_each_other_are_refused(exit_code, home, capsys):
    assert exit_code("score counts --csv --json") == 2
    assert exit_code("score counts --by line --html a.html") == 2
    assert exit_code("score counts --by file") == 2
    assert exit_code("score counts - --corpus nietzsche") == 2
    assert exit_code("score counts --json --html a.html") == 2
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_a_missing_text_and_a_folder_without_texts_are_refused(exit_code, home, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert exit_code("score counts missing.txt") == 66
    assert exit_code(f"score counts {tmp_path / 'empty'} --by file") == 65
    missing, empty = capsys.readouterr().err.splitlines()
    assert "no text file 'missing.txt', and no run or checkpoint" in missing
    assert "no .txt files" in empty


def test_a_checkpoint_that_does_not_name_its_text_scores_another_one(call, exit_code, tmp_path, capsys):
    vocab = Vocab(map(ord, MISPRINT))
    model = build("char3", len(vocab))
    metadata = Metadata("char3", model.config, len(vocab), vocab.codepoints.tolist(), False, model.n_context)
    LanguageModel(model, metadata).save(tmp_path / "bare.safetensors")
    (tmp_path / "a.txt").write_text(MISPRINT, "utf-8")
    assert exit_code(f"score {tmp_path / 'bare.safetensors'} {tmp_path / 'a.txt'}") == 0
    capsys.readouterr()
    assert exit_code(f"score {tmp_path / 'bare.safetensors'}") == 2
    assert "name a text with --corpus" in capsys.readouterr().err
    assert "best: counts" in call(f"score counts {tmp_path / 'bare.safetensors'}")[0]  # the text of the first model


def test_the_page_of_a_score_shows_text_and_predictions(call, tmp_path, open_page):
    (tmp_path / "a.txt").write_text(MISPRINT + "</script><b>&amp;", "utf-8")
    call(f"score counts net {tmp_path / 'a.txt'} --html {tmp_path / 'a.html'}")
    page, events = open_page(tmp_path / "a.html")
    assert page.text_content("#text").startswith("one\ntwo\nthree\ntwenty-sxven")
    assert page.query_selector_all("#text b") == []
    assert len(page.query_selector_all("#totals tr")) == 2
    page.focus("#text")
    page.keyboard.press("Home")
    before = page.inner_text("#details")
    page.select_option("#model", "net")
    assert page.inner_text("#details") != before
    assert page.inner_text("#details strong") == "o"
    assert events == [f"request: {(tmp_path / 'a.html').as_uri()}"]


def test_the_page_of_a_model_of_bytes_has_bits_per_byte_once(call, tmp_path, open_page):
    vocab = Vocab.of_bytes()
    model = build("char3", len(vocab))
    metadata = Metadata("char3", model.config, len(vocab), vocab.codepoints.tolist(), True, model.n_context)
    LanguageModel(model, metadata).save(tmp_path / "bytes.safetensors")
    (tmp_path / "a.txt").write_text("na\u00efve", "utf-8")
    call(f"score {tmp_path / 'bytes.safetensors'} {tmp_path / 'a.txt'} --html {tmp_path / 'a.html'}")
    page, _ = open_page(tmp_path / "a.html")
    assert page.eval_on_selector_all("th", "all => all.map((one) => one.textContent)") == [
        "model",
        "bits per byte",
        "accuracy",
    ]
    assert len(page.query_selector_all("#totals td")) == 3 and page.inner_text("#summary") == "6 bytes"
