"""The lesson: its steps from three characters to the LSTM, and the results published for them.

Published results: fast.ai 2018, deep learning part 1, lesson 6, public notebook; nats per character on the lesson's
own protocols (a random fifth of the windows, or the last fifth of the lower-case text). They are comparable neither
with the one protocol of this project nor across these two protocols.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from charlm import models, recipes
from charlm.api import read_corpus
from charlm.data.corpus import Corpus
from charlm.errors import CharlmError, Interrupted, UsageError, did_you_mean
from charlm.options.splits import STANDARD
from charlm.recipe import Recipe
from charlm.storage import checkpoint, runs
from charlm.storage.runs import DIVERGED
from charlm.training.callbacks import Progress
from charlm.training.loop import Callback, TrainState, fit
from charlm.training.session import train
from charlm.training.setup import choose_device, fill_defaults
from charlm.training.trainer import Trainer


@dataclass(frozen=True)
class Step:
    """One step of the lesson.

    Attributes:
        description: architecture and feed.
        published_nats: published result, nats per character.
        result: key of the run's result that compares with it.
    """

    description: str
    published_nats: float
    result: str = "valid_nats"


STEPS: dict[str, Step] = {
    "char3": Step("three characters x windows of 3", 1.845, "train_nats"),
    "loop": Step("for-loop RNN x windows of 8", 1.7510),
    "concat": Step("concatenating loop x windows of 8", 1.6994),
    "rnn": Step("nn.RNN x windows of 8", 1.5039),
    "multi": Step("nn.RNN x chunks of 8", 2.0011),
    "identity": Step("the same, W_hh = I", 1.8380),
    "stateful": Step("nn.RNN x stream", 1.4860),
    "cell": Step("hand-written RNN x stream", 1.5422),
    "gru": Step("nn.GRU x stream", 1.3697),
    "lstm": Step("nn.LSTM 2x512 x stream", 1.3152),
}

QUICK: dict[str, dict[str, Any]] = {  # recipe keys to change, so that the ladder takes ten minutes on two CPU cores
    "char3": {},
    "loop": {"stride": 3},
    "concat": {"stride": 3},
    "rnn": {"stride": 3},
    "multi": {},
    "identity": {},
    "stateful": {},
    "cell": {},
    "gru": {"epochs": 4, "drop_epochs": [3]},
}

PROTOCOL: dict[str, dict[str, Any]] = {
    "ngram": {"model": "ngram"},
    "word-ngram": {"model": "word-ngram"},
    "char3": {"model": "char3"},
    "loop": {"model": "loop"},
    "concat": {"model": "concat"},
    "rnn": {"model": "rnn"},
    "identity": {"model": "rnn", "options": {"init": "identity"}},
    "gru": {"model": "gru"},
    "lstm": {"model": "lstm"},
}


WITH_VALIDATION = 1.1  # a fifth of the text, without a backward pass, takes a tenth of the training's time


def ladder_recipes(names: str | None, quick: bool, changes: dict[str, Any]) -> dict[str, Recipe]:
    """Return the recipes of steps, by name.

    Args:
        names: comma-separated steps; None for all, with `quick` those up to the GRU.
        quick: fewer windows and epochs than the lesson (`QUICK`).
        changes: recipe keys to change in all steps.

    Raises:
        UsageError: an unknown step, or one without a quick version.
    """
    known: dict[str, Any] = QUICK if quick else STEPS
    selected = list(known) if names is None else [name.strip() for name in names.split(",")]
    for name in selected:
        if name not in STEPS:
            raise UsageError(f"no step {name!r}{did_you_mean(name, STEPS)}; steps: {', '.join(STEPS)}")
        if name not in known:
            raise UsageError(f"step {name!r} has no quick version; leave out --quick")
    return {
        name: recipes.load(f"lesson-{name}").replace(**(QUICK[name] if quick else {}) | changes) for name in selected
    }


def protocol_recipes(changes: dict[str, Any]) -> dict[str, Recipe]:
    """Return the recipes of the one protocol, by model, with `changes` of recipe keys in all of them.

    The split is the standard one, also for a text whose publications have another.
    """
    return {name: Recipe(split=STANDARD).replace(**changes, **keys) for name, keys in PROTOCOL.items()}


class StepTimes(Callback):
    """Note the time after each step, and stop after `n_steps`."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps
        self.times: list[float] = []

    def on_batch_end(self, state: TrainState) -> None:
        """Wait for the device and note the time."""
        state.batch.loss.item()
        self.times.append(time.perf_counter())
        state.stop = len(self.times) >= self.n_steps


