"""Requests that are refused: each with its status, in OpenAI's shape, and nothing of a request is logged."""

import base64
import socket
from contextlib import suppress

import pytest
from servers import running, small_model

from charlm.serving import Settings

JSON = {"Content-Type": "application/json"}
UNFINISHED = (
    b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
)
KEYS = (b"key-one", b"key-two")


@pytest.fixture(scope="module")
def small():
    """Return a client of a server with low limits."""
    settings = Settings(max_body=2000, max_chars=100, max_tokens=50, max_texts=4, body_seconds=0.3)
    with running({"gru": small_model()}, settings) as client:
        yield client


@pytest.fixture(scope="module")
def locked():
    """Return a client of a server that needs a key."""
    with running({"gru": small_model()}, Settings(api_keys=KEYS, hosts=frozenset({"model.example"}))) as client:
        yield client


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"prompt": 3}, "prompt", "prompt must be a string or a list of strings"),
        ({"prompt": []}, "prompt", "prompt must be a string or a list"),
        ({"prompt": [1, 2]}, "prompt", "prompt must be a string or a list"),
        ({"prompt": "x" * 101}, "prompt", "prompt has 101 characters, at most 100"),
        ({"max_tokens": 51}, "max_tokens", "max_tokens must be at least 0 and at most 50, got 51"),
        ({"max_tokens": -1}, "max_tokens", "max_tokens must be at least 0"),
        ({"max_tokens": 1.5}, "max_tokens", "max_tokens must be an integer, got 1.5"),
        ({"max_tokens": True}, "max_tokens", "max_tokens must be an integer, got True"),
        ({"max_tokens": 0}, "max_tokens", "max_tokens is 0 without echo"),
        ({"n": 5}, "n", "n must be at least 1 and at most 4"),
        ({"n": 2, "prompt": ["a", "b", "c"]}, "n", "n times the number of prompts must be at most 4, got 6"),
        ({"temperature": "hot"}, "temperature", "temperature must be a number, got 'hot'"),
        ({"temperature": -1}, "temperature", "temperature must be at least 0"),
        ({"top_p": 0}, "top_p", "top_p must be above 0"),
        ({"top_k": 0}, "top_k", "top_k must be at least 1"),
        ({"cache_model": "x"}, "cache_model", "cache_model must be one of prompt, own, off"),
        ({"seed": -1}, "seed", "seed must be at least 0"),
        ({"seed": 2**64 - 1, "n": 2}, "seed", "seed must be at least 0"),
        ({"logprobs": 11}, "logprobs", "logprobs must be at least 0 and at most 10"),
        ({"logprobs": True}, "logprobs", "logprobs must be an integer"),
        ({"stop": 3}, "stop", "stop must be a string or a list of at most 16 strings"),
        ({"stop": ["a"] * 17}, "stop", "stop must be a string or a list of at most 16 strings"),
        ({"stop": "a" * 1001}, "stop", "a stop must have at most 1,000 characters"),
        ({"echo": "yes"}, "echo", "echo must be true or false, got 'yes'"),
        ({"stream": 1}, "stream", "stream must be true or false, got 1"),
        ({"stream_options": 1}, "stream_options", "stream_options must be an object"),
        ({"unknown": "drop"}, "unknown", "unknown must be one of error, skip, map"),
        ({"best_of": 2}, "best_of", "best_of is not supported"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "frequency_penalty is not supported"),
        ({"logit_bias": {"50256": -100}}, "logit_bias", "logit_bias is not supported"),
        ({"suffix": "end"}, "suffix", "suffix is not supported"),
        ({"model": 3}, "model", "model must be a string"),
        ({"promt": "x"}, "promt", "there is no field 'promt'"),
    ],
)
def test_an_invalid_field_is_named(fields, param, message, small):
    status, body = small.post("/v1/completions", {"prompt": "Is"} | fields)
    assert status == 400
    assert body["error"]["param"] == param and message in body["error"]["message"]
    assert body["error"]["type"] == "invalid_request_error"


