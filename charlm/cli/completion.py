"""Shell completion of runs, models, recipes and texts. PyTorch is not imported: a shell waits for the answer."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from charlm import recipes
from charlm.options.splits import SPLITS

Items = list[CompletionItem]


def model_names() -> list[str]:
    """Return the keys of `charlm.models.MODELS`, read from its source: importing it imports PyTorch."""
    source = resources.files("charlm").joinpath("models/__init__.py").read_text("utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "MODELS":
            assert isinstance(node.value, ast.Dict)
            return [ast.literal_eval(key) for key in node.value.keys if key is not None]
    return []


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Complete the name of an architecture."""
    return _beginning(model_names(), incomplete)


def complete_recipes(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Complete the name of a recipe, or a file."""
    return [_file(incomplete), *_beginning(recipes.names(), incomplete)]


def complete_models_and_recipes(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Complete an entry of a benchmark: an architecture, a recipe, or a file."""
    return [_file(incomplete), *_beginning([*model_names(), *recipes.names()], incomplete)]


def complete_texts(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Complete a named text, or a file."""
    from charlm.data.named_texts import all_texts

    return [_file(incomplete), *_beginning(all_texts(), incomplete)]


def complete_splits(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Complete the name of a split."""
    return _beginning(SPLITS, incomplete)


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> Items:
    """Complete a run of the folder given with --checkpoints, the newest first, or a file."""
    from charlm.storage import runs

    names = [run.name for run in reversed(runs.all_runs(Path(ctx.params.get("folder") or runs.FOLDER)))]
    return [_file(incomplete), *_beginning(names, incomplete)]


def _beginning(names: Iterable[str], incomplete: str) -> Items:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _file(incomplete: str) -> CompletionItem:
    """Return the item for which a shell completes file names; it stands first, for bash forgets what is before it."""
    return CompletionItem(incomplete, type="file")
