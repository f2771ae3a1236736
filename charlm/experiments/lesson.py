"""The lesson: its steps from three characters to the LSTM, and the results published for them.

Published results: fast.ai 2018, deep learning part 1, lesson 6, public notebook; nats per character on the lesson's
own protocols (a random fifth of the windows, or the last fifth of the lower-case text). They are comparable neither
with the one protocol of this project nor across these two protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm import recipe
from charlm.api import read_corpus
from charlm.errors import UsageError, did_you_mean
from charlm.recipe import Recipe
from charlm.storage import runs
from charlm.training.callbacks import Progress
from charlm.training.session import train


@dataclass(frozen=True)
class Step:
    """One step of the lesson.

    Attributes:
        about: architecture and feed.
        published_nats: published result, nats per character.
        result: key of the run's result that compares with it.
    """

    about: str
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


def select_steps(names: str | None) -> list[str]:
    """Return the steps of a comma-separated list; all steps for None.

    Raises:
        UsageError: an unknown step.
    """
    selected = [name.strip() for name in names.split(",")] if names else list(STEPS)
    for name in selected:
        if name not in STEPS:
            raise UsageError(f"no step {name!r}{did_you_mean(name, STEPS)}; steps: {', '.join(STEPS)}")
    return selected


def train_ladder(
    steps: list[str], changes: dict[str, Any], folder: Path, announce: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Train steps of the lesson on the lesson's own protocols.

    Args:
        steps: names of steps.
        changes: recipe keys to change in all steps.
        folder: folder of the runs.
        announce: called with each run's name before it starts.

    Yields:
        one row a step: step, published_nats, nats, seconds.
    """
    recipes = {name: recipe.load(f"lesson-{name}").replace(**changes) for name in steps}
    for name, result in _train_all(recipes, folder, "lesson", announce):
        step = STEPS[name]
        yield {
            "step": name,
            "published_nats": step.published_nats,
            "nats": result[step.result],
            "seconds": result["seconds"],
        }


def train_protocol(changes: dict[str, Any], folder: Path, announce: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Train the lesson's architectures and two n-gram models under the one protocol.

    Args:
        changes: recipe keys to change in all runs.
        folder: folder of the runs.
        announce: called with each run's name before it starts.

    Yields:
        one row a model: protocol (its name), and the run's result.
    """
    recipes = {name: Recipe().replace(**changes, **keys) for name, keys in PROTOCOL.items()}
    for name, result in _train_all(recipes, folder, "protocol", announce):
        yield {"protocol": name} | result


def _train_all(
    recipes: dict[str, Recipe], folder: Path, prefix: str, announce: Callable[[str], None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Train each recipe in a run of its own, and yield its name and the run's result.

    Raises:
        KeyboardInterrupt: a training was interrupted.
    """
    for name, choices in recipes.items():
        run = runs.new_run(f"{prefix}-{name}", folder)
        corpus = read_corpus(choices)
        announce(run.name)
        result = train(choices, corpus, run, [Progress()]).metadata.result
        if result["interrupted"]:
            raise KeyboardInterrupt
        yield name, result
