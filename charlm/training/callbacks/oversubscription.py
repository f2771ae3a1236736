"""Warn when CPU oversubscription makes multi-threading slower than one thread."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from tqdm import tqdm

from charlm.training.loop import Callback, TrainState

FIRST, INTERVAL = 5.0, 300.0  # seconds of training before the first check, and the longest time between two checks
CHECK = 0.05  # seconds of each of the two measurements of a check
THRESHOLD = 1.5  # time with all threads / time with one thread; on an idle machine it is 0.5 to 1.1
N_CHECKS = 2  # consecutive checks above the threshold before the warning


def seconds_of_work(n_threads: int) -> float:
    """Return the seconds that a small matrix product takes with this number of PyTorch threads."""
    from torch.utils.benchmark import Timer  # takes a fifth of a second to import

    given = {"mm": torch.mm, "a": torch.ones(64, 256), "b": torch.ones(256, 256)}
    timer = Timer("mm(a, b)", globals=given, num_threads=n_threads)
    return timer.blocked_autorange(min_run_time=CHECK).mean


class WarnOversubscription(Callback):
    """Warn once on stderr when all threads together are much slower than one thread.

    PyTorch's threads wait for one another hundreds of times a step. If another process occupies one of their cores,
    each wait lasts until the operating system takes the core away from it.

    Args:
        measure: number of threads to the seconds of a fixed computation.
    """

    def __init__(self, measure: Callable[[int], float] = seconds_of_work) -> None:
        self.measure = measure
        self._next, self._found = FIRST, 0

    def on_batch_end(self, state: TrainState) -> None:
        """Check when it is time."""
        n_threads = torch.get_num_threads()
        if state.timer.seconds < self._next or n_threads == 1 or state.model.device.type != "cpu":
            return
        self._next = state.timer.seconds + min(state.timer.seconds, INTERVAL)
        is_slow = self.measure(n_threads) > THRESHOLD * self.measure(1)
        self._found = self._found + 1 if is_slow else 0
        if self._found == N_CHECKS:
            self._next = float("inf")
            tqdm.write(
                f"charlm: another process occupies a core, which makes {n_threads} threads slower than one; "
                "to speed up: Ctrl-C, then OMP_NUM_THREADS=1 charlm train --resume RUN",
                file=sys.stderr,
            )
