"""`charlm bench`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from charlm.cli.options import folder_option, json_option, read_text, some_recipe_options, table
from charlm.errors import CharlmError, UsageError
from charlm.recipe import Recipe

TEXT = ("corpus", "split", "bytes", "lower", "min_count")
HEAD = ["model", "params", "valid", "test", "sec", "train/s", "sample/s"]


@click.command(
    help="Train several models on one text under the one protocol and print a table, the best first, with counting "
    "and xz beside them. MODEL is an architecture or a recipe. --epochs gives all the same characters, --minutes the "
    "same time; the defaults below are those of an architecture, a recipe keeps its own. The same command goes on "
    "where it was interrupted."
)
@click.argument("model", nargs=-1, required=True)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Trainings of each, with seeds.")
@click.option("--parameters", type=click.IntRange(1), help="Choose widths so that all have about so many parameters.")
@click.option("--name", default="bench", show_default=True, help="Folder of the contest, in the folder of runs.")
@some_recipe_options(*TEXT, "epochs", "minutes", "seed", "device")
@folder_option
@json_option
def bench(
    model: tuple[str, ...],
    seeds: int,
    parameters: int | None,
    name: str,
    folder: Path,
    as_json: bool,
    **given: Any,
) -> None:
    """See the command's help."""
    changes = {key: value for key, value in given.items() if value not in (None, ())}
    common, corpus = read_text(Recipe().replace(**changes))

    if common.split == "all":
        raise UsageError("split all holds out nothing by which the models could be compared; take another --split")

    from charlm.experiments import bench as b
    from charlm.experiments.baselines import baselines
    from charlm.files import atomic_write

    changes |= {key: getattr(common, key) for key in (*TEXT, "seed", "device")}  # recipes, too, get this text
    place = folder / name
    entries = b.entries(model, changes, parameters, len(corpus.vocab))
    rows = baselines(corpus)
    rows += b.run_benchmark(entries, seeds, corpus, place, lambda run: print(f"training {run}", file=sys.stderr))
    total = b.summary(rows)
    lines = [_cells(row) for row in total]
    markdown = [HEAD, ["---"] * len(HEAD), *lines]
    atomic_write(place / "results.json", json.dumps({"rows": rows, "summary": total}, indent=1).encode())
    atomic_write(place / "table.md", "".join(f"| {' | '.join(line)} |\n" for line in markdown).encode())
    if as_json:
        print(json.dumps(total))
    else:
        print(table(HEAD, lines))
    print("valid, test: bits per character, mean and standard deviation over seeds", file=sys.stderr)
    try:
        b.plot(total, place / "speed.png")
        print(f"files: {place}/ results.json, table.md, speed.png; tensorboard --logdir {place}", file=sys.stderr)
    except CharlmError as error:
        print(f"charlm: {error}; files: {place}/ results.json, table.md", file=sys.stderr)


def _cells(row: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    from charlm.evaluation.metrics import nats_to_bits

    def show(key: str) -> str:
        if key not in row:
            return "-"
        spread = f" ± {nats_to_bits(row[f'{key}_spread']):.3f}" if f"{key}_spread" in row else ""
        return f"{nats_to_bits(row[key]):.3f}{spread}"

    def count(key: str) -> str:
        return f"{row[key]:,.0f}" if key in row else "-"

    numbers = [count(key) for key in ("seconds", "train_chars_per_second", "sample_chars_per_second")]
    return [row["entry"], count("n_parameters"), show("valid_nats"), show("test_nats"), *numbers]
