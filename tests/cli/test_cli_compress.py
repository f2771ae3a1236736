"""`charlm compress` and `charlm decompress`: files, standard streams, the model found by its SHA-256, errors."""

import os
import subprocess
import sys

import pytest

from charlm.cli import main

TEXT = "Supposing that Truth is a woman, what then?\n"


def run(*line):
    """Run a command and return its exit code."""
    with pytest.raises(SystemExit) as stop:
        main([*map(str, line)])
    return stop.value.code


@pytest.fixture
def text(tmp_path, monkeypatch):
    """Return a text file in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode() + b"\xff\0")
    return path


def test_a_file_is_compressed_and_restored_by_the_built_in_model(text, capsys):
    assert run("compress", text) == 0
    error = capsys.readouterr().err
    assert "46 bytes to " in error and " 2 unknown to the model: " in error
    original = text.read_bytes()
    text.unlink()
    assert run("decompress", f"{text}.clm") == 0
    assert text.read_bytes() == original


def test_nothing_is_replaced_without_force(text, capsys):
    assert run("compress", text, "--model", "none") == 0
    assert run("compress", text, "--model", "none") == 74
    assert run("decompress", f"{text}.clm") == 74
    assert "exists already; --force replaces it" in capsys.readouterr().err
    assert run("decompress", f"{text}.clm", "--force") == 0


def test_standard_streams_and_a_model_that_is_not_there(text):
    line = [sys.executable, "-m", "charlm"]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}

    def piped(data, *arguments):
        return subprocess.run([*line, *arguments], input=data, capture_output=True, env=environment, check=False)

    packed = piped(text.read_bytes(), "compress", "-", "--model", "none")
    assert packed.returncode == 0
    assert piped(packed.stdout, "decompress", "-").stdout == text.read_bytes()
    cut = piped(packed.stdout[:-1], "decompress", "-", "-o", "out.txt")
    assert (cut.returncode, cut.stdout, os.path.exists("out.txt")) == (65, b"", False)
    assert cut.stderr == b"charlm: -: is truncated; use another copy\n"
    empty = piped(b"", "compress", "-", "--model", "none").stdout
    assert piped(empty, "decompress", "-").stdout == b""


def test_a_missing_model_is_named_by_its_sha256(text, capsys):
    from charlm.storage.runs import packaged_model

    changed = text.with_name("other.safetensors")
    changed.write_bytes(packaged_model().read_bytes())
    assert run("compress", text, "--model", changed) == 0
    data = bytearray(text.with_name("text.txt.clm").read_bytes())
    assert run("decompress", "text.txt.clm", "--model", text, "-o", "x") == 2
    assert "has SHA-256" in capsys.readouterr().err
    start = data.index(b'"model":"') + 9
    import zlib

    data[start : start + 64] = b"0" * 64
    n = 12 + int.from_bytes(data[8:12], "little")
    data[n : n + 4] = zlib.crc32(data[:n]).to_bytes(4, "little")
    text.with_name("no.clm").write_bytes(data)
    assert run("decompress", "no.clm") == 66
    assert f"no run in checkpoints has the model with SHA-256 {'0' * 64}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (["compress", "nowhere.txt"], 66, "cannot be read"),
        (["compress", "text.txt", "--blocks", "0"], 2, "--blocks must be at least 1"),
        (["compress", "text.txt", "--dynamic", "--blocks", "2"], 2, "leave out --blocks"),
        (["compress", "text.txt", "--dynamic", "--model", "nietzsche"], 2, "needs a model of counts alone"),
        (
            ["compress", "text.txt", "--model", "none", "--model", "nietzsche"],
            2,
            "names 2 models; a file is compressed",
        ),
        (["compress", "text.txt", "--model", "mine.py:Mine"], 66, "model mine.py:Mine: there is no file mine.py"),
        (["decompress", "text.txt"], 2, "does not end in .clm; give -o FILE"),
        (["decompress", "text.txt", "-o", "x"], 65, "is not a file of `charlm compress`"),
    ],
)
def test_errors_are_one_line(text, capsys, line, code, message):
    assert run(*line) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") <= 2
    assert sorted(os.listdir()) == ["text.txt"]
