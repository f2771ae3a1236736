"""Compressors of other programs, for baselines: xz of Python; PPMd and zpaq where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
import lzma
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

PPMD_ORDER, PPMD_BYTES = 6, 256 << 20  # contexts and memory of PPMd


def xz(data: bytes) -> bytes:
    """Compress with xz -9e."""
    return lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)


def ppmd(data: bytes) -> bytes:
    """Compress with PPMd (variant H) of the package pyppmd.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    encoder = importlib.import_module("pyppmd").Ppmd7Encoder(PPMD_ORDER, PPMD_BYTES)
    return bytes(encoder.encode(data) + encoder.flush())


def zpaq(data: bytes) -> bytes:
    """Compress with the program zpaq, method 5."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "text").write_bytes(data)
        subprocess.run(["zpaq", "a", "x.zpaq", "text", "-m5"], cwd=folder, check=True, capture_output=True)
        return (Path(folder) / "x.zpaq").read_bytes()


def installed() -> dict[str, Callable[[bytes], bytes]]:
    """Return the installed compressors by name."""
    found: dict[str, Callable[[bytes], bytes]] = {"xz": xz}
    if importlib.util.find_spec("pyppmd") is not None:
        found["PPMd"] = ppmd
    if shutil.which("zpaq") is not None:
        found["zpaq"] = zpaq
    return found
