"""The callback that lets a report fail without ending the training."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from charlm.training.loop import HOOKS, Callback, TrainState


class IgnoreIOErrors(Callback):
    """Do what another callback does until the system refuses that (a full disk); then say so once and go on without.

    Args:
        report: a callback that keeps nothing that the training needs.
    """

    def __init__(self, report: Callback) -> None:
        self.report, self.failed = report, False
        for hook in HOOKS:
            setattr(self, hook, partial(self._try, hook, getattr(report, hook)))

    def _try(self, hook: str, do: Callable[[TrainState], None], run: TrainState) -> None:
        if self.failed:
            if hook == "on_fit_end":  # close what can be closed
                with suppress(Exception):
                    do(run)
            return
        try:
            do(run)
        except OSError as error:
            self.failed = True
            what = type(self.report).__name__
            where = f"{error.filename}: " if error.filename else ""
            print(f"\ncharlm: {what} stops here, the training goes on: {where}{error.strerror}", file=sys.stderr)
