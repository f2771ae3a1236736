"""docs/lesson.ipynb: it is built from docs/lesson.py, and all of its cells run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

for module in ("jupytext", "nbclient", "ipykernel", "matplotlib"):
    pytest.importorskip(module, reason=f"{module} is not installed; pip install -e '.[lesson]'")

DOCS = Path(__file__).parent.parent / "docs"
MAX_BYTES = 1_000_000


def cells_of(path):
    """Return (type, source) of each cell of a notebook."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(path.read_text("utf-8"))["cells"]]


def test_the_notebook_runs_and_is_the_one_in_the_repository(tmp_path):
    built, stored = tmp_path / "lesson.ipynb", DOCS / "lesson.ipynb"
    home = {"IPYTHONDIR": str(tmp_path), "JUPYTER_PLATFORM_DIRS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, DOCS / "build_lesson.py", built]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | home)
    assert done.returncode == 0, done.stderr[-3000:]
    assert cells_of(built) == cells_of(stored)
    assert built.stat().st_size < MAX_BYTES and stored.stat().st_size < MAX_BYTES


def test_the_stored_notebook_has_the_output_of_each_cell_and_no_warning():
    for cell in json.loads((DOCS / "lesson.ipynb").read_text("utf-8"))["cells"]:
        source, outputs = "".join(cell["source"]), cell.get("outputs", [])
        kinds = {kind for output in outputs for kind in output.get("data", [output.get("name")])}
        assert "stdout" in kinds or not re.search("^ *print", source, re.MULTILINE), source
        assert "image/png" in kinds or "plt.show()" not in source, source
        assert "stderr" not in kinds, source
