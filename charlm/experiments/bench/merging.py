"""Results of one benchmark from several files, of which each holds some of its models or seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from charlm.errors import DataError
from charlm.experiments.bench.entry import differences, is_ngram
from charlm.experiments.bench.results import Results
from charlm.recipe import Recipe

SAME = ("task", "sha256", "part", "n_scored", "budget", "n_parameters", "tuning")  # of all parts of a benchmark
LOSSES = ("valid_nats", "test_nats")
TOLERANCE = 1e-6  # relative; of the losses of one model that counts, on two machines


def merge(parts: Mapping[str, Results], order: Sequence[str] = ()) -> Results:
    """Return the results of a benchmark whose models or seeds are in several files.

    Several files may have the same training, which is kept once; that of a model that counts is the same for all seeds.
    Baselines are those of the last file.

    Args:
        parts: results by the name of their file, at least one.
        order: of the entries; others follow.

    Raises:
        DataError: they are of different benchmarks, or an entry has two recipes, or a training two losses.
    """
    (first, results), *_ = parts.items()
    recipes: dict[str, dict[str, Any]] = {}
    rows: dict[tuple[str, int | None], dict[str, Any]] = {}
    first_seed = min(part.first_seed for part in parts.values())
    for file, part in parts.items():
        for key in SAME:
            if getattr(part, key) != getattr(results, key):
                values = f"{key} {getattr(results, key)!r} and {getattr(part, key)!r}"
                raise DataError(f"{first} and {file} are different benchmarks ({values})")
        for name, recipe in part.entries.items():
            recipe = recipe | {"seed": first_seed}
            one, other = map(_comparable, (recipe, recipes.setdefault(name, recipe)))
            if one != other:
                keys = differences(one, other)
                raise DataError(f"{file}: {name} has another recipe than in {_before(file, parts)} ({keys})")
        for row in part.rows:
            name, seed = row["entry"], row.get("seed")
            if seed is None:  # a baseline
                rows[name, None] = row
                continue
            kept = rows.setdefault((name, None if is_ngram(row["model"]) else seed), row)
            if not _has_losses_of(kept, row):
                raise DataError(f"{file}: {name}, seed {seed}, has another loss than in {_before(file, parts)}")
    trials = [trial for part in parts.values() for trial in part.trials]
    return replace(
        results,
        n_seeds=max(part.first_seed + part.n_seeds for part in parts.values()) - first_seed,
        machine="; ".join(dict.fromkeys(each for part in parts.values() for each in part.machine.split("; "))),
        entries={name: recipes[name] for name in dict.fromkeys([*order, *recipes]) if name in recipes},
        chosen={name: values for part in parts.values() for name, values in part.chosen.items()},
        trials=list({(trial["entry"], trial["trial"], trial["is_final"]): trial for trial in trials}.values()),
        rows=list(rows.values()),
    )


def _before(file: str, parts: Mapping[str, Results]) -> str:
    """Return the names of the files before one."""
    files = list(parts)
    return ", ".join(files[: files.index(file)])


def _comparable(recipe: Mapping[str, Any]) -> Recipe:
    """Return a recipe without the path of the text, whose SHA-256 is compared."""
    return Recipe().replace(**recipe).replace(corpus=())


def _has_losses_of(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two rows have the same losses; those of trainings that diverged have none."""
    return all(math.isclose(row.get(key, -1.0), other.get(key, -1.0), rel_tol=TOLERANCE) for key in LOSSES)
