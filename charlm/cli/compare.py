"""`charlm compare`."""

from __future__ import annotations

import json
import math
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from charlm.cli.options import folder_option, json_option, table
from charlm.errors import DataError


def _row(run: Path) -> dict[str, Any]:
    """Return what is known of a run."""
    import tomllib

    from charlm.storage import runs

    try:
        recipe = tomllib.loads((run / "recipe.toml").read_text("utf-8"))
        model, ground, result = recipe["model"], _ground(recipe), runs.result_of(run)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{run}: its recipe or metrics cannot be read: {error}") from None
    seconds, n_chars = result.get("seconds", 0.0), result.get("n_chars", 0)
    return {
        "run": run.name,
        "model": model,
        "ground": ground,
        "n_parameters": result.get("n_parameters"),
        "valid_nats": result.get("valid_nats"),
        "test_nats": result.get("test_nats"),
        "n_chars": n_chars,
        "seconds": seconds,
        "chars_per_second": n_chars / seconds if seconds else 0.0,
    }


def _ground(recipe: dict[str, Any]) -> str:
    """Return what was predicted, from the recipe's keys: numbers of another text or split do not compare."""
    texts = " + ".join(Path(text).name for text in recipe["corpus"])
    lower, least = ", lower case" * recipe["lower"], recipe["min_count"]
    return f"{texts}, {recipe['split']}{', bytes' * recipe['bytes']}{lower}{f', min-count {least}' * (least > 1)}"


def _nats(row: dict[str, Any]) -> float:
    known = (row[key] for key in ("test_nats", "valid_nats") if row[key] is not None)
    return next(known, math.inf)


@click.command(help="Table of the runs: all of them, or those named. The best is first.")
@click.argument("run", nargs=-1)
@folder_option
@json_option
def compare(run: tuple[str, ...], folder: Path, as_json: bool) -> None:
    """See the command's help."""
    from charlm.evaluation.metrics import nats_to_bits
    from charlm.storage import runs

    rows = [_row(runs.find_run(name, folder)) for name in run]
    for path in [] if run else runs.all_runs(folder):
        try:
            rows.append(_row(path))
        except DataError as error:
            print(f"charlm: left out: {error}", file=sys.stderr)
    rows.sort(key=lambda row: (", standard" not in row["ground"], row["ground"], _nats(row)))
    if as_json:
        print(json.dumps(rows))
        return
    if not rows:
        print(f"charlm: no runs in {folder} yet; `charlm train` makes one", file=sys.stderr)
        return

    def show(nats: float | None) -> str:
        return "-" if nats is None else f"{nats_to_bits(nats):.3f}"

    def count(n: int | None) -> str:
        return "-" if n is None else f"{n / 1e6:.1f}M" if n >= 1e6 else f"{n / 1e3:.0f}k"

    def cells(row: dict[str, Any]) -> list[str]:
        numbers = [count(row["n_parameters"]), show(row["valid_nats"]), show(row["test_nats"]), count(row["n_chars"])]
        return [row["run"], row["model"], *numbers, f"{row['seconds']:.0f}", count(round(row["chars_per_second"]))]

    grounds = [(ground, list(of_it)) for ground, of_it in groupby(rows, key=lambda row: row["ground"])]
    head = ["run", "model", "params", "valid", "test", "chars", "sec", "char/s"]
    print("\n\n".join(f"{ground}\n{table(head, list(map(cells, of_it)))}" for ground, of_it in grounds))
    print("valid, test: bits per character; sec: with validation", file=sys.stderr)
    if len(grounds) > 1:
        print("numbers of different texts or splits do not compare", file=sys.stderr)
