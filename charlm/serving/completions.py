"""`/v1/completions`: from a request to the response in OpenAI's format, as one object or as server-sent events."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from charlm.serving.bodies import find_model, open_job, preprocessed, read_object
from charlm.serving.choice import join_parts
from charlm.serving.errors import dumps, json_response
from charlm.serving.guard import error_of
from charlm.serving.parameters import CompletionRequest, completion_request
from charlm.serving.scheduler import Job
from charlm.serving.settings import Settings

T = TypeVar("T")


async def completions(request: Request) -> Response:
    """Answer a request for completions."""
    settings: Settings = request.app.state.settings
    parsed = completion_request(await read_object(request), settings)
    served = find_model(request, parsed.model)
    prompts = [preprocessed(served, "prompt", text, parsed.unknown) for text in parsed.prompts]
    n_texts, n_prompt = len(prompts) * parsed.n, sum(len(served.model.vocab.encode(prompt)) for prompt in prompts)
    n_reported = 1 + (parsed.n_likely or 0)  # for each character of the response; all of them take memory
    n_prompts = parsed.n * n_prompt * (n_reported if parsed.echo else 1)
    job = open_job(request, served, n_texts, n_prompts + n_texts * parsed.max_tokens * n_reported)
    served.complete(job, prompts, parsed)
    head = {
        "id": f"cmpl-{secrets.token_hex(12)}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": served.name,
    }
    if parsed.stream:
        events = _events(job, head, n_texts, n_prompt, parsed, settings)
        return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store"})
    parts = await unless_disconnected(request, _collected(job, n_texts))
    choices = [join_parts(parts[i]) for i in range(n_texts)]
    n_sampled = sum(choice.pop("n_sampled") for choice in choices)
    return json_response(head | {"choices": choices, "usage": _usage(n_prompt, n_sampled)})


async def _collected(job: Job, n_texts: int) -> list[list[dict[str, Any]]]:
    """Return the parts of each text, once all texts have ended."""
    parts: list[list[dict[str, Any]]] = [[] for _ in range(n_texts)]
    n_finished = 0
    async for results in job.results():
        for part in results:
            parts[part["index"]].append(part)
            n_finished += part["finish_reason"] is not None
        if n_finished == n_texts:
            break
    return parts


async def _events(
    job: Job, head: dict[str, Any], n_texts: int, n_prompt: int, parsed: CompletionRequest, settings: Settings
) -> AsyncIterator[str]:
    """Yield the events of a stream; an error is its last one."""
    n_finished = n_sampled = 0
    usage: dict[str, Any] = {"usage": None} if parsed.include_usage else {}
    try:
        async for results in job.results():
            by_text: dict[int, list[dict[str, Any]]] = {}
            for part in results:
                by_text.setdefault(part["index"], []).append(part)
            chunks = [join_parts(parts) for parts in by_text.values()]
            for chunk in chunks:
                n_text = chunk.pop("n_sampled")
                n_sampled += n_text if chunk["finish_reason"] is not None else 0
                n_finished += chunk["finish_reason"] is not None
            yield "".join(_event(head | {"choices": [chunk]} | usage) for chunk in chunks)
            if n_finished == n_texts:
                break
    except Exception as error:
        yield _event(error_of(error, settings).body)
        return
    if parsed.include_usage:
        yield _event(head | {"choices": [], "usage": _usage(n_prompt, n_sampled)})
    yield "data: [DONE]\n\n"


def _event(value: Any) -> str:
    return f"data: {dumps(value)}\n\n"


def _usage(n_prompt: int, n_sampled: int) -> dict[str, int]:
    return {"prompt_tokens": n_prompt, "completion_tokens": n_sampled, "total_tokens": n_prompt + n_sampled}


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine, or cancel it when the client disconnects.

    Raises:
        ClientDisconnect: the client has disconnected.
    """
    task, disconnection = asyncio.ensure_future(work), asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait((task, disconnection), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for future in (task, disconnection):
            future.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await future


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
