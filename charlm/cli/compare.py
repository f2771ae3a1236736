"""`charlm compare`."""

from __future__ import annotations

import json
import shutil
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from charlm.cli.completion import complete_runs
from charlm.cli.options import Name, folder_option, json_option
from charlm.cli.table import table
from charlm.messages import say

HEAD = ["run", "model", "state", "params", "train", "valid", "test", "acc", "b/byte", "MB", "sec", "chars", "char/s"]
KEPT = 7  # columns that are kept on a narrow terminal


@click.command(help="Table of all runs, or of the named runs; the best run comes first.")
@click.argument("run", type=Name(), nargs=-1, shell_complete=complete_runs)
@click.option("--wide", is_flag=True, help="Print all columns, also if they are wider than the terminal.")
@folder_option
@json_option
def compare(run: tuple[str, ...], wide: bool, folder: Path, as_json: bool) -> None:
    """See the command's help."""
    from charlm.experiments.compare import compare_runs

    rows = compare_runs(run, folder, say)
    if as_json:
        print(json.dumps(rows))
        return
    if not rows:
        say(f"no runs in {folder}; `charlm train` creates one")
        return
    columns = _columns([_cells(row) for row in rows], None if wide else shutil.get_terminal_size().columns)
    head = [HEAD[i] for i in columns]
    tasks = [(task, list(group)) for task, group in groupby(rows, key=lambda row: row["ground"])]
    tables = [table(head, [[_cells(row)[i] for i in columns] for row in group]) for _, group in tasks]
    print("\n\n".join(f"{task}\n{text}" for (task, _), text in zip(tasks, tables, strict=True)))
    print("train, valid, test: bits per character; acc: accuracy (of test, else of valid)", file=sys.stderr)
    if read := {n for row in rows for part in ("valid", "test") if (n := row[f"{part}_chars"]) is not None}:
        print(f"*: of the first {' or '.join(f'{n:,}' for n in sorted(read))} characters of the part", file=sys.stderr)
    if left_out := [HEAD[i] for i in range(KEPT, len(HEAD)) if i not in columns]:
        print(f"without {', '.join(left_out)}: --wide and --json show all that was measured", file=sys.stderr)
    if len(tasks) > 1:
        print("results on different texts or splits are not comparable", file=sys.stderr)


def _columns(cells: list[list[str]], width: int | None) -> list[int]:
    """Return the columns that are not empty and fit into a width, in characters; None for any width.

    The state is left out if all runs are finished, and the model if it is the name of each run.
    """
    found = [i for i in range(len(HEAD)) if any(row[i] not in ("-", "finished") for row in cells)]
    if all(row[0] == row[1] for row in cells):
        found.remove(1)
    widths = [max(len(row[i]) for row in [HEAD, *cells]) + 2 for i in range(len(HEAD))]
    while width is not None and sum(widths[i] for i in found) - 2 > width and found[-1] >= KEPT:
        found.pop()
    return found


def _cells(row: dict[str, Any]) -> list[str]:
    from charlm.evaluation.metrics import nats_to_bits

    def bits(part: str) -> str:
        nats = row[f"{part}_nats"]
        return "-" if nats is None else f"{nats_to_bits(nats):.3f}{'*' * (row.get(f'{part}_chars') is not None)}"

    def count(n: int | None) -> str:
        return "-" if n is None else f"{n / 1e6:.1f}M" if n >= 1e6 else f"{n / 1e3:.0f}k"

    right = row["valid_accuracy"] if row["test_accuracy"] is None else row["test_accuracy"]
    numbers = [count(row["n_parameters"]), bits("train"), bits("valid"), bits("test")]
    numbers += ["-" if right is None else f"{right:.1%}"]
    per_byte = row["valid_bits_per_byte"] if row["test_bits_per_byte"] is None else row["test_bits_per_byte"]
    numbers += ["-" if per_byte is None else f"{per_byte:.3f}"]
    numbers += ["-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}", f"{row['seconds']:.0f}"]
    return [
        row["run"],
        row["model"],
        row["state"],
        *numbers,
        count(row["n_chars"]),
        count(round(row["chars_per_second"])),
    ]
