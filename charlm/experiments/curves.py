"""Plots of runs: their training curves, and the map of an embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlm import recipes
from charlm.errors import CharlmError, UsageError
from charlm.evaluation.metrics import nats_to_bits
from charlm.experiments.compare import task
from charlm.experiments.plots import COLOURS, figure, label_ends
from charlm.generation.language_model import LanguageModel
from charlm.inspection.embedding import principal_components
from charlm.storage import run_log

AXES = {"chars": ("n_chars", "training characters, millions", 1e6), "seconds": ("seconds", "seconds of training", 1)}
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Curves:
    """Losses of a run.

    Attributes:
        name: of the run.
        task: text, split and preprocessing.
        budget: epochs or minutes of its recipe.
        train: position and bits per character, as measured while the weights changed, with dropout.
        valid: the same of the validation part.
    """

    name: str
    task: str
    budget: str
    train: Points
    valid: Points

    @property
    def points(self) -> Points:
        """The curve that is labelled: that of the validation part if there is one."""
        return self.valid or self.train


def read_curves(folders: Sequence[Path], over: str, announce: Callable[[str], None]) -> list[Curves]:
    """Read the curves of runs.

    Args:
        folders: of the runs.
        over: a key of `AXES`.
        announce: receives a message for each run without measurements or with an unreadable recipe, which is left out,
            and one if the runs have different texts or splits.

    Raises:
        CharlmError: no run has measurements.
    """
    key, _, unit = AXES[over]
    found = []
    for folder in folders:
        try:
            recipe = recipes.read_toml(str(folder / "recipe.toml"))
            log = run_log.log_of(folder)
            train, valid = (
                [
                    (row[key] / unit, nats_to_bits(row[f"{part}_nats"]))
                    for row in log
                    if f"{part}_nats" in row and key in row
                ]
                for part in ("train", "valid")
            )
            curves = Curves(folder.name, task(recipe), budget(recipe), train, valid)
        except (CharlmError, OSError, KeyError, TypeError) as error:
            announce(f"left out: {folder}: cannot read its recipe or metrics: {error}")
            continue
        if curves.points:
            found.append(curves)
        else:
            announce(f"left out: {folder}: nothing was measured yet")
    if not found:
        raise CharlmError("no run with measurements to plot; `charlm train` creates one")
    if len({curves.task for curves in found}) > 1:
        announce("the runs have different texts or splits: their curves are not comparable")
    return found


def budget(recipe: dict[str, Any]) -> str:
    """Return epochs or minutes of a recipe."""
    minutes, epochs = recipe.get("minutes"), recipe.get("epochs")
    return f"{minutes:g} minutes" if minutes else f"{epochs} epoch{'s' * (epochs != 1)}"


def title(curves: Sequence[Curves]) -> str:
    """Return text, split and budget of runs."""
    tasks, budgets = ({getattr(each, key): None for each in curves} for key in ("task", "budget"))
    return f"text, split: {'; '.join(tasks)}\nbudget: {' or '.join(budgets)}"


def plot_curves(curves: Sequence[Curves], over: str, path: Path) -> None:
    """Plot the curves of runs, labelled at their ends by name and best loss: validation thick, training thin.

    Args:
        curves: of the runs.
        over: a key of `AXES`.
        path: the file.

    Raises:
        CharlmError: matplotlib (extra `plot`) is not installed.
        OutputError: the file cannot be written.
    """
    with figure(path, 8, 4.8) as axes:
        ends = []
        for i, each in enumerate(curves):
            colour = COLOURS[i % len(COLOURS)]
            if each.train:
                axes.plot(*zip(*each.train, strict=True), color=colour, linewidth=0.8, alpha=0.5)
            if each.valid:
                axes.plot(
                    *zip(*each.valid, strict=True), color=colour, linewidth=2, marker="o" * (len(each.valid) == 1)
                )
            x, y = each.points[-1]
            ends.append((x, y, f"{each.name} {min(bits for _, bits in each.points):.3f}", colour))
        # The first training losses are far above the rest: they would leave no room for it.
        highest = max(each.points[0][1] for each in curves)
        lowest = min(bits for each in curves for _, bits in [*each.train, *each.valid])
        margin = 0.05 * (highest - lowest) or 0.1
        axes.set(ylim=(lowest - margin, highest + margin), xlabel=AXES[over][1])
        axes.set_ylabel("bits per character (thick: validation, thin: training)")
        axes.set_xlim(left=0)
        axes.set_title(title(curves))
        label_ends(axes, ends)


def plot_embedding(model: LanguageModel, name: str, path: Path) -> None:
    """Plot the characters in the first two principal components of a model's embedding.

    Args:
        model: with an embedding.
        name: for the title.
        path: the file.

    Raises:
        UsageError: the model has no embedding.
        CharlmError: matplotlib (extra `plot`) is not installed.
        OutputError: the file cannot be written.
    """
    embed = getattr(model.model, "embed", None)
    if embed is None:
        raise UsageError(f"{name}: {model.metadata.model} has no embedding")
    coordinates, shares = principal_components(embed.weight.detach().cpu().numpy()[1:])
    with figure(path, 7, 7) as axes:
        axes.plot(*coordinates.T, linestyle="none")  # sets the limits
        for symbol, (x, y) in zip(model.vocab.symbols, coordinates, strict=True):
            shown = {" ": "␣", "\n": "↵", "\t": "⇥", "$": r"\$"}.get(
                symbol, symbol if symbol.isprintable() else hex(ord(symbol))
            )
            axes.text(x, y, shown, ha="center", va="center", family="monospace")
        first, second = (f"{share:.0%} of the variance" for share in shares[:2])
        axes.set(xlabel=f"first principal component, {first}", ylabel=f"second principal component, {second}")
        text = model.metadata.corpus.get("name", "a text")
        axes.set_title(f"Embedding of {name} ({model.metadata.model}, {text})")
