"""Options shared by several commands, and the options of a recipe, generated from its fields."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charlm import recipes
from charlm.cli.completion import complete_models, complete_recipes, complete_runs, complete_texts
from charlm.errors import InputNotFoundError
from charlm.messages import say
from charlm.options.ranges import RANGES, checked
from charlm.recipe import DEVICES, GROUPS, Recipe
from charlm.recipes.files import parse_option

if TYPE_CHECKING:
    from charlm.data.corpus import Corpus

Command = Callable[..., Any]

# Options of more than one architecture; any other option is given with -o.
MODEL_OPTIONS = [
    ("--n-embed", "n_embed", "Embedding size.", "Model"),
    ("--n-hidden", "n_hidden", "Hidden size of each layer.", "Model"),
    ("--n-layers", "n_layers", "Number of layers.", "Model"),
    ("--dropout", "dropout", "Dropout rate between layers.", "Regularisation"),
    ("--head-dropout", "dropout", "Dropout rate before the head.", "Regularisation"),
    ("--init", None, "Initial recurrent weights: uniform or identity.", "Model"),
]
MODEL_FLAGS = [flag for flag, *_ in MODEL_OPTIONS] + ["--tied"]
RECIPE_KEYS = tuple(key.name for key in fields(Recipe) if key.name != "options")
_COMPLETE = {"model": complete_models, "corpus": complete_texts, "init_from": complete_runs}


class GroupedOption(click.Option):
    """Option with a heading of the help page, one of `GROUPS`."""

    def __init__(self, *args: Any, group: str = "Output", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """Command whose help page lists its options under the headings `GROUPS`; plain options are under the last one."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, one section a group."""
        for group in GROUPS:
            options = [option for option in self.get_params(ctx) if getattr(option, "group", GROUPS[-1]) == group]
            records = [record for option in options if (record := option.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(group):
                    formatter.write_dl(records)


option = partial(click.option, cls=GroupedOption)


class Number(click.ParamType):  # type: ignore[type-arg]
    """A number in the range of an option of `charlm.options.ranges.RANGES`."""

    def __init__(self, name: str) -> None:
        self.option, self.range = name, RANGES[name]
        self.name = "integer" if self.range.kind is int else "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        with suppress(ValueError):
            value = self.range.kind(value)
        flag = param.opts[0] if param is not None else self.option
        return checked(flag, value, self.range)


class Name(click.ParamType):  # type: ignore[type-arg]
    """A name or a path: any text that is not empty."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        if not value:
            self.fail("must not be empty; leave out the option, or name something", param, ctx)
        return value


class FilePath(click.Path):
    """A path that is not empty."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        return super().convert(Name().convert(value, param, ctx) if isinstance(value, str) else value, param, ctx)


class _CommaList(click.ParamType):  # type: ignore[type-arg]
    """Values of one type, separated by commas."""

    name = "list"

    def __init__(self, element: click.ParamType[Any]) -> None:
        self.element = element

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        """Return the values."""
        return [self.element.convert(part.strip(), param, ctx) for part in value.split(",")]


def recipe_options(*names: str) -> Callable[[Command], Command]:
    """Add the options of a model and those of some recipe keys to a command; `take_recipe` reads them.

    Args:
        names: of `RECIPE_KEYS`.
    """

    def add(command: Command) -> Command:
        for flag, name, help, group in reversed(MODEL_OPTIONS):
            kind = Name() if name is None else Number(name)
            command = option(flag, type=kind, help=f"{help} [default: the model's]", group=group)(command)
        command = option("--tied/--untied", default=None, help="Embedding and head share weights.", group="Model")(
            command
        )
        help = "Any other option of the model. Repeatable."
        command = option("-o", "--option", "more", multiple=True, metavar="KEY=VALUE", help=help, group="Model")(
            command
        )
        command = some_recipe_options(*names)(command)
        help = f"Base recipe: a name or a TOML file. [default: {recipes.DEFAULT_RECIPE}, unless --model is given]"
        return option("--recipe", "base", type=Name(), help=help, group="Model", shell_complete=complete_recipes)(
            command
        )

    return add


def some_recipe_options(*names: str) -> Callable[[Command], Command]:
    """Add options for these recipe keys to a command; an option that is not given is None or empty."""

    def add(command: Command) -> Command:
        for key in reversed([key for key in fields(Recipe) if key.name in names]):
            flag = key.metadata["flag"] or "--" + key.name.replace("_", "-")
            default = key.default
            has_default = default not in (None, (), MISSING) and key.name != "model"  # the default recipe has another
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
                added = option(flag, type=_CommaList(kind), **rest)
            elif annotation.startswith("tuple"):
                added = option(flag, type=kind, multiple=True, **rest | {"help": help + " Repeatable."})
            else:
                added = option(flag, key.name, type=kind, **rest)
            command = added(command)
        return command

    return add


def given_keys(given: dict[str, Any]) -> set[str]:
    """Return the recipe keys and the model options among the options of `recipe_options`, before `take_recipe`."""
    pairs = {parse_option(pair)[0] for pair in given["more"]}
    return pairs | {name for name, value in given.items() if value not in (None, ()) and name not in ("base", "more")}


def take_recipe(given: dict[str, Any], folder: Path | None = None) -> Recipe:
    """Remove the options of `recipe_options` from `given` and return the recipe that they describe.

    Args:
        given: all options of the command.
        folder: folder of the runs, for --from; None for the default.

    Raises:
        CharlmError: an invalid option.
    """
    base = given.pop("base")
    options = {}
    for flag in MODEL_FLAGS:
        name = flag.removeprefix("--").replace("-", "_")
        if (value := given.pop(name)) is not None:
            options[name] = value
    options |= dict(map(parse_option, given.pop("more")))
    names = [key.name for key in fields(Recipe) if key.name in given]
    values = {name: given.pop(name) for name in names}
    changes = {name: value for name, value in values.items() if value is not None and value != ()}
    if ":" in changes.get("model", ""):
        from charlm.models import use

        use(changes["model"])
    if base is None and "init_from" not in changes:  # faster, without torch
        return recipes.default(changes).replace(**changes, options=options)
    from charlm.storage.transfer import resolve_recipe

    return resolve_recipe(base, changes | {"options": options}, folder)


def read_text(choices: Recipe) -> tuple[Recipe, Corpus]:
    """Read a recipe's text; a recipe without one gets the default text, or the fallback if that is unavailable.

    Returns:
        the recipe with the name of the text, and the text.

    Raises:
        CharlmError: a named text is missing or cannot be used.
    """
    from charlm.api import read_corpus
    from charlm.data.named_texts import DEFAULT_TEXT, FALLBACK_TEXT
    from charlm.training.setup import choose_device, fill_defaults

    fill_defaults(choices, choose_device(choices.device))  # options are checked before a text is read

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


folder_option = option(
    "--checkpoints",
    "folder",
    type=FilePath(path_type=Path, file_okay=False),
    default="checkpoints",
    show_default=True,
    help="Folder of the runs.",
    group="Saving",
)
device_option = option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="Device to compute on.",
    group="Optimiser",
)
unknown_option = option(
    "--unknown",
    type=click.Choice(["error", "skip", "map"]),
    default="error",
    show_default=True,
    help="Treatment of prompt characters that are not in the model's vocabulary.",
)
json_option = option("--json", "as_json", is_flag=True, help="Print JSON.")


def choose_checkpoint(name: str | None, folder: Path) -> Path:
    """Return the checkpoint of a run or file; without a name the default one, named on stderr.

    Raises:
        InputNotFoundError: there is no such run or file.
    """
    from charlm.storage import runs

    if name is not None:
        return runs.find_checkpoint(name, folder)
    path, description = runs.default_checkpoint(folder)
    say(f"model: {description}")
    return path


def _use_model(ctx: click.Context, param: click.Parameter, name: str | None) -> None:
    if name is None:
        return
    if ":" not in name:
        raise click.BadParameter(f"{name!r} is not FILE.py:CLASS; models of the package need no --model")
    from charlm.models import use

    use(name)


own_model_option = click.option(
    "--model",
    callback=_use_model,
    expose_value=False,
    metavar="FILE.py:CLASS",
    help="Import this class, if the model's architecture is not in the package.",
)


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
