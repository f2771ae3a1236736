"""Sampling: from logits to probabilities to the index of the next character, in a loop.

The index is the first one whose cumulative probability exceeds a uniform number in [0, 1). The uniform numbers of a
text come from one PCG64 generator of numpy. So a seed determines the text, independent of how the logits are computed
and of how many texts are sampled at once, up to rounding.

Shapes: ... nothing for one text, B for many; V vocab_size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import itemgetter
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from charlm.errors import DivergedError, UsageError, did_you_mean
from charlm.generation import defaults
from charlm.generation.line_limit import LineLimit
from charlm.options.arguments import checked_choice
from charlm.options.ranges import checked_number

NOT_FINITE = "the model's logits are not finite; train it again with a lower --learning-rate"
N_DRAWS = 256  # uniform numbers drawn from a generator per call
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-37, 1e37  # the range of float32; other temperatures are clipped to it
Numbers = NDArray[Any]
T = TypeVar("T")


class Stepper(Protocol):
    """A model that reads characters and keeps its state between calls.

    Attributes:
        state: after the characters read so far.
    """

    state: Any = None

    def reset(self) -> None:
        """Return to the initial state."""

    def freeze_cache(self) -> None:
        """Count no further characters in cache models until `reset`; no-op by default."""
        return

    def fresh(self) -> Stepper:
        """Return another stepper of the same weights, in its initial state."""

    def read(self, chars: Sequence[Any]) -> Numbers:
        """Read characters and return the logits of the next one.

        Args:
            chars: at least one step, each an index for all texts or one index per text, (B,).

        Returns:
            logits, float, (V,) for one text, (B, V) for many.
        """


@dataclass(frozen=True)
class SamplingParams:
    """How to choose the next character. This is the one list of sampling options.

    Attributes:
        temperature: divisor of the logits; 0 is greedy.
        top_k: keep the k most probable characters. Reference: Fan et al. (2018), arXiv:1805.04833.
        top_p: keep the fewest characters whose probabilities sum to at least this. Reference: Holtzman et al. (2020),
            arXiv:1904.09751.
        min_p: keep characters with at least this fraction of the highest probability. Reference: Nguyen et al. (2024),
            arXiv:2407.01082.
        cache_model: characters that a cache model counts: "prompt", "own" (also the text that is sampled, which then
            tends to repeat itself) or "off" (none).

    Raises:
        UsageError: a value out of range.
    """

    temperature: float = defaults.TEMPERATURE
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    cache_model: str = "prompt"

    def __post_init__(self) -> None:
        """Check every value, and convert numbers to int or float."""
        for name in ("temperature", "top_k", "top_p", "min_p"):
            value = getattr(self, name)
            if value is not None or name == "temperature":
                object.__setattr__(self, name, checked_number(name, value))  # the class is frozen
        checked_choice("cache_model", self.cache_model, defaults.CACHE_MODELS)

    def unnormalized_probs(self, logits: Numbers) -> Numbers:
        """Return numbers proportional to the probabilities, float64, (..., V). Index 0, the unknown, gets 0.

        The exponentials are float32, which is fast on every processor; their sums need float64.

        Args:
            logits: float, (..., V).

        Raises:
            DivergedError: the largest logit is not finite.
        """
        probs = logits.astype(np.float32)
        probs[..., 0] = -np.inf
        largest = np.maximum.reduce(probs, axis=-1, keepdims=True)
        if not (math.isfinite(largest.item()) if largest.size == 1 else np.isfinite(largest).all()):
            raise DivergedError(NOT_FINITE)
        if self.temperature == 0:
            best: Numbers = np.equal(np.arange(probs.shape[-1]), probs.argmax(axis=-1)[..., None])
            return best.astype(np.float64)
        np.subtract(probs, largest, out=probs)
        if self.temperature != 1:
            with np.errstate(over="ignore"):  # -inf at a low temperature; its exponential is 0
                np.divide(probs, min(max(self.temperature, MIN_TEMPERATURE), MAX_TEMPERATURE), out=probs)
        probs = np.exp(probs, out=probs).astype(np.float64)
        if self.top_k is None and self.top_p is None and self.min_p is None:
            return probs
        order = np.argsort(-probs, axis=-1, kind="stable")
        ranked = np.take_along_axis(probs, order, axis=-1)
        keep = ranked >= (self.min_p or 0) * ranked[..., :1]
        if self.top_k is not None:
            keep[..., self.top_k :] = False
        if self.top_p is not None:
            keep &= ranked.cumsum(axis=-1) - ranked < self.top_p * ranked.sum(axis=-1, keepdims=True)
        np.put_along_axis(probs, order, ranked * keep, axis=-1)
        return probs

    def sample(self, logits: Numbers, uniform: Any) -> Any:
        """Return the index of the next character, int, or (B,).

        Args:
            logits: float, (V,), the same for all texts, or (B, V).
            uniform: in [0, 1), float, or (B,).
        """
        sums = np.add.accumulate(self.unnormalized_probs(logits), axis=-1)
        # uniform * sum < sum in floating point, too, so the index exists and has a probability above 0.
        if sums.ndim == 1:
            index = sums.searchsorted(uniform * sums[-1], "right")
            return int(index) if isinstance(uniform, float) else index
        return (sums <= (uniform * sums[:, -1])[:, None]).sum(axis=1)


def log_softmax(logits: Numbers) -> Numbers:
    """Return the model's own log-probabilities, natural logarithm, float64, (..., V)."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def sampling_params(options: Mapping[str, Any]) -> SamplingParams:
    """Return the parameters of keyword arguments.

    Raises:
        UsageError: an unknown name, or a value out of range.
    """
    known = [key.name for key in fields(SamplingParams)]
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known) or f"; there are: {', '.join(known)}"
            raise UsageError(f"no sampling option {name!r}{hint}")
    return SamplingParams(**options)


