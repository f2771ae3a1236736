"""What writing costs: our steps beside a plain PyTorch loop, many texts beside the rate of matrices, the start.

    python benchmarks/sampling.py

One text: `generate` beside the bare modules (embedding, nn.LSTM or the like, linear, softmax, multinomial) in inference
mode, in turns, in characters a second; the ratio is the median over the rounds, with their middle half. The share of
the floor is the time of a single product of a vector with one matrix of as many weights as a step reads, over ours.
Many texts: 256 at once, in one process and as `charlm sample --num 256` writes them, a process for each core; both as a
share of the operations that one large matrix product makes in the same time, on all cores. For models that are no stack
of PyTorch's layers, on the default text: steps beside the model's own forward pass, drawn from in the same way. The
start: the whole of `charlm sample nietzsche --length 1` beside `python -c "import torch"`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from common import machine, require_text

from charlm.api import read_corpus
from charlm.data.named_texts import DEFAULT_TEXT
from charlm.generation.generator import load
from charlm.generation.sampler import SamplingParams, generate_ids, uniform_stream, uniform_streams
from charlm.generation.torch_stepper import TorchStepper, generate, make_stepper
from charlm.generation.workers import N_BLOCK, N_CHARS
from charlm.models import CharModel, build, options_of
from charlm.recipe import Recipe
from charlm.storage.checkpoint import Metadata, save

VOCAB_SIZE, N_TEXTS, N_SECONDS = 90, 256, 2
SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "lstm 2 x 512": ("lstm", {"n_layers": 2, "n_hidden": 512}),
    "rnn 256": ("rnn", {"n_hidden": 256}),
    "gru 256": ("gru", {"n_hidden": 256}),
    "gru 512": ("gru", {"n_hidden": 512}),
}
OTHERS: dict[str, dict[str, int]] = {"ngram": {}, "word-ngram": {}, "lstm-ngram": {"n_hidden": 512}, "transformer": {}}


def rate(work: Callable[[int], object], n_seconds: float) -> Callable[[], float]:
    """Return a function that does some work for about so many seconds and returns how much of it a second."""
    work(1)
    n, took = 1, 0.0
    while took < n_seconds / 4:
        n *= 2
        began = time.perf_counter()
        work(n)
        took = time.perf_counter() - began
    n = max(1, round(n * n_seconds / took))

    def turn() -> float:
        began = time.perf_counter()
        work(n)
        return n / (time.perf_counter() - began)

    return turn


def plain(model: CharModel) -> Iterator[int]:
    """Yield characters by the model's modules and nothing around them."""
    generator, char, state = torch.Generator(), torch.tensor([[1]]), None
    embed, layers, linear = model.embed, model.layers, model.head[-1]  # type: ignore[index]
    while True:
        with torch.inference_mode():
            features, state = layers(embed(char), state)  # type: ignore[operator]
            probs = torch.softmax(linear(features[0, -1]), dim=-1)
            char = torch.multinomial(probs, 1, generator=generator).view(1, 1)
            index = int(char)
        yield index


def take(indices: Iterator[object]) -> Callable[[int], object]:
    """Return a function that takes the next n."""
    return lambda n: sum(1 for _ in islice(indices, n))


def product_of(x: np.ndarray, matrix: np.ndarray, result: np.ndarray) -> Callable[[int], object]:
    """Return a function that multiplies n times."""
    return lambda n: [np.dot(x, matrix, out=result) for _ in range(n)]


def by_processes(folder: Path, model: CharModel, about: tuple[str, dict[str, Any]], length: int) -> Callable[[], float]:
    """Return a function that writes 256 texts as the command does, and returns how many steps a second."""
    path, symbols = folder / f"{length}.safetensors", list(range(32, 31 + VOCAB_SIZE))
    save(path, model, Metadata(*about, VOCAB_SIZE, symbols, is_bytes=False, n_context=None))

    def turn() -> float:
        written = load(path)
        assert written is not None
        texts = written.generate_many(N_TEXTS, length=length, temperature=1.0, seed=1)
        first = next(texts)
        next(first)  # N_BLOCK steps; so much for the start
        began = time.perf_counter()
        for text in chain([first], texts):
            deque(text, maxlen=0)
        return (length - N_BLOCK) / (time.perf_counter() - began)

    return turn


def n_read(model: CharModel) -> int:
    """Return how many weights a step has to read: all matrices but the embedding and what is folded into it."""
    skipped = ("embed.weight", "layers.weight_ih_l0")
    return sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and name not in skipped)


