"""Shared by the benchmarks: a line about the machine, and a check that a text is available."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from charlm.data import named_texts
from charlm.errors import CharlmError
from charlm.experiments.machine import machine

__all__ = ["machine", "require_text", "synchronize"]


def synchronize(device: torch.device) -> None:
    """Wait until a device has computed everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def require_text(source: str) -> None:
    """End the program with one line and exit code 66 or 65 unless a text can be read."""
    try:
        named_texts.open_texts([source])
    except CharlmError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
