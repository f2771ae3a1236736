"""Results of one benchmark from several files, of which each holds some of its models or seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from charlm.errors import DataError
from charlm.experiments.bench.results import Results
from charlm.recipe import Recipe

SAME = ("task", "sha256", "part", "n_scored", "budget", "n_parameters", "tuning")  # of all parts of a benchmark
LOSSES = ("valid_nats", "test_nats")
TOLERANCE = 1e-6  # relative; of the losses of one model that counts, on two machines


def check_same(parts: Mapping[str, Results]) -> None:
    """Check that results are of one benchmark: text, split, budget, parameters, tuning.

    Args:
        parts: results by the name of their file.

    Raises:
        DataError: they are not.
    """
    (name, first), *others = parts.items()
    for other, results in others:
        for key in SAME:
            found, expected = getattr(results, key), getattr(first, key)
            if found != expected:
                raise DataError(
                    f"{other}: is of another benchmark than {name}: {key} {found!r} instead of {expected!r}"
                )


def merge(parts: Mapping[str, Results], order: Sequence[str]) -> Results:
    """Return the results of a benchmark whose models or seeds are in several files.

    Args:
        parts: results by the name of their file. What several of them have is kept once: baselines, models that count.
        order: of the entries; others follow.

    Raises:
        DataError: they are of different benchmarks, or an entry has two recipes, or a training two losses.
    """
    check_same(parts)
    results = list(parts.values())
    first_seed = min(part.first_seed for part in results)
    recipes: dict[str, dict[str, Any]] = {}
    rows: dict[tuple[str, int | None], dict[str, Any]] = {}
    for file, part in parts.items():
        for name, recipe in part.entries.items():
            recipe = recipe | {"seed": first_seed}
            if _comparable(recipes.setdefault(name, recipe)) != _comparable(recipe):
                raise DataError(f"{file}: {name} has another recipe than in the files before it; leave one file out")
        for row in part.rows:
            name, seed = row["entry"], row.get("seed")
            if not _same_losses(rows.setdefault((name, seed), row), row):
                training = name if seed is None else f"{name}, seed {seed},"
                raise DataError(f"{file}: {training} has another loss than in the files before it; leave one file out")
    names = [name for name in dict.fromkeys([*order, *recipes]) if name in recipes]
    trials = {(trial["entry"], trial["trial"]): trial for part in results for trial in part.trials}
    return replace(
        results[0],
        n_seeds=max(part.first_seed + part.n_seeds for part in results) - first_seed,
        machine="; ".join(dict.fromkeys(part.machine for part in results)),
        entries={name: recipes[name] for name in names},
        chosen={name: values for part in results for name, values in part.chosen.items()},
        trials=list(trials.values()),
        rows=list(rows.values()),
    )


def _comparable(recipe: Mapping[str, Any]) -> Recipe:
    """Return a recipe without the path of the text, whose SHA-256 is compared."""
    return Recipe().replace(**recipe).replace(corpus=())


def _same_losses(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two rows have the same losses; those of trainings that diverged have none."""
    return all(math.isclose(row.get(key, -1.0), other.get(key, -1.0), rel_tol=TOLERANCE) for key in LOSSES)
