"""Plots as PNG files; they need matplotlib, the extra `plot`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from charlm.errors import CharlmError
from charlm.files import atomic_write


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Any]:
    """Yield the axes of a new figure, and write it to a PNG file on exit.

    Args:
        path: the file; missing folders are created.
        width: inches, at 120 dots per inch.
        height: inches.

    Raises:
        CharlmError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CharlmError("no plot: matplotlib is not installed; install the extra `plot`") from None
    drawing = Figure(figsize=(width, height), layout="constrained")
    axes = drawing.subplots()
    axes.grid(alpha=0.3)
    yield axes
    path.parent.mkdir(parents=True, exist_ok=True)
    content = BytesIO()
    drawing.savefig(content, dpi=120)
    atomic_write(path, content.getbuffer())
