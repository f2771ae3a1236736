"""Tuning: each entry's hyper-parameters by the same number of trials, on the validation part.

A trial trains with the budget of the entry, or for some minutes or epochs; its value is the lowest validation loss at
the end of an epoch or of the training. Values that are best in a short training need not be best in a long one: after
shorter trials the best one and the entry's own values are trained once more, with the entry's budget, and the better of
the two is chosen. The test part is cut off. Trials are appended to a file as they end, and a contest that was killed
reads them again.
"""

from __future__ import annotations

import hashlib
import json
import math
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
        final = ", the best one and the default values once more with the whole budget," if self.is_shorter else ""
        return f"{self.n_trials} trials{limit}{final} on the validation part: {space}"

    @property
    def is_shorter(self) -> bool:
        """Whether trials have another budget than the entry."""
        return self.minutes is not None or self.epochs is not None


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
    base = entry.replace(minutes=tuning.minutes, epochs=tuning.epochs) if tuning.is_shorter else entry
    filled = fill_defaults(entry, choose_device(entry.device))
    by_optuna = has_optuna() if tuning.by_optuna is None else tuning.by_optuna
    search = Search(dimensions, {**vars(filled), **filled.options}, entry.seed, by_optuna)
    key = _fingerprint([base, entry] if tuning.is_shorter else [base], search, corpus, n_parameters)
    trials, finals = _trials(folder, name, key)

    def run(number: int, base: Recipe, values: Mapping[str, float], pruner: Pruner, is_final: bool = False) -> Trial:
        """Run and record a trial."""
        shown = f"{name}, {'whole budget' if is_final else f'trial {number + 1} of {tuning.n_trials}'}"
        announce(f"{shown}: {shown_values(values)}")
        recipe = with_parameters(with_values(base, values), n_parameters, len(corpus.vocab))
        begin = time.perf_counter()
        trial = run_trial(recipe, corpus, pruner, values)
        row = {"entry": name, "search": key, "trial": number, "is_final": is_final, **vars(trial)}
        row["seconds"] = round(time.perf_counter() - begin, 1)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            run_log.append_line(folder / TRIALS, row)
        except OSError as error:
            raise OutputError(f"{folder / TRIALS}: cannot be written: {error.strerror}") from None
        if trial.valid_nats is None or trial.is_pruned:
            announce(f"{shown}: {'ended early' if trial.is_pruned else 'diverged'}")
        return trial

    for number in range(len(trials), tuning.n_trials):
        values, pruner = search.propose([trials[i] for i in range(number)])
        trials[number] = run(number, base, values, pruner)
    complete = [i for i in range(tuning.n_trials) if trials[i].valid_nats is not None and not trials[i].is_pruned]
    if not complete:
        raise CharlmError(f"{name}: all {len(trials)} trials diverged; lower the range of learning_rate in --tune")
    best = min(complete, key=lambda i: _loss(trials[i]))
    if tuning.is_shorter and best > 0:
        for number in (0, best):
            if number not in finals:
                finals[number] = run(number, entry, trials[number].values, Pruner(None), is_final=True)
        best = min((best, 0), key=lambda i: _loss(finals[i]))
    return dict(trials[best].values)


def _loss(trial: Trial) -> float:
    """Return the loss of a trial, infinite if it diverged."""
    return math.inf if trial.valid_nats is None else trial.valid_nats


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


def _fingerprint(recipes: Sequence[Recipe], search: Search, corpus: Corpus, n_parameters: int | None) -> str:
    """Return a hash of everything that the trials of a search have in common."""
    parts = [
        *(recipe.to_dict() for recipe in recipes),
        [vars(each) for each in search.dimensions],
        search.name,
        corpus.sha256,
        n_parameters,
    ]
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


def _trials(folder: Path, name: str, key: str) -> tuple[dict[int, Trial], dict[int, Trial]]:
    """Return the recorded trials of an entry by number, and those with the whole budget.

    Raises:
        OutputError: they are of another search.
    """
    found: tuple[dict[int, Trial], dict[int, Trial]] = {}, {}
    for row in read_trials(folder):
        if row["entry"] == name:
            if row["search"] != key:
                raise OutputError(
                    f"{folder / TRIALS}: {name} was tuned with other options; choose another --name, or remove the file"
                )
            reports = [(n, nats) for n, nats in row["reports"]]
            found[row.get("is_final", False)][row["trial"]] = Trial(
                row["values"], row["valid_nats"], row["is_pruned"], reports
            )
    return found
