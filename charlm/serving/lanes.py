"""Lane: one text that is sampled, with its own random number stream.

A text with a seed is computed alone, because matrix products in a batch round differently. So it equals the text of
`charlm sample` with this seed, whatever other requests there are. Texts without a seed are batched where that is
faster.

Shapes: V vocab_size.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from charlm.generation.line_limit import LineLimit
from charlm.generation.sampler import SamplingParams, Stepper, generate_ids, uniform_stream
from charlm.serving.choice import Choice
from charlm.serving.scheduler import Job

PROMPT_CHUNK = 32  # characters of a prompt read in one turn


@dataclass(eq=False)
class Lane:
    """One text that is sampled.

    Attributes:
        job: the request.
        choice: the text.
        context_ids: of the text so far, at least one.
        params: sampling parameters.
        seed: of the random numbers; None draws one.
        line_limit: limit of the line length, if any.
        n_context: characters in a window; None for a model that carries a state.
    """

    job: Job
    choice: Choice
    context_ids: list[int]
    params: SamplingParams
    seed: int | None
    line_limit: LineLimit | None
    n_context: int | None

    def __post_init__(self) -> None:
        """Seed the random numbers."""
        self.uniform = uniform_stream(secrets.randbits(63) if self.seed is None else self.seed)
        self.pending = list(self.context_ids) if self.n_context is None else self.context_ids[-self.n_context :]

    def read_prompt(self, stepper: Stepper, n_left: int, chunk: int = PROMPT_CHUNK) -> Iterator[None]:
        """Read the text so far, except for its last `n_left` characters; nothing for a model with a window."""
        if self.params.cache_model == "off":
            stepper.freeze_cache()
        while self.n_context is None and len(self.pending) > n_left:
            n = min(chunk, len(self.pending) - n_left)
            stepper.read(self.pending[:n])
            self.pending = self.pending[n:]
            yield

    def run_alone(self, stepper: Stepper) -> Iterator[None]:
        """Sample the text, a character a turn."""
        yield from self.read_prompt(stepper, 1)
        recorded = _Recorder(stepper)
        for index in generate_ids(recorded, self.pending, self.uniform, self.params, self.n_context, self.line_limit):
            if self.accept(index, recorded.logits):
                return
            yield

    def accept(self, index: int, logits: NDArray[Any]) -> bool:
        """Add a sampled character to the text; return whether the text has ended."""
        part = self.choice.accept(index, logits)
        if part is not None:
            self.job.emit(part)
        if self.choice.finish_reason is not None:
            self.job.is_urgent = True
            return True
        return False


class _Recorder(Stepper):
    """A stepper that keeps the last logits."""

    def __init__(self, stepper: Stepper) -> None:
        self._stepper = stepper
        self.logits: NDArray[Any]

    def fresh(self) -> Stepper:
        return self._stepper.fresh()

    def reset(self) -> None:
        self._stepper.reset()

    def freeze_cache(self) -> None:
        self._stepper.freeze_cache()

    def read(self, chars: Sequence[Any]) -> NDArray[Any]:
        self.logits = self._stepper.read(chars)
        return self.logits
