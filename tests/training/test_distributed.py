"""Several processes train as one, make the same decisions, and resume, also with another number of processes."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes

from charlm.data import named_texts
from charlm.data.corpus import make_corpus
from charlm.data.feeds import Chunks, Stream, Windows
from charlm.errors import UsageError
from charlm.models import build
from charlm.recipe import Recipe
from charlm.training import callbacks, distributed, session
from charlm.training.loop import Callback, TrainState, fit
from charlm.training.setup import fill_defaults
from charlm.training.timer import Timer

# slow imports happen once, in the server process that forks all others
multiprocessing.set_forkserver_preload(
    ["pytest", "torch._dynamo", "torch.utils.tensorboard", "charlm.training.session"]
)
TEXT = ("the cat sat on the mat, and the dog sat on the log. " * 30).encode()
CODES = torch.tensor((1, 1, 2, 1, 3, 2, 3)).repeat(40)
STEPS = 50
TRAININGS = {  # model, options, feed, other fields of the state
    "stream": ("lstm", {"n_hidden": 8, "n_layers": 2}, Stream(CODES, 4, 5), {}),
    "one lane each": ("min-gru", {"n_hidden": 8}, Stream(CODES, 4, 3), {}),
    "windows, a last batch of two": ("char3", {"n_hidden": 8}, Windows(CODES[:45], 3, 8), {"label_smoothing": 0.1}),
    "chunks, a last batch of one": ("gru", {"n_hidden": 8}, Chunks(CODES, 4, 23), {}),
    "transformer": ("transformer", {"n_embed": 8, "window_size": 6, "dropout": 0.0}, Stream(CODES, 5, 6), {}),
}


def _work(rank, n, folder, work, arguments):
    torch.set_num_threads(1)
    if n > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=n)
    torch.save(work(*arguments), folder / f"{rank}.pt")


def together(n, folder, work, *arguments):
    """Call a function in each of n processes and return the results."""
    folder.mkdir()
    start_processes(_work, (n, folder, work, arguments), n, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(n)]


class Each(Callback):
    """Call a function after every step."""

    def __init__(self, do):
        self.do = do

    def on_batch_end(self, state):
        self.do(state)


def make(name, options, feed, changes, minutes=None):
    torch.manual_seed(0)
    model = build(name, 4, **{"n_embed": 4} | options).double()
    return TrainState(model, feed, torch.optim.Adam(model.parameters(), 0.02), math.inf, Timer(minutes), **changes)


def trained(name):
    """Return the mean loss of each step, the characters read, and the weights at the end."""
    state, sums = make(*TRAININGS[name]), []

    def look(state):
        sums.append(float(state.sum_nats))
        state.stop = state.step == STEPS

    first = [callbacks.AllReduceGradients(), callbacks.Schedule(0.02, lambda done: 1.0)]
    steering = [*first, callbacks.ActivationRegularization(2, 1), callbacks.ClipGradient(0.5), callbacks.EMA(0.8)]
    fit(state, [*steering, Each(look)])
    return sums, state.n_chars, [p.detach() for p in state.model.parameters()]


def all_trained():
    return {name: trained(name) for name in TRAININGS}


@pytest.fixture(scope="module")
def one():
    return all_trained()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Return the results of two processes, and their folder."""
    folder = tmp_path_factory.mktemp("two")
    train(folder / "started by one", STOP)
    found = together(2, folder / "found", by_two, folder)
    return folder, {key: [each[key] for each in found] for key in found[0]}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return together(3, tmp_path_factory.mktemp("three") / "found", all_trained)


@pytest.mark.parametrize("name", TRAININGS)
def test_several_processes_train_as_one_does(one, two, three, name):
    for several in (two[1]["trained"], three):
        for each in several:
            torch.testing.assert_close(each[name], one[name], rtol=1e-5, atol=1e-7)
            torch.testing.assert_close(each[name], several[0][name], rtol=0, atol=0)


