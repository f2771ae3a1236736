"""The callback that keeps the weights: the best by validation, and the last."""

from __future__ import annotations

import math
from collections.abc import Callable

from charlm.training.distributed import world_size
from charlm.training.loop import Callback, TrainState


class ModelCheckpoint(Callback):
    """Save after each epoch that validates better than any before, now and then, and at the end.

    Weights that are not finite are never saved.

    Args:
        save: writes a checkpoint by name, "best" or "last".
        every_steps: save the last after so many steps; None for never.
        every_minutes: save it when so many minutes are over since the time before.
    """

    state_attrs = ("best_nats",)

    def __init__(
        self, save: Callable[[str, TrainState], None], every_steps: int | None = None, every_minutes: float = math.inf
    ) -> None:
        self.save, self.every_steps, self.every_minutes = save, every_steps, every_minutes
        self.best_nats = math.inf
        self._saved = 0.0

    def on_fit_start(self, run: TrainState) -> None:
        """Start the clock."""
        self._saved = run.synced_seconds

    def on_batch_end(self, run: TrainState) -> None:
        """Save the last when it is time; an epoch's last step is saved with the epoch."""
        if run.step_in_epoch < len(run.feed):
            self._save_if_due(run)

    def on_epoch_end(self, run: TrainState) -> None:
        """Save the best, and the last when it is time."""
        nats = run.logs.get("valid_nats", math.inf)
        if nats < self.best_nats:
            self.best_nats = nats
            self.save("best", run)
        self._save_if_due(run)

    def on_fit_end(self, run: TrainState) -> None:
        """Save the last, whatever ended the training; of several processes, none is there to help after an error."""
        if run.step and (run.ended or world_size() == 1):
            self._save_last(run)

    def _save_if_due(self, run: TrainState) -> None:
        by_steps = self.every_steps is not None and run.step % self.every_steps == 0
        if run.save or by_steps or run.synced_seconds - self._saved >= 60 * self.every_minutes:
            self._save_last(run)
            self._saved, run.save = run.synced_seconds, False

    def _save_last(self, run: TrainState) -> None:
        """Save the last, unless its weights have run away: what was saved before is better than they are."""
        if all(bool(p.isfinite().all()) for p in run.model.parameters()):
            self.save("last", run)
