"""`charlm train`."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from charlm.cli.options import folder_option, json_option, read_text, recipe_options, take_recipe
from charlm.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from charlm.corpus import Corpus
    from charlm.recipe import Recipe


@click.command(help="Train a model on a text, by default on Nietzsche, and show what it writes.")
@recipe_options
@click.option("--name", help="Name of the run. [default: the model's, with a number]")
@click.option("--resume", help="Go on with a run that was interrupted or killed, as if nothing had happened.")
@click.option("--samples/--no-samples", default=True, help="Show a sample after every epoch. [default: samples]")
@folder_option
@json_option
def train(folder: Path, name: str | None, resume: str | None, samples: bool, as_json: bool, **given: Any) -> None:
    """See the command's help."""
    if resume is None:
        choices, corpus = read_text(take_recipe(given))
    else:
        if name or any(value not in (None, ()) for value in given.values()):
            raise click.UsageError("--resume goes on with the run's own recipe; leave the other options out")
        choices, corpus, run = _stopped(resume, folder)

    from charlm import runs
    from charlm.callbacks import Progress
    from charlm.metrics import bits
    from charlm.training import train as train_model

    if resume is None:
        run = folder / name if name else runs.new_run(choices.model, folder)
    try:
        model = train_model(choices, corpus, run, [Progress(samples)], None if resume is None else _warn)
    except KeyboardInterrupt as error:  # a second signal, or one while the result was measured
        if not (run / "last.safetensors").is_file():
            raise
        _stop(run, error.number if isinstance(error, Interrupted) else signal.SIGINT)
    result = model.about.result
    if result["interrupted"]:
        _stop(run, result["signal"])
    if as_json:
        print(json.dumps({"run": str(run), **result}))
        return
    print(model.sample(length=400, temperature=0.8, seed=choices.seed).strip())
    shown = [part for part in ("valid", "test", "train") if f"{part}_nats" in result]
    scores = ", ".join(f"{part} {bits(result[f'{part}_nats']):.3f}" for part in shown)
    print(f"\nbits per character: {scores}", file=sys.stderr)
    print(f"{result['n_chars']:,} characters in {result['seconds']:.0f} s; files in {run}", file=sys.stderr)
    print(f"next: charlm sample {run.name} | charlm compare | tensorboard --logdir {folder}", file=sys.stderr)


def _stop(run: Path, number: int) -> NoReturn:
    """Say how an interrupted run goes on, and exit."""
    print(f"charlm: interrupted; `charlm train --resume {shlex.quote(str(run))}` goes on", file=sys.stderr)
    raise SystemExit(128 + number)


def _stopped(name: str, folder: Path) -> tuple[Recipe, Corpus, Path]:
    """Return the recipe, the text and the folder of a run that is not finished.

    Raises:
        CharlmError: there is no such run, it is finished, or its text is not there.
    """
    from charlm import recipe, runs
    from charlm.api import read_corpus

    run = runs.find_run(name, folder)
    if runs.result_of(run).get("interrupted") is False:
        raise UsageError(f"{run}: is finished; there is nothing to go on with")
    choices = recipe.load(str(run / "recipe.toml"))
    return choices, read_corpus(choices), run


def _warn(differences: list[str]) -> None:
    """Say what may change the rounding of a resumed training."""
    for difference in differences:
        print(f"charlm: not as it was when it stopped: {difference}; results may differ by rounding", file=sys.stderr)
