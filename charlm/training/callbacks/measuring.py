"""Callbacks that measure and put the values into `state.logs`, for the callbacks after them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from charlm.errors import DivergedError, Interrupted
from charlm.evaluation.metrics import EvalResult
from charlm.training.callbacks.signals import StopOnSignal
from charlm.training.loop import Callback, TrainState

TOLERANCE = 0.003  # nats per character; smaller changes of the validation loss are noise


def check_finite(nats: float, state: TrainState) -> None:
    """Raise DivergedError if the training has diverged."""
    if not math.isfinite(nats):
        raise DivergedError(f"the loss is not finite after step {state.step}; try a lower --learning-rate or --clip 1")


class TrainingStats(Callback):
    """Training loss, speed, learning rate and gradient norm, every `every` steps and at the end of each epoch.

    Logs `train_nats` and `chars_per_second` since the last report, `learning_rate`, and the `gradient_norm` of the last
    step, and the mean of each of `TrainState.metrics` as `train_` and its name. Reading the loss makes the device wait,
    so it is read for a report only.

    Raises:
        DivergedError: the loss is not finite.
    """

    state_attrs = ("_chars", "_nats", "_seconds", "_norm")

    def __init__(self, every: int) -> None:
        self.every = every
        self._chars, self._nats, self._seconds = 0, 0.0, 0.0
        self._since: float | None = None
        self._norm: Tensor | None = None
        self._metrics: dict[str, Tensor] = {}  # summed over `_metric_chars` characters, on the device
        self._metric_chars = 0

    def on_batch_start(self, state: TrainState) -> None:
        """Start the clock; it is stopped between epochs."""
        if self._since is None:
            self._since = time.perf_counter()

    def on_backward_end(self, state: TrainState) -> None:
        """Keep the gradient norm before clipping, if it was measured."""
        self._norm = state.logs.get("gradient_norm")

    def on_batch_end(self, state: TrainState) -> None:
        """Report every `every` steps."""
        self._tick()
        for name, value in state.batch.metrics.items():
            self._metrics[name] = self._metrics.get(name, torch.zeros_like(value)) + value * state.batch.n_chars
        self._metric_chars += state.batch.n_chars
        if state.step % self.every == 0:
            self._report(state)

    def on_epoch_end(self, state: TrainState) -> None:
        """Report the remaining steps and stop the clock."""
        if state.n_chars > self._chars:
            self._report(state)
        self.pause()

    def pause(self) -> None:
        """Stop the clock until the next step."""
        self._since = None

    def _tick(self) -> None:
        now = time.perf_counter()
        self._seconds += now - (self._since or now)
        self._since = now

    def _report(self, state: TrainState) -> None:
        nats, n_chars = float(state.sum_nats), state.n_chars - self._chars
        self._tick()  # includes the time in which reading the sum waited for the device
        check_finite(nats, state)
        state.logs["train_nats"] = (nats - self._nats) / n_chars
        state.logs["chars_per_second"] = n_chars / self._seconds
        state.logs["learning_rate"] = max(group["lr"] for group in state.optimizer.param_groups)
        if self._norm is None:
            gradients = [p.grad for p in state.model.parameters() if p.grad is not None]
            self._norm = torch.nn.utils.get_total_norm(gradients)
        state.logs["gradient_norm"] = float(self._norm)
        state.logs |= {f"train_{name}": float(total) / self._metric_chars for name, total in self._metrics.items()}
        self._metrics, self._metric_chars = {}, 0
        self._chars, self._nats, self._seconds = state.n_chars, nats, 0.0


class Validate(Callback):
    """Log `valid_nats`, nats per character, at the end of every epoch.

    Args:
        score: evaluates the validation part.
        signals: lets a signal interrupt the validation.
        sketch: evaluates less of it, for the validations within an epoch; None takes `score`.
        every: steps between two validations within an epoch; 0 for none. With a moving average of the weights, these
            are of the weights themselves.
        pause: called after a validation within an epoch, which is no time of training.
        at_start: validate the untrained model, too: n-gram experts predict before the first step.

    Raises:
        DivergedError: the loss is not finite.
    """

    def __init__(
        self,
        score: Callable[[], EvalResult],
        signals: StopOnSignal | None = None,
        sketch: Callable[[], EvalResult] | None = None,
        every: int = 0,
        pause: Callable[[], None] | None = None,
        at_start: bool = False,
    ) -> None:
        self.score, self.signals, self.sketch = score, signals, sketch or score
        self.every, self.pause, self.at_start = every, pause, at_start

    def on_fit_start(self, state: TrainState) -> None:
        """Validate the untrained model if it is a candidate."""
        if self.at_start and state.step == 0 and not state.ended:
            state.logs["valid_nats"] = self.score().nats_per_char

    def on_batch_end(self, state: TrainState) -> None:
        """Validate within an epoch. If interrupted, this value is missing."""
        step = state.step_in_epoch
        if not self.every or step % self.every or len(state.feed) - step < self.every / 2 or state.interrupted:
            return
        try:
            with self.signals.interruptible() if self.signals else nullcontext():
                state.logs["valid_nats"] = self.sketch().nats_per_char
        except Interrupted as error:
            state.stop = error.number
            return
        check_finite(state.logs["valid_nats"], state)
        if self.pause is not None:
            self.pause()

    def on_epoch_end(self, state: TrainState) -> None:
        """Validate. If interrupted, rewind the epoch so that it is validated on resume."""
        if state.interrupted:
            return
        try:
            with self.signals.interruptible() if self.signals else nullcontext():
                nats = self.score().nats_per_char
        except Interrupted as error:
            state.stop = error.number
            if state.step_in_epoch == 0:
                state.epoch, state.step_in_epoch = state.epoch - 1, len(state.feed)
            return
        state.logs["valid_nats"] = nats
        check_finite(nats, state)


class ValidationCurve(Callback):
    """Keep the validation losses of three epochs, to tell overfitting. Place it after `Validate`.

    They are the epoch with the lowest loss and the last two, so that a checkpoint after many short epochs stays small.

    Attributes:
        nats: `valid_nats` of these epochs.
        epochs: the numbers of these epochs, from 1, also of one that was stopped within; 0 is the untrained model.
    """

    state_attrs = ("nats", "epochs")

    def __init__(self) -> None:
        self.nats: list[float] = []
        self.epochs: list[int] = []

    def on_epoch_end(self, state: TrainState) -> None:
        """Keep the value."""
        if "valid_nats" in state.logs:
            self.nats.append(state.logs["valid_nats"])
            self.epochs.append(state.n_begun)
            kept = sorted({self.nats.index(min(self.nats)), *range(len(self.nats))[-2:]})
            self.nats, self.epochs = [self.nats[i] for i in kept], [self.epochs[i] for i in kept]

    on_fit_start = on_epoch_end

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the lowest loss; None if nothing was validated."""
        return self.epochs[self.nats.index(min(self.nats))] if self.nats else None

    @property
    def outcome(self) -> str:
        """The end of the curve: "overfitted" (above its minimum), "improving" (still falling), else "converged"."""
        if not self.nats or self.nats[-1] - min(self.nats) > TOLERANCE:
            return "overfitted" if self.nats else "unknown"
        return "improving" if len(self.nats) < 2 or self.nats[-2] - self.nats[-1] > TOLERANCE else "converged"


class Samples(Callback):
    """Log a `sample` at the end of an epoch: at most `n_samples` in a training, and the last epoch.

    Args:
        write: returns a text generated by the present model.
        n_samples: epochs are left out if there are more of them.
    """

    def __init__(self, write: Callable[[], str], n_samples: int = 20) -> None:
        self.write, self.n_samples = write, n_samples
        self._before = 0.0

    def on_epoch_end(self, state: TrainState) -> None:
        """Generate a sample."""
        before, self._before = self._before, state.progress
        if state.n_epochs != math.inf:
            before = (state.epoch - 1) / state.n_epochs  # the same after resuming
        is_due = int(state.progress * self.n_samples) > int(before * self.n_samples)
        if not state.interrupted and (is_due or state.ended):
            state.logs["sample"] = self.write()