def test_fields_without_effect_and_null_are_accepted(small):
    fields = {
        "best_of": 1,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "suffix": None,
        "user": "me",
    }
    small.complete("Is", logprobs=None, stop=None, seed=None, stream=None, **fields)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/completions", b"{", JSON, 400),
        ("/v1/completions", b"[]", JSON, 400),
        ("/v1/completions", b"", JSON, 400),
        ("/v1/completions", b'{"temperature": NaN}', JSON, 400),
        ("/v1/completions", b'{"seed": ' + b"9" * 1900 + b"}", JSON, 400),
        ("/v1/completions", b"[" * 1900, JSON, 400),
        ("/v1/completions", b"\xff\xfe", JSON, 400),
        ("/v1/completions", b"{}", {}, 415),
        ("/v1/completions", b"{}", {"Content-Type": "text/plain"}, 415),
        ("/v1/completions", b"{}", JSON | {"Content-Encoding": "gzip"}, 415),
        ("/v1/completions", b"{" + b" " * 2000, JSON, 413),
        ("/v1/completions", iter([b" " * 1500] * 3), JSON, 413),
        ("/v1/completions", b'{"model": "../gru"}', JSON, 404),
        ("/v1/score", b"{}", JSON, 400),
        ("/v1/score", b'{"text": ""}', JSON, 400),
        ("/v1/score", b'{"text": "#", "unknown": "skip"}', JSON, 400),
        ("/v1/score", b'{"text": "a", "top": 3}', JSON, 400),
        ("/v1/nothing", b"{}", JSON, 404),
        ("/v1/models/nothing", None, {}, 405),
        ("/", b"{}", JSON, 405),
    ],
)
def test_a_body_that_cannot_be_used_has_its_status(path, body, headers, status, small):
    found, answer, data = small.request("POST", path, body, headers)
    assert found == status
    assert answer["content-type"] == "application/json" and data.startswith(b'{"error":{"message":"')


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/score"])
def test_a_get_is_not_allowed_where_a_body_is_needed(path, small):
    status, headers, _ = small.request("GET", path)
    assert (status, headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "//etc/passwd", "/checkpoints", "/v1/models/..%2f..%2fetc%2fpasswd", "/?model=../x"]
)
def test_no_file_is_found_by_a_path(path, small):
    assert small.request("GET", path)[0] == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:80", 200),
        ("192.168.1.7", 200),
        ("model.example:8000", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("evil.example:80@localhost", 403),
        ("", 403),
        ("[", 403),
    ],
)
def test_another_host_is_refused(host, status, locked):
    found, _, data = locked.request("GET", "/health", headers={"Host": host})
    assert found == status
    assert status == 200 or b"Host header names another server" in data


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:9999", "http://[", "", "file://"])
def test_pages_of_other_sites_are_refused(origin, small):
    headers = JSON | {"Origin": origin, "Host": f"localhost:{small.port}"}
    status, _, data = small.request("POST", "/v1/completions", b"{}", headers)
    assert status == 403 and b"pages of other sites may not use this server" in data
    own = headers | {"Origin": f"http://LOCALHOST:{small.port}"}
    assert small.request("POST", "/v1/completions", b"{}", own)[0] == 200


def basic(password):
    """Return the value of a header for HTTP's basic authentication."""
    return "Basic " + base64.b64encode(b"anyone:" + password).decode()


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("Bearer key-one", 200),
        ("bearer  key-two ", 200),
        (basic(b"key-two"), 200),
        ("Bearer key-on", 401),
        ("Bearer ", 401),
        ("Bearer key-one,key-two", 401),
        ("key-one", 401),
        (basic(b"key"), 401),
        ("Basic key-one", 401),
        ("Basic \xff", 401),
        (None, 401),
    ],
)
def test_a_server_with_keys_needs_one(value, status, locked):
    headers = {} if value is None else {"Authorization": value}
    for path in ("/v1/models", "/"):
        found, answer, data = locked.request("GET", path, headers=headers)
        assert found == status
        if status == 401:
            assert b'"type":"authentication_error"' in data and "Bearer" in answer["www-authenticate"]
    assert locked.request("GET", "/health", headers=headers)[0] == 200


def exchange(port, data, shutdown=False):
    """Send bytes and return what comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        if shutdown:
            connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_a_body_that_does_not_come_is_not_waited_for(small):
    answer = exchange(small.port, UNFINISHED)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"did not arrive within 0.3 seconds" in answer


def test_a_connection_that_stays_silent_is_closed():
    with running({"gru": small_model()}, Settings(header_seconds=0.2)) as client:
        assert exchange(client.port, b"") == b""
        assert exchange(client.port, b"GET /health HTTP/1.1\r\nHost: loc") == b""
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            connection.sendall(b"GET /hea")
            while part := connection.recv(65536):
                assert b"HTTP" not in part


def test_a_connection_whose_body_is_not_needed_and_does_not_end_is_closed():
    with running({"gru": small_model()}, Settings(header_seconds=0.2)) as client:
        with socket.create_connection(("127.0.0.1", client.port), timeout=0.05) as connection:
            connection.sendall(b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
            answer, n_sent = b"", 0
            with suppress(ConnectionError):  # the server has closed it
                while n_sent < 100:
                    with suppress(TimeoutError):
                        answer += connection.recv(65536)
                    connection.sendall(b"x")
                    n_sent += 1
        assert answer.startswith(b"HTTP/1.1 405 ") and n_sent < 100


def test_what_is_no_http_is_refused(small):
    assert exchange(small.port, b"\x16\x03\x01\x02\x00 hello\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert exchange(small.port, b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_too_many_requests_at_once_are_refused():
    with running({"gru": small_model()}, Settings(max_requests=1)) as client:
        with socket.create_connection(("127.0.0.1", client.port)) as connection:
            connection.sendall(UNFINISHED)
            while client.request("GET", "/health")[0] != 503:
                pass
            status, headers, data = client.request("GET", "/health")
        assert (status, headers["retry-after"]) == (503, "1") and b'"type":"server_error"' in data


def test_the_log_has_neither_prompts_nor_queries_nor_unknown_paths(small, capsys):
    small.complete("Is there", max_tokens=3)
    small.request("GET", "/health?prompt=secret")
    small.request("GET", "/secret")
    small.post("/v1/completions", {"prompt": "secret", "secret": 1})
    small.request("SECRET", "/health")
    log = capsys.readouterr().err
    assert "charlm: 127.0.0.1 POST /v1/completions 200 " in log and "charlm: 127.0.0.1 GET - 404 " in log
    assert "charlm: 127.0.0.1 - /health 405 " in log
    assert "secret" not in log.lower() and "there" not in log
