"""`charlm lesson`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from charlm.cli.options import Name, Number, folder_option, json_option
from charlm.cli.recipe_options import some_recipe_options
from charlm.cli.table import table
from charlm.recipe import Recipe


@click.command(
    help="Train the lesson's models on the lesson's own protocols and print their results with the published ones; "
    "then train the same architectures under the one protocol. The time of each step is estimated first. "
    "The same command keeps the steps that are finished."
)
@click.option(
    "--steps",
    help="Steps, comma-separated: char3, loop, concat, rnn, multi, identity, stateful, cell, gru, lstm. [default: all]",
)
@click.option(
    "--quick",
    is_flag=True,
    help="The steps up to gru, some with fewer windows or epochs: ten minutes on two CPU cores.",
)
@click.option(
    "--protocol/--no-protocol", default=None, help="Second table: the protocol. [default: unless --steps or --quick]"
)
@click.option(
    "--corpus", type=Name(), default="nietzsche", show_default=True, help="Text; published results are for the default."
)
@click.option("--epochs", type=Number("epochs"), help="Epochs. [default: those of the lesson]")
@some_recipe_options("seed", "device")
@folder_option
@json_option
def lesson(
    steps: str | None, quick: bool, protocol: bool | None, corpus: str, folder: Path, as_json: bool, **given: Any
) -> None:
    """See the command's help."""
    from charlm.evaluation.metrics import nats_to_bits
    from charlm.experiments.lesson import QUICK, STEPS, ladder_recipes, protocol_recipes, train_ladder, train_protocol

    changes = {"corpus": [corpus]} | {key: value for key, value in given.items() if value is not None}
    ladder = ladder_recipes(steps, quick, changes)
    with_protocol = protocol if protocol is not None else steps is None and not quick
    further = protocol_recipes(changes) if with_protocol else {}
    _estimate(ladder, further)
    report: list[dict[str, Any]] = []
    cells = []
    for row in train_ladder(ladder, folder, _announce):
        is_shorter = quick and bool(QUICK[row["step"]])
        report.append(row | ({"quick": is_shorter} if quick else {}))
        published, ours = row["published_nats"], row["nats"]
        numbers = [f"{published:.4f}", f"{ours:.4f}", f"{ours - published:+.4f}", f"{row['seconds']:.0f}"]
        cells.append([row["step"] + "*" * is_shorter, STEPS[row["step"]].description, *numbers])
        line = "{}: published {}, ours {} nats per character ({}), {} s"
        print(line.format(cells[-1][0], *numbers), file=sys.stderr)
    if not as_json:
        print("The lesson's own protocols, nats per character (char3: on the training windows)")
        if quick:
            print("QUICK: * has fewer windows (loop, concat, rnn) or epochs (gru) than the lesson")
        print()
        print(table(["step", "architecture x feed", "published", "ours", "difference", "sec"], cells), flush=True)

    if further:
        cells = []
        for row in train_protocol(further, folder, _announce):
            report.append(row)
            bits = [f"{nats_to_bits(row[f'{part}_nats']):.3f}" for part in ("valid", "test")]
            cells.append([row["protocol"], f"{row['n_parameters']:,}", *bits, f"{row['seconds']:.0f}"])
        if not as_json:
            print(f"\nThe one protocol: {corpus}, 80/10/10, bits per character\n")
            print(table(["model", "parameters", "valid", "test", "sec"], cells))
    if as_json:
        print(json.dumps(report))


def _estimate(ladder: dict[str, Recipe], further: dict[str, Recipe]) -> None:
    """Print on stderr how long each training will take."""
    from charlm.experiments.lesson import estimate_seconds

    recipes = ladder | {f"protocol {name}": choices for name, choices in further.items()}
    seconds = {name: estimate_seconds(choices) for name, choices in recipes.items()}
    seconds["in all"] = sum(seconds.values())
    lines = [f"  {name:{max(map(len, seconds))}}  {_duration(n)}" for name, n in seconds.items()]
    print("\n".join(["estimated from a few steps on this machine:", *lines]), file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 2:
        return "seconds"
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _announce(message: str) -> None:
    print(message, file=sys.stderr)
