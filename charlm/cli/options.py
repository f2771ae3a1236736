"""Options shared by several commands, and the options of a recipe, generated from its fields."""

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

# Options of more than one architecture; any other option is given with -o.
MODEL_OPTIONS = [
    ("--n-embed", int, "Embedding size."),
    ("--n-hidden", int, "Hidden size of each layer."),
    ("--n-layers", int, "Number of layers."),
    ("--dropout", float, "Dropout rate between layers."),
    ("--head-dropout", float, "Dropout rate before the head."),
    ("--init", str, "Initial recurrent weights: uniform or identity."),
]
MODEL_FLAGS = [flag for flag, _, _ in MODEL_OPTIONS] + ["--tied"]
_TYPES = {"int": int, "float": float, "str": str}


def recipe_options(command: Command) -> Command:
    """Add all options of a recipe to a command; `take_recipe` reads them."""
    for flag, kind, help in reversed(MODEL_OPTIONS):
        command = click.option(flag, type=kind, help=f"{help} [default: the model's]")(command)
    command = click.option("--tied/--untied", default=None, help="Embedding and head share their weights.")(command)
    command = click.option(
        "-o", "--option", "more", multiple=True, metavar="KEY=VALUE", help="Any other option of the model. Repeatable."
    )(command)
    command = some_recipe_options(*[key.name for key in fields(Recipe) if key.name != "options"])(command)
    help = f"Base recipe: a name or a TOML file. [default: {recipe.DEFAULT_RECIPE}, unless --model is given]"
    return click.option("--recipe", "base", help=help)(command)


def some_recipe_options(*names: str) -> Callable[[Command], Command]:
    """Add options for these recipe keys to a command; an option that is not given is None or empty."""

    def add(command: Command) -> Command:
        for key in reversed([key for key in fields(Recipe) if key.name in names]):
            flag = "--" + key.name.replace("_", "-")
            default = key.default
            has_default = default not in (None, (), MISSING) and key.name != "model"  # the default recipe has another
            help = key.metadata["help"] + (f" [default: {default}]" if has_default else "")
            annotation = str(key.type)
            if annotation == "bool":
                name = flag.removeprefix("--")
                option = click.option(f"--{name}/--no-{name}", key.name, default=None, help=help)
            elif key.metadata["choices"]:
                option = click.option(flag, type=click.Choice(key.metadata["choices"]), help=help)
            elif annotation.startswith("tuple"):
                element = str if "str" in annotation else float
                option = click.option(flag, type=element, multiple=True, help=help + " Repeatable.")
            else:
                option = click.option(flag, type=_TYPES[annotation.split(" | ")[0]], help=help)
            command = option(command)
        return command

    return add


def take_recipe(given: dict[str, Any]) -> Recipe:
    """Remove the options of `recipe_options` from `given` and return the recipe that they describe.

    Raises:
        CharlmError: an invalid option.
    """
    base = given.pop("base")
    options = {}
    for flag in MODEL_FLAGS:
        name = flag.removeprefix("--").replace("-", "_")
        if (value := given.pop(name)) is not None:
            options[name] = value
    for pair in given.pop("more"):
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"-o {pair}: must be KEY=VALUE")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        options[name.strip().replace("-", "_")] = value
    names = [key.name for key in fields(Recipe) if key.name in given]
    values = {name: given.pop(name) for name in names}
    changes = {name: value for name, value in values.items() if value is not None and value != ()}
    start = recipe.load(base) if base else recipe.default(changes)
    return start.replace(**changes, options=options)


def read_text(choices: Recipe) -> tuple[Recipe, Corpus]:
    """Read a recipe's text; a recipe without one gets the default text, or the fallback if that is unavailable.

    Returns:
        the recipe with the name of the text, and the text.

    Raises:
        CharlmError: a named text is missing or cannot be used.
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
        say(f"{reason}; using {FALLBACK_TEXT} instead")
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
    "--device", type=click.Choice(recipe.DEVICES), default="auto", show_default=True, help="Device to compute on."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def say(message: str) -> None:
    """Print a message that does not end the command, on stderr."""
    print(f"charlm: {message}", file=sys.stderr)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Format a table as text, with numbers right-aligned."""
    lines = [[""] * len(head) for _ in range(len(rows) + 1)]
    for i, (title, *cells) in enumerate(zip(head, *rows, strict=True)):
        width = max(map(len, (title, *cells)))
        is_number = all(cell[:1] in "+-.0123456789" for cell in cells)
        for line, cell in zip(lines, (title, *cells), strict=True):
            line[i] = cell.rjust(width) if is_number else cell.ljust(width)
    joined = ["  ".join(line).rstrip() for line in lines]
    return "\n".join([joined[0], "-" * max(map(len, joined)), *joined[1:]])
