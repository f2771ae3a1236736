"""Validation of request fields; each error names its field.

The names are those of OpenAI's protocol; top_k, min_p, cache_model and unknown are those of `charlm sample`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from charlm.errors import CharlmError, shown
from charlm.generation.generator import UNKNOWN
from charlm.generation.sampler import SamplingParams, sampling_params
from charlm.options.arguments import checked_choice, checked_text
from charlm.options.ranges import Range, checked_number
from charlm.serving.errors import ApiError
from charlm.serving.settings import Settings

DEFAULT_TOKENS, DEFAULT_TEMPERATURE = 16, 1.0  # of OpenAI's protocol
MAX_LIKELY = 10
MAX_STOPS, MAX_STOP_CHARS = 16, 1000
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "cache_model")
WITHOUT_EFFECT = {  # fields of the protocol, each accepted with these values only
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "suffix": ("",),
}


@dataclass(frozen=True)
class CompletionRequest:
    """A request for completions.

    Attributes:
        model: name; None for the first one.
        prompts: texts to continue.
        max_tokens: characters to sample for each text.
        n: texts for each prompt.
        seed: of the first text of a prompt; text i has `seed` + i. None draws one for each text.
        stops: stop sequences; a text ends before the first one found.
        n_likely: likeliest characters to report; None reports no log-probabilities.
        echo: begin each text with its prompt.
        stream: send parts as they are sampled.
        include_usage: end a stream with the number of characters.
        unknown: see `TextGenerator.preprocess`.
        params: sampling parameters.
    """

    model: str | None
    prompts: tuple[str, ...]
    max_tokens: int
    n: int
    seed: int | None
    stops: tuple[str, ...]
    n_likely: int | None
    echo: bool
    stream: bool
    include_usage: bool
    unknown: str
    params: SamplingParams


@dataclass(frozen=True)
class ScoreRequest:
    """A request to score a text.

    Attributes:
        model: name; None for the first one.
        text: at least one character.
        unknown: see `TextGenerator.preprocess`.
    """

    model: str | None
    text: str
    unknown: str


class Fields:
    """The fields of a request. Each is taken once; null means absent.

    Args:
        data: the JSON object of the body.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._rest = {name: value for name, value in data.items() if value is not None}

    def take(self, name: str, default: Any = None) -> Any:
        """Return the value of a field, or its default."""
        return self._rest.pop(name, default)

    def boolean(self, name: str) -> bool:
        """Return a field that is true or false."""
        value = self.take(name, False)
        if not isinstance(value, bool):
            invalid(name, f"{name} must be true or false, got {shown(value)}")
        return value

    def text(self, name: str) -> str | None:
        """Return a field that is a string, if it was given."""
        value = self.take(name)
        return None if value is None else checked(name, checked_text, name, value)

    def number(self, name: str, bounds: Range, default: int | None = None) -> Any:
        """Return a field that is a whole number, if it was given."""
        value = self.take(name, default)
        return None if value is None else checked(name, checked_number, name, value, bounds)

    def finish(self) -> None:
        """Check that no field is left.

        Raises:
            ApiError: an unknown field is left.
        """
        for name in self._rest:
            invalid(name, f"there is no field {shown(name)}; docs/serving.md lists the fields")


def invalid(param: str, message: str, code: str | None = None) -> NoReturn:
    """Refuse a request for one of its fields.

    Raises:
        ApiError: always.
    """
    raise ApiError(400, message, param[:100], code)


