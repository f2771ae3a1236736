"""Plots as PNG, SVG or PDF files; they need matplotlib, the extra `plot`. This is the one place for their style."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from charlm.errors import CharlmError, UsageError
from charlm.files import atomic_write

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#000000",
    "#8c6d31",
)  # Okabe and Ito, 2008
STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "grid.alpha": 0.3,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "charlm",  # the same figure is the same file
}
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def check_suffix(path: Path) -> None:
    """Refuse a file whose name does not end in one of `SUFFIXES`.

    Raises:
        UsageError: it does not.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: the file name must end in {', '.join(SUFFIXES)}")


@contextmanager
def figure(path: Path, width: float, height: float, n_columns: int = 1, more: Sequence[Path] = ()) -> Iterator[Any]:
    """Yield the axes of a new figure, and write it to a file on exit.

    Args:
        path: the file, of a format in `SUFFIXES`; missing folders are created.
        width: inches, at 120 dots per inch.
        height: inches.
        n_columns: axes side by side with a common vertical axis; several are yielded as an array.
        more: further files with the same figure.

    Raises:
        CharlmError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    try:
        import matplotlib
        from cycler import cycler
        from matplotlib.figure import Figure
    except ImportError:
        raise CharlmError("no plot: matplotlib is not installed; pip install 'charlm-torch[plot]'") from None
    with matplotlib.rc_context(STYLE | {"axes.prop_cycle": cycler(color=COLOURS)}):
        drawing = Figure(figsize=(width, height), layout="constrained")
        yield drawing.subplots(1, n_columns, sharey=True)
        for file in (path, *more):
            content = BytesIO()
            form = file.suffix.lower()[1:] or "png"
            drawing.savefig(content, dpi=120, format=form, metadata=UNDATED.get(form))
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(file, content.getbuffer())


def label_ends(axes: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write a label at the right end of each curve, moved up where it would cover the label of a lower curve.

    Args:
        axes: with their final limits.
        ends: x, y, text and colour of each curve.
    """
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    width, height = 0.2 * (right - left), 0.045 * (high - low)
    placed: list[tuple[float, float]] = []
    for x, y, text, colour in sorted(ends, key=lambda end: end[1]):
        at = y
        for other_x, other in sorted(placed, key=lambda place: place[1]):
            if abs(x - other_x) < width and abs(at - other) < height:
                at = other + height
        placed.append((x, at))
        axes.annotate(
            text,
            (x, at),
            xytext=(6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize="small",
            annotation_clip=False,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
        )
