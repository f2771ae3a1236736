"""A GPU measured: training speed in eager mode and compiled, the lesson, time to a loss, memory.

    python benchmarks/gpu.py results.md

Writes a Markdown file, section by section. Speeds are of alternating runs on the same model and the same batches: a
bare loop in PyTorch, the training loop of `charlm train`, and the same with `--compile`.
With `--device cpu`, take a short text and small shapes.

The floor is the time of the matrix products of the weights alone: 6 operations per weight and character (2 forward, 4
backward) at the rate of a large float32 product on the same device. (cuDNN's layers multiply in TF32, which is faster.)
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import machine, require_text, synchronize
from overhead import StopAfter, bare, ours

from charlm import recipes
from charlm.api import read_corpus
from charlm.experiments.lesson import ladder_recipes, train_ladder
from charlm.models.counting import fit_counts
from charlm.recipe import Recipe
from charlm.training import callbacks
from charlm.training.compiled import CompiledStep
from charlm.training.loop import Callback, TrainState, compute_gradients
from charlm.training.session import train
from charlm.training.trainer import Trainer

MODELS = ("rnn", "gru", "lstm", "rnn-scratch", "gru-scratch", "lstm-scratch", "transformer", "mamba2", "lstm-ngram")
PEERS = {"rnn-scratch": "rnn", "gru-scratch": "gru", "lstm-scratch": "lstm"}
N_ROUNDS = 5
TARGET = 1.2524  # nats on the lesson's protocol, its LSTM of 2 x 512 after 78 epochs (published)


@dataclass
class Speeds:
    """Characters per second of one model at one shape.

    Attributes:
        bare, eager, compiled: medians over the rounds.
        ratio: of compiled to bare, in the same round.
        fraction: of the floor's speed that the compiled step reaches.
        seconds: of the first eight steps with `--compile`, which include compilation and capture.
        megabytes: largest allocation on the device, over all three loops.
    """

    bare: float
    eager: float
    compiled: float
    ratio: float
    fraction: float
    seconds: float
    megabytes: float


def matrix_rate(device: torch.device) -> float:
    """Return the operations per second of a product of two large matrices in the precision of the training."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = torch.randn(2, n, n, device=device)
    rates = []
    for _ in range(10):
        synchronize(device)
        since = time.perf_counter()
        a @ b
        synchronize(device)
        rates.append(2 * n**3 / (time.perf_counter() - since))
    return statistics.median(rates)


def measure(
    name: str, batch_size: int, bptt: int, seconds: float, rate: float, recipe_options: dict[str, Any]
) -> Speeds:
    """Measure one model at one shape."""
    recipe = Recipe().replace(model=name, batch_size=batch_size, bptt=bptt, epochs=10**6, **recipe_options)
    corpus = read_corpus(recipe)
    trainer = Trainer.make(recipe, corpus)
    state, device = trainer.state, trainer.state.model.device
    fit_counts(state.model, trainer.train_ids, *trainer.symbol_kinds)
    if device.type == "cuda":
        gc.collect()  # earlier models
        torch.cuda.reset_peak_memory_stats()
    compiled = CompiledStep(state.model, lambda message: print(f"  {name}: {message}", file=sys.stderr))
    schedule = [callback for callback in trainer.callbacks if not isinstance(callback, callbacks.Validate)]

    def turn(step: Any, n_steps: int) -> float:
        state.gradient_step = step
        return ours(trainer, [*schedule, StopAfter(n_steps)], n_steps)

    since = time.perf_counter()
    turn(compiled, min(8, len(state.feed)))
    ready = time.perf_counter() - since
    bare(trainer, 3)
    # The first step of a run, which has no hidden state yet, is always eager; it should be one of many.
    n_steps = min(len(state.feed) - 1, max(30, int(seconds * bare(trainer, 5) / (batch_size * bptt))))
    rows = [
        (bare(trainer, n_steps), turn(compute_gradients, n_steps), turn(compiled, n_steps)) for _ in range(N_ROUNDS)
    ]
    middle = [statistics.median(row[i] for row in rows) for i in range(3)]
    n_weights = sum(
        p.numel() for key, p in state.model.named_parameters() if p.dim() == 2 and not key.startswith("embed.")
    )
    megabytes = torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else 0.0
    ratio = statistics.median(row[2] / row[0] for row in rows)
    return Speeds(*middle, ratio, middle[2] * 6 * n_weights / rate, ready, megabytes)


