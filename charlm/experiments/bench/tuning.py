"""Tuning: each entry's hyper-parameters by the same number of trials, on the validation part.

A trial trains with the budget of the entry, or for some minutes; its value is the lowest validation loss at the end of
an epoch or of the training. The test part is cut off. Trials are appended to a file as they end, and a contest that was
killed reads them again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from charlm.data.corpus import Corpus
from charlm.errors import CharlmError, DivergedError, OutputError
from charlm.experiments.bench.entry import is_ngram, size_option, with_parameters
from charlm.experiments.bench.search import Pruner, Search, Trial, has_optuna
from charlm.experiments.bench.space import Dimension, dimensions_of, with_values
from charlm.experiments.curves import budget
from charlm.models.counting import fit_counts
from charlm.recipe import Recipe
from charlm.storage import run_log
from charlm.training.callbacks import Progress, ValidationCurve
from charlm.training.loop import Callback, TrainState, fit
from charlm.training.setup import choose_device, fill_defaults
from charlm.training.trainer import Trainer

TRIALS = "trials.jsonl"
NO_PRUNING = 0.3  # fraction of a trial in which it is not ended: a low learning rate leads at first


@dataclass(frozen=True)
class Tuning:
    """Options of the tuning.

    Attributes:
        space: hyper-parameters and their ranges; an entry takes part in those that it has.
        n_trials: trials of each entry.
        minutes: time limit of a trial, instead of the entry's budget; None for that budget.
        epochs: epochs of a trial, instead of the entry's budget.
        by_optuna: propose by TPE and prune; None if optuna is installed.
    """

    space: Sequence[Dimension]
    n_trials: int = 12
    minutes: float | None = None
    epochs: int | None = None
    by_optuna: bool | None = None

    @property
    def description(self) -> str:
        """The options in words."""
        space = ", ".join(f"{each.name} {each.low:g} to {each.high:g}" for each in self.space)
        limit = "" if self.minutes is None else f" of at most {60 * self.minutes:g} s"
        limit += "" if self.epochs is None else f" of {budget(vars(self))}"
        return f"{self.n_trials} trials{limit} on the validation part: {space}"


def tune(
    name: str,
    entry: Recipe,
    tuning: Tuning,
    corpus: Corpus,
    folder: Path,
    n_parameters: int | None = None,
    announce: Callable[[str], None] = lambda message: None,
) -> dict[str, float]:
    """Return the values with the lowest validation loss, of the recorded trials and those that are missing.

    Args:
        name: of the entry.
        entry: its recipe.
        tuning: options.
        corpus: the text; its test part is not read.
        folder: folder of the benchmark, for the file of trials.
        n_parameters: see `entries`; the hidden size is chosen in each trial.
        announce: called with each trial's number and values before it starts, and if it ends early or diverges.

    Raises:
        UsageError: a range is invalid for the model.
        OutputError: the file has trials of another search.
        CharlmError: all trials diverged.
        KeyboardInterrupt: the user interrupted a trial; finished ones are kept.
    """
    dimensions = [] if is_ngram(entry.model) else dimensions_of(entry, tuning.space)
    if n_parameters is not None:
        dimensions = [each for each in dimensions if each.name != size_option(entry.model)]
    if not dimensions:
        return {}
    first, _ = corpus.bounds["test"]
    corpus = replace(corpus, ids=corpus.ids[:first], bounds=corpus.bounds | {"test": (first, first)})
    base = entry
    if tuning.minutes is not None or tuning.epochs is not None:
        base = entry.replace(minutes=tuning.minutes, epochs=tuning.epochs)
    filled = fill_defaults(entry, choose_device(entry.device))
    by_optuna = has_optuna() if tuning.by_optuna is None else tuning.by_optuna
    search = Search(dimensions, {**vars(filled), **filled.options}, entry.seed, by_optuna)
    key = _fingerprint(base, search, corpus, n_parameters)
    trials = _trials(folder, name, key)
    for number in range(len(trials), tuning.n_trials):
        values, pruner = search.propose(trials)
        announce(f"{name}, trial {number + 1} of {tuning.n_trials}: {shown_values(values)}")
        recipe = with_parameters(with_values(base, values), n_parameters, len(corpus.vocab))
        begin = time.perf_counter()
        trial = run_trial(recipe, corpus, pruner, values)
        row = {"entry": name, "search": key, "trial": number, **vars(trial)}
        row["seconds"] = round(time.perf_counter() - begin, 1)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            run_log.append_line(folder / TRIALS, row)
        except OSError as error:
            raise OutputError(f"{folder / TRIALS}: cannot be written: {error.strerror}") from None
        trials.append(trial)
        if trial.valid_nats is None or trial.is_pruned:
            announce(f"{name}, trial {number + 1}: {'ended early' if trial.is_pruned else 'diverged'}")
    complete = [trial for trial in trials[: tuning.n_trials] if trial.valid_nats is not None and not trial.is_pruned]
    if not complete:
        raise CharlmError(f"{name}: all {len(trials)} trials diverged; lower the range of learning_rate in --tune")
    return dict(min(complete, key=lambda trial: trial.valid_nats or 0.0).values)


def run_trial(recipe: Recipe, corpus: Corpus, pruner: Pruner, values: Mapping[str, float]) -> Trial:
    """Train a model that is discarded, and return its validation loss.

    Raises:
        KeyboardInterrupt: the user interrupted it.
    """
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        trainer = Trainer.make(recipe, corpus)
        state = trainer.state
        fit_counts(state.model, trainer.train_ids, *trainer.symbol_kinds)
        watch = Watch(pruner)
        try:
            fit(state, [*trainer.callbacks, watch, Progress(), trainer.signals])
        except DivergedError:
            return Trial(values, None, False, pruner.reports)
        if state.interrupted:
            raise KeyboardInterrupt
        nats = [curve.nats for curve in trainer.callbacks if isinstance(curve, ValidationCurve)][0]
    return Trial(values, min(nats), watch.is_pruned, pruner.reports)


class Watch(Callback):
    """Report the validation losses of a trial, and end it early. Place it after `Validate`.

    A training that stops within an epoch, right after a validation, is validated once more after the same step. That
    loss is not reported: a trial has one loss at a number of characters.

    Args:
        pruner: decides.

    Attributes:
        is_pruned: the trial was ended.
    """

    def __init__(self, pruner: Pruner) -> None:
        self.pruner, self.is_pruned = pruner, False

    def on_batch_end(self, state: TrainState) -> None:
        """Report a new loss, and stop if it is too high."""
        reports = self.pruner.reports
        if "valid_nats" in state.logs and not (reports and reports[-1][0] == state.n_chars):
            self.pruner.report(state.n_chars, state.logs["valid_nats"])
            if NO_PRUNING <= state.progress < 1 and not state.ended and self.pruner.should_end:
                self.is_pruned = state.stop = True

    on_epoch_end = on_batch_end


def shown_values(values: Mapping[str, float]) -> str:
    """Return the values of hyper-parameters for a message or a cell."""
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())


def _fingerprint(base: Recipe, search: Search, corpus: Corpus, n_parameters: int | None) -> str:
    """Return a hash of everything that the trials of a search have in common."""
    parts = [base.to_dict(), [vars(each) for each in search.dimensions], search.name, corpus.sha256, n_parameters]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def read_trials(folder: Path) -> list[dict[str, Any]]:
    """Return the recorded trials of a benchmark; a line that was cut by a kill is left out.

    Raises:
        OutputError: the file cannot be read.
    """
    path, rows = folder / TRIALS, []
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise OutputError(f"{path}: cannot be read: {error.strerror}") from None
    for line in lines:
        with suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def _trials(folder: Path, name: str, key: str) -> list[Trial]:
    """Return the recorded trials of an entry.

    Raises:
        OutputError: they are of another search.
    """
    rows = [row for row in read_trials(folder) if row["entry"] == name]
    if any(row["search"] != key for row in rows):
        raise OutputError(
            f"{folder / TRIALS}: {name} was tuned with other options; choose another --name, or remove the file"
        )
    return [
        Trial(row["values"], row["valid_nats"], row["is_pruned"], [(n, nats) for n, nats in row["reports"]])
        for row in rows
    ]