def checked(param: str, check: Any, *arguments: Any) -> Any:
    """Return `check(*arguments)`; raise its `CharlmError` as an `ApiError` for the field `param`."""
    try:
        return check(*arguments)
    except CharlmError as error:
        invalid(param, str(error))


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body.

    Raises:
        ApiError: the body is not a JSON object in UTF-8.
    """

    def no_constant(name: str) -> NoReturn:
        raise ValueError(name)

    try:
        value = json.loads(body.decode("utf-8"), parse_constant=no_constant)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body must be JSON in UTF-8", code="invalid_json") from None
    if not isinstance(value, dict):
        raise ApiError(400, "the body must be a JSON object", code="invalid_json")
    return value


def completion_request(data: Mapping[str, Any], settings: Settings) -> CompletionRequest:
    """Check the fields of a request for completions.

    Raises:
        ApiError: one of them is invalid.
    """
    fields = Fields(data)
    prompts = _prompts(fields.take("prompt", ""), settings)
    n = fields.number("n", Range(1, settings.max_texts), 1)
    if n * len(prompts) > settings.max_texts:
        invalid("n", f"n times the number of prompts must be at most {settings.max_texts}, got {n * len(prompts)}")
    for name, values in WITHOUT_EFFECT.items():
        value = fields.take(name)
        if value is not None and value not in values:
            invalid(name, f"{name} is not supported; leave it out", "unsupported")
    chosen = {name: value for name in SAMPLING if (value := fields.take(name)) is not None}
    if type(chosen.get("top_p")) in (int, float) and chosen["top_p"] == 1:
        del chosen["top_p"]  # 1 keeps all characters; the option must be below 1
    for name, value in chosen.items():
        checked(name, sampling_params, {name: value})
    params = sampling_params({"temperature": DEFAULT_TEMPERATURE} | chosen)
    echo, stream = fields.boolean("echo"), fields.boolean("stream")
    max_tokens = fields.number("max_tokens", Range(0, settings.max_tokens), DEFAULT_TOKENS)
    if max_tokens == 0 and not echo:
        invalid("max_tokens", "max_tokens is 0 without echo; there is nothing to do")
    options = fields.take("stream_options", {})
    if not isinstance(options, dict) or not isinstance(options.get("include_usage") or False, bool):
        invalid("stream_options", "stream_options must be an object; include_usage is true or false")
    seed = fields.number("seed", Range(0, 2**64 - n))
    request = CompletionRequest(
        model=fields.text("model"),
        prompts=prompts,
        max_tokens=max_tokens,
        n=n,
        seed=seed,
        stops=_stops(fields.take("stop", ())),
        n_likely=fields.number("logprobs", Range(0, MAX_LIKELY)),
        echo=echo,
        stream=stream,
        include_usage=bool(options.get("include_usage")),
        unknown=checked("unknown", checked_choice, "unknown", fields.take("unknown", "map"), UNKNOWN),
        params=params,
    )
    fields.take("user")
    fields.finish()
    return request


def score_request(data: Mapping[str, Any], settings: Settings) -> ScoreRequest:
    """Check the fields of a request to score a text.

    Raises:
        ApiError: one of them is invalid.
    """
    fields = Fields(data)
    text = fields.text("text")
    if not text:
        invalid("text", "text must be a string of at least one character")
    _check_length("text", text, settings)
    unknown = checked("unknown", checked_choice, "unknown", fields.take("unknown", "map"), UNKNOWN)
    request = ScoreRequest(fields.text("model"), text, unknown)
    fields.finish()
    return request


def _prompts(value: Any, settings: Settings) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed or not all(isinstance(text, str) for text in listed):
        invalid("prompt", "prompt must be a string or a list of strings")
    for text in listed:
        _check_length("prompt", text, settings)
    return tuple(listed)


def _check_length(name: str, text: str, settings: Settings) -> None:
    if len(text) > settings.max_chars:
        message = f"{name} has {len(text):,} characters, at most {settings.max_chars:,}; shorten it"
        invalid(name, message, "context_length_exceeded")


def _stops(value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else None
    if listed is None or len(listed) > MAX_STOPS or not all(isinstance(text, str) for text in listed):
        invalid("stop", f"stop must be a string or a list of at most {MAX_STOPS} strings")
    if any(len(text) > MAX_STOP_CHARS for text in listed):
        invalid("stop", f"a stop must have at most {MAX_STOP_CHARS:,} characters")
    return tuple(text for text in listed if text)
