"""Serving: texts one after the other beside a batch, and one client beside 64.

The first table has microseconds of CPU a character of one text alone, and of each of 4, 16 and 64 texts as a batch. The
second one has a server in a process of its own and clients on the same machine, each of which asks for texts of 200
characters, one after the other: characters a second of the server's CPU and of all clients, milliseconds of a request
(median, 99th percentile), and those of GET /health meanwhile (99th percentile). Models have default options and the
vocabulary of the default text; counts are those of its training part, other weights random.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import torch
from common import machine, require_text

from charlm.api import read_corpus
from charlm.data.corpus import Corpus
from charlm.data.named_texts import DEFAULT_TEXT
from charlm.generation.language_model import LanguageModel
from charlm.generation.sampler import Stepper
from charlm.generation.torch_stepper import TorchStepper, make_stepper
from charlm.models import CountingModel, build
from charlm.models.counting import symbol_kinds
from charlm.recipe import Recipe
from charlm.serving.batch import batch_axes
from charlm.storage import runs
from charlm.storage.checkpoint import Metadata

MODELS = ("gru", "rnn", "lstm", "ngram", "word-ngram", "lstm-ngram", "transformer", "min-gru", "mamba2")
SERVED = ("lstm-ngram", "transformer")
N_STEPS, N_CHARS = 100, 200
SIZES = (4, 16, 64)


def language_model(name: str, corpus: Corpus) -> LanguageModel:
    """Return a model with random weights, and the counts of a text."""
    torch.manual_seed(0)
    model = build(name, len(corpus.vocab)).eval()
    if isinstance(model, CountingModel):
        train = torch.from_numpy(np.array(corpus.part("train")))
        model.fit_counts(train, *symbol_kinds(corpus.vocab))
    symbols = corpus.vocab.codepoints.tolist()
    metadata = Metadata(name, model.config, len(corpus.vocab), symbols, False, model.n_context)
    return LanguageModel(model, metadata)


def microseconds(stepper: Stepper, n_texts: int | None) -> float:
    """Return the CPU time of a step, in microseconds a character; the least of three."""
    ids = np.random.default_rng(0).integers(1, 60, (N_STEPS, n_texts or 1))
    if isinstance(stepper, TorchStepper):
        stepper.n_texts = n_texts
    times = []
    for _ in range(3):
        stepper.reset()
        stepper.freeze_cache()
        began = time.process_time()
        for row in ids:
            stepper.read([int(row[0]) if n_texts is None else row])
        times.append(1e6 * (time.process_time() - began) / N_STEPS / (n_texts or 1))
    return min(times)


def step_table(models: dict[str, LanguageModel]) -> None:
    """Print the first table."""
    print("| model | alone | 4 texts | 16 texts | 64 texts |\n| --- | --- | --- | --- | --- |")
    for name, model in models.items():
        wide = make_stepper(model.model, n_texts=1)
        cells = [f"{microseconds(make_stepper(model.model), None):,.0f}"]
        if batch_axes(wide, model.vocab.bos_id) is not None:
            cells += [f"{microseconds(wide.fresh(), n):,.0f}" for n in SIZES]
        print(f"| {name} | {' | '.join(cells + ['-'] * (4 - len(cells)))} |", flush=True)


@contextmanager
def served(path: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Serve a model; yield the port and the process."""
    line = [sys.executable, "-m", "charlm", "serve", str(path), "--port", "0"]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(line, stderr=log) as process:
        found = None
        while found is None:
            time.sleep(0.1)
            log.seek(0)
            found = re.search(r"on http://127\.0\.0\.1:(\d+);", log.read())
        yield int(found[1]), psutil.Process(process.pid)
        process.terminate()


async def exchange(port: int, request: str) -> tuple[float, bytes]:
    """Send a request; return the seconds until the end of the answer, and the answer."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    answer = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    return time.perf_counter() - began, answer


async def ask(port: int, fields: dict[str, object]) -> float:
    """Send a request for a text and return the seconds until its end."""
    body = json.dumps({"prompt": "supposing that", "max_tokens": N_CHARS} | fields)
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    seconds, answer = await exchange(port, f"{head}Content-Length: {len(body)}\r\n\r\n{body}")
    if not answer.startswith(b"HTTP/1.1 200") or b'"finish_reason":"length"' not in answer:
        raise RuntimeError(answer[:500].decode())
    return seconds


async def probe(port: int, times: list[float]) -> None:
    """Ask 20 times a second whether the server is up."""
    while True:
        times.append((await exchange(port, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))[0])
        await asyncio.sleep(0.05)


async def crowd(
    port: int, n_clients: int, n_each: int, fields: dict[str, object]
) -> tuple[float, list[float], list[float]]:
    """Return the seconds of all clients together, those of each request, and those of each probe."""

    async def client() -> list[float]:
        return [await ask(port, fields) for _ in range(n_each)]

    probes: list[float] = []
    probing = asyncio.create_task(probe(port, probes))
    began = time.perf_counter()
    times = await asyncio.gather(*(client() for _ in range(n_clients)))
    seconds = time.perf_counter() - began
    probing.cancel()
    return seconds, [each for row in times for each in row], probes


def client_table(paths: dict[str, Path], n_each: int) -> None:
    """Print the second table."""
    print("| model | clients | request | characters a CPU second | a second | median, ms | 99 %, ms | /health, ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    kinds: dict[str, dict[str, object]] = {"plain": {}, "stream": {"stream": True}, "with a seed": {"seed": 1}}
    for name, path in paths.items():
        with served(path) as (port, process):
            asyncio.run(crowd(port, 4, 2, {}))
            for kind, fields in kinds.items():
                for n_clients, n in ((1, 5 * n_each), (64, n_each)):
                    used = sum(process.cpu_times()[:2])
                    seconds, times, probes = asyncio.run(crowd(port, n_clients, n, fields))
                    per_cpu = n_clients * n * N_CHARS / (sum(process.cpu_times()[:2]) - used)
                    rate = n_clients * n * N_CHARS / seconds
                    median, worst = (1000 * np.percentile(times, each) for each in (50, 99))
                    row = f"{name} | {n_clients} | {kind} | {per_cpu:,.0f} | {rate:,.0f} | {median:,.0f} | {worst:,.0f}"
                    print(f"| {row} | {1000 * np.percentile(probes, 99):,.0f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["steps", "clients"], help="print one of the tables alone")
    parser.add_argument("--requests", type=int, default=6, help="of each of 64 clients")
    arguments = parser.parse_args()
    require_text(DEFAULT_TEXT)
    torch.set_num_threads(1)
    corpus = read_corpus(Recipe(corpus=(DEFAULT_TEXT,)))
    models = {"built-in (gru, 512)": LanguageModel.load(runs.packaged_model())}
    models |= {name: language_model(name, corpus) for name in MODELS}
    print(machine())
    if arguments.only != "clients":
        step_table(models)
        print()
    if arguments.only == "steps":
        sys.exit()
    with tempfile.TemporaryDirectory() as folder:
        paths = {"built-in": runs.packaged_model()}
        for name in SERVED:
            paths[name] = Path(folder) / f"{name}.safetensors"
            models[name].save(paths[name])
        client_table(paths, arguments.requests)
