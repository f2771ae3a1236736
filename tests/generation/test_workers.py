"""Texts written by several processes are those of one; what goes wrong in one is told in one line; all end in time."""

import multiprocessing
import os
import signal
import subprocess
import sys
from functools import partial
from itertools import islice

import pytest

from charlm.errors import CharlmError, CheckpointError, DataError
from charlm.generation import generator, workers
from charlm.storage import runs

THREE = range(3)


def letters(seeds):
    return [iter(chr(97 + seed) * 40) for seed in seeds]


def threads(seeds):
    return [iter([os.environ[name] for name in workers.THREADS]) for _ in seeds]


def failing(seeds):
    if 2 in seeds:
        raise DataError("not like this")
    return letters(seeds)


def dying(seeds):
    os._exit(3)


def without_end(seeds):
    return [iter(partial(str, seed), None) for seed in seeds]


def process_group(make_texts, world_size=2, n_pieces=40):
    return ["".join(text) for text in workers.written(make_texts, THREE, n_pieces, world_size)]


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_each_text_comes_whole_and_in_its_place(world_size):
    assert process_group(letters, world_size) == ["a" * 40, "b" * 40, "c" * 40]


def test_each_process_multiplies_with_one_thread_and_the_environment_is_as_before():
    before = dict(os.environ)
    assert process_group(threads) == ["1111"] * 3
    assert dict(os.environ) == before


def test_an_error_of_another_process_is_raised_here():
    with pytest.raises(DataError, match="not like this"):
        process_group(failing)


def test_a_process_that_is_no_more_is_an_error():
    with pytest.raises(CharlmError, match="has ended; write fewer at once"):
        process_group(dying)


def test_the_processes_end_when_nobody_reads_on():
    texts = workers.written(without_end, THREE, 10**9, 2)
    assert "".join(islice(next(texts), 3)).startswith("000")
    assert len(multiprocessing.active_children()) == 2
    texts.close()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("n_texts", "length", "n_bytes", "omp", "n"),
    [
        (256, 4096, 10**6, "", 8),
        (256, 2000, 10**6, "", 3),  # the start of a fourth would take longer than what it wrote
        (256, 1000, 10**6, "", 1),
        (256, 4096, 10**6, "3", 3),
        (256, 4096, 10**6, "1", 1),
        (40, 10**5, 10**6, "", 2),  # texts for two
        (1, 10**9, 10**6, "", 1),
        (256, 4096, 4 * 10**8, "", 2),  # memory for two
        (256, 4096, 10**10, "", 1),
    ],
)
def test_as_many_processes_as_are_worth_their_start(n_texts, length, n_bytes, omp, n, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", omp)
    assert workers.n_workers(n_texts, length, n_bytes) == n


def texts_of(model, length, stop):
    return ["".join(text) for text in model.generate_many(5, "the ", length, seed=1, stop=stop)]


@pytest.mark.parametrize(("length", "stop"), [(0, None), (50, None), (50, "e")])
def test_a_checkpoint_writes_the_same_with_several_processes(length, stop, monkeypatch):
    model = generator.load(runs.packaged_model())
    alone = texts_of(model, length, stop)
    monkeypatch.setattr(workers, "n_workers", lambda *_: 2)
    monkeypatch.setattr(generator, "N_TEXTS", 2)  # four at once, then one
    assert texts_of(model, length, stop) == alone
    assert len(set(alone)) > 1 or length == 0


@pytest.mark.parametrize("length", [workers.N_BLOCK - 2, workers.N_BLOCK - 1])
def test_what_may_be_the_beginning_of_the_stop_is_not_lost_at_the_end(length, monkeypatch):
    model = generator.load(runs.packaged_model())
    alone = texts_of(model, length, None)
    monkeypatch.setattr(workers, "n_workers", lambda *_: 2)
    assert texts_of(model, length, alone[0][-1] + "#") == alone


def test_a_checkpoint_that_was_written_anew_is_told(monkeypatch):
    model = generator.load(runs.packaged_model())
    model.metadata.counters["step"] = -1
    monkeypatch.setattr(workers, "n_workers", lambda *_: 2)
    with pytest.raises(CheckpointError, match="written anew by a training"):
        list(next(model.generate_many(4, length=5)))


@pytest.fixture
def many():
    """Start a command that writes many texts, in a group of processes of its own."""
    line = "-m charlm sample nietzsche --num 32 --length 1000000 --seed 1"
    environment = {name: value for name, value in os.environ.items() if name not in workers.THREADS}
    with subprocess.Popen(
        [sys.executable, *line.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment,
    ) as process:
        yield process
        process.kill()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Ctrl-C is a signal to a group of processes")
@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, b"interrupted"), (signal.SIGTERM, 143, b"terminated")]
)
def test_ctrl_c_ends_all_processes_with_one_line(many, number, code, said):
    many.stdout.read(100)
    os.killpg(many.pid, number)
    assert many.stderr.read() == b"charlm: " + said + b"\n"  # to its end: nobody has it open any more
    assert many.wait() == code


def test_a_reader_that_has_seen_enough_ends_all_processes(many):
    many.stdout.read(100)
    many.stdout.close()
    assert many.stderr.read() == b""
    assert many.wait() == 141


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no groups of processes")
def test_no_process_outlives_one_that_was_killed(many):
    many.stdout.read(100)
    many.kill()
    many.wait()
    assert many.stderr.read() == b""  # open as long as one of them lives
