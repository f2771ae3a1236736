"""Header and summary that `charlm train` prints, as text of at most 80 columns."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import torch

from charlm.evaluation.metrics import nats_to_bits
from charlm.models import CountingModel
from charlm.models.base import CharModel, documentation
from charlm.options.splits import PARTS
from charlm.recipe import Recipe
from charlm.training import distributed
from charlm.training.trainer import Trainer

WIDTH = 79
TITLE = 12  # columns of the titles
SMALL = 2000  # characters of a training part that is too small to learn from


def header(trainer: Trainer, source: str, folder: Path | None = None) -> str:
    """Describe a training before it starts.

    Args:
        trainer: ready to start.
        source: where the recipe is from.
        folder: the run folder.
    """
    recipe, corpus, model = trainer.recipe, trainer.corpus, trainer.state.model
    rows = {
        "model": f"{recipe.model}: {description(model)}",
        "recipe": source,
        "text": corpus.name,
        "characters": _sizes(trainer),
        "symbols": f"{len(corpus.vocab) - 1:,}",
        "parameters": _parameters(model),
        "device": _device(model.device),
        "training": _plan(trainer),
    }
    if folder is not None:
        rows["folder"] = str(folder)
    return "\n".join(
        [*(_row(title, text) for title, text in rows.items()), *(_row("note", n) for n in _notes(trainer))]
    )


def _notes(trainer: Trainer) -> list[str]:
    """Return what is special about a text: too small, or longer than what is learned from."""
    ids = trainer.train_ids
    found = []
    if len(ids) < SMALL:
        found.append(
            f"{len(ids):,} characters are too few to learn more than letter frequencies and repeated words from; "
            "add text for better samples"
        )
        found.append("validation and test part are short, too: their bits are uncertain")
    model = trainer.state.model
    if isinstance(model, CountingModel) and len(ids) > model.max_counted:
        found.append(f"to save memory, only the last {model.max_counted:,} of {len(ids):,} characters are counted")
    return found


def verdict(result: dict[str, Any], recipe: Recipe) -> str | None:
    """Say which epoch was best, whether the training overfitted or could go on, and which option to change.

    Args:
        result: of the training, with the keys `best_epoch`, `last_epoch` and `outcome` if it was validated.
        recipe: with all defaults filled in.
    """
    best, last = result.get("best_epoch"), result.get("last_epoch")
    if best is None or last is None:
        return None
    which = f"best epoch: {best} of {last}" if best else f"the untrained model was better than all {last} epochs"
    if result["outcome"] == "overfitted":
        return f"{which} (kept); then the model overfitted: {_against_overfitting(recipe)}"
    if result["outcome"] == "improving":
        longer = f"--minutes {2 * recipe.minutes:g}" if recipe.minutes else f"--epochs {2 * (recipe.epochs or 1)}"
        return f"{which}; validation was still improving: {longer} may be better"
    return f"{which}; validation no longer improved: a larger --n-hidden or more text may be better"


def _against_overfitting(recipe: Recipe) -> str:
    """Name the option against overfitting that the model has."""
    for name in ("head_dropout", "dropout"):
        if (value := recipe.options.get(name, 1.0)) < 0.5 and (
            name != "dropout" or recipe.options.get("n_layers", 1) > 1
        ):
            return f"raise --{name.replace('_', '-')} (now {value:g}), or add text"
    if recipe.optimizer == "adamw":
        return f"raise --weight-decay (now {recipe.weight_decay:g}), or add text"
    return "lower --n-hidden, take --optimizer adamw --weight-decay 0.1, or add text"


def description(model: CharModel) -> str:
    """Return the first line of a model's documentation."""
    return documentation(type(model)).partition("\n")[0]


def wrapped(text: str) -> str:
    """Return a sentence in lines of at most 80 columns."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def bits(result: dict[str, Any]) -> str:
    """Return the final losses in bits per character, and how much of a long part was read."""
    parts = [part for part in ("valid", "test", "train") if f"{part}_nats" in result]
    return ", ".join(f"{part} {nats_to_bits(result[f'{part}_nats']):.3f}{coverage(result, part)}" for part in parts)


def coverage(result: dict[str, Any], part: str) -> str:
    """Return how much of a part was read for its final loss, in brackets; empty if it was read in full."""
    if (n := result.get(f"{part}_chars")) is None:
        return ""
    return f" (first {n:,} of {result[f'{part}_part_chars']:,} characters)"


def _row(title: str, text: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=title.ljust(TITLE),
        subsequent_indent=" " * TITLE,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _sizes(trainer: Trainer) -> str:
    bounds = trainer.corpus.bounds
    return ", ".join(f"{stop - first:,} {part}" for part in PARTS for first, stop in [bounds[part]] if first < stop)


def _parameters(model: CharModel) -> str:
    n = sum(parameter.numel() for parameter in model.parameters())
    if not isinstance(model, CountingModel):
        return f"{n:,}"
    return f"{n:,}, and counts of the text" if n else "none; counts of the text"


def _device(device: torch.device) -> str:
    n_processes = distributed.world_size()
    name = (
        f"{device.type}, {(n := torch.get_num_threads())} thread{'s' * (n > 1)}"
        if device.type == "cpu"
        else str(device)
    )
    return name + (f", {n_processes} processes" if n_processes > 1 else "")


def _epochs(n: int) -> str:
    return "1 epoch" if n == 1 else f"{n:,} epochs"


def _plan(trainer: Trainer) -> str:
    recipe, state = trainer.recipe, trainer.state
    if not state.model.uses_gradients:
        return "one pass of counting"
    limit = f"{recipe.minutes:g} minutes" if recipe.minutes else _epochs(recipe.epochs or 0)
    if recipe.minutes and recipe.epochs:
        limit += f" or {_epochs(recipe.epochs)}"
    length = state.feed.batch(0, 0)[0].shape
    stop = f"; early stopping after {recipe.patience} epochs without improvement" if recipe.patience else ""
    return f"{limit} of {len(state.feed):,} steps of {length[0]:,} x {length[1]:,} characters{stop}"
