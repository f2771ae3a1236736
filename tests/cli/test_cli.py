"""Commands that use trained models: sample, eval, info, compare, export."""

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import charlm
from charlm.data.generated_texts import human_numbers
from charlm.evaluation.metrics import nats_to_bits

TRAIN = "train --corpus text.txt --n-hidden 16 --n-embed 8 --bptt 16 --batch-size 8 --epochs 3 --learning-rate 0.03"
RUNS = {"first": "--model lstm", "windows": "--model char3 --split random20", "second": "--model gru --lower"}

SOURCE = os.pathsep.join(filter(None, [str(Path(charlm.__file__).parent.parent), os.environ.get("PYTHONPATH")]))
ENV = os.environ | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}


def test_the_seed_determines_the_text(call):
    texts = [call(f"sample first --length 80 --seed {seed}") for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0][0]) == 81 and texts[0][1] == ""


def test_without_a_seed_every_call_samples_another_text(call):
    assert call("sample first --length 80") != call("sample first --length 80")


@pytest.mark.parametrize("end", ["killed", "interrupted", "diverged"])
def test_without_a_run_the_newest_finished_one_is_taken_and_named(end, call, home):
    unfinished = home / "checkpoints/unfinished"
    shutil.copytree(home / "checkpoints/first", unfinished)
    *rows, last = (unfinished / "metrics.jsonl").read_text().splitlines()
    if end != "killed":
        changed = {"interrupted": True} if end == "interrupted" else {"outcome": "diverged"}
        rows.append(json.dumps({"result": json.loads(last)["result"] | changed}))
    (unfinished / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    note = f"; checkpoints/unfinished is newer, but {'diverged' if end == 'diverged' else 'not finished'}"
    for command in ("sample --seed 1", "eval", "info"):
        out, err = call(command)
        assert out == call(f"{command} second")[0] != call(f"{command} first")[0]
        assert err.startswith(f"charlm: model: checkpoints/second/best.safetensors, of the newest finished run{note}\n")
        assert "the newest finished run" in " ".join(call(f"{command} --help")[0].split())
    assert call("info --checkpoints none")[1] == (
        "charlm: model: the built-in model nietzsche (no finished run in none)\n"
    )


def test_a_run_is_given_by_name_folder_or_file(call):
    texts = {
        call(f"sample {name} --seed 1") for name in ("first", "checkpoints/first", "checkpoints/first/best.safetensors")
    }
    assert len(texts) == 1


def test_the_prompt_is_printed_first_and_does_not_count_as_length(call):
    for name in RUNS:
        out, _ = call(f"sample {name} --prime 'one hundred ' --length 7 --seed 1")
        assert out.startswith("one hundred ") and len(out) == 12 + 7 + 1
    assert call("sample first --length 0 --prime one") == ("one\n", "")


def test_the_continuation_depends_on_the_prompt(call):
    for prime, rest in (("one hund", "red"), ("one hundred sev", "en"), ("one hundred thi", "r")):
        assert call(f"sample first --prime '{prime}' --temperature 0 --length {len(rest)}")[0] == f"{prime}{rest}\n"


def test_greedy_sampling_can_be_asked_for_in_four_ways(call):
    options = ("--temperature 0", "--top-k 1", "--min-p 1", "--top-p 1e-9")
    assert len({call(f"sample first --length 40 {option}") for option in options}) == 1


def test_several_texts_are_those_of_consecutive_seeds(call):
    alone = [call(f"sample first --length 30 --prime one --seed {seed}")[0] for seed in (5, 6, 7)]
    assert call("sample first --length 30 --prime one --seed 5 --num 3")[0] == f"{'-' * 20}\n".join(alone)


def test_a_text_ends_before_the_stop_string(call):
    whole, _ = call("sample first --length 200 --seed 3")
    stop = whole[20:22]
    ended, _ = call(f"sample first --length 200 --seed 3 --stop '{stop}'")
    assert ended == whole[: whole.index(stop)] + "\n"


def test_a_text_ends_before_the_first_of_several_stop_strings(call):
    whole, _ = call("sample first --length 200 --seed 3")
    assert "\n" in whole[10:-1]
    line = r"sample first --length 200 --seed 3 --stop '\n' --stop "
    assert call(line + "one-never") == (whole[: whole.index("\n")] + "\n", "")
    assert call(line + repr(whole[2:4])) == (whole[:2] + "\n", "")
    _, err = call(line + "one%")
    assert err == "charlm: --stop 'one%' ends no text: '%' is not in the model's vocabulary\n"


def test_items_are_new_lines_and_copies_are_reported(call, home):
    known = set((home / "text.txt").read_text().splitlines())
    out, err = call("sample first --lines 5 --new --seed 1 --temperature 1.2")
    items = out.splitlines()
    assert len(set(items)) == len(items) == 5 and not known & set(items) and err == ""
    plain, _ = call("sample first --length 200 --seed 3")
    out, err = call("sample first --length 200 --seed 3 --copies")
    assert out == plain
    assert err.startswith("charlm: copies: ") and "of the sample's 20-grams are in the training text" in err


def test_copies_and_new_items_need_the_training_text(home, exit_code, capsys):
    (home / "text.txt").write_text("another\n" * 100)
    for option in ("--copies", "--lines 3 --new"):
        assert exit_code(f"sample first {option}") == 65
        assert "SHA-256 differs" in capsys.readouterr().err
    (home / "text.txt").unlink()
    assert exit_code("sample first --copies") == 66
    assert "--copies needs the training text; put it there, or leave out --copies" in capsys.readouterr().err


def test_a_prompt_from_a_file_follows_that_of_the_option(call, home):
    (home / "start.txt").write_bytes(b"hundred\n")
    out, _ = call("sample first --prime 'one ' --prime-file start.txt --length 5 --seed 1")
    assert out == call("sample first --prime 'one hundred\n' --length 5 --seed 1")[0]


def test_the_byte_order_mark_of_a_prompt_file_is_dropped(call, home):
    (home / "start.txt").write_bytes("\ufeffhundred\n".encode())
    for prime in ("", "one "):
        out, _ = call(f"sample first --prime '{prime}' --prime-file start.txt --length 5 --seed 1")
        assert out == call(f"sample first --prime '{prime}hundred\n' --length 5 --seed 1")[0]


def test_samples_as_json_are_one_object_per_line(call):
    out, _ = call("sample first --json --num 2 --length 9 --prime 'one\n' --seed 1")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["prime"] for row in rows] == ["one\n"] * 2
    assert f"one\n{rows[0]['text']}\n" == call("sample first --length 9 --prime 'one\n' --seed 1")[0]


