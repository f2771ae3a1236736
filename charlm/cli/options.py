"""Kinds of options, and the options that several commands share."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

from charlm.messages import say
from charlm.options.ranges import RANGES, checked_number
from charlm.recipe import DEVICES, GROUPS


class GroupedOption(click.Option):
    """Option with a heading of the help page, one of `GROUPS`."""

    def __init__(self, *args: Any, group: str = "Output", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """Command whose help page lists its options under the headings `GROUPS`; plain options are under the last one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; a text without its option is refused with that option as the remedy."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if "unexpected extra argument" in error.message and "corpus" in {param.name for param in self.params}:
                raise click.UsageError(f"{error.message}; a text is named by --corpus", ctx) from None
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, one section a group."""
        for group in GROUPS:
            params = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
            options = [option for option in params if getattr(option, "group", GROUPS[-1]) == group]
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
        return checked_number(flag, value, self.range)


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


class CommaList(click.ParamType):  # type: ignore[type-arg]
    """Values of one type, separated by commas."""

    name = "list"

    def __init__(self, element: click.ParamType[Any]) -> None:
        self.element = element

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        """Return the values."""
        return [self.element.convert(part.strip(), param, ctx) for part in value.split(",")]


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


part_option = click.option(
    "--part",
    type=click.Choice(["train", "valid", "test", "all"]),
    help="Part of the text. [default: test; all of another text]",
)

own_model_option = click.option(
    "--model",
    callback=_use_model,
    expose_value=False,
    metavar="FILE.py:CLASS",
    help="Import this class, if the model's architecture is not in the package.",
)