def speed_table(shapes: list[tuple[int, int]], seconds: float, recipe_options: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of speeds."""
    device = torch.device(recipe_options["device"])
    rate = matrix_rate(device)
    yield f"\nMatrix products: {rate / 1e12:.1f} TFLOP/s. Characters per second, in thousands:\n"
    yield "| model | shape | bare loop | `charlm` | `--compile` | to bare | to cuDNN | of the floor | ready, s | MB |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for batch_size, bptt in shapes:
        found: dict[str, Speeds] = {}
        for name in MODELS:
            speeds = found[name] = measure(name, batch_size, bptt, seconds, rate, recipe_options)
            peer = f"{speeds.compiled / found[PEERS[name]].compiled:.2f}" if name in PEERS else ""
            numbers = " | ".join(f"{value / 1e3:,.0f}" for value in (speeds.bare, speeds.eager, speeds.compiled))
            yield (
                f"| {name} | {batch_size} x {bptt} | {numbers} | {speeds.ratio:.2f} | {peer} | {speeds.fraction:.1%} | "
                f"{speeds.seconds:.0f} | {speeds.megabytes:.0f} |"
            )


class FirstBelow(Callback):
    """Note when a validation within or after an epoch first had a loss below `TARGET`."""

    def __init__(self) -> None:
        self.seconds: float | None = None

    def on_batch_end(self, state: TrainState) -> None:
        """Record the time."""
        if self.seconds is None and state.logs.get("valid_nats", TARGET) < TARGET:
            self.seconds = state.timer.seconds

    on_epoch_end = on_batch_end


def quick_lines(recipe_options: dict[str, Any], folder: Path) -> Iterator[str]:
    """Yield the lines about the recipe `quick`, in eager mode and compiled."""
    yield "\n| recipe `quick` | all but training, s | training, s | in all, s | nats | below 1.2524 after, s |"
    yield "| --- | --- | --- | --- | --- | --- |"
    text = {"split": "tail20", "lower": True, "min_count": 3}
    for title, keys in {
        "Nietzsche, eager": {},
        "the lesson's protocol, eager": text,
        "the lesson's protocol, `--compile`": text | {"compile": True},
    }.items():
        recipe = recipes.load("quick").replace(**recipe_options, **keys)
        corpus, watch = read_corpus(recipe), FirstBelow()
        since = time.perf_counter()
        result = train(recipe, corpus, folder / title.replace(" ", "-").replace("`", ""), [watch]).metadata.result
        took = time.perf_counter() - since
        first = "" if watch.seconds is None or not keys else f"{took - result['seconds'] + watch.seconds:.1f}"
        yield (
            f"| {title} | {took - result['seconds']:.1f} | {result['seconds']:.1f} | {took:.1f} | "
            f"{result['valid_nats']:.4f} | {first} |"
        )


def ladder_lines(recipe_options: dict[str, Any], folder: Path) -> Iterator[str]:
    """Yield the lines about the steps of `charlm lesson --quick`."""
    yield "\n| step of `charlm lesson --quick` | seconds | nats |"
    yield "| --- | --- | --- |"
    for row in train_ladder(ladder_recipes(None, True, recipe_options), folder, lambda name: None):
        yield f"| {row['step']} | {row['seconds']:.1f} | {row['nats']:.3f} |"


def gpu_test_lines() -> Iterator[str]:
    """Yield a line about the tests that need a GPU: how many passed, failed, or were skipped, and why."""
    command = [sys.executable, "-m", "pytest", "-rfEs", "-n", "0", "-p", "no:cacheprovider", "tests/gpu"]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines() or [f"exit code {done.returncode}"]
    reasons = sorted({line.split(": ", 1)[-1] for line in lines if line.startswith("SKIPPED")})
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    yield "\n".join(["\n`pytest tests/gpu`: " + "; ".join([lines[-1], *reasons]), *failed])


def main() -> None:
    """Write the file section by section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--corpus", default="nietzsche")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--seconds", type=float, default=0.3, help="seconds of each turn")
    parser.add_argument("--shapes", default="64x64,512x64")
    parser.add_argument("--sections", default="tests,speed,quick,lesson")
    given = parser.parse_args()
    require_text(given.corpus)
    recipe_options = {"corpus": [given.corpus], "device": given.device}
    shapes = [tuple(map(int, shape.split("x"))) for shape in given.shapes.split(",")]
    device = torch.cuda.get_device_name() if given.device == "cuda" else "no GPU"
    with tempfile.TemporaryDirectory() as folder, given.results.open("w") as file:

        def write(line: str) -> None:
            print(line, file=file, flush=True)
            print(line, flush=True)

        write(f"`python benchmarks/gpu.py`: {device}; {machine()}")
        sections = {
            "tests": gpu_test_lines,
            "speed": lambda: speed_table(shapes, given.seconds, recipe_options),
            "quick": lambda: quick_lines(recipe_options, Path(folder) / "quick"),
            "lesson": lambda: ladder_lines(recipe_options, Path(folder) / "lesson"),
        }
        for name in given.sections.split(","):
            for line in sections[name]():
                write(line)


if __name__ == "__main__":
    main()
