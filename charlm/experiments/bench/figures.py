"""Figures of a benchmark, SVG and PDF: learning curves with bands, and bits against parameters, seconds, characters."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.evaluation.metrics import nats_to_bits
from charlm.experiments.bench.entry import is_ngram
from charlm.experiments.bench.results import Results
from charlm.experiments.plots import COLOURS, figure, label_ends

SUFFIXES = (".svg", ".pdf")
N_POINTS = 100  # of a curve
MARKERS = (("o", "●"), ("s", "■"), ("^", "▲"))  # of the first, second and third round of colours
Array = NDArray[np.float64]


def plot_results(results: Results, folder: Path) -> list[str]:
    """Write all figures into a folder and return their names; without trained networks there are no curves.

    Raises:
        CharlmError: matplotlib (extra `plot`) is not installed.
        OutputError: a file cannot be written.
    """
    names = ["scatter"]
    plot_scatter(results, [folder / f"scatter{suffix}" for suffix in SUFFIXES])
    if curves_of(results):
        plot_curves(results, [folder / f"curves{suffix}" for suffix in SUFFIXES])
        names.append("curves")
    return [name + suffix for name in names for suffix in SUFFIXES]


def curves_of(results: Results) -> dict[str, list[Any]]:
    """Return the validation curves of all seeds of each network."""
    curves: dict[str, list[Any]] = {}
    for row in results.rows:
        if row.get("curve") and not is_ngram(row["model"]):
            curves.setdefault(row["entry"], []).append(row["curve"])
    return curves


def curve_band(curves: Sequence[Sequence[Sequence[float]]]) -> dict[str, Array]:
    """Return the validation curves of several seeds as one: `n_chars`, mean `seconds`, and `mean`, `low`, `high` bits.

    Args:
        curves: of each seed, points of characters, seconds and nats. Between points, curves are interpolated; the band
            ends where the shortest curve does.
    """
    points = [np.asarray(curve, dtype=float).T for curve in curves]
    n_chars = np.linspace(max(p[0, 0] for p in points), min(p[0, -1] for p in points), N_POINTS)
    seconds = np.mean([np.interp(n_chars, p[0], p[1]) for p in points], axis=0)
    bits = np.stack([nats_to_bits(1.0) * np.interp(n_chars, p[0], p[2]) for p in points])
    return {
        "n_chars": n_chars,
        "seconds": seconds,
        "mean": bits.mean(axis=0),
        "low": bits.min(axis=0),
        "high": bits.max(axis=0),
    }


def plot_curves(results: Results, paths: Sequence[Path]) -> None:
    """Plot validation curves over characters and over seconds: the mean, and a band from the best to the worst seed."""
    with figure(paths[0], 13, 5, n_columns=2, more=paths[1:]) as both:
        for axes, key, unit, label in zip(
            both,
            ("n_chars", "seconds"),
            (1e6, 1.0),
            ("training characters, millions", "seconds of training, mean over seeds"),
            strict=True,
        ):
            ends, bounds = [], []
            for entry, group in curves_of(results).items():
                colour, style, _, _ = _look(results, entry)
                band = curve_band(group)
                at, mean = band[key] / unit, band["mean"]
                axes.plot(at, mean, color=colour, linestyle=style)
                axes.fill_between(at, band["low"], band["high"], color=colour, alpha=0.2, linewidth=0)
                ends.append((at[-1], mean[-1], entry, colour))
                bounds += [band["low"].min(), mean[N_POINTS // 5]]  # the first losses are far above the rest
            margin = 0.05 * (max(bounds) - min(bounds)) or 0.1
            axes.set_ylim(min(bounds) - margin, max(bounds) + margin)
            axes.set_xlabel(label)
            label_ends(axes, ends)
        both[0].set_ylabel("bits per character, validation part")
        both[0].set_title(_title(results))


def plot_scatter(results: Results, paths: Sequence[Path]) -> None:
    """Plot bits per character against parameters, seconds and characters; models that only count as lines."""
    key = f"{results.part}_nats"
    rows = [row for row in results.summary if key in row and row["model"] is not None]
    trained = [row for row in rows if not is_ngram(row["model"])]
    columns = [("n_parameters", "parameters, thousands", 1e3), ("seconds", "seconds of training", 1.0)]
    columns += [("n_chars", "training characters, millions", 1e6)]
    with figure(paths[0], 15, 5, n_columns=len(columns), more=paths[1:]) as panels:
        for axes, (column, label, unit) in zip(panels, columns, strict=True):
            for row in trained:
                colour, _, marker, _ = _look(results, row["entry"])
                y, spread = nats_to_bits(row[key]), nats_to_bits(row.get(f"{key}_spread", 0.0))
                axes.errorbar(row[column] / unit, y, spread, fmt=marker, capsize=3, color=colour)
            for row in rows:
                if is_ngram(row["model"]):
                    axes.axhline(nats_to_bits(row[key]), linestyle="--", linewidth=1, color="gray")
                    at = 0.01, nats_to_bits(row[key])
                    axes.annotate(row["entry"], at, xycoords=("axes fraction", "data"), va="bottom", fontsize="small")
            positions = [row[column] / unit for row in trained]
            if trained and max(positions) > 3 * min(positions) > 0:
                axes.set_xscale("log")
                axes.set_xlim(0.7 * min(positions), 1.4 * max(positions))
                axes.xaxis.get_major_locator().set_params(subs=(1, 2, 5))
                axes.xaxis.set_minor_formatter("")
            else:
                axes.set_xlim(0, 1.15 * max(positions, default=1.0))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel(label)
        for axes in panels:  # with the final limits
            right = axes.get_xlim()[1]
            ends = [(right, nats_to_bits(row[key]), *_label(results, row["entry"])) for row in trained]
            label_ends(axes, ends)
        panels[0].set_ylabel(f"bits per character, {results.part_name} part")
        panels[0].set_title(_title(results))


def _look(results: Results, entry: str) -> tuple[str, str, str, str]:
    """Return colour, line style, marker and the marker as a character, the same in all figures."""
    place = list(results.entries).index(entry)
    rounds = place // len(COLOURS) % 3
    return COLOURS[place % len(COLOURS)], ("-", "--", ":")[rounds], *MARKERS[rounds]


def _label(results: Results, entry: str) -> tuple[str, str]:
    """Return the label of an entry, with its marker, and its colour."""
    colour, _, _, symbol = _look(results, entry)
    return f"{symbol} {entry}", colour


def _title(results: Results) -> str:
    return "\n".join(textwrap.wrap(f"{results.task}; {results.budget}; seeds: {results.seeds}", 60))
