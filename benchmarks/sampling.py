"""Speed of sampling: one text, 256 texts at once, and the time to start.

    python benchmarks/sampling.py

One text: the numpy engine against the bare PyTorch modules (embedding, recurrent layer, linear layer, softmax,
multinomial) in inference mode, in characters/s. "of floor": the time of one product of a vector and a matrix with as
many weights as a step reads, divided by the time of a step. 256 texts: one batch, as a fraction of the operations/s of
a large matrix product. Models that count, on the default text: the numpy engine against the forward pass. Start:
`charlm sample nietzsche --length 1` against `python -c "import torch"`.

All alternate in one process; ratios are medians over the rounds, with interquartile ranges.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from common import machine, require_text

from charlm.api import read_corpus
from charlm.data.named_texts import DEFAULT_TEXT
from charlm.generation.sampler import SamplingParams, generate_ids, uniform_stream, uniform_streams
from charlm.generation.torch_stepper import TorchStepper, make_stepper
from charlm.models import CharModel, CountingModel, build
from charlm.models.counting import symbol_kinds
from charlm.recipe import Recipe

VOCAB_SIZE, N_TEXTS = 90, 256
RECURRENT: dict[str, tuple[str, dict[str, int]]] = {
    "lstm 2 x 512": ("lstm", {"n_layers": 2, "n_hidden": 512}),
    "rnn 256": ("rnn", {"n_hidden": 256}),
    "gru 256": ("gru", {"n_hidden": 256}),
    "gru 512": ("gru", {"n_hidden": 512}),
}
COUNTING: dict[str, dict[str, int]] = {"ngram": {}, "word-ngram": {}, "lstm-ngram": {"n_hidden": 512}}


def rate(work: Callable[[int], object], n_seconds: float) -> Callable[[], float]:
    """Return a function that works for about `n_seconds` and returns the number of repetitions per second."""
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


def bare(model: CharModel) -> Iterator[int]:
    """Yield characters sampled by the model's PyTorch modules and nothing else."""
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


def product(x: np.ndarray, matrix: np.ndarray) -> Callable[[int], object]:
    """Return a function that multiplies n times."""
    result = np.dot(x, matrix)
    return lambda n: [np.dot(x, matrix, out=result) for _ in range(n)]


def n_read(model: CharModel) -> int:
    """Return the number of weights that a step reads: all matrices but the embedding and W_ih of the first layer."""
    in_table = ("embed.weight", "layers.weight_ih_l0")
    return sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and name not in in_table)


def quartiles(values: list[float], digits: int = 2) -> str:
    """Return the median and the interquartile range."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def interleaved(turns: list[Callable[[], float]], n_rounds: int) -> list[list[float]]:
    """Return the results of each turn, one per round; the order rotates."""
    results: list[list[float]] = [[] for _ in turns]
    for i in range(n_rounds):
        for k in range(len(turns)):
            j = (i + k) % len(turns)
            results[j].append(turns[j]())
    return results


def recurrent(n_seconds: float, n_rounds: int) -> None:
    """Print the table of recurrent models: one text and many."""
    print(f"{'model':14}{'bare':>8}{'ours':>9}  {'ratio':18}{'of floor':18}{'256 texts':>10}  of the matrix rate")
    large = np.random.default_rng(0).standard_normal((1024, 2048), np.float32)
    for name, (architecture, options) in RECURRENT.items():
        model = build(architecture, VOCAB_SIZE, **options).eval()
        n_weights = n_read(model)
        matrix = np.ones((512, n_weights // 512), np.float32)
        one, many = uniform_stream(1), uniform_streams(range(N_TEXTS))
        turns = [
            take(bare(model)),
            take(generate_ids(make_stepper(model), [1], one, SamplingParams())),
            product(matrix[:, 0].copy(), matrix),
            take(generate_ids(make_stepper(model, None, N_TEXTS), [1], many, SamplingParams())),
            product(large[:N_TEXTS, :1024].copy(), large),
        ]
        plain, ours, floor, batch, peak = interleaved([rate(work, n_seconds) for work in turns], n_rounds)
        ratios = [a / b for a, b in zip(ours, plain, strict=True)]
        of_floor = [a / b for a, b in zip(ours, floor, strict=True)]
        of_peak = [a * n_weights / (b * large.size) for a, b in zip(batch, peak, strict=True)]
        print(
            f"{name:14}{statistics.median(plain):8,.0f}{statistics.median(ours):9,.0f}  {quartiles(ratios, 1):18}"
            f"{quartiles(of_floor):18}{statistics.median(batch) * N_TEXTS:10,.0f}  {quartiles(of_peak)}",
            flush=True,
        )


def counting(n_seconds: float, n_rounds: int) -> None:
    """Print the table of the models that count."""
    corpus = read_corpus(Recipe(corpus=(DEFAULT_TEXT,)))
    print(f"{'model':14}{'forward':>8}{'ours':>9}  ratio")
    for name, options in COUNTING.items():
        model = build(name, len(corpus.vocab), **options).eval()
        assert isinstance(model, CountingModel)
        model.fit_counts(torch.from_numpy(corpus.part("train")), *symbol_kinds(corpus.vocab))
        turns = [
            rate(take(generate_ids(stepper, [1] * 200, uniform_stream(1), SamplingParams())), n_seconds)
            for stepper in (TorchStepper(model), make_stepper(model))
        ]
        forward, ours = interleaved(turns, n_rounds)
        ratios = [b / a for a, b in zip(forward, ours, strict=True)]
        print(f"{name:14}{statistics.median(forward):8,.0f}{statistics.median(ours):9,.0f}  {quartiles(ratios, 1)}")


def start(n_rounds: int) -> None:
    """Print the time to start."""

    def seconds(*command: str) -> Callable[[], float]:
        def turn() -> float:
            began = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            return time.perf_counter() - began

        return turn

    sample, torch_alone = interleaved(
        [seconds("-m", "charlm", "sample", "nietzsche", "--length", "1"), seconds("-c", "import torch")], n_rounds
    )
    ratios = [a / b for a, b in zip(sample, torch_alone, strict=True)]
    print(
        f"start: charlm sample nietzsche --length 1: {quartiles(sample)} s; import torch: {quartiles(torch_alone)} s; "
    )
    print(f"ratio {quartiles(ratios)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.15, help="of each turn")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    require_text(DEFAULT_TEXT)
    print(machine())
    recurrent(arguments.seconds, arguments.rounds)
    counting(arguments.seconds, arguments.rounds)
    start(min(arguments.rounds, 5))
