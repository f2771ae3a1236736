"""The lesson's ladder: its steps, and the numbers that were published for them.

Published numbers: fast.ai 2018, deep learning part 1, lesson 6, public notebook; nats per character on the lesson's
own protocols (a random fifth of the windows, or the last fifth of the lower-case text). They are not comparable
with the one protocol of this project, or between the two protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm.api import read_corpus
from charlm.errors import UsageError, did_you_mean
from charlm.generation.language_model import LanguageModel
from charlm.recipe import Recipe
from charlm.storage import runs
from charlm.training.callbacks import Progress
from charlm.training.session import train


@dataclass(frozen=True)
class Step:
    """One step of the ladder.

    Attributes:
        about: architecture and feed.
        published: nats per character.
        result: which of a run's results compares with it.
    """

    about: str
    published: float
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


def choose(names: str | None) -> list[str]:
    """Return the steps of a comma-separated list, all for None.

    Raises:
        UsageError: an unknown step.
    """
    chosen = [name.strip() for name in names.split(",")] if names else list(STEPS)
    for name in chosen:
        if name not in STEPS:
            raise UsageError(f"no step {name!r}{did_you_mean(name, STEPS)}; steps are: {', '.join(STEPS)}")
    return chosen


def train_ladder(
    choices: dict[str, Recipe], folder: Path, prefix: str, announce: Callable[[str], None]
) -> Iterator[tuple[str, LanguageModel]]:
    """Train one recipe after another on the same text, each into a run of its own.

    Args:
        choices: recipes by step.
        folder: of the runs.
        prefix: of the runs' names.
        announce: called with each run's name before it starts.

    Yields:
        the step and its trained model; the last may be interrupted.
    """
    for name, choice in choices.items():
        run = runs.new_run(f"{prefix}-{name}", folder)
        corpus = read_corpus(choice)
        announce(run.name)
        model = train(choice, corpus, run, [Progress()])
        yield name, model
        if model.metadata.result["interrupted"]:
            return
