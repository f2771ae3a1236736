"""`charlm bench`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from charlm.cli.completion import complete_models_and_recipes
from charlm.cli.options import (
    GroupedCommand,
    Name,
    Number,
    folder_option,
    json_option,
    option,
)
from charlm.cli.recipe_options import some_recipe_options
from charlm.cli.table import table
from charlm.errors import CharlmError, UsageError
from charlm.messages import say
from charlm.recipe import Recipe

TEXT = ("corpus", "split", "bytes", "lower", "min_count")
HEAD = ["model", "params", "valid", "test", "b/byte", "sec", "train/s", "sample/s"]


@click.command(
    cls=GroupedCommand,
    help="Train several models on one text under the one protocol and print a table, the best first, with n-gram and "
    "compression baselines. MODEL is an architecture or a recipe. --epochs gives all models the same number of "
    "characters, --minutes the same time; the defaults below are those of an architecture, a recipe keeps its own. "
    "The same command resumes an interrupted benchmark.",
)
@click.argument("model", nargs=-1, required=True, type=Name(), shell_complete=complete_models_and_recipes)
@option(
    "--seeds",
    type=Number("seeds"),
    default=3,
    show_default=True,
    help="Trainings per model, by seed.",
    group="Optimiser",
)
@option(
    "--parameters",
    type=Number("parameters"),
    help="Match this number of parameters by the hidden sizes.",
    group="Model",
)
@option(
    "--name",
    type=Name(),
    default="bench",
    show_default=True,
    help="Folder of the benchmark, in the folder of runs.",
    group="Saving",
)
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

    from charlm.api import read_recipe_text
    from charlm.experiments import bench as b
    from charlm.storage import runs

    target = runs.named_folder(name, folder)
    changes = b.shared_keys(model, changes, say)
    choices = Recipe().replace(**changes)
    choices.replace(seed=choices.seed + seeds - 1)  # the last seed is checked before the first training
    common, corpus = read_recipe_text(choices)
    if common.split == "all":
        raise UsageError("split all has no held-out part to compare models on; use another --split")

    from charlm.experiments.baselines import baselines
    from charlm.experiments.compare import task
    from charlm.experiments.curves import budget
    from charlm.files import atomic_write

    changes |= {key: getattr(common, key) for key in b.SHARED_KEYS}  # recipes have other defaults
    entries = b.entries(model, changes, parameters, len(corpus.vocab))
    rows = baselines(corpus)
    rows += b.run_benchmark(entries, seeds, corpus, target, lambda run: print(f"training {run}", file=sys.stderr))
    summary = b.summary(rows)
    cells = [_cells(row) for row in summary]
    markdown = [HEAD, ["---"] * len(HEAD), *cells]
    atomic_write(target / "results.json", json.dumps({"rows": rows, "summary": summary}, indent=1).encode())
    atomic_write(target / "table.md", "".join(f"| {' | '.join(line)} |\n" for line in markdown).encode())
    print(json.dumps(summary) if as_json else table(HEAD, cells))
    print("valid, test: bits per character, mean and standard deviation over seeds", file=sys.stderr)
    try:
        budgets = " or ".join(sorted({budget(vars(recipe)) for recipe in entries.values()}))
        b.plot(summary, target / "speed.png", f"{task(vars(common))}; {budgets}")
        print(f"files: {target}/ results.json, table.md, speed.png; tensorboard --logdir {target}", file=sys.stderr)
    except CharlmError as error:
        say(f"{error}; files: {target}/ results.json, table.md")


def _cells(row: dict[str, Any]) -> list[str]:
    from charlm.evaluation.metrics import nats_to_bits

    def bits(key: str) -> str:
        if key not in row:
            return "-"
        spread = f" ± {nats_to_bits(row[f'{key}_spread']):.3f}" if f"{key}_spread" in row else ""
        return f"{nats_to_bits(row[key]):.3f}{spread}"

    def count(key: str) -> str:
        return f"{row[key]:,.0f}" if key in row else "-"

    per_byte = f"{row['test_bits_per_byte']:.3f}" if "test_bits_per_byte" in row else "-"
    numbers = [count(key) for key in ("seconds", "train_chars_per_second", "sample_chars_per_second")]
    return [row["entry"], count("n_parameters"), bits("valid_nats"), bits("test_nats"), per_byte, *numbers]