def estimate_seconds(choices: Recipe, n_steps: int = 6) -> float:
    """Estimate the time of a training from a few steps of a model that is discarded; 0 for a model that only counts.

    Args:
        choices: its `epochs` must not be None.
        n_steps: steps to take, at least 2; the first one, which is slower, is not timed.
    """
    if not models.find(choices.model).uses_gradients:
        return 0.0
    assert choices.epochs is not None
    with torch.random.fork_rng():
        state = Trainer.make(choices, read_corpus(choices)).state
        clock = StepTimes(n_steps)
        fit(state, [clock])
    n_timed = len(clock.times) - 1
    seconds_per_step = (clock.times[-1] - clock.times[0]) / n_timed if n_timed else 0.0
    return seconds_per_step * len(state.feed) * choices.epochs * WITH_VALIDATION


def train_ladder(recipes: dict[str, Recipe], folder: Path, announce: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Train steps of the lesson on the lesson's own protocols.

    Args:
        recipes: by step.
        folder: folder of the runs.
        announce: called with a message before each run.

    Yields:
        one row a step: step, published_nats, nats, seconds.
    """
    for name, result in _train_all(recipes, folder, "lesson", announce):
        step = STEPS[name]
        yield {
            "step": name,
            "published_nats": step.published_nats,
            "nats": result[step.result],
            "seconds": result["seconds"],
        }


def train_protocol(
    recipes: dict[str, Recipe], folder: Path, announce: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Train the lesson's architectures and two n-gram models under the one protocol.

    Args:
        recipes: by model.
        folder: folder of the runs.
        announce: called with a message before each run.

    Yields:
        one row a model: protocol (its name), and the run's result.
    """
    for name, result in _train_all(recipes, folder, "protocol", announce):
        yield {"protocol": name} | result


def _train_all(
    recipes: dict[str, Recipe], folder: Path, prefix: str, announce: Callable[[str], None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Train each recipe in a run of its own, and yield its name and the run's result; finished runs are reused.

    Raises:
        KeyboardInterrupt: a training was interrupted.
    """
    for name, choices in recipes.items():
        corpus = read_corpus(choices)
        if (finished := _finished(f"{prefix}-{name}", folder, choices, corpus)) is not None:
            announce(f"{finished[0]} is finished; its result is kept")
            yield name, finished[1]
            continue
        run = runs.new_run(f"{prefix}-{name}", folder)
        announce(f"training {run.name}")
        result = train(choices, corpus, run, [Progress()]).metadata.result
        if result["interrupted"]:
            path = shlex.quote(str(run))
            announce(f"`charlm train --resume {path}` finishes this step; the same command keeps finished steps")
            raise Interrupted(result["signal"])
        yield name, result


def _finished(name: str, folder: Path, choices: Recipe, corpus: Corpus) -> tuple[str, dict[str, Any]] | None:
    """Return the name and the result of the newest finished run with a recipe and a text; None without one."""
    expected = fill_defaults(choices, choose_device(choices.device))
    for run in reversed(runs.all_runs(folder)):
        if not re.fullmatch(rf"{re.escape(name)}(-\d+)?", run.name) or not runs.is_finished(run):
            continue
        with suppress(CharlmError):  # damaged: train again
            metadata, _ = checkpoint.read(runs.find_checkpoint(str(run)))
            is_same = metadata.corpus["sha256"] == corpus.sha256 and metadata.result.get("outcome") != DIVERGED
            if is_same and Recipe().replace(**metadata.recipe) == expected:
                return run.name, metadata.result
    return None
