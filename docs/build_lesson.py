"""Build docs/lesson.ipynb, with outputs, from docs/lesson.py: `python docs/build_lesson.py [FILE]`.

It needs the extra `lesson`: `pip install -c constraints.txt -e '.[lesson]'`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
from nbclient import NotebookClient

DOCS = Path(__file__).resolve().parent


def main(path: Path) -> None:
    """Execute the notebook's source and write the notebook."""
    notebook = jupytext.read(DOCS / "lesson.py")
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", coalesce_streams=True, resources={"metadata": {"path": str(DOCS)}}
    ).execute()
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i}"  # a second build gives the same file
        cell.metadata = {}
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    jupytext.write(notebook, path, fmt="ipynb")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "lesson.ipynb")
