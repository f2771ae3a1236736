"""The last good checkpoint survives every failing file operation and a power failure at any moment."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from charlm import files
from charlm.data.corpus import make_corpus
from charlm.errors import OutputError
from charlm.recipe import Recipe
from charlm.storage import checkpoint, run_log, runs
from charlm.training import session
from charlm.training.callbacks import IgnoreIOErrors, JSONLinesLogger
from charlm.training.loop import Callback

TEXT = ("the cat sat on the mat, and the dog sat on the log. " * 8).encode()
OLD, NEW = b"old " * 300, b"new! " * 500


class PowerFailure(BaseException):
    """A power failure."""


class Disk:
    """The functions of `os` that write files; call number `fail_at` fails, and with `stays` all later ones, too.

    It records the content after a power failure: the bytes of a file are safe once the file is flushed, its name once
    the folder is.
    """

    def __init__(self, fail_at=None, error=None, stays=False):
        self.fail_at, self.error, self.stays = fail_at, error, stays
        self.n_calls = 0
        self.bytes, self.safe_bytes = {}, {}  # by file
        self.names, self.safe_names = {}, {}  # file by path
        self.handles = {}

    def __getattr__(self, name):
        return getattr(os, name)

    def _call(self, before_failing=lambda: None):
        self.n_calls += 1
        if self.fail_at is not None and (self.n_calls == self.fail_at or (self.stays and self.n_calls > self.fail_at)):
            before_failing()
            raise self.error

    def open(self, path, flags, mode=0o777):
        self._call()
        handle = os.open(path, flags, mode)
        if flags & os.O_CREAT:
            self.names[str(path)] = self.handles[handle] = file = object()
            self.bytes[file] = b""
        else:
            self.handles[handle] = str(path)
        return handle

    def write(self, handle, data):
        self._call(lambda: os.write(handle, data[: len(data) // 2]))
        n = os.write(handle, data[: len(data) // 2 + 1])  # a short write, which POSIX allows
        self.bytes[self.handles[handle]] += bytes(data[:n])
        return n

    def fsync(self, handle):
        self._call()
        os.fsync(handle)
        what = self.handles[handle]
        if isinstance(what, str):
            inside = {path: file for path, file in self.names.items() if os.path.dirname(path) == what}
            elsewhere = {path: file for path, file in self.safe_names.items() if os.path.dirname(path) != what}
            self.safe_names = inside | elsewhere
        else:
            self.safe_bytes[what] = self.bytes[what]

    def close(self, handle):
        os.close(handle)
        self._call()

    def replace(self, old, new):
        self._call()
        os.replace(old, new)
        self.names[str(new)] = self.names.pop(str(old))

    def unlink(self, path):
        self._call()
        os.unlink(path)
        self.names.pop(str(path), None)

    def after_power_failure(self):
        """Yield possible contents, bytes by path: unflushed data is lost, torn or zeroed."""
        for names in (self.safe_names, self.names):
            for damage in (lambda data: b"", lambda data: data[: len(data) // 2], lambda data: bytes(len(data))):
                found = {}
                for path, file in names.items():
                    is_safe = self.safe_bytes.get(file) == self.bytes[file]
                    found[path] = self.bytes[file] if is_safe else damage(self.bytes[file])
                yield found


@pytest.fixture
def disk(monkeypatch):
    """Return a function that makes a `Disk` and lets charlm write to it."""

    def make(*arguments, **options):
        made = Disk(*arguments, **options)
        monkeypatch.setattr(files, "os", made)
        return made

    return make


def n_calls_of_a_write(disk, path):
    counting = disk()
    files.atomic_write(path, OLD)
    return counting.n_calls


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("stays", [False, True])
def test_whichever_operation_fails_a_file_is_the_old_or_the_new_one_without_temporary_files(
    disk, tmp_path, code, stays
):
    path = tmp_path / "x"
    for n in range(1, n_calls_of_a_write(disk, path) + 1):
        disk(n, OSError(code, os.strerror(code)), stays)
        with pytest.raises(OutputError, match=f"{path}: cannot be written: {os.strerror(code)}") as error:
            files.atomic_write(path, NEW)
        assert ("MB are free" in str(error.value)) == (code == errno.ENOSPC)
        assert path.read_bytes() in (OLD, NEW)
        disk()
        files.remove_temp_files(tmp_path)
        assert os.listdir(tmp_path) == ["x"]
        files.atomic_write(path, OLD)


def test_after_a_power_failure_at_any_operation_a_file_is_the_old_or_the_new_one(disk, tmp_path):
    path, seen = tmp_path / "x", set()
    for n in range(1, 2 * n_calls_of_a_write(disk, path)):
        failing = disk(n, PowerFailure(), stays=True)
        written = 0
        try:
            for data in (OLD, NEW):
                files.atomic_write(path, data)
                written += 1
        except PowerFailure:
            pass
        for found in failing.after_power_failure():
            content = found.get(str(path))
            seen.add(content)
            assert content in ((None, OLD), (OLD, NEW), (NEW,))[written]
    assert seen == {None, OLD, NEW}


@pytest.mark.parametrize("forgotten", ["file", "folder"])
def test_without_either_flush_a_power_failure_would_lose_the_file(disk, tmp_path, monkeypatch, forgotten):
    class Forgetful(Disk):
        def fsync(self, handle):
            if isinstance(self.handles[handle], str) == (forgotten == "folder"):
                return
            super().fsync(handle)

    made = Forgetful()
    monkeypatch.setattr(files, "os", made)
    files.atomic_write(tmp_path / "x", OLD)
    assert any(found.get(str(tmp_path / "x")) != OLD for found in made.after_power_failure())


@pytest.fixture(scope="module")
def corpus():
    return make_corpus(TEXT, "cats")


RECIPE = Recipe().replace(
    model="rnn",
    epochs=2,
    batch_size=4,
    bptt=30,
    save_steps=1,
    device="cpu",
    options={"n_embed": 3, "n_hidden": 4},
)


@pytest.fixture(scope="module")
def expected(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    session.train(RECIPE, corpus, folder)
    return final_weights(folder)


def final_weights(folder):
    tensors = checkpoint.read(folder / "last.safetensors")[1]
    return {name: tensor for name, tensor in tensors.items() if "/" not in name}


def train_on(folder, corpus):
    """Resume the run, or restart it if nothing was saved; return the final weights."""
    can_resume = (folder / "last.safetensors").exists()
    if not can_resume:
        shutil.rmtree(folder, ignore_errors=True)
    session.train(RECIPE, corpus, folder, resume=(lambda differs: None) if can_resume else None)
    return final_weights(folder)


def operations_of(disk, corpus, folder):
    counting = disk()
    session.train(RECIPE, corpus, folder)
    return counting.n_calls


@pytest.mark.parametrize(("code", "stays"), [(errno.ENOSPC, True), (errno.EIO, False)], ids=["full", "faulty"])
def test_a_training_on_a_full_or_faulty_disk_keeps_its_checkpoint_and_resumes_later(
    disk, corpus, expected, tmp_path, capsys, code, stays
):
    n_failed = 0
    for n in range(1, operations_of(disk, corpus, tmp_path / "count") + 1, 7):
        folder = tmp_path / str(n)
        disk(n, OSError(code, os.strerror(code)), stays)
        try:
            session.train(RECIPE, corpus, folder)
        except OutputError as error:
            n_failed += 1
            assert str(folder) in str(error)
        for file in folder.glob("*.safetensors"):
            checkpoint.read(file)
        disk()
        capsys.readouterr()
        torch.testing.assert_close(train_on(folder, corpus), expected, rtol=0, atol=0)
    assert n_failed > 0


def test_after_a_power_failure_at_any_operation_a_training_resumes_from_its_files(
    disk, corpus, expected, tmp_path, capsys
):
    n_resumed = 0
    for n in range(1, operations_of(disk, corpus, tmp_path / "count") + 1, 5):
        folder = tmp_path / str(n)
        failing = disk(n, PowerFailure(), stays=True)
        with pytest.raises(PowerFailure):
            session.train(RECIPE, corpus, folder)
        disk()
        for found in list(failing.after_power_failure())[n % 6 :: 6]:  # one of them, in turn
            for name in ("last.safetensors", "best.safetensors", "recipe.toml"):
                path = folder / name
                path.unlink(missing_ok=True)
                if str(path) in found:
                    path.write_bytes(found[str(path)])
            n_resumed += (folder / "last.safetensors").exists()
            torch.testing.assert_close(train_on(folder, corpus), expected, rtol=0, atol=0)
    assert n_resumed > 5


class FillLog(Callback):
    """Replace the open metrics.jsonl by a file on a full disk."""

    def __init__(self, folder):
        self.path = folder / "metrics.jsonl"

    def on_fit_start(self, state):
        self.path.unlink()
        self.path.symlink_to("/dev/full")


def test_logs_that_cannot_be_written_do_not_end_a_training(corpus, expected, tmp_path, capsys):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    full = IgnoreIOErrors(JSONLinesLogger(Path("/dev/full")))
    session.train(RECIPE, corpus, tmp_path / "run", [full, FillLog(tmp_path / "run")])
    torch.testing.assert_close(final_weights(tmp_path / "run"), expected, rtol=0, atol=0)
    err = capsys.readouterr().err
    assert err.count("JSONLinesLogger is disabled, training continues: No space left on device") == 1
    assert "the result is in the checkpoint, but not here: No space left on device" in err


class StopAt(Callback):
    """Stop a training by a signal after a step."""

    def __init__(self, step):
        self.step = step

    def on_batch_end(self, state):
        state.stop = signal.SIGINT if state.step == self.step else state.stop


CUT = '{"step": 1, "sample": "Ä'.encode()[:-1]
DAMAGED = [None, CUT, b"\xff\xfe\n[1]\n" + b"[" * 100_000 + b"\n" + b'{"step": ' + b"9" * 6000 + b"}\n"]


@pytest.mark.parametrize("log", DAMAGED, ids=["missing", "cut in a character", "nonsense"])
def test_a_log_is_not_needed_to_resume(corpus, expected, tmp_path, log):
    folder = tmp_path / "run"
    session.train(RECIPE, corpus, folder, [StopAt(2)])
    path = folder / "metrics.jsonl"
    path.unlink()
    if log is not None:
        path.write_bytes(log)
    assert runs.find_run(str(folder)) == folder
    session.train(RECIPE, corpus, folder, resume=lambda differs: None)
    torch.testing.assert_close(final_weights(folder), expected, rtol=0, atol=0)
    assert run_log.result_of(folder)["interrupted"] is False and run_log.read_log(folder)[1] == 0


def test_a_result_after_a_cut_line_is_on_a_line_of_its_own(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(CUT)
    run_log.append_result(tmp_path, {"test_nats": 1.0})
    assert run_log.result_of(tmp_path) == {"test_nats": 1.0} and run_log.read_log(tmp_path)[1] == 1


def test_a_signal_on_a_full_disk_is_reported_as_a_signal(disk, corpus, tmp_path, capsys):
    class Fill(StopAt):
        def on_batch_end(self, state):
            if state.step == self.step:
                disk(1, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), True)
            super().on_batch_end(state)

    folder = tmp_path / "run"
    model = session.train(RECIPE, corpus, folder, [Fill(3)])
    assert model.metadata.result["signal"] == signal.SIGINT
    assert "not saved: " in capsys.readouterr().err
    disk()
    checkpoint.read(folder / "last.safetensors")


LIMITED = """
import os, resource, sys
from charlm.cli import main
line = "train --corpus human-numbers:60 --model gru --n-hidden 4 --n-embed 4 --epochs 1 --no-samples --name "
def run(name):
    try:
        main([*line.split(), name])
    except SystemExit as stop:
        return stop.code
run("before")  # imports all there is to import
null = os.open(os.devnull, os.O_RDWR)
for free in map(int, sys.argv[1:]):
    highest = max(map(int, os.listdir("/proc/self/fd")))
    while os.dup(null) < highest:
        pass
    highest = max(map(int, os.listdir("/proc/self/fd")))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + free, before[1]))
    code = run(f"free-{free}")
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    print(f"free {free}: {code}", file=sys.stderr)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux")
def test_with_few_open_files_a_training_ends_without_a_traceback(tmp_path):
    env = os.environ | {"PYTHONPATH": str(Path(files.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *"01234"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    codes = dict(line.removeprefix("free ").split(": ") for line in done.stderr.splitlines() if line[:5] == "free ")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert set(codes) == set("01234") and codes["4"] == "0"
    assert set(codes.values()) <= {"0", "66", "74"}
