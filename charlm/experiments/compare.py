"""Comparison of finished and interrupted runs, grouped by task: text, split and preprocessing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from charlm import recipe
from charlm.errors import CharlmError, DataError
from charlm.storage import runs


def compare_runs(names: Sequence[str], folder: Path, announce: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return one row a run, grouped by task, the standard split first; within a task the best run first.

    Args:
        names: runs; empty for all runs in the folder.
        folder: folder of the runs.
        announce: receives a message for each unreadable run in the folder, which is left out.

    Raises:
        InputNotFoundError: a named run does not exist.
        DataError: a named run cannot be read.
    """
    rows = [_row(runs.find_run(name, folder)) for name in names]
    for run in [] if names else runs.all_runs(folder):
        try:
            rows.append(_row(run))
        except DataError as error:
            announce(f"left out: {error}")
    return sorted(rows, key=lambda row: (", standard" not in row["ground"], row["ground"], _nats(row)))


def _row(run: Path) -> dict[str, Any]:
    try:
        keys = recipe.read_toml(str(run / "recipe.toml"))
        model, task, result = keys["model"], _task(keys), runs.result_of(run)
    except (CharlmError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{run}: cannot read its recipe or metrics: {error}") from None
    seconds, n_chars = result.get("seconds", 0.0), result.get("n_chars", 0)
    return {
        "run": run.name,
        "model": model,
        "ground": task,
        "n_parameters": result.get("n_parameters"),
        "valid_nats": result.get("valid_nats"),
        "test_nats": result.get("test_nats"),
        "n_chars": n_chars,
        "seconds": seconds,
        "chars_per_second": n_chars / seconds if seconds else 0.0,
    }


def _task(keys: dict[str, Any]) -> str:
    """Describe text, split and preprocessing of a recipe; results of different tasks are not comparable."""
    texts = " + ".join(Path(text).name for text in keys["corpus"])
    min_count = f", min-count {keys['min_count']}" if keys["min_count"] > 1 else ""
    return f"{texts}, {keys['split']}{', bytes' * keys['bytes']}{', lower case' * keys['lower']}{min_count}"


def _nats(row: dict[str, Any]) -> float:
    results = (row[key] for key in ("test_nats", "valid_nats") if row[key] is not None)
    return next(results, math.inf)
