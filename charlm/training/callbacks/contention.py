"""Telling that other work takes the cores that a training's threads wait for."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from tqdm import tqdm

from charlm.training.loop import Callback, TrainState

FIRST, AGAIN = 5.0, 300.0  # seconds of training before the first look, and between looks at most
LOOK = 0.05  # seconds that half a look takes, if nothing is in the way
TIMES_AS_LONG = 1.5  # as with one thread; with nothing else to do it is 0.5 to 1.1
N_LOOKS = 2  # that must find so, one after another


def seconds_of_work(n_threads: int) -> float:
    """Return how long a small product of matrices takes with so many threads of PyTorch's."""
    from torch.utils.benchmark import Timer  # takes a fifth of a second to import

    given = {"mm": torch.mm, "a": torch.ones(64, 256), "b": torch.ones(256, 256)}
    timer = Timer("mm(a, b)", globals=given, num_threads=n_threads)
    return timer.blocked_autorange(min_run_time=LOOK).mean


class WarnOversubscription(Callback):
    """Say once on stderr when all threads together are much slower than one alone.

    PyTorch's threads wait for one another hundreds of times a step. Where other work has one of their cores, each
    waiting lasts until the system takes that away again.

    Args:
        measure: from a number of threads to seconds of the same work.
    """

    def __init__(self, measure: Callable[[int], float] = seconds_of_work) -> None:
        self.measure = measure
        self._next, self._found = FIRST, 0

    def on_batch_end(self, run: TrainState) -> None:
        """Look when it is time."""
        n_threads = torch.get_num_threads()
        if run.seconds < self._next or n_threads == 1 or run.model.device.type != "cpu":
            return
        self._next = run.seconds + min(run.seconds, AGAIN)
        takes_long = self.measure(n_threads) > TIMES_AS_LONG * self.measure(1)
        self._found = self._found + 1 if takes_long else 0
        if self._found == N_LOOKS:
            self._next = float("inf")
            tqdm.write(
                f"charlm: other work takes a core, and {n_threads} threads, which wait for one another, are slower "
                "than one; quicker: Ctrl-C, then OMP_NUM_THREADS=1 charlm train --resume",
                file=sys.stderr,
            )
