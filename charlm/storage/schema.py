"""Schema of a checkpoint's metadata: the type and range of every field, and limits for all of it.

Values that depend on the architecture (window, options, shapes of weights) are checked in weights.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from charlm.data.vocab import N_CODE_POINTS
from charlm.errors import UsageError
from charlm.options.ranges import MAX_CONTEXT, MAX_COUNT
from charlm.options.splits import STANDARD
from charlm.recipe import Recipe

MAX_DEPTH = 64  # of nested lists and objects; a training state has about 20
MAX_ENTRIES = 10_000  # of a list or object, except symbols and the training state
MAX_TEXT = 1 << 16  # characters
MAX_INT = 2**64  # integers are smaller, as seeds are
MAX_FLOAT32 = 3.5e38  # the loss of a diverged training is below


@dataclass(frozen=True)
class Number:
    """A number in a range, bounds included.

    Attributes:
        maximum: upper bound; the lower one is 0.
        kinds: types.
        default: value if the field is missing; None leaves it out.
    """

    maximum: float = MAX_COUNT
    kinds: tuple[type, ...] = (int,)
    default: Any = None

    def __contains__(self, value: Any) -> bool:
        """Return whether a value is such a number; NaN is not."""
        return type(value) in self.kinds and (value is None or 0 <= value <= self.maximum)


@dataclass(frozen=True)
class Text:
    """A text that matches a regular expression."""

    pattern: str = ".*"
    default: Any = None

    def __contains__(self, value: Any) -> bool:
        """Return whether a value is such a text."""
        return isinstance(value, str) and re.fullmatch(self.pattern, value, re.DOTALL) is not None


@dataclass(frozen=True)
class Flag:
    """True or False."""

    default: Any = None

    def __contains__(self, value: Any) -> bool:
        """Return whether a value is a Boolean."""
        return isinstance(value, bool)


@dataclass(frozen=True)
class Texts:
    """A list of texts, each with name, sha256 and n_chars."""

    default: Any = None

    def __contains__(self, value: Any) -> bool:
        """Return whether a value is such a list."""
        schema = SCHEMA["corpus"]
        return isinstance(value, list) and all(
            isinstance(text, dict) and all(text.get(key) in schema[key] for key in ("name", "sha256", "n_chars"))
            for text in value
        )


SECONDS = NATS = Number(MAX_FLOAT32, (int, float))
FRACTION = Number(1, (int, float, type(None)))
PARTS = ("train", "valid", "test")
OPTIONAL = ("recipe", "corpus", "counters", "result", "versions", "resume")
TYPES: dict[str, Any] = {
    "model": str,
    "options": dict,
    "vocab_size": int,
    "symbols": list,
    "is_bytes": bool,
    "n_context": int | None,
    **dict.fromkeys(OPTIONAL, dict),
}
# Fields that some part of the package reads; others are checked by `check_values` alone.
SCHEMA: dict[str, dict[str, Number | Text | Flag | Texts]] = {
    "corpus": {
        "name": Text(default="?"),
        "sha256": Text("([0-9a-f]{64})?", default=""),
        "n_chars": Number(default=0),
        "longest_line": Number(kinds=(int, type(None))),
        "counts_kept": Texts(),
    },
    "counters": {"epoch": Number(), "step": Number(), "n_chars": Number(), "seconds": SECONDS},
    "result": {
        **dict.fromkeys(["n_parameters", "n_chars", "n_skipped", "peak_bytes", "signal"], Number()),
        **dict.fromkeys(["best_epoch", "last_epoch", "seconds"], SECONDS),
        **{f"{part}_nats": NATS for part in PARTS},
        **{f"{part}_accuracy": FRACTION for part in PARTS},
        **{f"{part}_{key}": Number() for part in PARTS for key in ("chars", "part_chars")},
        "interrupted": Flag(),
        "outcome": Text(),
    },
}


def checked(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a checkpoint's metadata, with the defaults of missing ones, after all checks.

    Args:
        stored: fields of `Metadata`, from the JSON of a file.

    Raises:
        ValueError: a field is of the wrong type or out of range, or fields contradict each other.
        KeyError: a field is missing.
    """
    found = {key: {} for key in OPTIONAL} | dict(stored)
    for key, kind in TYPES.items():
        if not isinstance(found[key], kind) or (isinstance(found[key], bool) and kind is not bool):
            raise ValueError(f"{key} is not {getattr(kind, '__name__', 'int or None')}")
        if key != "symbols":
            check_values(found[key], key, has_limits=key != "resume")
    _check_symbols(found["symbols"], found["is_bytes"], found["vocab_size"])
    for key in SCHEMA:
        found[key] = _with_defaults(key, found[key])
    for part in PARTS:
        if (f"{part}_chars" in found["result"]) != (f"{part}_part_chars" in found["result"]):
            raise ValueError(f"result has one of {part}_chars and {part}_part_chars")
    for key, version in found["versions"].items():
        if not isinstance(version, str):
            raise ValueError(f"versions.{key} is not a text")
    found["recipe"] = _recipe(found["recipe"], found["model"], found["options"])
    _check_window(found["n_context"], found["recipe"])
    return found


