"""Pictures, where matplotlib, the `plot` extra, is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from charlm.errors import CharlmError


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Any]:
    """Give axes to draw on, and write them into a PNG file afterwards.

    Args:
        path: the file; its folder is made.
        width: in inches of 120 dots.
        height: likewise.

    Raises:
        CharlmError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CharlmError("a picture needs matplotlib: install the extra `plot`, or go by the table") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    yield axes
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
