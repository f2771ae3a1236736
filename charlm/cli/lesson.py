"""`charlm lesson`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from charlm import recipe
from charlm.cli.options import folder_option, json_option, table


def _announce(name: str) -> None:
    print(f"training {name}", file=sys.stderr)


@click.command(
    help="Train the lesson's ladder on the lesson's own protocols, beside the published numbers; then the same "
    "architectures under the one protocol."
)
@click.option("--steps", help="Only these, with commas: char3,loop,concat,rnn,multi,identity,stateful,cell,gru,lstm.")
@click.option("--protocol/--no-protocol", default=None, help="The second table, too. [default: unless --steps]")
@click.option("--corpus", default="nietzsche", show_default=True, help="Text; the published numbers are for this one.")
@click.option("--epochs", type=click.IntRange(1), help="Train shorter or longer than the lesson did.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of weights and order.")
@click.option(
    "--device", type=click.Choice(recipe.DEVICES), default="auto", show_default=True, help="Where to compute."
)
@folder_option
@json_option
def lesson(
    steps: str | None,
    protocol: bool | None,
    corpus: str,
    epochs: int | None,
    seed: int,
    device: str,
    folder: Path,
    as_json: bool,
) -> None:
    """See the command's help."""
    from charlm.evaluation.metrics import nats_to_bits
    from charlm.experiments.lesson import PROTOCOL, STEPS, choose, train_ladder
    from charlm.recipe import Recipe

    chosen = choose(steps)
    changes = {"corpus": [corpus], "seed": seed, "device": device} | ({"epochs": epochs} if epochs else {})
    ladder = {name: recipe.load(f"lesson-{name}").replace(**changes) for name in chosen}
    rows, report = [], []
    for name, model in train_ladder(ladder, folder, "lesson", _announce):
        step, result = STEPS[name], model.metadata.result
        if result["interrupted"]:
            raise KeyboardInterrupt
        ours = result[step.result]
        report.append({"step": name, "published_nats": step.published, "nats": ours, "seconds": result["seconds"]})
        numbers = [f"{step.published:.4f}", f"{ours:.4f}", f"{ours - step.published:+.4f}", f"{result['seconds']:.0f}"]
        rows.append([name, step.about, *numbers])
        print("{}: published {}, ours {} ({}), {} s".format(name, *numbers), file=sys.stderr)
    if not as_json:
        print("The lesson's own protocols, nats per character (char3: of the training windows)\n")
        print(table(["step", "architecture x feed", "published", "ours", "differ", "sec"], rows), flush=True)

    if protocol or (protocol is None and steps is None):
        recipes = {name: Recipe().replace(**changes, **choice) for name, choice in PROTOCOL.items()}
        rows = []
        for name, model in train_ladder(recipes, folder, "protocol", _announce):
            result = model.metadata.result
            if result["interrupted"]:
                raise KeyboardInterrupt
            report.append({"protocol": name} | result)
            numbers = [f"{nats_to_bits(result[f'{part}_nats']):.3f}" for part in ("valid", "test")]
            rows.append([name, f"{result['n_parameters']:,}", *numbers, f"{result['seconds']:.0f}"])
        if not as_json:
            print(f"\nThe one protocol: {corpus}, 80/10/10, bits per character\n")
            print(table(["model", "parameters", "valid", "test", "sec"], rows))
    if as_json:
        print(json.dumps(report))
