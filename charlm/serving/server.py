"""HTTP server: a socket, uvicorn, and time limits for connections."""

from __future__ import annotations

import logging
import math
import os
import socket
from asyncio import TimerHandle, Transport
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h11
import torch
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from charlm.errors import CharlmError, UsageError
from charlm.generation.language_model import LanguageModel
from charlm.messages import say
from charlm.serving.app import create_app
from charlm.serving.settings import Settings
from charlm.storage import runs

SHUTDOWN_SECONDS = 10  # for requests in progress, after a signal
MAX_CONNECTIONS = 512
MIN_READ = 1 << 16  # bytes of a long response that a client must read within `Settings.reading_seconds`
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Protocol(H11Protocol):
    """HTTP/1.1 protocol of uvicorn, with time limits for sending the headers and for reading the response."""

    _header_timer: TimerHandle | None = None
    _writing_timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start the timer for the headers of the first request."""
        super().connection_made(transport)
        self._settings: Settings = self.config.app.state.settings  # type: ignore[union-attr]
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Process received data; stop or start the timer for the headers."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._unwatch()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the timer for a client that does not read."""
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        """Cancel the timer for a client that does not read."""
        super().resume_writing()
        if self._writing_timer is not None:
            self._writing_timer.cancel()
            self._writing_timer = None

    def _watch_reading(self, max_left: float = math.inf) -> None:
        """Abort if more than `max_left` bytes are still to be read; else check again later."""
        n_left = self.transport.get_write_buffer_size()
        if n_left > max_left:
            self.transport.abort()
        else:
            seconds = self._settings.reading_seconds
            self._writing_timer = self.loop.call_later(seconds, self._watch_reading, n_left - MIN_READ)

    def _watch(self) -> None:
        is_answered = self.conn.our_state is h11.DONE  # and the rest of the body is discarded
        if self.conn.their_state is not h11.IDLE and not is_answered:
            self._unwatch()
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(self._settings.header_seconds, self.transport.close)

    def _unwatch(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address.

    Raises:
        UsageError: the host is not an address of this machine.
        CharlmError: the port cannot be used.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=MAX_CONNECTIONS)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "not a valid host name"
        raise UsageError(f"--host {host}: {reason}; name an address of this machine") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CharlmError(f"{host}, port {port}: {reason}; choose another --port or --host") from None


def load_models(paths: Sequence[Path], device: torch.device) -> dict[str, LanguageModel]:
    """Load checkpoints, each under its name, see `runs.model_name`.

    Raises:
        CheckpointError: a file is damaged.
        UsageError: two have the same name.
    """
    by_name: dict[str, Path] = {}
    for path in paths:
        name = runs.model_name(path)
        if name in by_name:
            raise UsageError(f"two models are named {name}, {by_name[name]} and {path}; rename one of them")
        by_name[name] = path
    return {name: LanguageModel.load(path, device) for name, path in by_name.items()}


def serve(models: Mapping[str, LanguageModel], settings: Settings, host: str, opened: socket.socket) -> None:
    """Serve models until SIGINT or SIGTERM.

    Args:
        models: by model name, the field `model` of a request.
        settings: API keys, host names and limits.
        host: name or address of the socket, for messages.
        opened: see `open_socket`.
    """
    server = uvicorn.Server(configuration(create_app(models, settings)))
    shown = f"[{host}]" if ":" in host else host
    say(f"serving {', '.join(models)} on http://{shown}:{opened.getsockname()[1]}; Ctrl-C ends it")
    if host not in LOOPBACK and not settings.api_keys:
        say("anyone who reaches this address can use the models; --api-key-file asks for a key")
    server.run(sockets=[opened])


def configuration(app: Any) -> uvicorn.Config:
    """Return uvicorn's settings for an application."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # the guard logs errors
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        proxy_headers=False,
    )
