"""`charlm train`."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from charlm.cli.options import folder_option, json_option, read_text, recipe_options, take_recipe
from charlm.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from charlm.data.corpus import Corpus
    from charlm.generation.language_model import LanguageModel
    from charlm.recipe import Recipe


@click.command(
    help="Train a model on a text, by default on Nietzsche, and show what it writes. "
    "The defaults below are those of a model without a recipe."
)
@recipe_options
@click.option("--name", help="Name of the run. [default: the model's, with a number]")
@click.option("--resume", help="Go on with a run that was interrupted or killed, as if nothing had happened.")
@click.option("--samples/--no-samples", default=True, help="Show a sample after every epoch. [default: samples]")
@folder_option
@json_option
def train(folder: Path, name: str | None, resume: str | None, samples: bool, as_json: bool, **given: Any) -> None:
    """See the command's help."""
    if resume is None:
        choices = take_recipe(given)
    elif name or any(value not in (None, ()) for value in given.values()):
        raise click.UsageError("--resume goes on with the run's own recipe; leave the other options out")

    from charlm.training import distributed, launch
    from charlm.training.callbacks import Progress, WarnOversubscription
    from charlm.training.session import train as train_model

    if resume is None and "-" in choices.corpus and launch.under_torchrun():
        raise UsageError("several processes cannot all read standard input; give --corpus a file")
    with launch.process_group():
        with distributed.rank0_first():
            if resume is None:
                choices, corpus = read_text(choices)
            else:
                choices, corpus, run = _stopped(resume, folder)
        goes_on = resume is not None
        if resume is None:
            run, goes_on = distributed.run_on_rank0(partial(_place, name, choices.model, folder))
        shown = [Progress(samples), WarnOversubscription()] if distributed.is_main_process() else []
        try:
            model = train_model(choices, corpus, run, shown, _warn if goes_on else None)
        except KeyboardInterrupt as error:  # a second signal, or one while the result was measured
            if not (run / "last.safetensors").is_file():
                raise
            _stop(run, choices.model, error.number if isinstance(error, Interrupted) else signal.SIGINT)
        if model.metadata.result["interrupted"]:
            _stop(run, choices.model, model.metadata.result["signal"])
        if distributed.is_main_process():
            _show(model, run, as_json, choices.seed)


def _place(name: str | None, model: str, folder: Path) -> tuple[Path, bool]:
    """Return the folder of a new run, and whether there is something in it to go on with.

    There is where this process stands in for one that failed: `torchrun` starts it again with the same command.
    """
    from charlm.storage import runs
    from charlm.training import launch

    if (left := launch.restored_run()) is not None:
        run = Path(left)
        goes_on = (run / "last.safetensors").is_file()
        if not goes_on:
            shutil.rmtree(run, ignore_errors=True)  # it failed before anything was saved
        return run, goes_on
    run = folder / name if name else runs.new_run(model, folder)
    if not run.exists():  # what is there already is not ours, and will be refused
        launch.publish_run(str(run.absolute()))
    return run, False


def _show(model: LanguageModel, run: Path, as_json: bool, seed: int) -> None:
    """Print what came out of a training."""
    from charlm.evaluation.metrics import nats_to_bits

    result = model.metadata.result
    if as_json:
        print(json.dumps({"run": str(run), **result}))
        return
    print(model.sample(length=400, temperature=0.8, seed=seed).strip())
    shown = [part for part in ("valid", "test", "train") if f"{part}_nats" in result]
    scores = ", ".join(f"{part} {nats_to_bits(result[f'{part}_nats']):.3f}" for part in shown)
    print(f"\nbits per character: {scores}", file=sys.stderr)
    print(f"{result['n_chars']:,} characters in {result['seconds']:.0f} s; files in {run}", file=sys.stderr)
    folder = shlex.quote(str(run.parent))
    name = run.name if folder == "checkpoints" and not run.name.startswith("-") else str(run)
    print(f"next: charlm sample {shlex.quote(name)} | charlm compare | tensorboard --logdir {folder}", file=sys.stderr)


def _stop(run: Path, model: str, number: int) -> NoReturn:
    """Say how an interrupted run goes on, and exit."""
    from charlm import models
    from charlm.training import distributed

    if distributed.is_main_process():
        command, does = ("train --resume", "goes on")
        if not models.find(model).uses_gradients:  # it was only being scored
            command, does = ("eval", "scores what was counted")
        print(f"charlm: interrupted; `charlm {command} {shlex.quote(str(run))}` {does}", file=sys.stderr)
    raise SystemExit(128 + number)


def _stopped(name: str, folder: Path) -> tuple[Recipe, Corpus, Path]:
    """Return the recipe, the text and the folder of a run that is not finished.

    Raises:
        CharlmError: there is no such run, it is finished, or its text is not there.
    """
    from charlm import recipe
    from charlm.api import read_corpus
    from charlm.storage import runs

    run = runs.find_run(name, folder)
    if runs.result_of(run).get("interrupted") is False:
        raise UsageError(f"{run}: is finished; there is nothing to go on with")
    choices = recipe.load(str(run / "recipe.toml"))
    return choices, read_corpus(choices), run


def _warn(differences: list[str]) -> None:
    """Say what may change the rounding of a resumed training."""
    from charlm.training import distributed

    if not distributed.is_main_process():
        return
    for difference in differences:
        print(f"charlm: not as it was when it stopped: {difference}", file=sys.stderr)
