"""The callback that keeps the weights: the best by validation, and the last."""

from __future__ import annotations

import math
from collections.abc import Callable

from charlm.fit import Callback, Run


class Save(Callback):
    """Save after each epoch that validates better than any before, and at the end.

    Args:
        save: writes a checkpoint by name, "best" or "last".
    """

    def __init__(self, save: Callable[[str, Run], None]) -> None:
        self.save = save
        self.best_nats = math.inf

    def on_epoch_end(self, run: Run) -> None:
        """Save the best."""
        nats = run.record.get("valid_nats", math.inf)
        if nats < self.best_nats:
            self.best_nats = nats
            self.save("best", run)

    def on_fit_end(self, run: Run) -> None:
        """Save the last, whatever ended the training."""
        if run.step:
            self.save("last", run)
