"""Files: locks on folders, partial files of killed processes, atomic writes."""

import os
import signal
import subprocess
import sys

import pytest

from charlm import files
from charlm.errors import OutputError


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
