"""Callbacks that measure and put what they find into `run.logs`, for the callbacks after them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from charlm.errors import CharlmError, Interrupted
from charlm.evaluation.metrics import EvalResult
from charlm.training.distributed import world_size
from charlm.training.loop import Callback, TrainState


def check_finite(nats: float, run: TrainState) -> None:
    """Raise CharlmError if a loss has run away."""
    if not math.isfinite(nats):
        raise CharlmError(
            f"the loss is not a number any more after step {run.step}; try a lower --learning-rate or --clip 1"
        )


class TrainingStats(Callback):
    """Every `every` steps and at the end of an epoch, say how the training went since the last time.

    Records `train_nats`, `chars_per_second`, `learning_rate` and `gradient_norm`. Reading the loss makes the device
    wait, so nothing is read in between.

    Raises:
        CharlmError: the loss is no number any more.
    """

    state_attrs = ("_chars", "_nats", "_seconds", "_norm")

    def __init__(self, every: int) -> None:
        self.every = every
        self._chars, self._nats, self._seconds = 0, 0.0, 0.0
        self._since: float | None = None
        self._norm: Tensor | None = None

    def on_batch_start(self, run: TrainState) -> None:
        """Start the clock, which stands still between epochs."""
        if self._since is None:
            self._since = time.perf_counter()

    def on_backward_end(self, run: TrainState) -> None:
        """Note the gradient's norm before clipping, if it was measured."""
        self._norm = run.logs.get("gradient_norm")

    def on_batch_end(self, run: TrainState) -> None:
        """Report when it is time."""
        self._tick()
        if run.step % self.every == 0:
            self._report(run)

    def on_epoch_end(self, run: TrainState) -> None:
        """Report what is left and stop the clock."""
        if run.n_chars > self._chars:
            self._report(run)
        self._since = None

    def _tick(self) -> None:
        now = time.perf_counter()
        self._seconds += now - (self._since or now)
        self._since = now

    def _report(self, run: TrainState) -> None:
        nats, n_chars = float(run.sum_nats), run.n_chars - self._chars
        self._tick()  # with the time that reading the sum took, in which the device caught up
        check_finite(nats, run)
        run.logs["train_nats"] = (nats - self._nats) / n_chars
        run.logs["chars_per_second"] = n_chars / self._seconds
        run.logs["learning_rate"] = run.optimizer.param_groups[0]["lr"]
        if self._norm is None:
            gradients = [p.grad for p in run.model.parameters() if p.grad is not None]
            self._norm = torch.nn.utils.get_total_norm(gradients)
        run.logs["gradient_norm"] = float(self._norm)
        self._chars, self._nats, self._seconds = run.n_chars, nats, 0.0


class Validate(Callback):
    """Record `valid_nats`, nats per character, at the end of every epoch.

    Args:
        score: predicts the validation part.

    Raises:
        CharlmError: the loss is no number any more.
    """

    def __init__(self, score: Callable[[], EvalResult]) -> None:
        self.score = score

    def on_epoch_end(self, run: TrainState) -> None:
        """Measure; if a signal breaks that off, the epoch's end is still to be done."""
        if run.interrupted:
            return
        try:
            run.interruptible = world_size() == 1  # others would wait for ever
            nats = self.score().nats_per_char
        except Interrupted:
            if run.step_in_epoch == 0:
                run.epoch, run.step_in_epoch = run.epoch - 1, len(run.feed)
            return
        finally:
            run.interruptible = False
        run.logs["valid_nats"] = nats
        check_finite(nats, run)


class Samples(Callback):
    """Record a `sample` at the end of every epoch.

    Args:
        write: gives a text written by the model as it is.
    """

    def __init__(self, write: Callable[[], str]) -> None:
        self.write = write

    def on_epoch_end(self, run: TrainState) -> None:
        """Write one."""
        if not run.interrupted:
            run.logs["sample"] = self.write()
