"""Checkpoints while training: the best by validation, and the last."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FrameType

from charlm.training.callbacks.signals import install_handlers
from charlm.training.distributed import all_reduce_max, world_size
from charlm.training.loop import Callback, TrainState


class ModelCheckpoint(Callback):
    """Save after each epoch with a new best validation loss, at intervals, on SIGUSR1, and at the end.

    Weights that are not finite are never saved.

    Args:
        save: writes a checkpoint named "best" or "last".
        every_steps: steps between two saves of "last"; None for never.
        every_minutes: minutes between two saves of "last".
    """

    state_attrs = ("best_nats",)

    def __init__(
        self, save: Callable[[str, TrainState], None], every_steps: int | None = None, every_minutes: float = math.inf
    ) -> None:
        self.save, self.every_steps, self.every_minutes = save, every_steps, every_minutes
        self.best_nats = math.inf
        self._saved_at = 0.0  # seconds of training
        self._requested = False
        self._begun = -1  # `step_in_epoch` of the last batch that began

    def on_fit_start(self, state: TrainState) -> None:
        """Start the interval and install the handler of SIGUSR1."""
        self._saved_at = state.timer.seconds
        self._previous = install_handlers({"SIGUSR1": self._request})
        self._save_best(state)

    def on_batch_start(self, state: TrainState) -> None:
        """Note the batch."""
        self._begun = state.step_in_epoch

    def on_batch_end(self, state: TrainState) -> None:
        """Save "last" if it is due; the last step of an epoch is saved at the end of the epoch."""
        if state.step_in_epoch < len(state.feed):
            self._save_if_due(state)

    def on_epoch_end(self, state: TrainState) -> None:
        """Save a new best, and "last" if it is due."""
        self._save_best(state)
        self._save_if_due(state)

    def on_fit_end(self, state: TrainState) -> None:
        """Save "last"; with several processes not after an error, since saving needs all of them.

        A batch that an error or a second signal broke off is read again, from the initial state: the present one may
        be that after the batch.
        """
        install_handlers(self._previous)
        if state.step_in_epoch == self._begun:
            state.hidden = None
        if state.step and (state.ended or world_size() == 1):
            self._save_last(state)

    def _save_best(self, state: TrainState) -> None:
        """Save "best" if the validation loss, where there is one, is a new minimum."""
        nats = state.logs.get("valid_nats", math.inf)
        if nats < self.best_nats:
            self.best_nats = nats
            self.save("best", state)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._requested = True

    def _save_if_due(self, state: TrainState) -> None:
        by_steps = self.every_steps is not None and state.step % self.every_steps == 0
        by_time = state.timer.seconds - self._saved_at >= 60 * self.every_minutes
        [is_due] = all_reduce_max(by_steps or by_time or self._requested)
        if is_due:
            self._requested = False
            self._saved_at = state.timer.seconds
            self._save_last(state)

    def _save_last(self, state: TrainState) -> None:
        if all(bool(p.isfinite().all()) for p in state.model.parameters()):
            self.save("last", state)