def spread(values: list[float], digits: int = 2) -> str:
    """Return the median and the middle half."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def interleaved(turns: list[Callable[[], float]], n_rounds: int) -> list[list[float]]:
    """Return what each turn gives in each round; who begins changes from round to round."""
    results: list[list[float]] = [[] for _ in turns]
    for i in range(n_rounds):
        for k in range(len(turns)):
            j = (i + k) % len(turns)
            results[j].append(turns[j]())
    return results


def writing(n_seconds: float, n_rounds: int, folder: Path) -> None:
    """Print the table of one text and of many."""
    print(f"{'model':14}{'plain':>8}{'ours':>9}  {'ratio':18}{'of the floor':18}", end="")
    print(f"{'256 texts':>10}  {'of the matrix rate':18}{'processes':>10}  of the matrix rate")
    matrix = np.random.default_rng(0).standard_normal((1024, 2048), np.float32)
    vectors, result = matrix[:N_TEXTS, :1024].copy(), np.empty((N_TEXTS, 2048), np.float32)
    for name, (architecture, options) in SHAPES.items():
        model = build(architecture, VOCAB_SIZE, **options).eval()
        n_weights = n_read(model)
        floor_matrix = np.ones((512, n_weights // 512), np.float32)
        floor_result = np.empty(n_weights // 512, np.float32)
        turns = [
            rate(take(plain(model)), n_seconds),
            rate(take(generate(model, [1], seed=1)), n_seconds),
            rate(product_of(floor_matrix[:, 0].copy(), floor_matrix, floor_result), n_seconds),
            rate(
                take(generate_ids(make_stepper(model), [1], uniform_streams(range(N_TEXTS)), SamplingParams())),
                n_seconds,
            ),
            rate(product_of(vectors, matrix, result), n_seconds),
        ]
        length = max(round(turns[3]() * N_SECONDS), N_CHARS * torch.get_num_threads() // N_TEXTS)
        turns.append(by_processes(folder, model, (architecture, options_of(architecture) | options), length))
        bare, ours, floor, many, product, shared = interleaved(turns, n_rounds)
        ratios = [a / b for a, b in zip(ours, bare, strict=True)]
        of_floor = [a / b for a, b in zip(ours, floor, strict=True)]
        alone, together = (
            [a * n_weights / (b * matrix.size) for a, b in zip(steps, product, strict=True)] for steps in (many, shared)
        )
        print(
            f"{name:14}{statistics.median(bare):8,.0f}{statistics.median(ours):9,.0f}  {spread(ratios, 1):18}"
            f"{spread(of_floor):18}{statistics.median(many) * N_TEXTS:10,.0f}  {spread(alone):18}"
            f"{statistics.median(shared) * N_TEXTS:10,.0f}  {spread(together)}",
            flush=True,
        )


def others(n_seconds: float, n_rounds: int) -> None:
    """Print the table of the models that are no stack of PyTorch's layers."""
    corpus = read_corpus(Recipe(corpus=(DEFAULT_TEXT,)))
    print(f"{'model':14}{'forward':>8}{'steps':>9}  {'ratio':20}{'256, forward':>12}{'steps':>9}  ratio")
    for name, options in OTHERS.items():
        model = build(name, len(corpus.vocab), **options).eval()
        if model.uses_ngram_counts:
            model.fit_counts(torch.from_numpy(corpus.part("train")), torch.from_numpy(corpus.vocab.char_classes))
        print(f"{name:14}", end="")
        for n_texts in (1, N_TEXTS):
            turns = []
            for reader in (TorchStepper(model, None if n_texts == 1 else n_texts), make_stepper(model)):
                one, many = uniform_stream(1), uniform_streams(range(n_texts))
                indices = generate_ids(reader, [1] * 200, one if n_texts == 1 else many, SamplingParams())
                turns.append(rate(take(indices), n_seconds))
            forward, steps = interleaved(turns, n_rounds)
            ratios = [b / a for a, b in zip(forward, steps, strict=True)]
            print(
                f"{statistics.median(forward) * n_texts:{8 if n_texts == 1 else 12},.0f}"
                f"{statistics.median(steps) * n_texts:9,.0f}  {spread(ratios, 1):20}",
                end="",
                flush=True,
            )
        print()


def start(n_rounds: int) -> None:
    """Print how long it takes to start."""

    def seconds(*command: str) -> Callable[[], float]:
        def turn() -> float:
            began = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            return time.perf_counter() - began

        return turn

    sample, torch_alone = interleaved(
        [seconds("-m", "charlm", "sample", "nietzsche", "--length", "1"), seconds("-c", "import torch")], n_rounds
    )
    print(
        f"start: charlm sample nietzsche --length 1: {spread(sample)} s; import torch: {spread(torch_alone)} s; ",
        end="",
    )
    print(f"ratio {spread([a / b for a, b in zip(sample, torch_alone, strict=True)])}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.15, help="of each turn")
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    require_text(DEFAULT_TEXT)
    print(machine())
    with TemporaryDirectory() as folder:
        writing(given.seconds, given.rounds, Path(folder))
    others(given.seconds, given.rounds)
    start(min(given.rounds, 5))
