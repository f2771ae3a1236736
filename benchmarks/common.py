"""Shared by the benchmarks: a line about the machine, and a check that a text is available."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import numpy as np
import torch

from charlm.data import named_texts
from charlm.errors import CharlmError


def machine() -> str:
    """Return processor, vector instructions, cores, threads and versions in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name") or platform.processor() or platform.machine()
    vectors = torch.backends.cpu.get_cpu_capability()
    return (
        f"{name} ({vectors}), {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, numpy {np.__version__}"
    )


def require_text(source: str) -> None:
    """End the program with one line and exit code 66 or 65 unless a text can be read."""
    try:
        named_texts.open_texts([source])
    except CharlmError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
