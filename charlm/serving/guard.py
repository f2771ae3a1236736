"""Guard: middleware that checks headers, limits the number and duration of requests, and logs them without contents.

A page of another site could reach a server on the loopback interface by a DNS name that resolves to this machine (DNS
rebinding), or by cross-origin requests. So `Host` must be localhost, an IP address or an allowed name, and `Origin`, if
a browser sends it, must be the server itself.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import re
import time
from binascii import Error as Base64Error
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from charlm.errors import CharlmError
from charlm.messages import say
from charlm.serving.errors import ApiError
from charlm.serving.scheduler import Job
from charlm.serving.settings import Settings

JOBS = "charlm.jobs"  # key of a request's jobs in its scope
OPEN_PATHS = ("/health",)  # need no API key
LOGGED_PATHS = ("/", "/health", "/v1/models", "/v1/completions", "/v1/score")  # any other path may contain private text
HOST = re.compile(r"(\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[0-9a-z._-]+))(:[0-9]{1,5})?")
METHODS = ("GET", "HEAD", "POST")
GRACE_SECONDS = 5  # after the time limit, to finish sending a response


class Guard:
    """ASGI middleware around all routes.

    Args:
        app: the application.
        settings: of the server.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self.n_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it to the application."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = _Progress(scope)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
            elif not message.get("more_body"):
                request.finish()  # before the client receives the end and sends its next request
            await send(message)

        self.n_requests += 1
        try:
            error = await self._answer(scope, receive, watched)
            if error is not None and not request.status:
                await error.response(scope, receive, watched)
        finally:
            self.n_requests -= 1
            request.finish()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> ApiError | None:
        """Pass a request to the application; return the error if it is refused or fails."""
        try:
            self._check(scope)
            async with asyncio.timeout(self.settings.seconds + GRACE_SECONDS):
                await self.app(scope, receive, send)
        except ClientDisconnect:
            return None
        except Exception as error:
            return error_of(error, self.settings)
        return None

    def _check(self, scope: Scope) -> None:
        """Check the headers of a request.

        Raises:
            ApiError: the request is refused.
        """
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_own_name(host):
            raise ApiError(403, "the Host header names another server; start this one with --allow-host", code="host")
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != host.lower():
            raise ApiError(403, "pages of other sites may not use this server", code="origin")
        if self.settings.api_keys and scope["path"] not in OPEN_PATHS and not self._has_key(headers):
            challenge = {"www-authenticate": 'Basic realm="charlm", charset="UTF-8", Bearer realm="charlm"'}
            raise ApiError(401, "this server needs one of its API keys", code="invalid_api_key", headers=challenge)
        if self.n_requests > self.settings.max_requests:
            raise ApiError(503, "too many requests in progress; try again later", headers={"retry-after": "1"})

    def _is_own_name(self, host: str) -> bool:
        found = HOST.fullmatch(host.lower())
        if found is None:
            return False
        name = (found["address"] or found["name"]).rstrip(".")
        if name == "localhost" or name in self.settings.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _has_key(self, headers: Headers) -> bool:
        """Return whether a request has a valid key, as bearer token or as password with any user name."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        key = given.strip().encode("latin-1")
        if scheme.lower() == "basic":
            try:
                key = base64.b64decode(key, validate=True).partition(b":")[2]
            except Base64Error:
                return False
        elif scheme.lower() != "bearer":
            return False
        return any([hmac.compare_digest(key, known) for known in self.settings.api_keys])


class _Progress:
    """A request in progress. `finish` closes its jobs and logs a line.

    Args:
        scope: of the request; the list of its jobs is added under `JOBS`.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope, self.began, self.status = scope, time.monotonic(), 0
        self.jobs: list[Job] = []
        self.is_finished = False
        scope[JOBS] = self.jobs

    def finish(self) -> None:
        """End the request; later calls have no effect."""
        if self.is_finished:
            return
        self.is_finished = True
        for job in self.jobs:
            job.close()
        method = self.scope["method"] if self.scope["method"] in METHODS else "-"
        path = self.scope["path"] if self.scope["path"] in LOGGED_PATHS else "-"
        client = self.scope["client"][0] if self.scope.get("client") else "-"
        say(f"{client} {method} {path} {self.status or 'left'} {1000 * (time.monotonic() - self.began):.0f} ms")


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def error_of(error: Exception, settings: Settings) -> ApiError:
    """Return the answer to an exception during a request; one that is not expected is logged."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, TimeoutError):
        return ApiError(504, f"not done within {settings.seconds:g} seconds; ask for fewer characters", code="timeout")
    if isinstance(error, ConnectionAbortedError):
        return ApiError(503, "the server is stopping")
    if isinstance(error, CharlmError):
        return ApiError(500, str(error))
    _log_failure(error)
    return ApiError(500, "internal error; the server's log names the place")


def _log_failure(error: BaseException) -> None:
    """Log the kind and the place of an unexpected error; its message could hold a prompt."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" at {place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else ""
    say(f"internal error: {type(error).__name__}{where}")
