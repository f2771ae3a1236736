"""Entries of a benchmark: from the names on the command line to recipes, of equal size where that is asked for.

An entry is an architecture, or a recipe by name or file; options follow a colon: `lstm:n_layers=2,learning_rate=0.01`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from charlm import models, recipes
from charlm.data.named_texts import default_split
from charlm.errors import UsageError, did_you_mean
from charlm.models.custom import installed
from charlm.models.size import count_parameters
from charlm.recipe import Recipe
from charlm.storage.transfer import resolve_recipe

BASELINE = "ngram"  # part of every benchmark
SIZE_STEP = 8  # hidden sizes are multiples of this
SHARED_KEYS = ("corpus", "split", "bytes", "lower", "min_count", "seed", "device")  # the same for all entries


@dataclass(frozen=True)
class EntryName:
    """An entry as named on the command line.

    Attributes:
        text: the whole name.
        base: architecture, or recipe by name or file.
        keys: recipe keys after the colon.
        options: options of the model after the colon.
    """

    text: str
    base: str
    keys: Mapping[str, Any]
    options: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str) -> EntryName:
        """Return the parts of a name.

        Raises:
            UsageError: an option is not KEY=VALUE, or a key that all entries share.
        """
        base, _, rest = text.rpartition(":")
        if not base or "=" not in rest:
            return cls(text, text, {}, {})
        try:
            given = dict(recipes.parse_option(part) for part in rest.split(","))
        except UsageError:
            raise UsageError(f"{text}: after the colon stand KEY=VALUE, separated by commas") from None
        if shared := given.keys() & {*SHARED_KEYS, "model", "options"}:
            raise UsageError(f"{text}: {min(shared)} is the same for all entries; take it out of the entry")
        known = {key.name for key in fields(Recipe)}
        keys = {name: value for name, value in given.items() if name in known}
        return cls(text, base, keys, {name: value for name, value in given.items() if name not in known})

    @property
    def is_recipe(self) -> bool:
        """Whether the base is a recipe and not an architecture."""
        return not self.is_model and (self.base in recipes.names() or self.base.endswith(".toml"))

    @property
    def is_model(self) -> bool:
        """Whether the base is an architecture, of this package or of an installed one."""
        return self.base in models.MODELS or self.base in installed()

    @property
    def label(self) -> str:
        """Name in tables: without the folder and the suffix of a recipe's file."""
        return Path(self.base).stem + self.text[len(self.base) :]


def folder_name(label: str) -> str:
    """Return the label of an entry as part of a file name."""
    return re.sub(r"[^\w.=+-]+", "-", label)


def shared_keys(names: Sequence[str], given: dict[str, Any], announce: Callable[[str], None]) -> dict[str, Any]:
    """Return the given keys that all entries share, with the text of a recipe if none is given.

    Args:
        names: see `entries`.
        given: recipe keys of the command.
        announce: called with a message for each recipe whose own split, preprocessing, seed or device is not used.

    Raises:
        UsageError: recipes name different texts, and `given` none.
    """
    named = {name: EntryName.parse(name) for name in dict.fromkeys(names)}
    chosen = {name: resolve_recipe(entry.base, {}) for name, entry in named.items() if entry.is_recipe}
    texts = {recipe.corpus: name for name, recipe in chosen.items() if recipe.corpus}
    if "corpus" not in given and texts:
        if len(texts) > 1:
            listed = "; ".join(f"{name}: {', '.join(corpus)}" for corpus, name in texts.items())
            raise UsageError(f"the recipes name different texts ({listed}); choose one with --corpus")
        given = given | {"corpus": list(next(iter(texts)))}
    common = Recipe().replace(**given)
    common = common.replace(split=common.split or default_split(common.corpus))
    for name, recipe in chosen.items():
        keys = [key for key in SHARED_KEYS[1:] if key not in given]
        differs = [key for key in keys if getattr(recipe, key) not in (None, getattr(common, key))]
        if differs:
            own = ", ".join(f"{key} {getattr(recipe, key)}" for key in differs)
            shared = ", ".join(f"{key} {getattr(common, key)}" for key in differs)
            announce(f"{name}: {own} is replaced by {shared}, as for all entries; an option chooses another")
    return given


