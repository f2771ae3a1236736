"""Memory and seconds of `charlm compress` while it reads a large text, megabyte by megabyte.

    python benchmarks/compression_memory.py code.txt --model none --mb 10
    python benchmarks/compression_memory.py code.txt --model checkpoints/ngram --mb 10 --decompress
    python benchmarks/compression_memory.py code.txt --counts --mb 100

CPU seconds and peak memory of the process (PyTorch's import included where the model needs it), after each megabyte.
`--decompress` also measures the way back, and compares the result with the text. `--counts` only counts, as without a
model, and codes nothing: the memory is that of compressing, the time a fraction.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from common import machine

from charlm.compression import CodingModel, adaptive_model, compress, decompress, load_model
from charlm.compression.predictors import AdaptivePredictor
from charlm.storage import find_checkpoint

MB = 1_000_000


def row(direction: str, n_bytes: int, size: int, begin: float) -> None:
    """Print a row of the table."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
    seconds = time.process_time() - begin
    print(f"| {direction} | {n_bytes:,} | {size:,} | {seconds:.0f} | {peak:.0f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="none", help="a run, a checkpoint, or none")
    parser.add_argument("--mb", type=int, default=10)
    parser.add_argument("--decompress", action="store_true")
    parser.add_argument("--counts", action="store_true")
    options = parser.parse_args()
    if options.counts:
        count(options.file, options.mb)
        return
    model = adaptive_model() if options.model == "none" else load_model(find_checkpoint(options.model))
    print(machine(), f"\n{options.file.name} by {model.name}")
    print("| | bytes | compressed | CPU seconds | peak MB |\n| --- | --- | --- | --- | --- |")
    written: list[bytes] = []
    begin = time.process_time()

    def blocks() -> Iterator[bytes]:
        with options.file.open("rb") as file:
            for i in range(options.mb):
                if i:
                    row("compress", i * MB, sum(map(len, written)), begin)
                yield file.read(MB)

    report = compress(blocks(), written.append, model)
    row("compress", report.n_bytes, sum(map(len, written)), begin)
    if options.decompress:
        back(b"".join(written), model, options.file, report.n_bytes)


def count(file: Path, mb: int) -> None:
    """Count a text as `--model none` does, and print the table."""
    print(
        machine(),
        f"\n{file.name}, counted\n| | bytes | contexts | CPU seconds | peak MB |\n| --- | --- | --- | --- | --- |",
    )
    predictor = adaptive_model().predictor(1)
    assert isinstance(predictor, AdaptivePredictor)
    counts, history = predictor.counts, b""
    begin = time.process_time()
    with file.open("rb") as text:
        for i in range(mb):
            for symbol in text.read(MB):
                counts.read(history, symbol)
                history = (history + bytes([symbol]))[-counts.n_context :]
            row("count", (i + 1) * MB, len(counts.contexts), begin)


def back(compressed: bytes, model: CodingModel, file: Path, n_bytes: int) -> None:
    """Decompress, compare with the text, and print the last row."""
    restored: list[bytes] = []
    begin = time.process_time()
    decompress(io.BytesIO(compressed), file.name, restored.append, lambda header: model)
    row("decompress", n_bytes, len(compressed), begin)
    with file.open("rb") as text:
        assert b"".join(restored) == text.read(n_bytes)


if __name__ == "__main__":
    main()