def test_a_lower_case_model_accepts_any_case(call):
    lower, upper = (call(f"sample second --json --prime {prime} --seed 1")[0] for prime in ("one", "ONE"))
    assert json.loads(lower)["text"] == json.loads(upper)["text"]


@pytest.mark.parametrize("part", ["valid", "test"])
def test_eval_repeats_the_result_of_training(part, call):
    report = json.loads(call(f"eval first --part {part} --json")[0])
    result = json.loads(call("info first --json")[0])["result"]
    assert report["nats_per_char"] == pytest.approx(result[f"{part}_nats"], rel=1e-9)
    assert report["bits_per_char"] == pytest.approx(report["nats_per_char"] / math.log(2))
    out, err = call(f"eval first --part {part}")
    bits = f"{report['bits_per_char']:.4f} bits ({report['nats_per_char']:.4f} nats) per character"
    assert out == f"{bits}, {report['bits_per_byte']:.4f} bits per byte\n"
    assert f"{report['n_chars']:,} characters" in err


def test_eval_of_another_text_reads_all_of_it_and_counts_unknown_characters(call, home):
    (home / "other.txt").write_text("one TWO " * 50)
    report = json.loads(call("eval first --corpus other.txt --json")[0])
    assert (report["n_chars"], report["n_unknown"], report["part"]) == (400, 150, "all")
    assert json.loads(call("eval second --corpus other.txt --json")[0])["n_unknown"] == 0


def test_eval_of_all_is_the_sum_of_the_parts(call):
    reports = [json.loads(call(f"eval first --json --part {part}")[0]) for part in ("all", "train", "valid", "test")]
    assert reports[0]["n_chars"] == sum(report["n_chars"] for report in reports[1:])
    nats = sum(report["n_chars"] * report["nats_per_char"] for report in reports[1:])
    assert reports[0]["nats_per_char"] * reports[0]["n_chars"] == pytest.approx(nats, rel=1e-3)


def test_eval_warns_if_the_training_text_has_changed(call, home):
    (home / "text.txt").write_text(human_numbers("150"))
    assert "text.txt is not the text that checkpoints/first/best.safetensors was trained on" in call("eval first")[1]


