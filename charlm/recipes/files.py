"""Recipe files: TOML with the keys of `Recipe`, in the package or of a user, and in the folder of each run."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from charlm.errors import DataError, InputNotFoundError, UsageError, did_you_mean, shown
from charlm.options.arguments import checked_path
from charlm.recipe import Recipe

FORMAT = 2  # of the recipe in a run's folder
RENAMED_OPTIONS = {  # since format 1: {model: {old: new}}
    "transformer": {"n_memory": "window_size"},
    "lstm-ngram": {"recent": "cache_model"},
}
MAX_FILE_CHARS = 1 << 20
MAX_DEPTH = 8  # of nested lists and tables, and parts of a key
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'')
_COMMENT = re.compile(r"#[^\n]*")
_SEPARATORS = re.compile(r"[=,{}\[\]\n]")
DEFAULT_RECIPE = "quick"  # if neither a recipe nor a model is given


def names() -> list[str]:
    """Return the names of the packaged recipes."""
    folder = resources.files("charlm.recipes")
    return sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))


def load(name_or_path: str) -> Recipe:
    """Read a packaged recipe, by name, or a TOML file.

    Raises:
        InputNotFoundError: there is no such recipe or file.
        DataError: the file is not valid TOML, or of a newer format.
        UsageError: an unknown key, or a value of the wrong type or out of range.
    """
    values = read_toml(name_or_path)
    try:
        return Recipe().replace(**values)
    except UsageError as error:
        raise UsageError(f"recipe {name_or_path}: {error}") from None


def read_toml(name_or_path: str) -> dict[str, Any]:
    """Read the keys of a recipe, in the current format but otherwise unchecked; see `load`."""
    path = checked_path("recipe", name_or_path)
    name_or_path = str(path)
    if name_or_path in names():
        text = resources.files("charlm.recipes").joinpath(f"{name_or_path}.toml").read_text("utf-8")
    else:
        try:
            with path.open(encoding="utf-8-sig") as file:
                text = file.read(MAX_FILE_CHARS + 1)
        except UnicodeDecodeError as error:
            raise DataError(f"recipe {name_or_path}: not UTF-8 at offset {error.start}") from None
        except OSError as error:
            hint = did_you_mean(name_or_path, names()) or "; see `charlm recipes`"
            raise InputNotFoundError(f"no recipe {shown(name_or_path)}: {error.strerror}{hint}") from None
    if len(text) > MAX_FILE_CHARS:
        raise DataError(f"recipe {name_or_path}: longer than {MAX_FILE_CHARS:,} characters; this is not a recipe")
    try:
        values = _parse(text)
    except ValueError as error:
        raise DataError(f"recipe {name_or_path}: {error}") from None
    version = values.pop("format", 1)  # recipes of format 1 lack this key; in those written by hand it is optional
    if version not in (1, FORMAT):
        raise DataError(f"recipe {name_or_path}: has format {version}; this charlm reads {FORMAT}; upgrade charlm")
    return from_format_1(values) if version == 1 else values


def parse_option(text: str) -> tuple[str, Any]:
    """Return name and value of an option of a model, given as KEY=VALUE: a TOML value, or else a string.

    Raises:
        UsageError: it is not exactly one key and its value.
    """
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not (equals and name) or len(text.splitlines()) > 1:
        raise UsageError(f"-o {shown(text)}: must be one KEY=VALUE; repeat -o for others")
    try:
        return name, _parse(f"value = {value}")["value"]
    except ValueError:
        return name, value.strip()


def _parse(text: str) -> dict[str, Any]:
    """Return the keys of a TOML text.

    Raises:
        ValueError: it is not valid, or nested more deeply or with longer numbers than any recipe.
    """
    depth = n_open = 0
    bare = _COMMENT.sub("", _QUOTED.sub("x", text))
    for char in bare:
        n_open += (char in "[{") - (char in "]}")
        depth = max(depth, n_open)
    n_parts = max(part.count(".") + 1 for part in _SEPARATORS.split(bare))
    if max(depth, n_parts) > MAX_DEPTH:
        raise ValueError(f"is nested {max(depth, n_parts):,} deep; this is not a recipe")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # Python reads no integer of more than 4300 digits
        raise ValueError("has a number of thousands of digits") from None


def from_format_1(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a recipe of format 1 in the current format: without `accumulate`, with renamed options."""
    upgraded = {name: value for name, value in values.items() if name != "accumulate"}
    if isinstance(options := values.get("options"), dict):
        renamed = RENAMED_OPTIONS.get(str(values.get("model")), {})
        upgraded["options"] = {renamed.get(name, name): value for name, value in options.items()}
    return upgraded


def default(changes: Mapping[str, Any]) -> Recipe:
    """Return the base recipe if none is given: the plain defaults if a model is chosen, else `DEFAULT_RECIPE`.

    Args:
        changes: keys that will be replaced.
    """
    return Recipe() if "model" in changes else load(DEFAULT_RECIPE)


def description(name: str) -> str:
    """Return the description of a packaged recipe: the comment in its first line."""
    text = resources.files("charlm.recipes").joinpath(f"{name}.toml").read_text("utf-8")
    return text.splitlines()[0].removeprefix("#").strip()


def to_toml(recipe: Recipe) -> str:
    """Return a recipe as the text of a TOML file, with its format."""
    values = {"format": FORMAT} | recipe.to_dict()
    options = values.pop("options")
    lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
    lines += ["", "[options]"] + [f"{name} = {_toml(value)}" for name, value in options.items()]
    return "\n".join(lines) + "\n"


def differences(recipe: Recipe, base: Recipe) -> str:
    """Return the lines of `to_toml` that those of another recipe lack, with the model and the text in any case."""
    known = set(to_toml(base).splitlines())
    lines = to_toml(recipe).splitlines()
    return "\n".join(line for line in lines if line not in known or line.startswith(("model = ", "corpus = ")))


def _toml(value: Any) -> str:
    """Return a string, number, Boolean or list in TOML, whose syntax for them is that of JSON."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
