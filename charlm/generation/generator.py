"""Text generation: prompt and options to text, for any `Stepper`."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from charlm.data.vocab import FLUSH, Vocab
from charlm.errors import DataError, UsageError
from charlm.generation import defaults
from charlm.generation.line_limit import LineLimit
from charlm.generation.sampler import (
    SamplingParams,
    Stepper,
    generate_ids,
    log_softmax,
    sampling_params,
    transpose_iter,
    uniform_stream,
    uniform_streams,
)
from charlm.options.arguments import checked_choice, checked_text
from charlm.options.ranges import checked_number
from charlm.storage.checkpoint import Metadata

MAX_BATCH = 128  # texts sampled together; with more, numpy's temporary arrays cause page faults in every step
UNKNOWN = ("error", "skip", "map")  # how to treat characters that are not in the vocabulary


class TextGenerator:
    """A model that generates text; a subclass provides the stepper.

    Attributes:
        metadata: contents of its checkpoint, except for the weights.
    """

    metadata: Metadata

    def stepper(self, n_texts: int | None = None) -> Stepper:
        """Return a stepper in its initial state.

        Args:
            n_texts: B; None for one text.
        """
        raise NotImplementedError

    @property
    def vocab(self) -> Vocab:
        """The vocabulary."""
        if not hasattr(self, "_vocab"):
            self._vocab = self.metadata.vocab
        return self._vocab

    def preprocess(self, text: str, unknown: str = "error") -> str:
        """Return a text as the training text was preprocessed: in lower case if that was, without unknown characters.

        A byte order mark at its start is left out, except for models of bytes.

        Args:
            text: any.
            unknown: characters outside the vocabulary: "error", "skip" (remove) or "map" (keep, as index 0).

        Raises:
            DataError: there are such characters, and `unknown` is "error".
            UsageError: `unknown` has another value.
        """
        checked_choice("unknown", unknown, UNKNOWN)
        text = checked_text("text", text)
        text = text if self.vocab.is_bytes else text.removeprefix("\ufeff")
        text = text.lower() if self.metadata.is_lower else text
        missing = "" if unknown == "map" else self.vocab.unknown(text)
        if missing and unknown == "error":
            raise DataError(
                f"characters outside the model's vocabulary: {', '.join(map(repr, missing[:5]))}; "
                "remove them with --unknown skip, or keep them as unknown with --unknown map"
            )
        return text.translate({ord(char): None for char in missing})

    def generate_many(
        self,
        n_texts: int,
        prompt: str = "",
        length: int | None = defaults.LENGTH,
        *,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        unknown: str = "error",
        **sampling: Any,
    ) -> Iterator[Iterator[str]]:
        """Yield several texts, each as `stream` does, with the seeds seed, seed + 1, ...; they are one batch.

        Args:
            n_texts: number of texts.
            prompt: the text so far.
            length: number of characters (or bytes) to sample; None for endless text.
            seed: of the first text; None draws one.
            stop: end before this text, or any of these, would appear.
            unknown: see `preprocess`.
            sampling: fields of `SamplingParams`: temperature, top_k, top_p, min_p, cache_model.

        Raises:
            DivergedError: the model's logits are not finite; raised while a text is read.
            DataError: a character of `prompt` is not in the vocabulary.
            UsageError: an option out of range.
        """
        params = sampling_params(sampling)
        n_texts = checked_number("n_texts", n_texts)
        length = None if length is None else checked_number("length", length)
        first = secrets.randbits(63) if seed is None else checked_number("seed", seed)
        checked_number("seed", first + n_texts - 1)
        stops = _checked_stops(stop)
        seeds = range(first, first + n_texts)
        return self._texts(self._context_ids(prompt, unknown), seeds, params, length, stops)

    def _context_ids(self, prompt: str, unknown: str) -> list[int]:
        ids: list[int] = self.vocab.encode(self.preprocess(checked_text("prompt", prompt), unknown)).tolist()
        return [self.vocab.bos_id] * (self.metadata.n_context or 1) + ids

    def probs(self, prompt: str = "", unknown: str = "error") -> dict[str, float]:
        """Return the probability of each next character (of a model of bytes: byte, as Latin-1), the highest first.

        The characters outside the vocabulary have the rest.

        Args:
            prompt: the text so far.
            unknown: see `preprocess`.

        Raises:
            DataError: a character of `prompt` is not in the vocabulary.
        """
        context_ids, n_context = self._context_ids(prompt, unknown), self.metadata.n_context
        read = context_ids if n_context is None else context_ids[-n_context:]
        probs = np.exp(log_softmax(self.stepper().read(read)))
        order = np.argsort(-probs[1:], kind="stable").tolist()
        return {self.vocab.symbols[i]: float(probs[i + 1]) for i in order}

    def next(self, prompt: str = "", top: int = 10, unknown: str = "error") -> dict[str, float]:
        """Return the most probable next characters with their probabilities; see `probs`.

        Args:
            prompt: the text so far.
            top: number of characters at most.
            unknown: see `preprocess`.

        Raises:
            DataError: a character of `prompt` is not in the vocabulary.
            UsageError: `top` is out of range.
        """
        top = checked_number("top", top)
        return dict(islice(self.probs(prompt, unknown).items(), top))

    def _texts(
        self, context_ids: list[int], seeds: range, params: SamplingParams, length: int | None, stops: Sequence[str]
    ) -> Iterator[Iterator[str]]:
        n_context = self.metadata.n_context
        for i in range(0, len(seeds), MAX_BATCH):
            batch = seeds[i : i + MAX_BATCH]
            if len(batch) == 1:
                uniform, limit = uniform_stream(batch[0]), self._line_limit(context_ids)
                streams = [generate_ids(self.stepper(), context_ids, uniform, params, n_context, limit)]
            else:
                uniforms, limit = uniform_streams(batch), self._line_limit(context_ids, len(batch))
                steps = generate_ids(self.stepper(len(batch)), context_ids, uniforms, params, n_context, limit)
                streams = transpose_iter((step.tolist() for step in steps), len(batch))
            for ids in streams:
                chars = map(self.vocab.decoder(), chain(islice(ids, length), [FLUSH]))
                yield _until(stops, chars) if stops else chars

    def _line_limit(self, context_ids: Sequence[int], n_texts: int | None = None) -> LineLimit | None:
        longest = self.metadata.longest_line
        return None if longest is None else LineLimit(self.vocab, longest, context_ids, n_texts)

    def stream(self, prompt: str = "", length: int | None = defaults.LENGTH, **options: Any) -> Iterator[str]:
        """Yield a text as it is sampled, without `prompt`; see `generate_many` for options and errors."""
        return next(self.generate_many(1, prompt, length, **options))

    def sample(self, prompt: str = "", length: int = defaults.LENGTH, **options: Any) -> str:
        """Return a text, without `prompt`; see `generate_many` for options and errors."""
        if length is None:
            raise UsageError("length must be an integer, got None; endless text is stream(length=None)")
        return "".join(self.stream(prompt, length, **options))


def _checked_stops(stop: object) -> list[str]:
    """Return the texts of the argument `stop` that are not empty."""
    listed = stop if isinstance(stop, (list, tuple, set, frozenset)) else [stop]
    return [text for part in listed if (text := checked_text("stop", part))]


class StopSearch:
    """Search for the first of several texts in a text that arrives piece by piece.

    Args:
        stops: the texts, none of them empty.

    Attributes:
        pending: the end of the text so far that may begin one of them.
        found: one of them has occurred.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops, self.pending, self.found = stops, "", False

    def push(self, piece: str) -> str:
        """Add a piece; return the text before a stop that is certain by now."""
        pending = self.pending + piece
        if places := [pending.index(stop) for stop in self.stops if stop in pending]:
            self.pending, self.found = "", True
            return pending[: min(places)]
        n_safe = next(
            (n for n in range(len(pending)) if any(stop.startswith(pending[n:]) for stop in self.stops)), len(pending)
        )
        self.pending = pending[n_safe:]
        return pending[:n_safe]


def _until(stops: Sequence[str], chars: Iterable[str]) -> Iterator[str]:
    """Yield text up to the first occurrence of one of `stops`."""
    search = StopSearch(stops)
    for char in chars:
        yield search.push(char)
        if search.found:
            return
    yield search.pending
