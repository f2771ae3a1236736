"""`charlm train`."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from charlm.cli.completion import complete_runs
from charlm.cli.options import GroupedCommand, Name, folder_option, json_option, option
from charlm.cli.recipe_options import RECIPE_KEYS, recipe_options, take_recipe
from charlm.errors import Interrupted, UsageError
from charlm.messages import say

if TYPE_CHECKING:
    from charlm.generation.language_model import LanguageModel
    from charlm.training.trainer import Trainer


@click.command(
    cls=GroupedCommand,
    help="Train a model on a text, by default on Nietzsche, and print a sample. "
    "The defaults below are those for a long text; without a recipe, the size of the text decides the others.",
)
@recipe_options(*RECIPE_KEYS)
@option("--name", type=Name(), help="Name of the run. [default: the model's name, numbered]", group="Saving")
@option(
    "--resume",
    type=Name(),
    help="Resume an interrupted or killed run; its result is the same to the bit.",
    group="Saving",
    shell_complete=complete_runs,
)
@click.option("--samples/--no-samples", default=True, help="Print a sample after every epoch. [default: samples]")
@folder_option
@json_option
def train(folder: Path, name: str | None, resume: str | None, samples: bool, as_json: bool, **given: Any) -> None:
    """See the command's help."""
    if resume is None:
        choices, keys = take_recipe(given, folder)
    else:
        own_model = given.pop("model") or ""  # FILE.py:CLASS: a run imports no code by itself
        if name or any(value not in (None, ()) for value in given.values()) or (own_model and ":" not in own_model):
            raise click.UsageError("--resume uses the run's own recipe; leave out the other options")
        if own_model:
            from charlm.models import use

            use(own_model)

    from charlm import recipes
    from charlm.api import read_corpus, read_recipe_text
    from charlm.storage import runs
    from charlm.training import distributed, launch
    from charlm.training.callbacks import IgnoreIOErrors, Progress, WarnOversubscription
    from charlm.training.run_folder import choose_folder
    from charlm.training.session import train as train_model
    from charlm.training.text_defaults import fit_to_text

    if resume is None and "-" in choices.corpus and launch.under_torchrun():
        raise UsageError("only one process can read standard input; give --corpus a file")
    if name is not None and not launch.under_torchrun():  # before the text is read
        runs.named_run(name, folder)
    with launch.process_group():
        with distributed.rank0_first():
            if resume is None:
                choices, corpus = read_recipe_text(choices)
                choices, source = (choices, given["base"]) if given["base"] else fit_to_text(choices, keys, corpus)
            else:
                run = runs.unfinished_run(resume, folder)
                choices = recipes.load(str(run / runs.RECIPE))
                corpus, source = read_corpus(choices, run=run), "that of the run, which is resumed"
        resumes = resume is not None
        if resume is None:
            run, resumes = distributed.run_on_rank0(
                partial(choose_folder, name, choices.model.rpartition(":")[2], folder)
            )
        shown = [Progress(samples), IgnoreIOErrors(WarnOversubscription())] if distributed.is_main_process() else []
        try:
            model = train_model(
                choices, corpus, run, shown, _warn if resumes else None, partial(_print_header, source, run)
            )
        except KeyboardInterrupt as error:  # a second signal, or one during the final evaluation
            if not (run / runs.LAST).is_file():
                raise
            _exit_interrupted(run, choices.model, error.number if isinstance(error, Interrupted) else signal.SIGINT)
        if model.metadata.result["interrupted"]:
            _exit_interrupted(run, choices.model, model.metadata.result["signal"])
        if distributed.is_main_process():
            _print_result(model, run, as_json, choices.seed)


def _print_result(model: LanguageModel, run: Path, as_json: bool, seed: int) -> None:
    """Print a sample on stdout and the scores on stderr, or the result as JSON on stdout."""
    from charlm.recipe import Recipe
    from charlm.training.summary import bits, coverage, verdict, wrapped

    result = model.metadata.result
    if as_json:
        print(json.dumps({"run": str(run), **result}))
        return
    if not sys.stdout.closed:  # a daemon has none and needs none
        print(model.sample(length=400, temperature=0.8, seed=seed).strip())
    lines = [
        f"trained on {result['n_chars']:,} characters in {result['seconds']:.0f} s; files in {run}",
        wrapped(f"bits per character, each part read once from its start: {bits(result)}"),
    ]
    if (sentence := verdict(result, Recipe().replace(**model.metadata.recipe))) is not None:
        lines.append(wrapped(sentence))
    where = "" if str(run.parent) == "checkpoints" else f" --checkpoints {shlex.quote(str(run.parent))}"
    name = run.name if not where and not run.name.startswith("-") else str(run)
    if coverage(result, "valid") or coverage(result, "test"):
        lines.append(wrapped(f"all of a part: charlm eval {shlex.quote(name)} --part valid (or test)"))
    lines += ["", f"charlm sample {shlex.quote(name)}", f"charlm compare{where}"]
    lines.append(f"tensorboard --logdir {shlex.quote(str(run.parent))}")
    print("\n" + "\n".join(lines), file=sys.stderr)


def _print_header(source: str, run: Path, trainer: Trainer) -> None:
    """Print on stderr what is trained, before any work."""
    from charlm.training.summary import header

    print(header(trainer, source, run), end="\n\n", file=sys.stderr)


def _exit_interrupted(run: Path, model: str, number: int) -> NoReturn:
    """Print the command that resumes an interrupted run, and exit with the code of the signal."""
    from charlm.training import distributed

    if distributed.is_main_process():
        own_model = f" --model {shlex.quote(model)}" if ":" in model else ""
        say(f"interrupted; `charlm train --resume {shlex.quote(str(run))}{own_model}` resumes")
    raise SystemExit(128 + number)


def _warn(differences: list[str]) -> None:
    """Warn of differences from the interrupted training."""
    from charlm.training import distributed

    for difference in differences if distributed.is_main_process() else []:
        say(f"changed since the run was interrupted: {difference}")
