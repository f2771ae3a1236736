"""`charlm serve` as a process: its start, its end by signals, curl, and errors in one line."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from charlm.storage import runs

PROMPT = {"prompt": "supposing", "max_tokens": 30, "seed": 3, "temperature": 0.6}


@contextmanager
def serving(*options):
    """Run the command; yield its process and its port."""
    line = [sys.executable, "-m", "charlm", "serve", "--port", "0", *map(str, options)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        first = ""
        try:
            while "serving " not in first:
                first = process.stderr.readline()
                assert first, "the server ended"
            yield process, int(re.search(r"on http://127\.0\.0\.1:(\d+);", first)[1])
        finally:
            if process.poll() is None:
                process.kill()


def get(port, path):
    """Return the status of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    try:
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_gets_the_text_of_charlm_sample(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("one\nthe-key\n")
    with serving("nietzsche", "--api-key-file", keys) as (_, port):
        curl = ["curl", "-sS", f"http://localhost:{port}/v1/completions", "-H", "Content-Type: application/json"]
        curl += ["-d", json.dumps(PROMPT)]
        refused = subprocess.run(curl, capture_output=True, check=True).stdout
        assert json.loads(refused)["error"]["code"] == "invalid_api_key"
        answer = subprocess.run([*curl, "-H", "Authorization: Bearer the-key"], capture_output=True, check=True).stdout
        stream = [*curl[:-1], json.dumps(PROMPT | {"stream": True}), "-N", "-u", "me:the-key"]
        events = subprocess.run(stream, capture_output=True, check=True).stdout.decode()
    sample = [sys.executable, "-m", "charlm", "sample", "nietzsche", "--prime", "supposing", "--length", "30"]
    sampled = subprocess.run([*sample, "--seed", "3", "--temperature", "0.6"], capture_output=True, check=True).stdout
    text = json.loads(answer)["choices"][0]["text"]
    assert f"supposing{text}\n" == sampled.decode()
    parts = [json.loads(line[6:]) for line in events.split("\n\n") if line.startswith("data: {")]
    assert "".join(part["choices"][0]["text"] for part in parts) == text and events.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(("number", "code", "end"), [("SIGTERM", 143, "terminated"), ("SIGINT", 130, "interrupted")])
def test_a_signal_ends_the_server_after_the_requests_in_progress(number, code, end):
    with serving("nietzsche") as (process, port):
        body = json.dumps({"prompt": "supposing", "max_tokens": 1000, "stream": True})
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            answer = connection.recv(100)
            process.send_signal(getattr(signal, number))
            while part := connection.recv(65536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200 OK") and b"data: [DONE]\n\n" in answer
        assert process.wait(20) == code
        out, log = process.communicate()
        assert out == "" and log.splitlines()[-1] == f"charlm: {end}" and "Traceback" not in log


def run(*line, **environment):
    """Run a command; return its exit code, what it prints, and its errors."""
    line = [sys.executable, "-m", "charlm", *map(str, line)]
    done = subprocess.run(line, capture_output=True, text=True, env=os.environ | environment, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_port_that_is_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        code, out, error = run("serve", "nietzsche", "--port", port)
    assert (code, out) == (1, "")
    assert error == f"charlm: 127.0.0.1, port {port}: Address already in use; choose another --port or --host\n"


@pytest.fixture
def keys(tmp_path):
    """Return the path of a file with no key."""
    path = tmp_path / "keys"
    path.write_text("\n \n")
    return path


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("serve no-such-run", 66, "no run or checkpoint 'no-such-run'"),
        ("serve --port 65536", 2, "--port must be at least 0 and at most 65,535, got 65536"),
        ("serve --port x", 2, "--port must be an integer, got 'x'"),
        ("serve nietzsche nietzsche", 2, "two models are named nietzsche"),
        ("serve nietzsche --host no.such.host.invalid", 2, "--host no.such.host.invalid: "),
        ("serve nietzsche --host a..b", 2, "--host a..b: not a valid host name"),
        ("serve nietzsche --api-key-file no-file", 66, "no-file: cannot be read: No such file or directory"),
        ("serve nietzsche --api-key-file {keys}", 2, "must hold an API key in each line"),
    ],
)
def test_a_mistake_is_one_line(line, code, message, keys, exit_code, capsys):
    assert exit_code(line.format(keys=keys)) == code
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("charlm: ") and error.count("\n") == 1 and message in error


def test_without_its_packages_the_command_names_them():
    program = "import sys; sys.modules['uvicorn'] = None; from charlm.cli import main; main(['serve'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    expected = "charlm: this command needs starlette and uvicorn; pip install 'charlm-torch[serve]'\n"
    assert (done.returncode, done.stderr) == (2, expected)


def test_models_are_named_after_their_runs_folders_for_hubs_or_files(tmp_path, exit_code):
    paths = []
    for name in ("one", "two"):
        run = tmp_path / "checkpoints" / name
        run.mkdir(parents=True)
        (run / "best.safetensors").write_bytes(runs.packaged_model().read_bytes())
        paths.append(tmp_path / f"hub-{name}")
        assert exit_code(f"export nietzsche {paths[-1]} --hub") == 0
    paths.append(tmp_path / "model.safetensors")
    paths[-1].write_bytes(runs.packaged_model().read_bytes())
    runs_of = (tmp_path / "checkpoints" / "two", *paths, "--checkpoints", tmp_path / "checkpoints")
    with serving("one", *runs_of) as (_, port):
        names = ("one", "two", "hub-one", "hub-two", "model", "three")
        assert [get(port, f"/v1/models/{name}") for name in names] == [200] * 5 + [404]


def test_two_models_of_one_name_are_one_line_that_names_both(tmp_path, exit_code, capsys):
    paths = [tmp_path / parent / "mine" for parent in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        assert exit_code(f"export nietzsche {path} --hub") == 0
    capsys.readouterr()
    assert exit_code(f"serve {paths[0]} {paths[1]} --port 0") == 2
    files = [path / "model.safetensors" for path in paths]
    line = f"charlm: two models are named mine, {files[0]} and {files[1]}; rename one of them\n"
    assert capsys.readouterr().err == line
