"""Callbacks that steer a training: learning rate, gradient, and when to stop."""

from __future__ import annotations

import math
import signal
import threading
from types import FrameType

from torch import Tensor, nn

from charlm.errors import CharlmError, Interrupted
from charlm.training.distributed import world_size
from charlm.training.loop import Callback, TrainState
from charlm.training.schedules import Factor


class Schedule(Callback):
    """Set the learning rate before every step.

    Args:
        peak: learning rate where the factor is 1.
        factor: see `charlm.training.schedules`.
        momentum: maps the share done to the momentum (Adam's first beta); None leaves it alone.
    """

    def __init__(self, peak: float, factor: Factor, momentum: Factor | None = None) -> None:
        self.peak, self.factor, self.momentum = peak, factor, momentum

    def on_batch_start(self, run: TrainState) -> None:
        """Set it."""
        for group in run.optimizer.param_groups:
            group["lr"] = self.peak * self.factor(run.progress)
            if self.momentum is not None:
                if "betas" in group:
                    group["betas"] = (self.momentum(run.progress), group["betas"][1])
                elif "momentum" in group:
                    group["momentum"] = self.momentum(run.progress)


class ClipGradient(Callback):
    """Scale the gradient so that its L2 norm is at most `max_norm`.

    Reference: Pascanu et al. (2013), arXiv:1211.5063, algorithm 1.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def on_backward_end(self, run: TrainState) -> None:
        """Scale it."""
        run.logs["gradient_norm"] = nn.utils.clip_grad_norm_(run.model.parameters(), self.max_norm)


class ActivationRegularization(Callback):
    """Add to the loss a penalty on features h that are large, or that change from one step to the next.

    The loss becomes nats per character + ar * mean(h_t^2) + tar * mean((h_t - h_{t-1})^2), where the features are
    what the model's head gets. Only the gradient is changed, so that the reported loss stays in nats per character.

    Reference: Merity, McCann, Socher (2017), arXiv:1708.01009.

    Args:
        ar: weight of the first penalty.
        tar: weight of the second.
    """

    def __init__(self, ar: float, tar: float) -> None:
        self.ar, self.tar = ar, tar

    def on_fit_start(self, run: TrainState) -> None:
        """Watch what goes into the head."""

        def watch(head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            features = inputs[0]
            if features.requires_grad:
                share = run.share
                h = features.detach()
                features.register_hook(lambda gradient: gradient + share * self._gradient(h))  # type: ignore[no-untyped-call]

        self._handle = run.model.head.register_forward_pre_hook(watch)

    def on_fit_end(self, run: TrainState) -> None:
        """Watch no more."""
        self._handle.remove()

    def _gradient(self, h: Tensor) -> Tensor:
        """Return the penalty's gradient by the features, both (B, T, H)."""
        gradient = 2 * self.ar / h.numel() * h
        if self.tar and h.shape[1] > 1:
            change = h[:, 1:] - h[:, :-1]
            change *= 2 * self.tar / change.numel()
            gradient[:, 1:] += change
            gradient[:, :-1] -= change
        return gradient


class EarlyStop(Callback):
    """Stop when validation has not improved for `patience` epochs."""

    state_attrs = ("best_nats", "n_worse")

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best_nats, self.n_worse = math.inf, 0

    def on_epoch_end(self, run: TrainState) -> None:
        """Look at `valid_nats`, which a `Validate` earlier in the list measured."""
        nats = run.logs.get("valid_nats")
        if nats is None:
            return
        if nats < self.best_nats:
            self.best_nats, self.n_worse = nats, 0
        else:
            self.n_worse += 1
        run.stop = run.stop or self.n_worse >= self.patience


class SkipNonFinite(Callback):
    """Leave out the steps whose gradient is not finite, and begin with a fresh state after them.

    Raises:
        CharlmError: `limit` steps, one after another, had to be left out.
    """

    state_attrs = ("n_running",)

    def __init__(self, limit: int = 100) -> None:
        self.limit = limit
        self.n_running = 0

    def on_backward_end(self, run: TrainState) -> None:
        """Look at the gradient, which makes the device wait."""
        gradients = [p.grad for p in run.model.parameters() if p.grad is not None]
        if nn.utils.get_total_norm(gradients).isfinite():
            self.n_running = 0
            return
        self.n_running += 1
        run.skip, run.states = True, [None] * run.accumulate
        if self.n_running == self.limit:
            raise CharlmError(
                f"no step of the last {self.limit} had a finite gradient; try a lower --learning-rate or --clip 1"
            )


class StopOnSignal(Callback):
    """Ctrl-C and SIGTERM end the training after the present step, in order; a second one ends it at once.

    In a single process a validation is broken off at once, to be done again when the training is resumed.

    Where there is SIGUSR1, it has the training saved after the present step, and go on. Signals reach the main thread
    alone; in any other this does nothing. Of several processes, one that is asked is enough; they agree on it after
    the step.
    """

    def on_fit_start(self, run: TrainState) -> None:
        """Listen for the signals."""

        def stop(number: int, frame: FrameType | None) -> None:
            if run.pending_signal:
                raise Interrupted(number)
            run.pending_signal = number
            if world_size() == 1:
                run.synchronize()
            if run.interruptible:
                raise Interrupted(number)

        def save(number: int, frame: FrameType | None) -> None:
            run.save_requested = True
            if world_size() == 1:
                run.synchronize()

        wanted = {signal.SIGINT: stop, signal.SIGTERM: stop}
        if hasattr(signal, "SIGUSR1"):
            wanted[signal.SIGUSR1] = save
        in_main = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.signal(number, do) for number, do in wanted.items()} if in_main else {}

    def on_fit_end(self, run: TrainState) -> None:
        """Listen no more."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
