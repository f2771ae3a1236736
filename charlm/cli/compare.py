"""`charlm compare`."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from charlm.cli.completion import complete_runs
from charlm.cli.options import folder_option, json_option, say, table

HEAD = ["run", "model", "params", "valid", "test", "chars", "sec", "char/s"]


@click.command(help="Table of all runs, or of the named runs; the best run comes first.")
@click.argument("run", nargs=-1, shell_complete=complete_runs)
@folder_option
@json_option
def compare(run: tuple[str, ...], folder: Path, as_json: bool) -> None:
    """See the command's help."""
    from charlm.experiments.compare import compare_runs

    rows = compare_runs(run, folder, say)
    if as_json:
        print(json.dumps(rows))
        return
    if not rows:
        say(f"no runs in {folder}; `charlm train` creates one")
        return
    tasks = [(task, list(group)) for task, group in groupby(rows, key=lambda row: row["ground"])]
    print("\n\n".join(f"{task}\n{table(HEAD, list(map(_cells, group)))}" for task, group in tasks))
    print("valid, test: bits per character; sec: including validation", file=sys.stderr)
    if len(tasks) > 1:
        print("results on different texts or splits are not comparable", file=sys.stderr)


def _cells(row: dict[str, Any]) -> list[str]:
    from charlm.evaluation.metrics import nats_to_bits

    def bits(nats: float | None) -> str:
        return "-" if nats is None else f"{nats_to_bits(nats):.3f}"

    def count(n: int | None) -> str:
        return "-" if n is None else f"{n / 1e6:.1f}M" if n >= 1e6 else f"{n / 1e3:.0f}k"

    numbers = [count(row["n_parameters"]), bits(row["valid_nats"]), bits(row["test_nats"]), count(row["n_chars"])]
    return [row["run"], row["model"], *numbers, f"{row['seconds']:.0f}", count(round(row["chars_per_second"]))]
