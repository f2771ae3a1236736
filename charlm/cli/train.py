"""`charlm train`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from charlm.cli.options import folder_option, json_option, read_text, recipe_options, take_recipe


@click.command(help="Train a model on a text, by default on Nietzsche, and show what it writes.")
@recipe_options
@click.option("--name", help="Name of the run. [default: the model's, with a number]")
@click.option("--samples/--no-samples", default=True, help="Show a sample after every epoch. [default: samples]")
@folder_option
@json_option
def train(folder: Path, name: str | None, samples: bool, as_json: bool, **given: Any) -> None:
    """See the command's help."""
    choices = take_recipe(given)
    choices, corpus = read_text(choices)

    from charlm import runs
    from charlm.callbacks import Progress
    from charlm.metrics import bits
    from charlm.training import train as train_model

    run = folder / name if name else runs.new_run(choices.model, folder)
    model = train_model(choices, corpus, run, [Progress(samples)])
    result = model.about.result
    if result["interrupted"]:
        print(f"charlm: interrupted; what was learned is in {run}", file=sys.stderr)
        raise SystemExit(130)
    if as_json:
        print(json.dumps({"run": str(run), **result}))
        return
    print(model.sample(length=400, temperature=0.8, seed=choices.seed).strip())
    shown = [part for part in ("valid", "test", "train") if f"{part}_nats" in result]
    scores = ", ".join(f"{part} {bits(result[f'{part}_nats']):.3f}" for part in shown)
    print(f"\nbits per character: {scores}", file=sys.stderr)
    print(f"{result['n_chars']:,} characters in {result['seconds']:.0f} s; files in {run}", file=sys.stderr)
    print(f"next: charlm sample {run.name} | charlm compare | tensorboard --logdir {folder}", file=sys.stderr)
