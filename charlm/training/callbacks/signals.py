"""Signals: stop the training in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from charlm.errors import Interrupted
from charlm.training.distributed import world_size
from charlm.training.loop import Callback, TrainState

Handler = Callable[[int, FrameType | None], None]


def install_handlers(handlers: Mapping[str, Handler]) -> dict[str, Any]:
    """Install signal handlers and return the previous ones.

    Args:
        handlers: by the signal's name. Signals that the platform does not have are left out, and ignored ones (by
            `nohup`, or in the background of a script) stay ignored. In a thread other than the main one, which
            receives no signals, nothing is installed.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = {name: getattr(signal, name) for name in handlers if hasattr(signal, name)}
    caught = {name: number for name, number in numbers.items() if signal.getsignal(number) is not signal.SIG_IGN}
    return {name: signal.signal(number, handlers[name]) for name, number in caught.items()}


class StopOnSignal(Callback):
    """SIGINT (Ctrl-C), SIGTERM and SIGHUP stop the training after the present step; a second signal stops it at once.

    SIGHUP, of a terminal that is closed, counts as SIGTERM; it may come twice, from the shell and from the system.

    Of several processes, one that receives a signal stops all of them. Place this callback last, so that the handlers
    are there until everything else has ended.
    """

    def __init__(self) -> None:
        self._pending = 0  # number of the signal received
        self._may_raise = False

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal raise `Interrupted` at once in this block, which a resumed training can repeat.

        Not with several processes: the others would wait for ever.
        """
        self._may_raise = world_size() == 1
        try:
            if self._pending and self._may_raise:
                raise Interrupted(self._pending)
            yield
        finally:
            self._may_raise = False

    def on_fit_start(self, state: TrainState) -> None:
        """Install the handlers."""
        self._pending = 0
        self._previous = install_handlers(dict.fromkeys(("SIGINT", "SIGTERM", "SIGHUP"), self._receive))

    def on_batch_end(self, state: TrainState) -> None:
        """Stop if a signal was received; `TrainState.synchronize` tells the other processes."""
        state.stop = self._pending or state.stop

    on_epoch_end = on_batch_end

    def on_fit_end(self, state: TrainState) -> None:
        """Restore the previous handlers."""
        install_handlers(self._previous)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        is_hangup = number == getattr(signal, "SIGHUP", None)
        if is_hangup and self._pending:
            return
        number = signal.SIGTERM if is_hangup else number  # the number 1 of SIGHUP is True, a stop without a signal
        is_second, self._pending = bool(self._pending), number
        if is_second or self._may_raise:
            raise Interrupted(number)