def decided():
    """Return the counters after several ways to stop a training."""
    found, first = {}, distributed.is_main_process()

    def ended(name, listed, minutes=None):
        state, done = make("rnn", {}, Stream(CODES, 4, 4), {}, minutes), []
        saved = []
        save = callbacks.ModelCheckpoint(lambda name, state: saved.append((name, state.step)), None, 1e-4)
        note = Each(lambda state: done.append(state.progress))
        fit(
            state,
            [callbacks.AllReduceGradients(), *listed, note, save, callbacks.StopOnSignal()],
        )
        found[name] = state.step, state.epoch, state.interrupted, int(state.stop), done, saved

    def stop(state):
        state.stop = state.step == 7 and not first

    def send(number, step):
        """Return a callback that sends a signal to the second process within the step after `step`."""
        send_now = lambda self, state: state.step == step and not first and os.kill(os.getpid(), number)  # noqa: E731
        return type("Send", (Callback,), {"on_batch_start": send_now})()

    ended("stop", [Each(stop)])
    ended("minutes", [], minutes=0.01)
    ended("signal", [send(signal.SIGUSR1, 3), send(signal.SIGTERM, 29)])
    value = distributed.run_on_rank0(lambda: os.getpid() if first else 1 / 0)
    try:
        distributed.run_on_rank0(lambda: named_texts.open_texts(["no-such-text"]))
    except Exception as error:
        found["error"] = str(error)
    return found | {"value": value}


def test_all_processes_stop_and_save_at_the_same_step(two):
    first, second = two[1]["decided"]
    assert first == second
    assert first["stop"][:2] == (7, 0)
    assert first["minutes"][0] > 0
    assert first["minutes"][4][-1] < 1
    assert first["signal"][:4] == (30, 1, True, signal.SIGTERM)
    assert ("last", 4) in first["signal"][5]
    assert "no-such-text" in first["error"]


class Interrupt(Callback):
    """Stop a training after a step, as a signal to one process does."""

    def __init__(self, step):
        self.step = step

    def on_batch_end(self, state):
        if state.step == self.step and distributed.is_main_process():
            state.stop = signal.SIGINT


def recipe(**changes):
    sizes = {"model": "lstm", "epochs": 3, "batch_size": 7, "bptt": 16, "device": "cpu", "options": {"n_hidden": 12}}
    return Recipe().replace(**sizes | {"ema": 0.9, "patience": 5, "clip": 1.0} | changes)


def train(folder, stop_at=None, resume=False, **changes):
    """Train or resume; return the results, the differences from before, and a random number drawn after each step."""
    differs, drawn = [], []
    extra = [] if stop_at is None else [Interrupt(stop_at)]
    extra.append(Each(lambda state: drawn.append(float(torch.rand(())))))
    made = session.train(
        recipe(**changes), make_corpus(TEXT, "cats"), folder, extra, differs.extend if resume else None
    )
    return made.metadata.result, differs, drawn


def by_two(folder):
    """Return the results of all trainings of two processes."""
    dropping = {"options": {"n_hidden": 12, "head_dropout": 0.3}}
    train(folder / "started by two", STOP)
    train(folder / "dropout", STOP, **dropping)
    return {
        "trained": all_trained(),
        "decided": decided(),
        "refused": refused(),
        "started by one": train(folder / "started by one", resume=True),
        "dropout": train(folder / "dropout", resume=True, **dropping),
        "whole dropout": train(folder / "whole dropout", **dropping),
    }


KEYS = ("valid_nats", "test_nats", "n_chars")
STOP = 8  # a step in the middle of an epoch, which has 12


def test_another_number_of_processes_resumes_with_the_same_order_of_the_data(two, tmp_path):
    folder, found = two
    whole, _, _ = train(tmp_path / "whole")
    by_one = train(folder / "started by two", resume=True)
    for result, differs, _ in [*found["started by one"], by_one]:
        assert result["n_chars"] == whole["n_chars"]
        assert [result[key] for key in KEYS] == pytest.approx([whole[key] for key in KEYS], rel=0.05)
        numbers = ("2 then, 1 now", "1 then, 2 now")
        assert differs in [[f"processes: {n}; hidden states start from zero"] for n in numbers]
    for run in ("started by one", "started by two"):
        lines = [json.loads(line) for line in (folder / run / "metrics.jsonl").read_text().splitlines()]
        steps = [line["step"] for line in lines if "step" in line]
        assert len(steps) == len(set(steps)) and steps[-1] == 36


