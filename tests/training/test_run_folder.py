"""Names and folders of runs: numbers are taken once, killed trainings block nothing, foreign files are safe."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch.distributed as dist

from charlm.errors import InputNotFoundError, OutputError, UsageError
from charlm.storage import run_log, runs
from charlm.training import launch

TRAIN = "train --corpus text.txt --epochs 1 --json"
GRU = "--model gru --n-embed 4 --n-hidden 4 --bptt 8 --batch-size 4"
RUNS = {"gru": GRU, "counts": "--model ngram"}
BEFORE_SAVING = ["recipe.toml", "metrics.jsonl", ".lock", ".owner.json"]


def result_of(call, line):
    result = json.loads(call(line)[0])
    return {key: result[key] for key in ("n_chars", "valid_nats", "test_nats")}


def kill_before_first_save(run):
    """Leave what a training leaves that was killed before it saved."""
    for path in run.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in BEFORE_SAVING:
            path.unlink()
    (run / "metrics.jsonl").write_text('{"step": 1, "n_chars": 32')


def test_trainings_that_start_at_once_take_different_numbers(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: runs.new_run("gru", tmp_path / "checkpoints"), range(64)))
    assert {path.name for path in folders} == {"gru", *(f"gru-{n}" for n in range(2, 65))}


def test_a_run_without_a_name_takes_the_next_number(call, home):
    for _ in range(2):
        call(f"{TRAIN} {GRU}")
    assert {"gru", "gru-2", "gru-3"} <= {path.name for path in (home / "checkpoints").iterdir()}


@pytest.mark.parametrize("line", [f"{TRAIN} {GRU} --name gru", "train --resume gru --json"], ids=["again", "resumed"])
def test_a_training_that_was_killed_before_its_first_save_begins_anew(line, call, home):
    expected = result_of(call, f"{TRAIN} {GRU} --name other")
    kill_before_first_save(home / "checkpoints" / "gru")
    assert result_of(call, line) == expected
    steps = [row["n_chars"] for row in run_log.log_of(home / "checkpoints" / "gru") if "train_nats" in row]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("name", RUNS)
def test_a_training_that_begins_anew_leaves_files_of_the_user(name, call, home):
    run = home / "checkpoints" / name
    kill_before_first_save(run)
    (run / "notes.txt").write_text("mine")
    assert "begins anew" in call(f"train --resume {name} --json")[1]
    assert (run / "notes.txt").read_text() == "mine"


def test_a_run_that_torchrun_restarts_before_its_first_save_begins_anew(call, home, monkeypatch):
    """The best model of its first epoch was written; a new run would refuse the folder that has it."""
    run = home / "checkpoints" / "gru"
    expected, best = run_log.result_of(run), (run / "best.safetensors").read_bytes()
    kill_before_first_save(run)
    (run / "best.safetensors").write_bytes(best)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    launched = {"TORCHELASTIC_USE_AGENT_STORE": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    for key, value in launched.items():
        monkeypatch.setenv(key, value)
    launch.publish_run(str(run))
    assert result_of(call, f"{TRAIN} {GRU}")["test_nats"] == expected["test_nats"]
    assert (run / "last.safetensors").is_file()


def test_a_training_that_was_killed_before_it_logged_anything_is_resumed(call, home):
    kill_before_first_save(home / "checkpoints" / "gru")
    (home / "checkpoints" / "gru" / "metrics.jsonl").unlink()
    assert call("train --resume gru --json")[0]


def test_a_killed_counting_run_is_resumed(call, home):
    run = home / "checkpoints" / "counts"
    expected = [row["result"]["test_nats"] for row in run_log.log_of(run) if "result" in row]
    (run / "metrics.jsonl").write_text("")
    assert [result_of(call, "train --resume counts --json")["test_nats"]] == expected


@pytest.mark.parametrize("file", ["notes.txt", "best.safetensors", "last.safetensors", "row.json"])
def test_a_folder_with_anything_else_is_not_touched(file, tmp_path):
    (tmp_path / file).write_text("mine")
    with pytest.raises(OutputError, match="exists already; choose another --name"):
        runs.check_unused(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../x", "/tmp/x", "a/b", "a\\b", ".", "..", "a\nb", "a\x1b[2J", "x" * 256, "ä" * 128, "\udcff", "a\0"],
    ids=repr,
)
def test_a_name_that_is_not_one_folder_is_refused(name, tmp_path):
    with pytest.raises(UsageError, match="--name"):
        runs.named_run(name, tmp_path / "checkpoints")


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "näme 1", "-x", ".x"], ids=lambda name: name[:9])
def test_any_other_name_is_taken(name, tmp_path):
    assert runs.named_run(name, tmp_path) == tmp_path / name


@pytest.mark.parametrize("find", [runs.find_run, runs.find_checkpoint])
@pytest.mark.parametrize("name", ["x" * 300])
def test_a_name_that_no_file_can_have_is_not_found(find, name, tmp_path):
    with pytest.raises(InputNotFoundError, match="no run"):
        find(name, tmp_path)


def test_a_bad_name_is_refused_before_the_text_is_read(exit_code, home, capsys):
    assert exit_code("train --corpus nothere.txt --name ../x") == 2
    assert exit_code("train --corpus nothere.txt --name gru") == 74
    assert "nothere" not in capsys.readouterr().err
    assert not Path("x").exists()
