"""Speed of this version of charlm against another one, installed in another environment.

    python benchmarks/compare_versions.py --python ../before/.venv/bin/python

One process of each environment runs this file and measures on request. The two alternate in one run, because the speed
of a machine drifts. For each piece of work the table shows both medians, the ratio of this version to the other
(above 1: this version is faster) and the interquartile range of the ratios of the rounds:

    sampling   characters/s of one text and of 256 texts, from checkpoints that each version trained
    training   characters/s of the training loop with default options
    counting   characters/s of counting words
    start      1 / seconds of `charlm sample nietzsche --length 1`, and the seconds as a fraction of `import torch`

Names that differ between versions are looked up in all places where a version has them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

SAMPLING: dict[str, dict[str, Any]] = {
    "rnn 256": {"model": "rnn", "options": {"n_hidden": 256}},
    "gru 256": {"model": "gru", "options": {"n_hidden": 256}},
    "lstm 2 x 512": {"model": "lstm", "options": {"n_hidden": 512, "n_layers": 2}},
    "ngram": {"model": "ngram"},
    "lstm-ngram": {"model": "lstm-ngram", "options": {"n_hidden": 128}},
}
TRAINING = ["rnn", "gru", "lstm", "rnn-scratch", "gru-scratch", "lstm-scratch", "loop", "concat"]
N_TEXTS = 256
LOADERS = (
    "charlm.generation.numpy_generator:load_numpy",
    "charlm.generation.generator:load_numpy",
    "charlm.writer:load",
)
NAMES = (
    [f"sampling {name}" for name in SAMPLING]
    + [f"sampling {N_TEXTS} x gru 256"]
    + [f"training {name}" for name in TRAINING]
    + ["counting word-ngram"]
)


def find(*places: str) -> Any:
    """Return the first existing object of `module:name` places."""
    for place in places:
        module, name = place.split(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            pass
    raise ImportError(f"this version of charlm has none of: {', '.join(places)}")


def attribute(owner: Any, *names: str) -> Any:
    """Return the first existing attribute of an object."""
    return getattr(owner, next(name for name in names if hasattr(owner, name)))


def rate(work: Callable[[], int], n_seconds: float) -> float:
    """Repeat work for about `n_seconds`; it returns a number of characters. Return characters/s."""
    began, n_chars = time.perf_counter(), 0
    while (seconds := time.perf_counter() - began) < n_seconds or not n_chars:
        n_chars += work()
    return n_chars / seconds


def sampling(name: str, folder: Path) -> Callable[[], int]:
    """Return a function that samples characters of one text, or `N_TEXTS` texts, and returns their number."""
    import charlm

    many = name.startswith(str(N_TEXTS))
    choices = SAMPLING[name.split(" x ", 1)[1] if many else name]
    text = folder / "text.txt"
    trained = folder / f"{choices['model']}-{many}"
    charlm.train(text, folder=trained, **choices | ({} if choices["model"] == "ngram" else {"epochs": 1}))
    path = trained / "best.safetensors"
    generator = find(*LOADERS)(path) or charlm.load(path)
    if not many:
        stream: Iterator[str] = generator.stream("", 1 << 40, seed=1)
        return lambda: sum(1 for _ in islice(stream, 100))
    generate_many = attribute(generator, "generate_many", "streams")

    def work() -> int:
        texts: Iterable[Iterable[str]] = generate_many(N_TEXTS, "", 2000, seed=1)
        for each in texts:
            deque(each, maxlen=0)
        return N_TEXTS * 2000

    return work


def training(name: str, folder: Path) -> Callable[[], int]:
    """Return a function that trains some steps on Nietzsche and returns the number of characters predicted."""
    recipe_class, trainer_class = (
        find("charlm.recipe:Recipe"),
        find("charlm.training.trainer:Trainer", "charlm.trainer:Trainer"),
    )
    train_epoch = find("charlm.training.loop:train_epoch", "charlm.fit:train_epoch")
    callback_class = find("charlm.training.loop:Callback", "charlm.fit:Callback")
    recipe = attribute(recipe_class(), "replace", "changed")(corpus=["nietzsche"], model=name, device="cpu")
    trainer = trainer_class.make(recipe, find("charlm.api:read_corpus")(recipe))
    state = attribute(trainer, "state", "run")

    class StopAfterSteps(callback_class):  # type: ignore[misc, valid-type]
        def on_batch_end(self, state: Any) -> None:
            state.stop = state.step % 5 == 0

    def work() -> int:
        before, state.stop, state.step_in_epoch = state.n_chars, False, 0
        train_epoch(state, [StopAfterSteps()])
        return int(state.n_chars - before)

    return work


def counting(name: str, folder: Path) -> Callable[[], int]:
    """Return a function that counts the training part of Nietzsche."""
    import torch

    recipe = attribute(find("charlm.recipe:Recipe")(), "replace", "changed")(corpus=["nietzsche"])
    corpus = find("charlm.api:read_corpus")(recipe)
    model = find("charlm.models:build")(name, len(corpus.vocab))
    ids = torch.from_numpy(corpus.part("train"))
    classes = torch.as_tensor(attribute(corpus.vocab, "char_classes", "kinds"))

    def work() -> int:
        attribute(model, "fit_counts", "count")(ids, classes)
        return len(ids)

    return work


def serve(folder: Path, n_seconds: float) -> None:
    """Measure what standard input names, line by line, and print characters/s."""
    kinds = {"sampling": sampling, "training": training, "counting": counting}
    name, work = "", None
    print(importlib.import_module("charlm").__file__, flush=True)
    for line in sys.stdin:
        if line.strip() != name or work is None:
            name = line.strip()
            kind, _, argument = name.partition(" ")
            work = kinds[kind](argument, folder)
            work()  # warm-up
        print(rate(work, n_seconds), flush=True)


class Version:
    """A process that measures with the charlm of one Python environment.

    Args:
        python: its interpreter.
        folder: folder for its checkpoints.
        n_seconds: duration of one measurement.
    """

    def __init__(self, python: str, folder: Path, n_seconds: float) -> None:
        self.python = python
        # Without PYTHONPATH: it would take the place of the environment's own package.
        self.environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        folder.mkdir()
        command = [python, __file__, "--serve", str(folder), "--seconds", str(n_seconds)]
        text = {"text": True, "encoding": "utf-8"}
        self.log = (folder / "log.txt").open("w+")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=self.environment, **text
        )
        self.file = self.answer()

    def answer(self) -> str:
        """Return the next line of the process; exit if there is none."""
        line = self.process.stdout.readline().strip()
        if not line:
            self.log.seek(0)
            sys.exit(f"{self.python} failed:\n{self.log.read()[-2000:]}")
        return line

    def measure(self, name: str) -> float:
        """Return characters/s of one piece of work."""
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return float(self.answer())

    def start(self) -> float:
        """Return 1 / seconds until the first character of the model that comes with the package."""
        return 1 / seconds(
            [self.python, "-P", "-m", "charlm", "sample", "nietzsche", "--length", "1"], self.environment
        )


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Return the wall-clock seconds of a command."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - began


def print_row(name: str, this: list[float], other: list[float]) -> None:
    """Print medians, their ratio and the interquartile range of the ratios."""
    a, b = statistics.median(this), statistics.median(other)
    low, _, high = statistics.quantiles([x / y for x, y in zip(this, other, strict=True)], n=4)
    print(f"{name:26}{a:14,.2f}{b:14,.2f}{a / b:8.2f} ({low:.2f}-{high:.2f})", flush=True)


def main(given: argparse.Namespace, folder: Path) -> None:
    """Measure all pieces of work in both versions and print the table."""
    from charlm.api import read_corpus
    from charlm.recipe import Recipe

    corpus = read_corpus(Recipe(corpus=("nietzsche",)))
    text = "".join(corpus.vocab.decode(corpus.part("train")[: given.chars]))
    versions = []
    for number, python in enumerate((sys.executable, given.python)):
        versions.append(Version(python, folder / str(number), given.seconds))
        (folder / str(number) / "text.txt").write_text(text, "utf-8")
        print(f"{'other' if number else 'this'}: {versions[-1].file}")
    print(f"{'':26}{'this':>14}{'other':>14}{'ratio':>8}")
    for name in [name for name in NAMES if given.only in name]:
        this, other = zip(*([version.measure(name) for version in versions] for _ in range(given.rounds)), strict=True)
        print_row(name, list(this), list(other))
    if given.only in "start":
        this, other = zip(*([version.start() for version in versions] for _ in range(given.rounds)), strict=True)
        print_row("start", list(this), list(other))
        torch = [seconds([sys.executable, "-c", "import torch"], dict(os.environ)) for _ in range(given.rounds)]
        print(f"start / import torch: {1 / statistics.median(this) / statistics.median(torch):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="interpreter of the environment with the other version")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds of each measurement")
    parser.add_argument("--chars", type=int, default=100_000, help="characters of the text that models to sample learn")
    parser.add_argument("--only", default="", help="measure only what has this in its name, e.g. training")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)  # for the subprocess
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.seconds)
    elif not given.python:
        parser.error("--python is required")
    else:
        from common import machine, require_text

        require_text("nietzsche")
        print(machine())
        with TemporaryDirectory() as folder:
            main(given, Path(folder))
