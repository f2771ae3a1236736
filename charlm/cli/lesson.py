"""`charlm lesson`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from charlm.cli.options import folder_option, json_option, some_recipe_options, table


@click.command(
    help="Train the lesson's models on the lesson's own protocols and print their results with the published ones; "
    "then train the same architectures under the one protocol."
)
@click.option(
    "--steps",
    help="Steps, comma-separated: char3, loop, concat, rnn, multi, identity, stateful, cell, gru, lstm. [default: all]",
)
@click.option("--protocol/--no-protocol", default=None, help="Second table: the protocol. [default: unless --steps]")
@click.option("--corpus", default="nietzsche", show_default=True, help="Text; published results are for the default.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs. [default: those of the lesson]")
@some_recipe_options("seed", "device")
@folder_option
@json_option
def lesson(steps: str | None, protocol: bool | None, corpus: str, folder: Path, as_json: bool, **given: Any) -> None:
    """See the command's help."""
    from charlm.evaluation.metrics import nats_to_bits
    from charlm.experiments.lesson import STEPS, select_steps, train_ladder, train_protocol

    changes = {"corpus": [corpus]} | {key: value for key, value in given.items() if value is not None}
    report, cells = [], []
    for row in train_ladder(select_steps(steps), changes, folder, _announce):
        report.append(row)
        published, ours = row["published_nats"], row["nats"]
        numbers = [f"{published:.4f}", f"{ours:.4f}", f"{ours - published:+.4f}", f"{row['seconds']:.0f}"]
        cells.append([row["step"], STEPS[row["step"]].about, *numbers])
        print("{}: published {}, ours {} ({}), {} s".format(row["step"], *numbers), file=sys.stderr)
    if not as_json:
        print("The lesson's own protocols, nats per character (char3: on the training windows)\n")
        print(table(["step", "architecture x feed", "published", "ours", "difference", "sec"], cells), flush=True)

    if protocol or (protocol is None and steps is None):
        cells = []
        for row in train_protocol(changes, folder, _announce):
            report.append(row)
            bits = [f"{nats_to_bits(row[f'{part}_nats']):.3f}" for part in ("valid", "test")]
            cells.append([row["protocol"], f"{row['n_parameters']:,}", *bits, f"{row['seconds']:.0f}"])
        if not as_json:
            print(f"\nThe one protocol: {corpus}, 80/10/10, bits per character\n")
            print(table(["model", "parameters", "valid", "test", "sec"], cells))
    if as_json:
        print(json.dumps(report))


def _announce(name: str) -> None:
    print(f"training {name}", file=sys.stderr)
