"""Sampling from the command line ends cleanly at a signal."""

import os
import signal
import subprocess
import sys

import pytest


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "code", "message"), [(signal.SIGINT, 130, b"interrupted"), (signal.SIGTERM, 143, b"terminated")]
)
def test_ctrl_c_and_sigterm_end_sampling_with_one_line(number, code, message):
    line = "-m charlm sample nietzsche --num 32 --length 1000000 --seed 1"
    with subprocess.Popen([sys.executable, *line.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(100)
        process.send_signal(number)
        assert process.communicate()[1] == b"charlm: " + message + b"\n"
    assert process.returncode == code