def uniform_stream(seed: int) -> Iterator[float]:
    """Return an endless stream of uniform numbers in [0, 1) from PCG64.

    Raises:
        UsageError: the seed is out of range.
    """
    generator = _generator(seed)
    return itertools.chain.from_iterable(generator.random(N_DRAWS).tolist() for _ in itertools.count())


def uniform_streams(seeds: Iterable[int]) -> Iterator[Numbers]:
    """Return the streams of several seeds, (B,) per step.

    Raises:
        UsageError: a seed is out of range.
    """
    generators = [_generator(seed) for seed in seeds]
    return itertools.chain.from_iterable(
        np.stack([generator.random(N_DRAWS) for generator in generators], axis=1) for _ in itertools.count()
    )


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(checked_number("seed", seed)))


def generate_ids(
    stepper: Stepper,
    context_ids: Sequence[int],
    uniform: Iterable[Any],
    params: SamplingParams,
    n_context: int | None = None,
    line_limit: LineLimit | None = None,
) -> Iterator[Any]:
    """Yield one character index per uniform number.

    A model with a state reads each character once; a model with a window reads the last `n_context` every time.

    Args:
        stepper: in its initial state.
        context_ids: indices of the text so far, at least one.
        uniform: one number per step, or (B,) for B texts.
        params: how to choose.
        n_context: characters in a window; None for a model that carries a state.
        line_limit: of these texts; None for lines of any length.

    Yields:
        the index, or those of B texts, (B,).

    Raises:
        DivergedError: the model's logits are not finite.
    """
    if params.cache_model == "off":
        stepper.freeze_cache()
    read: list[Any] = list(context_ids) if n_context is None else list(context_ids)[-n_context:]
    for number in uniform:
        index = params.sample(stepper.read(read), number)
        if line_limit is not None:
            index = line_limit.apply(index)
        yield index
        if n_context is None:
            read = [index]
        else:
            read = [*read, index][-n_context:]
            stepper.reset()
        if params.cache_model != "own":
            stepper.freeze_cache()  # before the model reads what was sampled


def transpose_iter(rows: Iterator[Sequence[T]], n_columns: int) -> list[Iterator[T]]:
    """Split an iterator of rows into one iterator per column; rows are computed when a column first needs them.

    Args:
        rows: each of `n_columns` items.
        n_columns: number of columns.
    """
    return [map(itemgetter(i), copy) for i, copy in enumerate(itertools.tee(rows, n_columns))]
