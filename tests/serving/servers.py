"""Small models, and servers of them in threads and in processes."""

import http.client
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager

import torch
import uvicorn

from charlm.data.vocab import Vocab
from charlm.generation.language_model import LanguageModel
from charlm.models import build, options_of
from charlm.serving import Settings, create_app, open_socket, serve
from charlm.serving.server import configuration
from charlm.storage.checkpoint import Metadata

TEXT = "Supposing that Truth is a woman, what then?\nIs there not ground for suspecting that all philosophers, "
SIZES = {"n_embed": 8, "n_hidden": 12, "head_size": 4, "window_size": 16}


def small_model(name="gru", is_bytes=False, lower=False, longest_line=None, **options):
    """Return a model with random weights, or with counts of `TEXT`."""
    torch.manual_seed(1)
    vocab = Vocab.of_bytes() if is_bytes else Vocab(map(ord, sorted(set(TEXT.lower() if lower else TEXT))))
    sizes = {key: size for key, size in SIZES.items() if key in options_of(name)}
    model = build(name, len(vocab), **sizes | options).eval()
    if "ngram" in name:
        model.fit_counts(torch.from_numpy(vocab.encode(TEXT * 3)), torch.from_numpy(vocab.char_classes))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    corpus = {} if longest_line is None else {"longest_line": longest_line}
    symbols = vocab.codepoints.tolist()
    metadata = Metadata(
        name, model.config, len(vocab), symbols, is_bytes, model.n_context, recipe={"lower": lower}, corpus=corpus
    )
    return LanguageModel(model, metadata)


class Client:
    """Requests to a server; the ASGI application is `app`."""

    def __init__(self, app, port):
        self.app, self.port, self.url = app, port, f"http://127.0.0.1:{port}"

    @property
    def n_lanes(self):
        """Number of texts in progress, of all models."""
        return sum(served.n_lanes for served in self.app.state.models.values())

    def request(self, method, path, body=None, headers=None):
        """Send a request; return the status, the headers and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def post(self, path, value, **headers):
        """Post JSON; return the status and the body of the response, as JSON or as the objects of a stream."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        status, headers, data = self.request("POST", path, body, {"Content-Type": "application/json"} | headers)
        if headers["content-type"].startswith("text/event-stream"):
            events = [line.removeprefix("data: ") for line in data.decode().split("\n\n") if line]
            return status, [event if event == "[DONE]" else json.loads(event) for event in events]
        if headers["content-type"] == "application/jsonl":
            return status, [json.loads(line) for line in data.decode().splitlines()]
        return status, json.loads(data)

    def complete(self, prompt, **fields):
        """Return the response to a request for completions, which must succeed."""
        status, body = self.post("/v1/completions", {"prompt": prompt} | fields)
        assert status == 200, body
        return body


@contextmanager
def running(models, settings=None):
    """Run a server in a thread; yield a client."""
    app = create_app(models, settings or Settings())
    with open_socket("127.0.0.1", 0) as opened:
        server = uvicorn.Server(configuration(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            yield Client(app, opened.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


class Process(Client):
    """Requests to a server in a process of its own, whose memory and messages can be read."""

    def __init__(self, process, port, log):
        super().__init__(None, port)
        self._process, self._log = process, log

    @property
    def log(self):
        """The messages of the server so far."""
        self._log.seek(0)
        return self._log.read()

    @property
    def megabytes(self):
        """The resident memory of the server."""
        line = ["ps", "-o", "rss=", "-p", str(self._process.pid)]
        return int(subprocess.run(line, capture_output=True, check=True).stdout) / 1000


@contextmanager
def started(limits):
    """Run this file as a server in a process; yield a client.

    Args:
        limits: of `Settings`.
    """
    line = [sys.executable, __file__, json.dumps(limits)]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(line, stderr=log) as process:
        client = Process(process, 0, log)
        while (found := re.search(r"on http://127\.0\.0\.1:(\d+);", client.log)) is None:
            assert process.poll() is None, client.log
            time.sleep(0.05)
        client.port = int(found[1])
        try:
            yield client
        finally:
            process.terminate()


if __name__ == "__main__":
    torch.set_num_threads(1)
    small = {name: small_model(name) for name in ("gru", "ngram", "transformer")}
    with open_socket("127.0.0.1", 0) as opened:
        serve(small, Settings(**json.loads(sys.argv[1])), "127.0.0.1", opened)
