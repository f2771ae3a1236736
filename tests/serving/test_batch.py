"""Several texts at once: each is what it is alone; who leaves makes room."""

import json
import socket
import threading
import time
from contextlib import contextmanager

import pytest
from architectures import ARCHITECTURES
from servers import TEXT, running, small_model

from charlm.generation.line_limit import LineLimit
from charlm.generation.sampler import SamplingParams
from charlm.generation.torch_stepper import TorchStepper, make_stepper
from charlm.serving import Settings
from charlm.serving.batch import LaneBatch, batch_axes
from charlm.serving.choice import Choice
from charlm.serving.lanes import Lane

pytestmark = pytest.mark.usefixtures("example_model")


class Request:
    """A request as its lanes see it; it keeps the parts of their texts."""

    is_over = is_urgent = False
    deadline = float("inf")

    def __init__(self):
        self.parts = []

    def emit(self, part):
        self.parts.append(part["text"])


def lane_of(model, prompt, seed, n_chars, **params):
    """Return a lane of a model and its request."""
    request, n_context = Request(), model.metadata.n_context
    ids = [model.vocab.bos_id] * (n_context or 1) + model.vocab.encode(prompt).tolist()
    choice = Choice(0, model.vocab, n_chars, (), None)
    limit = LineLimit(model.vocab, 12, ids)
    return Lane(request, choice, ids, SamplingParams(**params), seed, limit, n_context), request


def text_of(task):
    """Do all of a task."""
    for _ in task:
        pass


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_texts_that_join_and_leave_a_batch_are_those_of_each_alone(name):
    model = small_model(name)
    n_context = model.metadata.n_context
    alone, wide = make_stepper(model.model, n_context), make_stepper(model.model, n_context, n_texts=1)
    axes = batch_axes(wide, model.vocab.bos_id)
    texts = [
        (0, ("Supposing that", 1, 30), {}),
        (0, ("", 2, 45), {"temperature": 0.5}),
        (3, (TEXT, 3, 40), {"top_p": 0.8}),
        (4, (TEXT, 6, 40), {"cache_model": "own"}),
        (5, (TEXT[10:], 7, 40), {"cache_model": "off"}),
        (10, ("Is there not", 4, 8), {}),
        (11, ("philosophers", 5, 60), {"temperature": 0.5}),
    ]
    batch, requests, step = LaneBatch(axes), [], 0
    while step < 12 or len(batch):
        for start, (prompt, seed, n_chars), params in texts:
            if start == step:
                lane, request = lane_of(model, prompt, seed, n_chars, **params)
                stepper = wide.fresh()
                text_of(lane.read_prompt(stepper, 1 if isinstance(stepper, TorchStepper) else 5))
                batch.add(lane, stepper)
                requests.append(request)
        batch.step()
        step += 1
    for (_, (prompt, seed, n_chars), params), request in zip(texts, requests, strict=True):
        lane, expected = lane_of(model, prompt, seed, n_chars, **params)
        text_of(lane.run_alone(alone.fresh()))
        assert "".join(request.parts) == "".join(expected.parts)
        assert len("".join(request.parts)) == n_chars


@pytest.mark.parametrize("name", ["gru", "transformer", "char3", "lstm-ngram"])
def test_a_text_with_a_seed_is_the_same_whoever_else_is_there(name, client, models):
    expected = models[name].sample("Is", 100, seed=9, temperature=1)
    stopped, counts = threading.Event(), []

    def crowd():
        while not stopped.is_set():
            counts.append(len(client.complete("Supp", model=name, max_tokens=40, n=6)["choices"]))

    thread = threading.Thread(target=crowd)
    thread.start()
    try:
        for _ in range(4):
            body = client.complete("Is", model=name, max_tokens=100, seed=9)
            assert body["choices"][0]["text"] == expected
    finally:
        stopped.set()
        thread.join()
    assert set(counts) == {6}


def test_texts_without_a_seed_differ_and_stop_on_their_own(client):
    body = client.complete("Is", n=20, max_tokens=100, stop="e")
    texts = [choice["text"] for choice in body["choices"]]
    assert len(set(texts)) > 15
    reasons = [choice["finish_reason"] for choice in body["choices"]]
    assert all((len(text) < 100) == (reason == "stop") for text, reason in zip(texts, reasons, strict=True))
    assert not any("e" in text for text in texts)


