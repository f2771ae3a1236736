"""Malformed and hostile requests: an answer to each, no traceback, no hang, flat memory, and the server goes on."""

import json
import select
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import started

N_SHORT, N_LONG = 400, 50_000
PATIENCE = 0.2  # seconds after which a request is not completed
STATUSES = {200, 400, 401, 403, 404, 405, 408, 413, 415, 429, 503, 504}
PATHS = [
    "/v1/completions",
    "/v1/score",
    "/v1/models",
    "/v1/models/gru",
    "/health",
    "/",
    "/?model=gru",
    "/v1",
    "/../x",
    "*",
]
FIELDS = ["model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "cache_model", "n", "seed", "stop"]
FIELDS += ["logprobs", "echo", "stream", "stream_options", "unknown", "text", "best_of", "suffix", "logit_bias", "user"]
NUMBERS = [0, 1, 2, 5, -1, 0.5, 1.5, 1e308, -1e308, 2**31, 2**53, 2**63, 2**64 - 1, 2**64, 10**400]
WORDS = [
    "",
    "x",
    "Is there",
    "gru",
    "ngram",
    "none",
    "map",
    "skip",
    "error",
    "prompt",
    "own",
    "off",
    "\0",
    "\ud800",
    "\n" * 90,
]
MODELS = ["gru", "ngram", "transformer"]
LIMITS = {
    "max_body": 4000,
    "max_chars": 2000,
    "max_tokens": 200,
    "max_texts": 8,
    "body_seconds": PATIENCE / 2,
    "seconds": 10,
}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.sampled_from(WORDS),
    st.floats(allow_nan=False),
    st.text(max_size=9),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
good = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.text(max_size=30) | st.lists(st.text(max_size=9), min_size=1, max_size=3),
        "max_tokens": st.integers(0, 12),
        "n": st.integers(1, 3),
        "model": st.sampled_from(MODELS),
        "echo": st.booleans(),
        "stream": st.booleans(),
        "logprobs": st.integers(0, 5),
        "seed": st.integers(0, 2**64 - 4),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0.01, 1),
        "stop": st.text(min_size=1, max_size=2),
    },
)


@st.composite
def bodies(draw):
    """A body: mostly an object with known fields, of which some have odd values."""
    fields = draw(good) if draw(st.booleans()) else {"text": draw(st.text(max_size=30))}
    fields |= draw(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), values, max_size=2))
    body = bytearray(json.dumps(fields).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 3]))):
        place = draw(st.integers(0, len(body)))
        body[place : place + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=4) | st.sampled_from([b"[" * 900, b'"', b"NaN"])
        )
    return bytes(body)


@st.composite
def requests(draw):
    """The bytes of a request that asks to close the connection; or of something else."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=200)) + draw(st.sampled_from([b"", b"\r\n\r\n"]))
    body = draw(bodies())
    method = draw(st.sampled_from(["POST"] * 8 + ["GET", "HEAD", "PUT", "OPTIONS", "CONNECT", "X"]))
    headers = {
        "Host": draw(st.sampled_from(["localhost"] * 9 + ["evil.example", "[::1]", "", "a b"])),
        "Content-Type": draw(
            st.sampled_from(["application/json"] * 9 + ["text/plain", "application/json; charset=x", ""])
        ),
        "Content-Length": draw(st.sampled_from([len(body)] * 9 + [0, len(body) - 1, 10**9, 10**30, -1, "x"])),
        "Connection": "close",
    }
    odd = [
        "Origin: null",
        "Authorization: Basic \xff",
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
        "Upgrade: websocket",
    ]
    odd += ["Content-Encoding: gzip", "Range: bytes=0-1", "X: " + "x" * 5000, "Bad Header", ": x", "Content-Length: 3"]
    lines = [f"{name}: {value}" for name, value in headers.items()] + draw(st.lists(st.sampled_from(odd), max_size=1))
    path = draw(st.sampled_from(["/v1/completions"] * 8 + ["/v1/score"] * 3 + PATHS))
    version = draw(st.sampled_from(["HTTP/1.1"] * 15 + ["HTTP/1.0", "HTTP/2", "HTTP/9.9"]))
    return "\r\n".join([f"{method} {path} {version}", *lines, "", ""]).encode("latin-1") + body


def exchange(port, data):
    """Send bytes and return what comes back; if nothing comes, end the sending side first."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        parts = []
        try:
            connection.sendall(data)
            if not select.select([connection], [], [], PATIENCE)[0]:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                parts.append(part)
        except (ConnectionResetError, BrokenPipeError):  # the server has answered already
            pass
    return b"".join(parts).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize("n", [N_SHORT, pytest.param(N_LONG, marks=pytest.mark.long)])
def test_every_request_is_answered_and_the_server_goes_on(n):
    n_answered, megabytes = 0, []

    @settings(max_examples=n, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(requests())
    def check(data):
        nonlocal n_answered
        answer = exchange(client.port, data)
        assert b"Traceback" not in answer and b'File "' not in answer
        if answer:
            n_answered += 1
            assert int(answer.split(b" ")[1]) in STATUSES, answer
            if n_answered % (n // 10) == 0:
                megabytes.append(client.megabytes)

    with started(LIMITS) as client:
        check()
        assert client.complete("Is", max_tokens=5)["usage"]["completion_tokens"] == 5
        log = client.log
    assert "internal error" not in log and "Traceback" not in log
    assert n_answered > 0.8 * n
    print(f"{n_answered:,} of {n:,} answered; memory of the server in MB: {', '.join(f'{mb:.0f}' for mb in megabytes)}")
    assert megabytes[-1] < 1.15 * megabytes[2]