def entries(
    names: Sequence[str], changes: dict[str, Any], n_parameters: int | None, vocab_size: int
) -> dict[str, Recipe]:
    """Return the recipes of a benchmark by entry, the n-gram baseline first.

    Args:
        names: architectures, or recipes by name or file, with options after a colon.
        changes: recipe keys that all entries share.
        n_parameters: number of parameters to match by the choice of hidden sizes; None keeps the sizes.
        vocab_size: V.

    Raises:
        UsageError: a name is neither a model nor a recipe, an option is invalid, or a model cannot match
            `n_parameters`.
    """
    chosen: dict[str, Recipe] = {}
    for text in dict.fromkeys([BASELINE, *names]):
        name = EntryName.parse(text)
        if name.is_model:
            entry = Recipe().replace(model=name.base, **changes)
        elif name.is_recipe:
            entry = resolve_recipe(name.base, changes)
        else:
            known = [*models.MODELS, *recipes.names()]
            raise UsageError(
                f"no model or recipe {name.base!r}{did_you_mean(name.base, known)}; `charlm models` lists them"
            )
        entry = entry.replace(**name.keys, options=models.check_options(entry.model, {**entry.options, **name.options}))
        if n_parameters is not None and (option := size_option(entry.model)) in name.options:
            raise UsageError(f"{text}: --parameters chooses {option}; leave out one of the two")
        label = name.label
        if folder_name(label) in map(folder_name, chosen):
            raise UsageError(f"{text}: there is an entry {label!r} already; rename the file")
        chosen[label] = with_parameters(entry, n_parameters, vocab_size)
    return chosen


def with_parameters(entry: Recipe, n_parameters: int | None, vocab_size: int) -> Recipe:
    """Return a recipe with the hidden size that matches a number of parameters; see `match_parameters`."""
    if n_parameters is None or is_ngram(entry.model):
        return entry
    return entry.replace(options=match_parameters(entry, n_parameters, vocab_size))


def is_ngram(model: str | None) -> bool:
    """Return True for a model without gradients: it has no hidden size, no budget and no random numbers."""
    return model is not None and not models.find(model).uses_gradients


def differences(recipe: Recipe, other: Recipe) -> str:
    """Return the keys and the options of the model in which two recipes differ, with both values, for a message."""
    values, others = ({**vars(each), **each.options, "options": None} for each in (recipe, other))
    names = [name for name in {**values, **others} if values.get(name) != others.get(name)]
    return ", ".join(f"{name} {values.get(name)!r} and not {others.get(name)!r}" for name in names)


def size_option(model: str) -> str | None:
    """Return the option of a model that `match_parameters` chooses: `n_hidden`, or else `n_embed`, if it has one."""
    known = models.options_of(model)
    return next((name for name in ("n_hidden", "n_embed") if name in known), None)


def match_parameters(entry: Recipe, n_parameters: int, vocab_size: int) -> dict[str, int]:
    """Return the hidden size (see `size_option`) that brings a model nearest to a number of parameters.

    Raises:
        UsageError: the model has no such option, or too many parameters with the smallest size.
    """
    option = size_option(entry.model)
    if option is None:
        raise UsageError(f"model {entry.model} has no hidden size to choose; leave it out, or leave out --parameters")
    architecture = models.find(entry.model)

    def count(size: int) -> float:
        return count_parameters(architecture, vocab_size, entry.options | {option: size})

    low, high = SIZE_STEP, 2 * SIZE_STEP
    while count(high) < n_parameters:
        low, high = high, 2 * high
    while high - low > SIZE_STEP:
        middle = (low + high) // 2 // SIZE_STEP * SIZE_STEP
        low, high = (middle, high) if count(middle) < n_parameters else (low, middle)
    best = min((low, high), key=lambda size: abs(count(size) - n_parameters))
    if count(best) > 1.5 * n_parameters:
        raise UsageError(f"model {entry.model} has at least {count(best):,.0f} parameters; raise --parameters")
    return {option: best}
