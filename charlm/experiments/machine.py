"""A line about the machine, for tables."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np
import torch


def machine() -> str:
    """Return processor, vector instructions, cores, threads and versions in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name") or platform.processor() or platform.machine()
    vectors = torch.backends.cpu.get_cpu_capability()
    cores, threads = os.cpu_count(), torch.get_num_threads()
    return (
        f"{name} ({vectors}), {cores} core{'s' * (cores != 1)}, {threads} thread{'s' * (threads > 1)}, "
        f"torch {torch.__version__}, numpy {np.__version__}"
    )
