"""Steps that several routes share: read the body, find the model, preprocess the text, open a job."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request

from charlm.errors import shown
from charlm.serving.errors import ApiError
from charlm.serving.guard import JOBS
from charlm.serving.parameters import checked, invalid, parse_object
from charlm.serving.scheduler import Job
from charlm.serving.served_model import ServedModel
from charlm.serving.settings import Settings

N_DISCARDED = 16  # times max_body: so much is read and discarded, since a client that still sends reads no response
CLOSE = {"connection": "close"}  # the rest of the body is not read


async def read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request.

    Raises:
        ApiError: the body has another content type, is too long or too slow, or is not a JSON object.
    """
    settings: Settings = request.app.state.settings
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" or request.headers.get("content-encoding", "identity") != "identity":
        raise ApiError(415, "the body must be JSON: Content-Type: application/json", headers=CLOSE)
    too_long = ApiError(413, f"the body must have at most {settings.max_body:,} bytes", headers=CLOSE)
    declared, most = request.headers.get("content-length", ""), N_DISCARDED * settings.max_body
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > most):
        raise too_long
    body, n_bytes = bytearray(), 0
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for part in request.stream():
                n_bytes += len(part)
                if n_bytes <= settings.max_body:
                    body += part
                elif n_bytes > most:
                    break
    except TimeoutError:
        message = f"the body did not arrive within {settings.body_seconds:g} seconds"
        raise ApiError(408, message, headers=CLOSE) from None
    if n_bytes > settings.max_body:
        raise too_long
    return parse_object(bytes(body))


def find_model(request: Request, name: str | None) -> ServedModel:
    """Return a model by its name; without a name, the first one.

    Raises:
        ApiError: no model has this name.
    """
    models: dict[str, ServedModel] = request.app.state.models
    if name is None:
        return next(iter(models.values()))
    if name not in models:
        message = f"no model {shown(name)}; there are: {', '.join(models)}"
        raise ApiError(404, message, "model", "model_not_found")
    return models[name]


def preprocessed(served: ServedModel, param: str, text: str, unknown: str) -> str:
    """Return a text as the model reads it, see `TextGenerator.preprocess`.

    Raises:
        ApiError: `unknown` is "error" and the text has unknown characters.
    """
    model = served.model
    result: str = checked(param, model.preprocess, text, "map" if unknown == "error" else unknown)
    if unknown == "error" and (missing := model.vocab.unknown(result)):
        found = ", ".join(map(repr, missing[:5]))
        invalid(param, f"characters outside the model's vocabulary: {found}; unknown: skip or map reads the others")
    return result


def open_job(request: Request, served: ServedModel, n_texts: int, n_chars: int) -> Job:
    """Return a new job, which is closed at the end of the request; see `ServedModel.open_job`."""
    job = served.open_job(n_texts, n_chars)
    request.scope[JOBS].append(job)
    return job
