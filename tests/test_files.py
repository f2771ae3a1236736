"""Files: locks on folders, partial files of killed processes, atomic writes."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from charlm import files
from charlm.errors import OutputError
from charlm.experiments.plots import figure
from charlm.generation.language_model import LanguageModel
from charlm.models import build
from charlm.storage.checkpoint import Metadata


def test_a_locked_folder_is_refused_and_the_process_that_holds_it_is_named(tmp_path):
    program = "import sys, charlm.files as f\nwith f.exclusive_lock(f.Path(sys.argv[1])):\n"
    program += "    print('locked', flush=True), input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "locked\n"
        with (
            pytest.raises(OutputError, match=f"{tmp_path}: process {first.pid} on .*, since 20.*, is training there"),
            files.exclusive_lock(tmp_path),
        ):
            pass
        first.send_signal(signal.SIGKILL)
        first.wait()
        with files.exclusive_lock(tmp_path):  # the OS released the lock
            pass


def test_partial_files_are_removed_and_no_others(tmp_path):
    for name in (".last.safetensors.0a1b2c3d.tmp", ".x.tmp", "notes.tmp", ".hidden", "last.safetensors"):
        (tmp_path / name).write_text("x")
    with files.exclusive_lock(tmp_path):
        assert sorted(set(os.listdir(tmp_path)) - {files.LOCK, files.OWNER}) == [
            ".hidden",
            "last.safetensors",
            "notes.tmp",
        ]


def test_ctrl_c_during_a_write_leaves_the_previous_file(tmp_path, monkeypatch):
    def interrupted(handle):
        raise KeyboardInterrupt

    files.atomic_write(tmp_path / "x", b"old")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.atomic_write(tmp_path / "x", b"new")
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def tiny_model():
    return LanguageModel(
        build("gru", 3, n_embed=2, n_hidden=2), Metadata("gru", {"n_embed": 2, "n_hidden": 2}, 3, [97, 98], False, None)
    )


def write_plot(path):
    with figure(path, 1, 1) as axes:
        axes.plot([1, 2])


WRITERS = {
    "bytes": lambda path: files.atomic_write(path, b"new"),
    "checkpoint": lambda path: tiny_model().save(path),
    "half precision": lambda path: tiny_model().save(path, torch.float16),
    "plot": write_plot,
}


@pytest.fixture
def special(tmp_path):
    """Return a FIFO, a socket, links and a folder, by name, all in a temporary folder."""
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(tmp_path / "socket"))  # the path of a socket is at most 107 bytes long
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "dangling").symlink_to(tmp_path / "missing")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", ["fifo", "socket", "link", "dangling", "folder"])
def test_only_regular_files_are_replaced(special, writer, name):
    before = {path.name: path.lstat() for path in special.iterdir()}
    with pytest.raises(OutputError, match=f"{name}: cannot be written: it is not a regular file"):
        WRITERS[writer](special / name)
    after = {path.name: path.lstat() for path in special.iterdir()}
    assert {n: (s.st_mode, s.st_ino) for n, s in after.items()} == {n: (s.st_mode, s.st_ino) for n, s in before.items()}
    assert (special / "target").read_bytes() == b"old"


@pytest.mark.parametrize("name", ["fifo", "socket", "link", "dangling"])
def test_export_replaces_only_regular_files(special, name, exit_code, capsys):
    tiny_model().save(special / "model.safetensors")
    assert exit_code(f"export {special / 'model.safetensors'} {special / name} --force") == 74
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"charlm: {special / name}: cannot be written: it is not a regular file; choose another name\n"


@pytest.mark.parametrize("writer", WRITERS)
def test_a_linked_folder_can_be_written_to(tmp_path, writer):
    (tmp_path / "disk").mkdir()
    (tmp_path / "checkpoints").symlink_to(tmp_path / "disk")
    for _ in range(2):  # a new file, and one that exists
        WRITERS[writer](tmp_path / "checkpoints" / "x")
    assert os.listdir(tmp_path / "disk") == ["x"]


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_has_the_permissions_that_the_umask_leaves(tmp_path, writer, mask):
    before = os.umask(mask)
    try:
        for name in ("new", "new"):
            WRITERS[writer](tmp_path / name)
        Path(tmp_path / "log").open("a").close()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"new": 0o666 & ~mask, "log": 0o666 & ~mask}