def wait_until(condition):
    """Wait for a condition, for a minute at most."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def held_by_another_client(client, fields, n_buffer=None):
    """Send a request and leave at the end, without reading the response; `n_buffer` bytes are received in advance."""
    body = json.dumps(fields)
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.socket() as connection:
        if n_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, n_buffer)
        connection.connect(("127.0.0.1", client.port))
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        yield connection


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(stream, client):
    fields = {"prompt": "Is", "max_tokens": 20_000, "n": 40, "stream": stream, "model": "transformer"}
    with held_by_another_client(client, fields) as connection:
        wait_until(lambda: client.n_lanes == 40)
        if stream:
            assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")
    served = client.app.state.models["transformer"]
    wait_until(lambda: client.n_lanes == 0 and len(served.batch) == 0)


def test_other_requests_are_answered_while_texts_are_sampled(client):
    fields = {"prompt": "Is", "max_tokens": 20_000, "n": 40, "model": "transformer"}
    with held_by_another_client(client, fields):
        wait_until(lambda: client.n_lanes == 40)
        for path in ("/health", "/v1/models", "/?model=ngram"):
            assert client.request("GET", path)[0] == 200
        assert client.complete("Is", max_tokens=20)["usage"]["completion_tokens"] == 20
        assert client.n_lanes == 40
    wait_until(lambda: client.n_lanes == 0)


def test_a_client_that_does_not_read_is_dropped():
    fields = {"prompt": "Is", "max_tokens": 10_000, "n": 9, "stream": True, "logprobs": 10}
    with running({"gru": small_model()}, Settings(reading_seconds=0.2)) as client:
        with held_by_another_client(client, fields):
            wait_until(lambda: client.n_lanes == 9)
            wait_until(lambda: client.n_lanes == 0)


def test_a_client_that_reads_slowly_gets_the_whole_response():
    fields = {"prompt": "\U0001f600" * 15_000, "max_tokens": 0, "echo": True, "n": 64}
    with running({"gru": small_model()}, Settings(reading_seconds=1)) as client:
        with held_by_another_client(client, fields, 1 << 16) as connection:
            data = bytearray()
            while not data.endswith(b'"total_tokens":15000}}'):
                part = connection.recv(1 << 16)
                assert part, f"the server has closed the connection after {len(data):,} bytes"
                data += part
                time.sleep(0.01)


def test_the_characters_of_a_text_to_score_are_bytes_for_a_model_of_bytes():
    with running({"bytes": small_model(is_bytes=True)}, Settings(max_chars_in_progress=5)) as client:
        assert client.post("/v1/score", {"text": "abcde"})[0] == 200
        status, body = client.post("/v1/score", {"text": "\u00e4\u00f6\u00fc"})
        assert status == 400 and body["error"]["message"].startswith("the request is for 6 characters, at most 5")


def test_the_likeliest_characters_that_are_reported_count_like_sampled_ones():
    with running({"gru": small_model()}, Settings(max_chars_in_progress=1000)) as client:
        client.complete("Is", max_tokens=166, logprobs=5)
        client.complete("Is", max_tokens=90, logprobs=9, echo=True)
        for fields, n in (({"max_tokens": 167}, 1004), ({"max_tokens": 166, "echo": True}, 1008)):
            status, body = client.post("/v1/completions", {"prompt": "Is", "logprobs": 5} | fields)
            assert status == 400 and f"the request is for {n:,} characters" in body["error"]["message"]


@pytest.mark.parametrize("limit", [{"max_lanes": 8}, {"max_chars_in_progress": 8 * 300}])
def test_a_request_beyond_what_is_in_progress_is_refused_and_can_come_later(limit):
    options = {"prompt": "Is", "max_tokens": 298, "n": 5}
    with running({"gru": small_model()}, Settings(**limit)) as client:
        status, body = client.post("/v1/completions", options | {"n": 9})
        assert status == 400 and body["error"]["message"].startswith("the request is for ")
        busy = client.app.state.models["gru"]
        with held_by_another_client(client, options | {"max_tokens": 298}):
            wait_until(lambda: busy.n_lanes == 5)
            status, headers, data = client.request(
                "POST", "/v1/completions", json.dumps(options), {"Content-Type": "application/json"}
            )
            assert status == 429 and headers["retry-after"] == "1" and b'"type":"rate_limit_error"' in data
        wait_until(lambda: busy.n_lanes == 0)
        assert len(client.complete("Is", max_tokens=298, n=8)["choices"]) == 8
        assert (busy.n_lanes, busy.n_chars) == (0, 0)


def test_a_request_that_takes_too_long_is_ended():
    with running({"gru": small_model()}, Settings(seconds=0.3)) as client:
        options = {"prompt": "Is", "max_tokens": 20_000, "n": 32}
        status, body = client.post("/v1/completions", options)
        assert (status, body["error"]["code"]) == (504, "timeout")
        status, events = client.post("/v1/completions", options | {"stream": True})
        assert status == 200 and events[-1]["error"]["code"] == "timeout"
        status, lines = client.post("/v1/score", {"text": "Is " * 30_000})
        assert status == 200 and lines[-1]["error"]["code"] == "timeout"
        assert client.n_lanes == 0
        assert client.complete("Is", max_tokens=5)["usage"]["completion_tokens"] == 5


def test_a_model_with_a_window_and_without_a_numpy_engine_is_served():
    model = small_model("char3")
    model.model.double()
    with running({"char3": model}) as client:
        assert client.complete("Is", max_tokens=20, n=3)["usage"]["completion_tokens"] == 60
