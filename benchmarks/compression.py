"""Compression by models beside other compressors: bytes, bits per byte, seconds and kB/s.

    python benchmarks/compression.py --model none nietzsche.txt code.txt log.txt
    python benchmarks/compression.py --model nietzsche --model checkpoints/ngram --part test nietzsche.txt
    python benchmarks/compression.py --model none --blocks 16 nietzsche.txt

Each model compresses and decompresses in this process, and the result is compared with the file. `--part test` takes
the test part of a file. Other compressors run where they are installed: xz, bzip2 and zlib of Python; brotli, pyppmd
and zstandard (`pip install brotli pyppmd zstandard`); zpaq (a program).
"""

from __future__ import annotations

import argparse
import bz2
import importlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from common import machine

from charlm.compression import adaptive_model, compress, decompress, load_model
from charlm.experiments import compressors
from charlm.options.splits import STANDARD, split_of
from charlm.storage.runs import find_checkpoint

OTHERS: dict[str, Callable[[bytes], bytes]] = {
    "bzip2 -9": bz2.compress,
    "xz -9e": compressors.xz,
    "brotli -q 11 -w 24": lambda data: importlib.import_module("brotli").compress(data, quality=11, lgwin=24),
    "zstd -22 --ultra": lambda data: importlib.import_module("zstandard").ZstdCompressor(22).compress(data),
    "PPMd, order 6": compressors.ppmd,
    "zpaq -m5": compressors.zpaq,
}


def cpu_seconds() -> float:
    """Return the CPU time of this process and of the programs that it ran."""
    return sum(os.times()[:4])


def others(data: bytes) -> Iterator[tuple[str, int, float]]:
    """Yield name, size and seconds of each installed compressor."""
    for name, function in OTHERS.items():
        begin = cpu_seconds()
        try:
            if name.startswith("zpaq") and shutil.which("zpaq") is None:
                continue
            size = len(function(data))
        except ModuleNotFoundError:
            continue
        yield name, size, cpu_seconds() - begin


def by_model(data: bytes, name: str, n_lanes: int) -> tuple[int, float, float]:
    """Compress and decompress; return the size and the seconds of both."""
    model = adaptive_model() if name == "none" else load_model(find_checkpoint(name))
    parts: list[bytes] = []
    begin = cpu_seconds()
    compress([data], parts.append, model, n_lanes)
    middle = cpu_seconds()
    restored: list[bytes] = []
    decompress(io.BytesIO(b"".join(parts)), name, restored.append, lambda header: model)
    assert b"".join(restored) == data
    return sum(map(len, parts)), middle - begin, cpu_seconds() - middle


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--model", action="append", default=[], help="a run, a checkpoint, or none")
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--part", choices=["test", "all"], default="all", help="of each file")
    parser.add_argument("--bytes", type=int, help="take the first ones of each file")
    options = parser.parse_args()
    print(machine())
    print("| file | compressor | bytes | bits per byte | CPU seconds | kB/s |\n| --- | --- | --- | --- | --- | --- |")
    for file in options.files:
        data = file.read_bytes()[: options.bytes]
        if options.part == "test":
            text = data.decode()
            first, stop = split_of(STANDARD).bounds(len(text))["test"]
            data = text[first:stop].encode()
        print(f"| {file.name} | as it is | {len(data):,} | 8 | | |", flush=True)
        for name, size, seconds in others(data):
            row(file.name, name, len(data), size, seconds)
        for name in options.model:
            size, seconds, back = by_model(data, name, options.blocks)
            row(file.name, f"charlm, --model {name} --blocks {options.blocks}", len(data), size, seconds, back)


def row(file: str, name: str, n_bytes: int, size: int, *seconds: float) -> None:
    """Print a row of the table."""
    times = " + ".join(f"{value:.1f}" for value in seconds)
    speeds = " / ".join(f"{n_bytes / 1000 / max(value, 1e-9):,.1f}" for value in seconds)
    print(f"| {file} | {name} | {size:,} | {8 * size / n_bytes:.3f} | {times} | {speeds} |", flush=True)


if __name__ == "__main__":
    main()
