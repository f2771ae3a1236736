"""Time to start, and memory of training beyond `import torch`.

    python benchmarks/cost.py

Start: the minimum of several calls. Memory: peak resident size of `charlm train`, from smaller to larger models, minus
that of `import torch`.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time

from common import require_text

LARGEST = ["--recipe", "lesson-lstm", "--hold-epochs", "0"]
CHARLM = [sys.executable, "-m", "charlm"]


def seconds(command: list[str], n_times: int = 7) -> float:
    """Return the minimum wall-clock seconds of a command."""
    best = float("inf")
    for _ in range(n_times):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        best = min(best, time.perf_counter() - began)
    return best


def peak_mb(command: list[str]) -> float:
    """Return the peak resident size, MB, of this command and all earlier commands of this function."""
    subprocess.run(command, check=True, capture_output=True)
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10  # bytes on macOS, KB on Linux
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / scale


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="nietzsche", help="a short text gives the same memory sooner")
    corpus = parser.parse_args().corpus
    require_text(corpus)

    torch_mb = peak_mb([sys.executable, "-c", "import torch"])
    for choice in (["--model", "rnn"], ["--model", "gru"], ["--model", "lstm"], ["--recipe", "lesson-concat"], LARGEST):
        with tempfile.TemporaryDirectory() as folder:
            train = ["train", *choice, "--corpus", corpus, "--epochs", "1", "--checkpoints", folder]
            beyond = peak_mb(CHARLM + train) - torch_mb
        print(f"memory: charlm train {' '.join(choice)}: {beyond:.0f} MB beyond import torch ({torch_mb:.0f} MB)")

    torch_seconds = seconds([sys.executable, "-c", "import torch"])
    print(f"start: import torch: {torch_seconds:.2f} s")
    for arguments in (["--help"], ["--version"], ["train", "--help"], ["sample", "--length", "1"]):
        took = seconds(CHARLM + arguments)
        print(f"start: charlm {' '.join(arguments)}: {took:.2f} s")
