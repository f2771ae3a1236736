"""A folder has one owner, and what a killed process left half-written is swept."""

import os
import signal
import subprocess
import sys

import pytest

from charlm import files
from charlm.errors import OutputError


def test_a_second_owner_is_refused_and_told_who_the_first_is(tmp_path):
    program = "import sys, charlm.files as f\nwith f.owned(f.Path(sys.argv[1])): print('mine', flush=True), input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "mine\n"
        with (
            pytest.raises(OutputError, match=f"{tmp_path}: process {first.pid} on .*, since 20.*, is training there"),
            files.exclusive_lock(tmp_path),
        ):
            pass
        first.send_signal(signal.SIGKILL)
        first.wait()
        with files.exclusive_lock(tmp_path):  # the system ended its ownership
            pass


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path):
    for name in (".last.safetensors.0a1b2c3d.tmp", ".x.tmp", "notes.tmp", ".hidden", "last.safetensors"):
        (tmp_path / name).write_text("x")
    with files.exclusive_lock(tmp_path):
        assert sorted(set(os.listdir(tmp_path)) - {files.LOCK, files.OWNER}) == [
            ".hidden",
            "last.safetensors",
            "notes.tmp",
        ]


def test_ctrl_c_within_a_write_leaves_what_was_there(tmp_path, monkeypatch):
    def interrupted(handle):
        raise KeyboardInterrupt

    files.atomic_write(tmp_path / "x", b"old")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.atomic_write(tmp_path / "x", b"new")
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"
