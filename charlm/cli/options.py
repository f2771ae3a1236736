"""Options that several commands share, and the options of `charlm train`, made from the recipe's fields."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charlm import recipe
from charlm.errors import InputNotFoundError, UsageError
from charlm.recipe import Recipe

if TYPE_CHECKING:
    from charlm.data.corpus import Corpus

Command = Callable[..., Any]

# Options of more than one architecture; any other goes by -o.
MODEL_OPTIONS = [
    ("--n-embed", int, "Numbers to describe a character."),
    ("--n-hidden", int, "Numbers to describe what was read, in each layer."),
    ("--n-layers", int, "Layers."),
    ("--dropout", float, "Share set to zero between layers."),
    ("--head-dropout", float, "Share set to zero before the head."),
    ("--init", str, "Recurrent weights at the start: uniform or identity."),
]
_TYPES = {"int": int, "float": float, "str": str}


def recipe_options(command: Command) -> Command:
    """Give a command all options of a recipe; `take_recipe` reads them."""
    for flag, kind, about in reversed(MODEL_OPTIONS):
        command = click.option(flag, type=kind, help=f"{about} [default: the model's]")(command)
    command = click.option("--tied/--untied", default=None, help="Head and embedding share a matrix.")(command)
    command = click.option(
        "-o", "--option", "more", multiple=True, metavar="KEY=VALUE", help="Any other option of the model."
    )(command)
    command = some_recipe_options(*[key.name for key in fields(Recipe) if key.name != "options"])(command)
    about = f"Base recipe: a name or a TOML file. [default: {recipe.DEFAULT_RECIPE}, unless --model is given]"
    return click.option("--recipe", "base", help=about)(command)


def some_recipe_options(*names: str) -> Callable[[Command], Command]:
    """Give a command an option for each of these keys of a recipe; what is not given is None or empty."""

    def add(command: Command) -> Command:
        for key in reversed([key for key in fields(Recipe) if key.name in names]):
            flag = "--" + key.name.replace("_", "-")
            default = key.default
            known = default not in (None, (), MISSING) and key.name != "model"  # where none is named, a recipe has it
            about = key.metadata["help"] + (f" [default: {default}]" if known else "")
            annotation = str(key.type)
            if annotation == "bool":
                name = flag.removeprefix("--")
                option = click.option(f"--{name}/--no-{name}", key.name, default=None, help=about)
            elif key.metadata["choices"]:
                option = click.option(flag, type=click.Choice(key.metadata["choices"]), help=about)
            elif annotation.startswith("tuple"):
                element = str if "str" in annotation else float
                option = click.option(flag, type=element, multiple=True, help=about + " Repeatable.")
            else:
                option = click.option(flag, type=_TYPES[annotation.split(" | ")[0]], help=about)
            command = option(command)
        return command

    return add


def take_recipe(given: dict[str, Any]) -> Recipe:
    """Turn the options that `recipe_options` made into a recipe, and take them out of `given`.

    Raises:
        CharlmError: what was given cannot be meant.
    """
    base = given.pop("base")
    options = {}
    for flag in [flag for flag, _, _ in MODEL_OPTIONS] + ["--tied"]:
        name = flag.removeprefix("--").replace("-", "_")
        if (value := given.pop(name)) is not None:
            options[name] = value
    for pair in given.pop("more"):
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"-o {pair}: give KEY=VALUE")
        try:
            options[name.strip().replace("-", "_")] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            options[name.strip().replace("-", "_")] = text.strip()
    names = [key.name for key in fields(Recipe) if key.name in given]
    values = {name: given.pop(name) for name in names}
    changes = {name: value for name, value in values.items() if value is not None and value != ()}
    start = recipe.load(base) if base else recipe.default(changes)
    return start.replace(**changes, options=options)


def read_text(choices: Recipe) -> tuple[Recipe, Corpus]:
    """Read the recipe's text; where none was asked for, Nietzsche, or else what Python brings along.

    Returns:
        the recipe with the text's name in it, and the text.

    Raises:
        CharlmError: a text that was asked for is not there or cannot be used.
    """
    from charlm.api import read_corpus
    from charlm.data.named_texts import DEFAULT_TEXT, FALLBACK_TEXT

    if choices.corpus:
        return choices, read_corpus(choices)
    try:
        named = choices.replace(corpus=[DEFAULT_TEXT])
        return named, read_corpus(named)
    except InputNotFoundError as error:
        reason = str(error).split(";")[0]
        print(f"charlm: {reason}; using {FALLBACK_TEXT} instead", file=sys.stderr)
        named = choices.replace(corpus=[FALLBACK_TEXT])
        return named, read_corpus(named)


folder_option = click.option(
    "--checkpoints",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="checkpoints",
    show_default=True,
    help="Folder of the runs.",
)
device_option = click.option(
    "--device", type=click.Choice(recipe.DEVICES), default="auto", show_default=True, help="Where to compute."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return rows as text, columns of numbers to the right."""
    lines = [[""] * len(head) for _ in range(len(rows) + 1)]
    for i, (title, *cells) in enumerate(zip(head, *rows, strict=True)):
        width = max(map(len, (title, *cells)))
        is_number = all(cell[:1] in "+-.0123456789" for cell in cells)
        for line, cell in zip(lines, (title, *cells), strict=True):
            line[i] = cell.rjust(width) if is_number else cell.ljust(width)
    process_group = ["  ".join(line).rstrip() for line in lines]
    return "\n".join([process_group[0], "-" * max(map(len, process_group)), *process_group[1:]])
