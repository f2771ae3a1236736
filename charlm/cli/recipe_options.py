"""Options of a recipe, generated from its fields, and the recipe that they describe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click

from charlm import recipes
from charlm.cli.completion import complete_models, complete_recipes, complete_runs, complete_splits, complete_texts
from charlm.cli.options import CommaList, Name, Number, option
from charlm.options.ranges import RANGES
from charlm.recipe import Recipe
from charlm.recipes import parse_option

Command = Callable[..., Any]

# Options of more than one architecture; any other option is given with -o.
MODEL_OPTIONS = [
    ("--n-embed", "n_embed", "Embedding size.", "Model"),
    ("--n-hidden", "n_hidden", "Hidden size of each layer.", "Model"),
    ("--n-layers", "n_layers", "Number of layers.", "Model"),
    ("--dropout", "dropout", "Dropout rate between layers.", "Regularisation"),
    ("--head-dropout", "dropout", "Dropout rate before the head.", "Regularisation"),
    ("--init", None, "Initial recurrent weights: uniform, identity or orthogonal.", "Model"),
]
MODEL_FLAGS = [flag for flag, *_ in MODEL_OPTIONS] + ["--tied"]
RECIPE_KEYS = tuple(key.name for key in fields(Recipe) if key.name != "options")
_COMPLETE = {"model": complete_models, "corpus": complete_texts, "init_from": complete_runs, "split": complete_splits}


def recipe_options(*names: str) -> Callable[[Command], Command]:
    """Add the options of a model and those of some recipe keys to a command; `take_recipe` reads them.

    Args:
        names: of `RECIPE_KEYS`.
    """

    def add(command: Command) -> Command:
        for flag, name, help, group in reversed(MODEL_OPTIONS):
            kind = Name() if name is None else Number(name)
            command = option(flag, type=kind, help=f"{help} [default: the model's]", group=group)(command)
        help = "Embedding and head share weights."
        command = option("--tied/--untied", default=None, help=help, group="Model")(command)
        help = "Any other option of the model. Repeatable."
        more = option("-o", "--option", "more", multiple=True, metavar="KEY=VALUE", help=help, group="Model")
        command = some_recipe_options(*names)(more(command))
        help = f"Base recipe: a name or a TOML file. [default: {recipes.DEFAULT_RECIPE}, unless --model is given]"
        base = option("--recipe", "base", type=Name(), help=help, group="Model", shell_complete=complete_recipes)
        return base(command)

    return add


def some_recipe_options(*names: str) -> Callable[[Command], Command]:
    """Add options for these recipe keys to a command; an option that is not given is None or empty."""

    def add(command: Command) -> Command:
        for key in reversed([key for key in fields(Recipe) if key.name in names]):
            flag = key.metadata["flag"] or "--" + key.name.replace("_", "-")
            default = key.default
            has_default = default not in (None, (), MISSING) and key.name != "model"  # that of the default recipe
            help = key.metadata["help"] + (f" [default: {default}]" if has_default else "")
            annotation = str(key.type)
            kind = Number(key.name) if key.name in RANGES else Name()
            rest = {"help": help, "group": key.metadata["group"], "shell_complete": _COMPLETE.get(key.name)}
            if annotation == "bool":
                name = flag.removeprefix("--")
                added = option(f"--{name}/--no-{name}", key.name, default=None, **rest)
            elif key.metadata["choices"]:
                added = option(flag, type=click.Choice(key.metadata["choices"]), **rest)
            elif "(commas)" in key.metadata["help"]:
                rest["help"] = help.replace(" (commas)", "")
                added = option(flag, type=CommaList(kind), **rest)
            elif annotation.startswith("tuple"):
                added = option(flag, type=kind, multiple=True, **rest | {"help": help + " Repeatable."})
            else:
                added = option(flag, key.name, type=kind, **rest)
            command = added(command)
        return command

    return add


def take_recipe(given: dict[str, Any], folder: Path | None = None) -> tuple[Recipe, set[str]]:
    """Return the recipe that the options of `recipe_options` describe, and the names of those that were given.

    Args:
        given: the values of these options, all of them.
        folder: folder of the runs, for --from; None for the default.

    Returns:
        the recipe, and the given recipe keys and options of the model.

    Raises:
        CharlmError: an invalid option.
    """
    changes = {name: value for name, value in given.items() if value not in (None, ())}
    base = changes.pop("base", None)
    more = dict(map(parse_option, changes.pop("more", ())))
    names = [flag.removeprefix("--").replace("-", "_") for flag in MODEL_FLAGS]
    options = {name: changes.pop(name) for name in names if name in changes} | more
    keys = {*changes, *options}
    if ":" in changes.get("model", ""):
        from charlm.models import use

        use(changes["model"])
    if base is None and "init_from" not in changes:  # faster, without torch
        return recipes.default(changes).replace(**changes, options=options), keys
    from charlm.storage.transfer import resolve_recipe

    return resolve_recipe(base, changes | {"options": options}, folder), keys
