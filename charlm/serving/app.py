"""ASGI application: the routes of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from charlm.errors import UsageError
from charlm.generation.language_model import LanguageModel
from charlm.inspection.page import served_page
from charlm.serving.bodies import find_model, open_job, preprocessed, read_object
from charlm.serving.completions import completions
from charlm.serving.errors import ApiError, dumps, json_response
from charlm.serving.guard import Guard, error_of
from charlm.serving.parameters import invalid, score_request
from charlm.serving.scheduler import Job
from charlm.serving.served_model import ServedModel
from charlm.serving.settings import Settings
from charlm.version import __version__

PAGE_HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def create_app(models: Mapping[str, LanguageModel], settings: Settings | None = None) -> Starlette:
    """Return an application that serves models.

    Args:
        models: by model name, the field `model` of a request.
        settings: API keys, host names and limits.

    Raises:
        UsageError: `models` is empty.
    """
    if not models:
        raise UsageError("models is empty; name a model to serve")
    settings = settings or Settings()
    served = {name: ServedModel(name, model, settings) for name, model in models.items()}

    @asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        for each in served.values():
            each.scheduler.start()
        yield
        for each in served.values():
            each.scheduler.stop()

    routes = [
        Route("/", page),
        Route("/health", health),
        Route("/v1/models", list_models),
        Route("/v1/models/{name}", show_model),
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/v1/score", score, methods=["POST"]),
    ]
    app = Starlette(
        routes=routes,
        lifespan=running,
        middleware=[Middleware(Guard, settings=settings)],
        exception_handlers={HTTPException: _http_error},
    )
    app.state.models, app.state.settings = served, settings
    app.state.pages, app.state.page_lock = {}, asyncio.Lock()
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{error.detail}; docs/serving.md lists the addresses"
    return ApiError(error.status_code, message, headers=error.headers).response


async def health(request: Request) -> Response:
    """Return the status and the version of the server."""
    return json_response({"status": "ok", "version": __version__})


async def list_models(request: Request) -> Response:
    """List the models."""
    data = [_description(served) for served in request.app.state.models.values()]
    return json_response({"object": "list", "data": data})


async def show_model(request: Request) -> Response:
    """Describe a model."""
    return json_response(_description(find_model(request, request.path_params["name"])))


def _description(served: ServedModel) -> dict[str, Any]:
    return {"id": served.name, "object": "model", "created": served.created, "owned_by": "charlm"}


async def score(request: Request) -> Response:
    """Stream the scores of a text, as the lines of `charlm score --json`."""
    settings: Settings = request.app.state.settings
    parsed = score_request(await read_object(request), settings)
    served = find_model(request, parsed.model)
    text = preprocessed(served, "text", parsed.text, parsed.unknown)
    if not text:
        invalid("text", "text has no character that the model knows")
    job = open_job(request, served, 1, len(served.model.vocab.encode(text)))
    served.score(job, text)
    return StreamingResponse(_lines(job, settings), media_type="application/jsonl")


async def _lines(job: Job, settings: Settings) -> AsyncIterator[str]:
    """Yield the lines of a score; an error is the last one."""
    try:
        async for results in job.results():
            yield "".join(part for part in results if part is not None)
            if results[-1] is None:
                return
    except Exception as error:
        yield dumps(error_of(error, settings).body) + "\n"


async def page(request: Request) -> Response:
    """Return the page of the model in the query `model`, by default the first one."""
    served = find_model(request, request.query_params.get("model"))
    pages: dict[str, tuple[str, str]] = request.app.state.pages
    async with request.app.state.page_lock:
        if served.name not in pages:
            names = list(request.app.state.models)
            pages[served.name] = await asyncio.to_thread(served_page, served.model, served.name, names)
    text, policy = pages[served.name]
    return Response(text, headers=PAGE_HEADERS | {"content-security-policy": policy}, media_type="text/html")
