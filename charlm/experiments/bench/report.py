"""Files of a benchmark beside results.json: tables in three formats, and figures."""

from __future__ import annotations

from pathlib import Path

from charlm.experiments.bench.figures import plot_results
from charlm.experiments.bench.latex import latex
from charlm.experiments.bench.results import Results
from charlm.experiments.bench.tables import csv_text, markdown
from charlm.files import atomic_write

FORMATS = {"markdown": ("table.md", markdown), "latex": ("table.tex", latex), "csv": ("rows.csv", csv_text)}


def write_tables(results: Results, folder: Path) -> list[str]:
    """Write the tables into a folder and return the names of the files.

    Raises:
        OutputError: a file cannot be written.
    """
    for name, content in FORMATS.values():
        atomic_write(folder / name, content(results).encode())
    return [name for name, _ in FORMATS.values()]


def write_report(results: Results, folder: Path) -> list[str]:
    """Write tables and figures into a folder and return the names of the files.

    Raises:
        CharlmError: the tables are written, and matplotlib (extra `plot`) is not installed.
        OutputError: a file cannot be written.
    """
    return write_tables(results, folder) + plot_results(results, folder)