def check_values(tree: Any, name: str, has_limits: bool = True) -> None:
    """Check every number, text, list and object of a JSON tree.

    Args:
        tree: JSON.
        name: of the field, for messages.
        has_limits: numbers are finite, and lists and objects short; False for the state of a training.

    Raises:
        ValueError: a number is too large or not finite, a text is too long or has lone surrogates, or lists and objects
            are too long or too deep.
    """
    level, depth = [tree], 0
    while level:
        inner: list[Any] = []
        for value in level:
            if isinstance(value, (dict, list)):
                if has_limits and len(value) > MAX_ENTRIES:
                    raise ValueError(f"{name} has {len(value):,} entries")
                inner += value
                inner += value.values() if isinstance(value, dict) else ()
            elif isinstance(value, str):
                if len(value) > MAX_TEXT:
                    raise ValueError(f"{name} has a text of {len(value):,} characters")
                try:
                    value.encode()
                except UnicodeEncodeError:
                    raise ValueError(f"{name} has a text with a lone surrogate") from None
            elif isinstance(value, float):
                if has_limits and not abs(value) <= MAX_FLOAT32:
                    raise ValueError(f"{name} has the number {value}")
            elif isinstance(value, int) and abs(value) >= MAX_INT:
                raise ValueError(f"{name} has an integer of {value.bit_length()} bits")
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"{name} has more than {MAX_DEPTH} levels of lists and objects")
        level = inner


def _with_defaults(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of one object of `SCHEMA`, with the defaults of missing ones.

    Raises:
        ValueError: a field has the wrong type or is out of range.
    """
    schema = SCHEMA[name]
    for key, kind in schema.items():
        if key in values and values[key] not in kind:
            raise ValueError(f"{name}.{key} is {str(values[key])[:40]!r}")
    return {key: kind.default for key, kind in schema.items() if kind.default is not None} | dict(values)


def _check_symbols(symbols: list[Any], is_bytes: bool, vocab_size: int) -> None:
    """Check the vocabulary.

    Raises:
        ValueError: the symbols are not different code points (or bytes), one for each index but 0.
    """
    n_points = 256 if is_bytes else N_CODE_POINTS
    if not all(type(point) is int and 0 <= point < n_points for point in symbols):
        raise ValueError("symbols are not code points")
    if len(set(symbols)) + 1 != vocab_size:
        raise ValueError(f"{len(set(symbols))} symbols for a vocab_size of {vocab_size}")


def _recipe(values: Mapping[str, Any], model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored recipe, with the defaults of missing keys; unknown keys are those of a later version.

    Args:
        values: the recipe.
        model: architecture of the checkpoint.
        options: of its constructor.

    Raises:
        ValueError: a value has the wrong type or is out of range, or the model is another one.
    """
    known = {key.name for key in fields(Recipe)}
    try:
        recipe = Recipe().replace(**{"model": model} | {key: values[key] for key in values if key in known})
    except UsageError as error:
        raise ValueError(f"recipe: {error}") from None
    if recipe.model != model:
        raise ValueError(f"recipe.model is {recipe.model!r} for model {model!r}")
    recipe = recipe.replace(split=recipe.split or STANDARD)
    return recipe.to_dict() | {"options": dict(options)} | dict(values)


def _check_window(n_context: int | None, recipe: Mapping[str, Any]) -> None:
    """Check the length of a window against the recipe.

    Raises:
        ValueError: it is out of range, or not that of the recipe.
    """
    if n_context is not None and not 1 <= n_context <= MAX_CONTEXT:
        raise ValueError(f"n_context is {n_context}")
    if "feed" in recipe:
        expected = recipe["n_context"] if recipe["feed"] == "windows" else None
        if n_context != expected:
            raise ValueError(f"n_context is {n_context}, that of the recipe {expected}")
