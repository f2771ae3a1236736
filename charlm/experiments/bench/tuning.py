"""Tuning: each entry's hyper-parameters by the same number of trials, on the validation part.

A trial trains with the budget of the entry, or for some minutes or epochs; in minutes, warm-up, hold and drops keep
their fractions of the training. Its loss is the lowest validation loss at the end of an epoch or of the training.
Values that are best in a short training need not be best in a long one: after trials with another budget, the best one
and trial 0, which has the entry's own values, are repeated with the entry's budget. The better of these two final
trials is chosen. The test part is cut off. Trials are appended to a file as they end; a contest that was killed reads
them again.
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
from charlm.errors import CharlmError, DivergedError, Interrupted, OutputError
from charlm.experiments.bench.entry import with_parameters
from charlm.experiments.bench.search import Pruner, Search, Trial, has_optuna
from charlm.experiments.bench.space import Dimension, dimensions_of, rounded_values, with_values
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
        final = ", the best one and the default values once more with the whole budget," if self.has_budget else ""
        return f"{self.n_trials} trials{limit}{final} on the validation part: {space}"

    @property
    def has_budget(self) -> bool:
        """Whether trials have a budget of their own."""
        return self.minutes is not None or self.epochs is not None

    def trial_entry(self, entry: Recipe) -> Recipe:
        """Return an entry with the budget of a trial; a schedule in epochs keeps its number of epochs."""
        if not self.has_budget:
            return entry
        is_in_epochs = entry.warmup_epochs or entry.hold_epochs or entry.drop_epochs
        return entry.replace(minutes=self.minutes, epochs=self.epochs or (entry.epochs if is_in_epochs else None))


def tune(
    name: str,
    entry: Recipe,
    tuning: Tuning,
    corpus: Corpus,
    folder: Path,
    n_parameters: int | None = None,
    announce: Callable[[str], None] = lambda message: None,
) -> dict[str, float]:
    """Return the values that the tuning chooses, after running the trials that are not recorded yet.

    Args:
        name: of the entry.
        entry: its recipe.
        tuning: options.
        corpus: the text; its test part is not read.
        folder: folder of the benchmark, for the file of trials.
        n_parameters: see `entries`; each trial has the hidden size that matches it.
        announce: called with each trial's number and values before it starts, and if it ends early or diverges.

    Raises:
        UsageError: a range is invalid for the model.
        OutputError: the file has trials of another search.
        CharlmError: all trials diverged, or both final ones.
        KeyboardInterrupt: the user interrupted a trial; finished ones are kept.
    """
    dimensions = dimensions_of(entry, tuning.space, n_parameters)
    if not dimensions:
        return {}
    first, _ = corpus.bounds["test"]
    corpus = replace(corpus, ids=corpus.ids[:first], bounds=corpus.bounds | {"test": (first, first)})
    trial_entry = tuning.trial_entry(entry)
    has_finals = trial_entry != entry
    filled = fill_defaults(entry, choose_device(entry.device))
    by_optuna = has_optuna() if tuning.by_optuna is None else tuning.by_optuna
    search = Search(dimensions, {**vars(filled), **filled.options}, entry.seed, by_optuna)
    key = _fingerprint([trial_entry, entry] if has_finals else [entry], search, corpus, n_parameters)
    trials, finals = (_recorded(folder, name, key, is_final) for is_final in (False, True))

    def run(number: int, values: Mapping[str, float], pruner: Pruner, is_final: bool = False) -> Trial:
        """Run and record a trial."""
        shown = f"{name}, {'whole budget' if is_final else f'trial {number + 1} of {tuning.n_trials}'}"
        announce(f"{shown}: {shown_values(rounded_values(entry, values))}")
        recipe = with_values(entry if is_final else trial_entry, values)
        recipe = with_parameters(recipe, n_parameters, len(corpus.vocab))
        begin = time.perf_counter()
        trial = run_trial(recipe, corpus, pruner, values)
        row = {"entry": name, "search": key, "trial": number, "is_final": is_final, **vars(trial)}
        row["seconds"] = round(time.perf_counter() - begin, 1)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            run_log.append_line(folder / TRIALS, row)
        except OSError as error:
            raise OutputError(f"{folder / TRIALS}: cannot be written: {error.strerror}") from None
        if not trial.is_complete:
            announce(f"{shown}: {'ended early' if trial.is_pruned else 'diverged'}")
        return trial

    for number in range(tuning.n_trials):
        if number not in trials:
            trials[number] = run(number, *search.propose([trials[i] for i in range(number)]))
    best = _best(name, {i: trials[i] for i in range(tuning.n_trials)})
    if has_finals and best > 0:
        for number in (0, best):
            if number not in finals:
                finals[number] = run(number, trials[number].values, Pruner(None), is_final=True)
        best = _best(f"{name}, whole budget", {i: finals[i] for i in (0, best)})
    return dict(trials[best].values)


def _best(shown: str, trials: Mapping[int, Trial]) -> int:
    """Return the number of the complete trial with the lowest loss.

    Raises:
        CharlmError: there is none.
    """
    losses = {i: trial.valid_nats for i, trial in trials.items() if trial.valid_nats is not None and trial.is_complete}
    if not losses:
        raise CharlmError(f"{shown}: all {len(trials)} trials diverged; lower the range of learning_rate in --tune")
    return min(losses, key=losses.__getitem__)


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
            raise Interrupted(int(state.stop))
        nats = next(curve.nats for curve in trainer.callbacks if isinstance(curve, ValidationCurve))
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
            rows.append({"is_final": False} | json.loads(line))  # older versions had no final trials
    return rows


def _recorded(folder: Path, name: str, key: str, is_final: bool) -> dict[int, Trial]:
    """Return the recorded trials of an entry by number, the final ones or the others.

    Raises:
        OutputError: they are of another search.
    """
    rows = [row for row in read_trials(folder) if row["entry"] == name]
    if any(row["search"] != key for row in rows):
        raise OutputError(
            f"{folder / TRIALS}: {name} was tuned with other options; choose another --name, or remove the file"
        )
    return {
        row["trial"]: Trial(row["values"], row["valid_nats"], row["is_pruned"], row["reports"])
        for row in rows
        if row["is_final"] == is_final
    }