def test_info_shows_the_contents_of_a_checkpoint(call):
    out, err = call("info second")
    report = json.loads(call("info second --json")[0])
    assert err == ""
    for shown in (
        "SHA-256 correct",
        "gru",
        "text.txt",
        "valid:",
        "test:",
        str(report["vocab_size"] - 1),
        "embed.weight",
    ):
        assert shown in out
    assert report["weights"]["embed.weight"] == [report["vocab_size"], 8]
    assert report["recipe"]["model"] == "gru"


def test_compare_separates_runs_that_are_not_comparable(call):
    rows = json.loads(call("compare --json")[0])
    assert [row["run"] for row in rows] == ["first", "second", "windows"]
    out, err = call("compare")
    tables = [part.splitlines() for part in out.split("\n\n")]
    splits = ["standard", "standard, lower case", "random20"]
    assert [lines[0] for lines in tables] == [f"text.txt, {split}" for split in splits]
    assert [[line.split()[0] for line in lines[3:]] for lines in tables] == [["first"], ["second"], ["windows"]]
    assert "not comparable" in err
    out, err = call("compare first")
    assert len(out.splitlines()) == 4 and "not comparable" not in err
    assert [row["run"] for row in json.loads(call("compare first --json")[0])] == ["first"]


def test_compare_skips_an_incomplete_line_of_metrics(call, home):
    with (home / "checkpoints" / "first" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "val')
    assert len(json.loads(call("compare --json")[0])) == 3


def test_compare_leaves_out_a_run_without_a_readable_recipe_with_a_message(call, home):
    (home / "checkpoints" / "spoilt").mkdir()
    (home / "checkpoints" / "spoilt" / "metrics.jsonl").write_bytes(b"")
    for recipe in (b"", b'split = "all"', b"model = "):
        (home / "checkpoints" / "spoilt" / "recipe.toml").write_bytes(recipe)
        out, err = call("compare --json")
        assert len(json.loads(out)) == 3
        assert err.startswith("charlm: left out: checkpoints/spoilt: cannot read its recipe or metrics: ")


BAD_LINES = {  # of metrics.jsonl
    "cut in a character": '{"sample": "Ä'.encode()[:-1],
    "no object": b"[1]",
    "a number": b"1",
    "deep": b"[" * 100_000,
    "deep in an object": b'{"x": ' * 100_000,
    "6,000 digits": b'{"valid_nats": ' + b"9" * 6000 + b"}",
    "4,000 digits": b'{"valid_nats": ' + b"9" * 4000 + b', "train_nats": 1.0, "n_chars": ' + b"9" * 4000 + b"}",
    "other bytes": b"\xff\x00",
    "no measurement": b'{"valid_nats": "low", "n_chars": null, "train_nats": [], "step": {}}',
    "endless": b'{"n_chars": 1e999, "seconds": -1e999, "step": NaN}',
    "result": b'{"result": {"valid_nats": "low", "seconds": "long", "n_parameters": [], "peak_bytes": NaN}}',
    "no result": b'{"result": 5}',
}


def test_a_damaged_log_costs_one_line_and_its_run_stays_with_what_is_known(call, home):
    expected = json.loads(call("compare --json")[0])
    for name, bad in BAD_LINES.items():
        run = home / "checkpoints" / name
        shutil.copytree(home / "checkpoints" / "first", run)
        log = (run / "metrics.jsonl").read_bytes()
        (run / "metrics.jsonl").write_bytes(bad + b"\n" + log + bad + b"\n")
    out, err = call("compare --json")
    rows = {row["run"]: row for row in json.loads(out)}
    (first,) = (row for row in expected if row["run"] == "first")
    for name in BAD_LINES:
        assert rows[name] | {"run": "first"} == first
    assert sorted(err.splitlines()) == sorted(
        f"charlm: checkpoints/{name}/metrics.jsonl: cannot be read or has damaged lines (2); they are left out"
        for name in BAD_LINES
    )
    (home / "checkpoints" / "first" / "metrics.jsonl").unlink()
    assert json.loads(call("compare first --json")[0])[0]["model"] == first["model"]


def test_compare_shows_training_loss_accuracy_and_memory(call):
    (row,) = json.loads(call("compare first --json")[0])
    assert 0 < row["train_nats"] < 3 and 0.2 < row["valid_accuracy"] < 1 and 0.2 < row["test_accuracy"] < 1
    assert row["peak_bytes"] > 1e8  # PyTorch alone takes more
    head, _, line = call("compare first --wide")[0].splitlines()[1:]
    columns = ["run", "model", "params", "train", "valid", "test", "acc", "b/byte", "MB", "sec", "chars", "char/s"]
    assert head.split() == columns
    shown = dict(zip(columns, line.split(), strict=True))
    assert shown["train"] == f"{nats_to_bits(row['train_nats']):.3f}" and shown["acc"] == f"{row['test_accuracy']:.1%}"


def test_compare_marks_losses_of_the_beginning_of_a_part(call, home):
    with (home / "checkpoints" / "first" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"result": {"test_nats": math.log(4), "test_chars": 250_000}}) + "\n")
    out, err = call("compare first second")
    assert out.count("*") == 1 and "  2.000*" in out
    assert "*: of the first 250,000 characters of the part\n" in err
    rows = {row["run"]: row["test_chars"] for row in json.loads(call("compare first second --json")[0])}
    assert rows == {"first": 250_000, "second": None}


