"""Benchmarks: a missing text is one line on stderr; the numbers of other programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
DOCS = BENCHMARKS.parent / "docs"


def test_a_benchmark_without_its_text_ends_with_one_line_and_the_remedy(tmp_path):
    nowhere = {"CHARLM_CORPORA": "", "XDG_CACHE_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, str(BENCHMARKS / "overhead.py")]
    done = subprocess.run(command, env=os.environ | nowhere, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (66, "")
    assert done.stderr.startswith("overhead.py: nietzsche: ") and done.stderr.count("\n") == 1
    assert "put the file into corpora/" in done.stderr


def test_the_page_of_texts_has_the_numbers_of_other_programs_with_their_protocols():
    lines = (DOCS / "texts.md").read_text("utf-8").splitlines()
    rows = json.loads((DOCS / "published.json").read_text("utf-8"))
    head = ("program", "model", "protocol", "text", "number", "source")
    table = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in lines[lines.index(f"| {' | '.join(head)} |") + 2 :]
    ]
    assert table == [[row[key] + f" {row['unit']}" * (key == "number") for key in head] for row in rows]


def test_the_benchmark_of_a_gpu_says_that_its_tests_were_skipped_and_why(tmp_path, nietzsche):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), str(tmp_path / "results.md"), "--device", "cpu"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "CHARLM_CORPORA": str(nietzsche.parent)}
    command += ["--sections", "tests"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("`pytest tests/gpu`: ")]
    assert " skipped in " in line and "passed" not in line and line.endswith("; there is no CUDA device")
