"""A wrapper that lets a training continue if a logger fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from charlm.errors import OutputError
from charlm.messages import say
from charlm.training.loop import HOOKS, Callback, TrainState


class IgnoreIOErrors(Callback):
    """Wrap a logger: after its first OSError or OutputError (a full disk), warn once and disable it.

    Args:
        logger: a callback without `state_attrs`.
    """

    def __init__(self, logger: Callback) -> None:
        self.logger, self.failed = logger, False
        for hook in HOOKS:
            setattr(self, hook, partial(self._try, hook, getattr(logger, hook)))

    def _try(self, hook: str, call: Callable[[TrainState], None], state: TrainState) -> None:
        if self.failed:
            if hook == "on_fit_end":  # close open files if possible
                with suppress(Exception):
                    call(state)
            return
        try:
            call(state)
        except (OSError, OutputError) as error:
            self.failed = True
            name = type(self.logger).__name__
            reason = str(error)
            if isinstance(error, OSError):
                reason = (f"{os.fsdecode(error.filename)}: " if error.filename else "") + str(error.strerror)
            say(f"{name} is disabled, training continues: {reason}", start="\n")
