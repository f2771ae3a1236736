"""Standard streams that are closed, full, of a small encoding, or a terminal: every command, every stream."""

import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import tty
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import charlm
from charlm.cli import main
from charlm.cli.streams import standard_streams
from charlm.messages import printable, say
from charlm.storage import checkpoint

TEXT = "Die Größe der Übermenschen — naïve café, 你好 😀.\n" * 30
TINY = "--n-hidden 4 --n-embed 4 --bptt 8 --batch-size 4"
TRAIN = f"train --corpus text.txt --model gru {TINY} --epochs 1"
FULL = "/dev/full"
ENV = os.environ | {"PYTHONPATH": str(Path(charlm.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
HOSTILE = "\x1b]0;title\x07\x1b[2Jt\x9b1m\u202ecorpus\r"
COMMANDS = [
    "--help",
    "--version",
    "sample made --length 9",
    "sample made --length 9 --json",
    "eval made",
    "eval made --json",
    "compare",
    "compare --json",
    "info made",
    "score made",
    "next made --prime Die",
    "models",
    "corpora",
    "recipes",
    f"lr-find --corpus text.txt {TINY} --n-steps 20",
    "bench gru --corpus text.txt --n-seeds 1 --epochs 1 --name b".replace("--n-seeds", "--seeds"),
]

needs_full = pytest.mark.skipif(not os.path.exists(FULL), reason="there is no /dev/full here")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder with a text, the run "made", and a checkpoint with control characters in its metadata."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("text.txt").write_text(TEXT, "utf-8")
        with pytest.raises(SystemExit, match="0"):
            main(shlex.split(f"{TRAIN} --name made --json"))
        model = charlm.load("made")
        corpus = model.metadata.corpus | {"name": HOSTILE}
        checkpoint.save(Path("hostile.safetensors"), model.model, replace(model.metadata, corpus=corpus))
    return folder


def exit_code(line, patch, **streams):
    """Run a command line with some standard streams replaced, and return its exit code."""
    with patch.context() as changed:
        for name, stream in streams.items():
            changed.setattr(sys, name, stream)
        with pytest.raises(SystemExit) as stop:
            main(shlex.split(line))
        return stop.value.code


def broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


@needs_full
@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_needs_no_standard_error_and_says_if_standard_output_fails(line, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    for open_stream, code in ((nullcontext, 74), (partial(open, FULL, "w"), 74), (broken_pipe, 141)):
        with open_stream() as stream:  # its end fails if the command has left what cannot be written
            assert exit_code(line, monkeypatch, stderr=stream) == 0
        assert capsys.readouterr().out
        with open_stream() as stream:
            assert exit_code(line, monkeypatch, stdout=stream) == code
        err = capsys.readouterr().err
        assert err.count("charlm: standard output") == (code == 74) and "Error" not in err


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_characters_that_an_encoding_lacks_are_escaped_with_one_note(encoding, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    prompt = "Die Größe 你好 😀"
    for line in (f"sample made --prime '{prompt}' --length 9", f"{TRAIN} --name {encoding}", *COMMANDS):
        out = io.TextIOWrapper(io.BytesIO(), encoding)
        assert exit_code(line, monkeypatch, stdout=out) == 0
        out.seek(0)
        printed = out.read()
        if "--json" in line:
            assert printed.isascii() and json.loads(printed)
        is_escaped = re.search(r"\\[uU][0-9a-f]{4}", printed) is not None and "--json" not in line
        note = f"charlm: standard output is {encoding}, which lacks characters"
        assert capsys.readouterr().err.count(note) == is_escaped
        if prompt in line:
            escaped = prompt.encode(encoding, "backslashreplace").decode(encoding).replace(r"\x", r"\u00")
            assert printed.startswith(escaped) and is_escaped


def on_terminal(line, patch, stream="stdout"):
    """Run a command line with a stream on a terminal, and return its exit code and what the terminal received."""
    master, slave = pty.openpty()
    with open(slave, "w", encoding="utf-8", newline="") as terminal:
        tty.setraw(slave)
        code = exit_code(line, patch, **{stream: terminal})
        terminal.write("end")
        terminal.flush()
        shown = b""
        while not shown.endswith(b"end"):
            shown += os.read(master, 1 << 10)
    os.close(master)
    return code, shown.decode().removesuffix("end")


CONTROLS = [
    chr(n) for n in [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
]


def test_control_characters_of_files_are_escaped_on_a_terminal(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert printable("a\tb\n" + "".join(CONTROLS)) == "a\tb\n" + "".join(f"\\u{ord(char):04x}" for char in CONTROLS)
    code, shown = on_terminal("info hostile.safetensors", monkeypatch)
    assert code == 0 and r"\u001b]0;title\u0007\u001b[2Jt\u009b1m\u202ecorpus\u000d" in shown
    assert not set(CONTROLS) & set(shown)
    code, shown = on_terminal("eval hostile.safetensors --corpus text.txt", monkeypatch, "stderr")
    assert code == 0 and not set(CONTROLS) & set(shown)
    for line in ("sample '\x1b[2J'", "info made --model '\x1b[2J'", "train --corpus '\x1b[2Ja\rb'", "'\x1b[2J'"):
        code, shown = on_terminal(line, monkeypatch, "stderr")
        assert code in (2, 66) and "b[2J" in shown and not set(CONTROLS) & set(shown)


def test_a_progress_bar_below_another_one_moves_the_cursor_back(monkeypatch, capsys):
    with standard_streams(raw=False):
        sys.stderr.write("\x1b[A")
        sys.stderr.write("a\x1b[A")
    assert capsys.readouterr().err == "\x1b[Aa\\u001b[A"


def test_a_sample_is_raw_in_a_pipe_and_escaped_on_a_terminal(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    Path("control.txt").write_text("\x1b[2J\x9b\r\nab\rc" * 60, "utf-8", newline="")
    controls = f"train --corpus control.txt --model gru {TINY} --epochs 1 --name controls"
    assert exit_code(controls, monkeypatch) == 0
    capsys.readouterr()
    line = "sample controls --length 0 --prime '\x1b[2J\x9b\r\nab\rc'"
    assert exit_code(line, monkeypatch) == 0
    assert capsys.readouterr().out == "\x1b[2J\x9b\r\nab\rc\n"
    code, shown = on_terminal(line, monkeypatch)
    assert (code, shown) == (0, "\\u001b[2J\\u009b\r\nab\\u000dc\n")


@needs_full
def test_a_message_is_lost_rather_than_the_work(monkeypatch, capsys):
    closed = io.StringIO()
    closed.close()
    with open(FULL, "w") as full:
        for stream in (None, closed, full):
            with monkeypatch.context() as changed:
                changed.setattr(sys, "stderr", stream)
                say("lost")
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert capsys.readouterr().out == ""


@needs_full
def test_a_training_needs_none_of_the_standard_streams(home):
    """Started as from a shell, at once, because each takes a second to start."""
    charlm_train = f"{shlex.quote(sys.executable)} -m charlm {TRAIN}"
    lines = {
        "full": f"{charlm_train} --name full 2>/dev/full",
        "head": f"set -o pipefail; {charlm_train} --name head 2>&1 >/dev/null | head -1",
        "none": f"{charlm_train} --name none <&- >&- 2>&-",
        "out": f"{charlm_train} --name out >/dev/full",
    }
    trainings = {
        name: subprocess.Popen(["bash", "-c", line], cwd=home, env=ENV, stdout=-1, stderr=-1, text=True)
        for name, line in lines.items()
    }
    results = {name: (training.communicate(), training.returncode) for name, training in trainings.items()}
    assert {name: code for name, (_, code) in results.items()} == {"full": 0, "head": 0, "none": 0, "out": 74}
    for name in lines:
        checkpoint.read(home / "checkpoints" / name / "best.safetensors")
    (out, err), _ = results["out"]
    last = err.splitlines()[-1]
    assert last == "charlm: standard output: cannot be written: No space left on device" and "Traceback" not in err


def test_a_closed_terminal_ends_a_training_in_order(home):
    line = f"{shlex.quote(sys.executable)} -m charlm {TRAIN}00000 --name hangup"
    shell = ["env", "--default-signal=HUP", *shlex.split(line)]  # the tests themselves may run under nohup
    training = subprocess.Popen(shell, cwd=home, env=ENV, stdout=-1, stderr=-1, text=True)
    next(line for line in training.stderr if line.startswith("epoch 1/"))
    training.send_signal(signal.SIGHUP)
    training.send_signal(signal.SIGHUP)  # from the shell, and from the system
    _, err = training.communicate()
    assert training.returncode == 143
    assert err.splitlines()[-1] == "charlm: interrupted; `charlm train --resume checkpoints/hangup` resumes"


def test_python_needs_no_standard_error(monkeypatch, capsys):
    """As under pythonw."""
    monkeypatch.setattr(sys, "stderr", None)
    model = charlm.train(text=TEXT * 3, model="lstm-ngram", epochs=1, options={"n_hidden": 4})
    assert model.bits_per_char("Die") > 0
    assert capsys.readouterr().out == ""
