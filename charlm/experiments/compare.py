"""Comparison of runs, finished, interrupted or still training, grouped by task: text, split and preprocessing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from charlm import recipes
from charlm.errors import CharlmError, DataError
from charlm.storage import run_log, runs

PER_BYTE = ("valid_bits_per_byte", "test_bits_per_byte")
NUMBERS = ("train_nats", "valid_nats", "test_nats", "valid_accuracy", "test_accuracy", *PER_BYTE)  # of a result
COUNTS = ("n_parameters", "peak_bytes", "valid_chars", "test_chars")  # chars: of a part that was not read in full


def compare_runs(names: Sequence[str], folder: Path, announce: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return one row a run, grouped by task, the standard split first; within a task the best run first.

    Args:
        names: runs; empty for all runs in the folder.
        folder: folder of the runs.
        announce: receives a message for each unreadable run in the folder, which is left out, and for each log with
            damaged lines, which are left out.

    Raises:
        InputNotFoundError: a named run does not exist.
        DataError: the recipe of a named run cannot be read.
    """
    rows = [_row(runs.find_run(name, folder), announce) for name in names]
    for run in [] if names else runs.all_runs(folder):
        try:
            rows.append(_row(run, announce))
        except DataError as error:
            announce(f"left out: {error}")
    return sorted(rows, key=lambda row: (", standard" not in row["ground"], row["ground"], _nats(row)))


def _row(run: Path, announce: Callable[[str], None]) -> dict[str, Any]:
    try:
        keys = recipes.read_toml(str(run / runs.RECIPE))
        (log, n_damaged), result = run_log.read_log(run), run_log.result_of(run)
        if n_damaged:
            announce(f"{run / run_log.METRICS}: cannot be read or has damaged lines ({n_damaged}); they are left out")
        numbers = {key: None if result.get(key) is None else float(result[key]) for key in NUMBERS}
        if numbers["train_nats"] is None:
            numbers["train_nats"] = _train_nats(log)
        seconds, n_chars = float(result.get("seconds", 0.0)), int(result.get("n_chars", 0))
        return {
            "run": run.name,
            "model": str(keys["model"]),
            "ground": task(keys),
            "state": runs.state_of(run),
            **{key: None if result.get(key) is None else int(result[key]) for key in COUNTS},
            **numbers,
            "n_chars": n_chars,
            "seconds": seconds,
            "chars_per_second": n_chars / seconds if seconds else 0.0,
        }
    except (CharlmError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{run}: cannot read its recipe or metrics: {error}") from None


def _train_nats(log: Sequence[dict[str, Any]]) -> float | None:
    """Return the mean training loss before the best validation, nats per character: since the validation before it.

    Without a validation it is the latest training loss. It was measured while the weights changed, with dropout.
    """
    best, found, last = math.inf, None, None
    nats, n_chars, n_before = 0.0, 0, 0  # sum and number since the last validation; characters before
    for row in log:
        if "train_nats" in row and "n_chars" in row:
            last, n_new = float(row["train_nats"]), int(row["n_chars"]) - n_before
            nats, n_chars, n_before = nats + last * n_new, n_chars + n_new, n_before + n_new
        if "valid_nats" in row:
            if row["valid_nats"] < best and n_chars:
                best, found = row["valid_nats"], nats / n_chars
            nats, n_chars = 0.0, 0
    return last if found is None else found


def task(keys: dict[str, Any]) -> str:
    """Describe text, split and preprocessing of a recipe; results of different tasks are not comparable."""
    texts = " + ".join(Path(text).name for text in keys["corpus"])
    min_count = f", min-count {keys['min_count']}" if keys["min_count"] > 1 else ""
    return f"{texts}, {keys['split']}{', bytes' * keys['bytes']}{', lower case' * keys['lower']}{min_count}"


def _nats(row: dict[str, Any]) -> float:
    results = (row[key] for key in ("test_nats", "valid_nats") if row[key] is not None)
    return next(results, math.inf)