def test_only_rank_0_writes(two):
    files = {path.name.split(".")[0] for path in (two[0] / "whole dropout").glob("[a-z]*.*") if path.is_file()}
    assert files == {"best", "events", "last", "metrics", "projector_config", "recipe"}


def test_processes_draw_different_dropout_and_resume_it_bit_exactly(two):
    whole, stopped = two[1]["whole dropout"], two[1]["dropout"]
    assert whole[0][2] != whole[1][2]
    for (result, differs, drawn), (expected, _, expected_drawn) in zip(stopped, whole, strict=True):
        assert [result[key] for key in KEYS] == [expected[key] for key in KEYS]
        assert (differs, drawn) == ([], expected_drawn[-len(drawn) :])


def refused():
    """Return the error messages of invalid options for several processes."""
    messages = []
    for choice in (Recipe(batch_size=1), Recipe(model="ngram")):
        with pytest.raises(UsageError) as caught:
            fill_defaults(choice, torch.device("cpu"))
        messages.append(str(caught.value))
    for kind in ("cuda", "mps"):
        with pytest.raises(UsageError) as caught:
            distributed.rank_device(torch.device(kind))
        messages.append(str(caught.value))
    return messages


def test_invalid_options_for_several_processes_are_one_line(two):
    few, counts, gpus, mps = two[1]["refused"][1]
    assert few == "2 processes for a batch of 1; take fewer processes, or a larger --batch-size"
    assert counts == "model ngram has no gradients and runs in one process; start it without torchrun"
    assert gpus.startswith("each process needs its own GPU and there are ")
    assert mps == "several processes cannot add up gradients on mps; take --device cpu"


def test_other_commands_run_in_one_process(monkeypatch, capsys, exit_code):
    for key, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(key, value)
    assert exit_code("bench gru") == 2
    assert capsys.readouterr().err == "charlm: `charlm bench` runs in a single process; start it without torchrun\n"
    assert exit_code("train --corpus -") == 2
    assert capsys.readouterr().err == "charlm: only one process can read standard input; give --corpus a file\n"


THREADS = """
import atexit, os, sys
from pathlib import Path
from charlm.cli import main

def tell():
    names = (path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))
    print("at exit", *(f"there is {name}" for name in names if "gloo" in name), file=sys.stderr)

atexit.register(tell)
main()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads cannot be listed here")
def test_no_thread_of_the_group_is_left_when_python_shuts_down(tmp_path):
    (tmp_path / "cats.txt").write_bytes(TEXT)
    (tmp_path / "threads.py").write_text(THREADS)
    line = (
        "train --corpus cats.txt --model gru --n-hidden 4 --batch-size 4 --bptt 8 --epochs 1 --device cpu --no-samples"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*torchrun, "threads.py", *line.split()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (done.stderr.count("at exit"), done.stderr.count("there is")) == (2, 0)  # both may be on one line


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
from charlm.cli import main

def die():
    while not Path("checkpoints/gru/last.safetensors").exists():
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)

if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    threading.Thread(target=die, daemon=True).start()
main()
"""


def test_a_run_of_which_a_process_is_killed_finishes_with_the_result_of_one_that_is_not(
    tmp_path, monkeypatch, exit_code
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cats.txt").write_bytes(TEXT)
    (tmp_path / "killed.py").write_text(KILLED)
    line = "train --corpus cats.txt --model gru --n-hidden 12 --dropout 0 --head-dropout 0"
    line += " --batch-size 7 --bptt 8 --epochs 4 --device cpu"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*torchrun, "killed.py", *line.split(), "--no-samples", "--save-steps", "10"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "exitcode: -9" in done.stderr
    assert exit_code(f"{line} --name whole") == 0
    results = [
        json.loads((tmp_path / "checkpoints" / run / "metrics.jsonl").read_text().splitlines()[-1])["result"]
        for run in ("gru", "whole")
    ]
    assert [results[0][key] for key in KEYS] == pytest.approx([results[1][key] for key in KEYS], rel=1e-4)
    assert len(os.listdir("checkpoints")) == 2
    assert done.stderr.count("bits per character, each part read once from its start: valid") == 1
