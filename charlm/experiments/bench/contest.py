"""A whole benchmark: read the text, tune, train, compare, write. What is finished is kept, so a killed one resumes.

The order: the tuning reads the training and the validation part; each entry's test part is read once, after its last
training step with the chosen values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from charlm.api import read_recipe_text
from charlm.data.corpus import Corpus
from charlm.errors import CharlmError, DataError, OutputError, UsageError
from charlm.experiments import compressors
from charlm.experiments.baselines import baselines
from charlm.experiments.bench.entry import SHARED_KEYS, entries, is_ngram, shared_keys, with_parameters
from charlm.experiments.bench.merging import merge
from charlm.experiments.bench.results import FILE, Results
from charlm.experiments.bench.rows import compared_part, run_benchmark
from charlm.experiments.bench.space import check_names, check_space, dimensions_of, rounded_values, with_values
from charlm.experiments.bench.tuning import Tuning, read_trials, shown_values, tune
from charlm.experiments.compare import task
from charlm.experiments.curves import budget
from charlm.experiments.machine import machine
from charlm.files import exclusive_lock
from charlm.recipe import Recipe
from charlm.training.trainer import FINAL_CHARS, Trainer

BEFORE_DECAY = ("warmup_epochs", "hold_epochs")  # together they must be shorter than the training


@dataclass(frozen=True)
class Contest:
    """Options of a benchmark.

    Attributes:
        names: entries, see `entries`.
        changes: recipe keys that all entries share.
        n_seeds: trainings of each entry.
        n_parameters: number of parameters to match; None keeps the sizes.
        n_chars: characters of a training, rounded to whole epochs; None keeps the budgets of the recipes.
        tuning: None for none.
        chosen: values of hyper-parameters by entry, of an earlier tuning; an entry that has some is not tuned.
        is_part: other models of the benchmark are in other folders; a tuned hyper-parameter may be of none of `names`.
        all_compressors: beside xz, PPMd and zpaq where they are installed.
        sample_seconds: see `run_benchmark`.
    """

    names: Sequence[str]
    changes: Mapping[str, Any]
    n_seeds: int = 3
    n_parameters: int | None = None
    n_chars: int | None = None
    tuning: Tuning | None = None
    chosen: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    is_part: bool = False
    all_compressors: bool = False
    sample_seconds: float = 1.0


def run_contest(contest: Contest, folder: Path, announce: Callable[[str], None]) -> Results:
    """Run a benchmark, or the rest of it.

    The results.json of the folder is continued: its entries are not tuned again, its rows are not trained again, and
    entries of other names stay in it.

    Args:
        contest: options.
        folder: of the benchmark.
        announce: called with a message before each training, and for each recipe whose own text is not used.

    Raises:
        UsageError: invalid options; they are checked before the text is read. An entry that cannot be trained on the
            text; that is checked before the first training.
        DataError: results.json is damaged.
        OutputError: the folder is of another benchmark, or another process works there.
        KeyboardInterrupt: the user interrupted it; what is finished is kept.
    """
    recipes, common, corpus = _read(contest, announce)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be created: {error.strerror}; choose another --name") from None
    with exclusive_lock(folder):
        known = Results.load(folder) if (folder / FILE).exists() else None
        parts = {} if known is None else {str(folder / FILE): known}
        parts["this command"] = results = _begin(contest, recipes, common, corpus)
        announce(f"{_plan(contest, recipes, results, corpus)}; folder {folder}")

        def choose(name: str, values: Mapping[str, float]) -> None:
            """Give an entry the values of its hyper-parameters."""
            if values:
                found = results.chosen[name] = rounded_values(recipes[name], values)
                announce(f"{name}: {shown_values(found)}")
                recipe = with_values(recipes[name], found)
                recipes[name] = with_parameters(recipe, contest.n_parameters, len(corpus.vocab))
            results.entries[name] = recipes[name].to_dict()

        chosen = {**_merged(parts).chosen, **contest.chosen}  # another benchmark is refused before the tuning
        tuned = [name for name in recipes if contest.tuning is not None and not chosen.get(name)]
        for name in recipes:
            if name not in tuned:
                choose(name, chosen.get(name, {}))
        begun = {row["entry"] for row in _merged(parts).rows}  # another recipe of an entry is refused, too
        for name, recipe in recipes.items():
            if name not in begun:
                tuning = contest.tuning if name in tuned else None
                _check_trainings(name, recipe, tuning, contest.n_parameters, corpus)
        for name in tuned:
            assert contest.tuning is not None
            choose(name, tune(name, recipes[name], contest.tuning, corpus, folder, contest.n_parameters, announce))
        keys = ("entry", "trial", "is_final", "values", "valid_nats", "is_pruned", "seconds")
        results.trials = [{key: row.get(key) for key in keys} for row in read_trials(folder) if row["entry"] in recipes]
        results = _merged(parts, list(recipes))
        machines = results.machine
        if known is not None:
            results.machine = known.machine  # nothing has been trained on this one yet
        results.save(folder)
        trained = {
            (row["entry"], recipes[row["entry"]].seed if is_ngram(row["model"]) else row["seed"])
            for row in results.rows
            if row["entry"] in recipes
        }
        for row in run_benchmark(recipes, contest.n_seeds, corpus, folder, announce, contest.sample_seconds, trained):
            results.machine = machines
            results.rows.append(row)
            results.save(folder)
    return results


def _read(contest: Contest, announce: Callable[[str], None]) -> tuple[dict[str, Recipe], Recipe, Corpus]:
    """Check the options, read the text, and return the recipes of the entries, that of the text, and the text."""
    changes = shared_keys(contest.names, dict(contest.changes), announce)
    if "epochs" in changes:
        changes.setdefault("minutes", None)  # instead of the minutes of a recipe
    choices = Recipe().replace(**changes)
    choices.replace(seed=choices.seed + contest.n_seeds - 1)  # the last seed is checked before the first training
    recipes = entries(contest.names, changes, None, 0)  # with their own sizes, which need no text
    if contest.tuning is not None and not contest.is_part:
        check_space(contest.tuning.space, list(recipes.values()), contest.n_parameters)
    if contest.tuning is not None:
        check_names(contest.names, contest.tuning.space)
    common, corpus = read_recipe_text(choices)
    if not corpus.has_held_out:
        raise UsageError(f"split {corpus.split} has no held-out part to compare models on; use another --split")
    if contest.tuning is not None and not len(corpus.part("valid")):
        raise UsageError(f"split {corpus.split} has no validation part to tune on; use another --split")
    if contest.tuning is not None and compared_part(corpus) == "valid":
        announce(f"split {corpus.split} has no test part: models are tuned and compared on the same text")
    changes |= {key: getattr(common, key) for key in SHARED_KEYS}  # recipes have other defaults
    if contest.n_chars is not None:
        if (n_train := len(corpus.part("train"))) > 2 * contest.n_chars:
            announce(
                f"--chars {contest.n_chars} is less than one epoch; each training has one epoch, {n_train:,} characters"
            )
        changes |= {"epochs": epochs_of(contest.n_chars, corpus), "minutes": None}
    return entries(contest.names, changes, contest.n_parameters, len(corpus.vocab)), common, corpus


def _merged(parts: Mapping[str, Results], order: Sequence[str] = ()) -> Results:
    """Return the earlier results of the folder, if there are some, with those of this command.

    Raises:
        OutputError: they are of different benchmarks.
    """
    try:
        return merge(parts, order)
    except DataError as error:
        raise OutputError(f"{error}; choose another --name") from None


def _check_trainings(
    name: str, recipe: Recipe, tuning: Tuning | None, n_parameters: int | None, corpus: Corpus
) -> None:
    """Check that an entry and its trials can be trained, by making their trainings without a step.

    Raises:
        CharlmError: the recipe, or that of a trial, is invalid for the model or the text.
    """
    made = {name: recipe}
    if tuning is not None:
        space = dimensions_of(recipe, tuning.space, n_parameters)
        longest = {each.name: each.high for each in space if each.name in BEFORE_DECAY}
        made = {f"{name}, trials": with_values(tuning.trial_entry(recipe), longest), name: with_values(recipe, longest)}
    for shown, each in made.items():
        try:
            with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
                Trainer.make(each, corpus)
        except CharlmError as error:
            raise type(error)(f"{shown}: {error}") from None


def epochs_of(n_chars: int, corpus: Corpus) -> int:
    """Return the epochs of a training of about `n_chars` characters, at least 1."""
    return max(1, round(n_chars / len(corpus.part("train"))))


def _begin(contest: Contest, recipes: Mapping[str, Recipe], common: Recipe, corpus: Corpus) -> Results:
    """Return the results before the first training: text, budget, baselines."""
    part = compared_part(corpus)
    first, stop = corpus.bounds[part]
    n_train = len(corpus.part("train"))
    networks = [recipe for recipe in recipes.values() if not is_ngram(recipe.model)]
    budgets = sorted({_budget(recipe, n_train) for recipe in networks or recipes.values()})
    tuning = contest.tuning
    return Results(
        task=task(vars(common)),
        sha256=corpus.sha256,
        part=part,
        n_scored=min(stop - first, FINAL_CHARS),
        budget=" or ".join(budgets),
        n_seeds=contest.n_seeds,
        n_parameters=contest.n_parameters,
        machine=machine(),
        tuning="" if tuning is None else tuning.description,
        rows=baselines(corpus, compressors=compressors.installed()) if contest.all_compressors else baselines(corpus),
    )


def _plan(contest: Contest, recipes: Mapping[str, Recipe], results: Results, corpus: Corpus) -> str:
    """Return in words what is trained on what."""
    names = ", ".join(dict.fromkeys(contest.names))
    text = f"{results.task}, {len(corpus.part('train')):,} characters of training text"
    if all(is_ngram(recipe.model) for recipe in recipes.values()):
        return f"{text}; {names}: counted once"
    size = "" if results.n_parameters is None else f", about {results.n_parameters:,} parameters"
    n_trials = 0 if contest.tuning is None else contest.tuning.n_trials
    trials = f"{n_trials} trial{'s' * (n_trials > 1)} and " if n_trials else ""
    seeds = f"{results.n_seeds} seed{'s' * (results.n_seeds > 1)} each"
    return f"{text}; {names}: {results.budget}{size}; {trials}{seeds}"


def _budget(recipe: Recipe, n_train: int) -> str:
    """Return the budget of a training: characters of its epochs, or minutes, or both limits."""
    if recipe.epochs is None:
        return f"{recipe.minutes:g} minutes"
    n_chars = recipe.epochs * n_train
    shown = f"{n_chars / 1e6:.2f}M" if n_chars >= 100_000 else f"{n_chars:,}"
    limit = "" if recipe.minutes is None else f"at most {recipe.minutes:g} minutes and "
    return f"{limit}{shown} characters, {budget({'epochs': recipe.epochs})}"