def test_compare_fits_a_terminal_of_80_columns(call, home, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    name = "a-run-with-a-name-of-36-letters-alone"
    (home / "checkpoints" / "first").rename(home / "checkpoints" / name)
    out, err = call("compare")
    assert max(map(len, out.splitlines())) <= 80 and name in out
    assert "--wide and --json show all" in err
    assert max(map(len, call("compare --wide")[0].splitlines())) > 80


def test_compare_shows_the_state_of_each_run(call, home):
    log = home / "checkpoints" / "second" / "metrics.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))  # killed before the result
    assert {row["run"]: row["state"] for row in json.loads(call("compare --json")[0])} == {
        "first": "finished",
        "windows": "finished",
        "second": "interrupted",
    }
    code = "from charlm.files import exclusive_lock; from pathlib import Path\n"
    code += "with exclusive_lock(Path('checkpoints/second')): print('locked', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True, env=ENV) as holder:
        assert holder.stdout.readline() == "locked\n"
        rows = {row["run"]: row for row in json.loads(call("compare --json")[0])}
        out, _ = call("compare second")
        holder.communicate("\n")
    assert rows["second"]["state"] == "training" and "  training  " in out
    assert rows["second"]["test_nats"] is None and rows["second"]["valid_nats"] > 0


def test_a_model_with_zero_loss_comes_first(call, home):
    shutil.copytree(home / "checkpoints" / "first", home / "checkpoints" / "perfect")
    with (home / "checkpoints" / "perfect" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"result": {"test_nats": 0.0, "seconds": 1.0, "n_chars": 1}}) + "\n")
    assert [row["run"] for row in json.loads(call("compare --json")[0])][:2] == ["perfect", "first"]


def test_an_exported_model_samples_the_same_text_and_float16_is_smaller(call, home):
    assert call("export first whole.safetensors")[0] == ""
    assert call("sample whole.safetensors --seed 1") == call("sample first --seed 1")
    call("export first half.safetensors --half")
    call("export first whole.safetensors --force")
    sizes = [(home / f"{name}.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < sizes[0]
    assert len(call("sample half.safetensors --length 10")[0]) == 11


@pytest.mark.parametrize(
    "line",
    [
        "sample hub --length 20 --seed 1",
        "eval hub",
        "info hub",
        "next hub --prime one",
        "score hub text.txt --json",
        "inspect hub --json",
        "compress text.txt --model hub -o text.clm",
        "export hub again.safetensors",
        "export hub again --hub --half",
        "train --from hub --corpus text.txt --epochs 1 --name onwards",
    ],
)
def test_a_folder_for_model_hubs_is_read_as_its_run(call, line):
    assert call("export first hub --hub")[0] == ""
    call(line)


def test_a_model_with_counts_is_not_exported_to_onnx(call, exit_code, home, capsys):
    call("train --corpus text.txt --model ngram --name counted")
    assert exit_code("export counted model.onnx") == 2
    expected = "charlm: ngram cannot be exported to ONNX: it reads counts; export a network without counts\n"
    assert capsys.readouterr().err == expected and not (home / "model.onnx").exists()


def test_a_prompt_from_a_pipe_and_a_closed_pipe_leave_no_traceback(home):
    charlm_sample = f"{shlex.quote(sys.executable)} -m charlm sample first --prime-file - --length 100000"
    line = f"printf 'one hundred ' | {charlm_sample} | head -c 20; printf '\\n%s\\n' ${{PIPESTATUS[1]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=ENV)
    assert done.stderr == ""
    assert done.stdout.startswith("one hundred ") and len(done.stdout[:20]) == 20
    assert done.stdout[20:] == "\n141\n"  # 128 + SIGPIPE
