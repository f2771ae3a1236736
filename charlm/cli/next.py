"""`charlm next`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from charlm.cli.completion import complete_runs
from charlm.cli.options import (
    Name,
    Number,
    choose_checkpoint,
    folder_option,
    json_option,
    own_model_option,
    unknown_option,
)

BAR_CHARS = 40  # of a probability of 1


@click.command(
    "next", help="The most probable next characters after a prompt, by the trained model RUN (a run or a checkpoint)."
)
@click.argument("run", type=Name(), required=False, shell_complete=complete_runs)
@click.option("--prime", default="", help="Prompt: the text so far.")
@click.option("--top", type=Number("top"), default=10, show_default=True, help="Number of characters.")
@unknown_option
@own_model_option
@folder_option
@json_option
def next_char(run: str | None, prime: str, top: int, unknown: str, folder: Path, as_json: bool) -> None:
    """See the command's help."""
    from charlm.generation.generator import TextGenerator
    from charlm.generation.numpy_generator import load_numpy

    path = choose_checkpoint(run, folder)
    model: TextGenerator | None = load_numpy(path)
    if model is None:
        from charlm.generation.language_model import LanguageModel

        model = LanguageModel.load(path)
    probs = model.next(prime, top, unknown)
    if as_json:
        print(json.dumps({"prompt": prime, "next": probs}))
        return
    for char, prob in probs.items():
        print(f"{repr(char):6} {prob:7.2%}  {'#' * round(BAR_CHARS * prob)}".rstrip())
    if len(probs) < len(model.vocab) - 1:
        print(f"others {1 - sum(probs.values()):7.2%}")
