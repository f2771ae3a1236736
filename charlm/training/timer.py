"""The cost of a training: seconds and memory."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Timer:
    """Seconds of training, including those before it was resumed.

    Attributes:
        minutes: time limit of the training; None for no limit.
        synced_seconds: seconds at the end of the last step, the same on all processes.
    """

    minutes: float | None = None
    synced_seconds: float = 0.0
    _started: float = field(default_factory=time.perf_counter)

    def start(self) -> None:
        """Start, or continue after `synced_seconds`."""
        self._started = time.perf_counter() - self.synced_seconds

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return time.perf_counter() - self._started

    @property
    def progress(self) -> float:
        """Fraction of the time limit that is used, 0 without a limit."""
        return self.synced_seconds / (60 * self.minutes) if self.minutes else 0.0


def peak_memory() -> int | None:
    """Return the largest resident memory of this process since it started, in bytes; None where it is not known.

    It includes the libraries (PyTorch alone takes about 220 MB) and mapped files, and not the memory of a GPU.
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def reset_peak_memory() -> bool:
    """Let `peak_memory` begin anew with the memory of now; return False where the system cannot (only Linux can)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
