"""Drawing characters: from logits to probabilities to an index, over and over.

An index is found where the running sum of the probabilities passes a uniform number in [0, 1). That number comes from
numpy's PCG64, one generator for each text, so a seed stands for the same text however the logits were computed, and
however many texts are written at once.

Shapes: ... nothing for one text, B for many, T characters, V vocab_size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from charlm.errors import CharlmError, UsageError

N_DRAWS = 256  # uniform numbers taken from a generator at once
MIN_TEMPERATURE, MAX_TEMPERATURE = (
    1e-37,
    1e37,
)  # a temperature beyond is taken for it; as a float32 it would soon be 0, or infinite
Numbers = NDArray[Any]
T = TypeVar("T")


class Stepper(Protocol):
    """Something that reads characters and says what it expects next."""

    def reset(self) -> None:
        """Forget what was read."""

    def read(self, chars: Sequence[int | Numbers]) -> Numbers:
        """Read characters and return the logits of the next one.

        Args:
            chars: one step each, an index for all texts or one for each, (B,).

        Returns:
            logits: float, (V,) as long as all texts are equal, else (B, V); the next call may write over them.
        """


@dataclass(frozen=True)
class SamplingParams:
    """How to choose from probabilities.

    Attributes:
        temperature: divides the logits; 0 puts all on the most probable.
        top_k: keep the k most probable. Reference: Fan et al. (2018), arXiv:1805.04833.
        top_p: keep the fewest that together have this probability. Reference: Holtzman et al. (2020),
            arXiv:1904.09751.
        min_p: keep those at least this share as probable as the most probable. Reference: Nguyen et al. (2024),
            arXiv:2407.01082.

    Raises:
        UsageError: a value out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        if not 0 <= self.temperature < math.inf:
            raise UsageError(f"temperature is {self.temperature}; it must be 0 (greedy) or more, and finite")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top-k is {self.top_k}; it must be at least 1")
        for name, share in (("top-p", self.top_p), ("min-p", self.min_p)):
            if share is not None and not 0 < share <= 1:
                raise UsageError(f"{name} is {share}; it must be above 0 and at most 1")

    def probs(self, logits: Numbers) -> Numbers:
        """Turn logits into the probabilities to draw from. Index 0, which is no symbol, gets none.

        Args:
            logits: float, (..., V).

        Returns:
            probabilities, float64, (..., V).

        Raises:
            CharlmError: the largest logit is not finite.
        """
        shares = self.shares(logits)
        shares /= shares.sum(axis=-1, keepdims=True)
        return shares

    def shares(self, logits: Numbers) -> Numbers:
        """Return what is in proportion to `probs`, which saves a division by the sum.

        The exponentials are float32, for which numpy has a quick one on more processors; sums of them need float64.
        """
        shares = logits.astype(np.float32, order="F")  # symbol by symbol, for `index`
        shares[..., 0] = -np.inf
        most = np.maximum.reduce(shares, axis=-1, keepdims=True)
        if not (math.isfinite(most.item()) if most.size == 1 else np.isfinite(most).all()):
            raise CharlmError("the model's output is not a number; train it again, with a lower --learning-rate")
        if self.temperature == 0:
            best: Numbers = np.equal(np.arange(shares.shape[-1]), shares.argmax(axis=-1)[..., None])
            return best.astype(np.float64)
        np.subtract(shares, most, out=shares)
        if self.temperature != 1:
            with np.errstate(over="ignore"):  # of the cold: minus infinity, whose exponential is 0
                np.divide(shares, min(max(self.temperature, MIN_TEMPERATURE), MAX_TEMPERATURE), out=shares)
        shares = np.exp(shares, out=shares).astype(np.float64)
        if self.top_k is None and self.top_p is None and self.min_p is None:
            return shares
        order = np.argsort(-shares, axis=-1, kind="stable")
        ranked = np.take_along_axis(shares, order, axis=-1)
        keep = ranked >= (self.min_p or 0) * ranked[..., :1]
        if self.top_k is not None:
            keep[..., self.top_k :] = False
        if self.top_p is not None:
            keep &= ranked.cumsum(axis=-1) - ranked < self.top_p * ranked.sum(axis=-1, keepdims=True)
        np.put_along_axis(shares, order, ranked * keep, axis=-1)
        return shares

    def index(self, logits: Numbers, uniform: Any) -> Any:
        """Draw.

        Args:
            logits: float, (V,), or (B, V).
            uniform: in [0, 1), of one text or of all, (B,).

        Returns:
            the index, or (B,).
        """
        shares = self.shares(logits)
        # What is looked for is below the last sum, however it is rounded, so what is found has a share.
        if shares.ndim == 1:
            sums = np.add.accumulate(shares)
            found = sums.searchsorted(uniform * sums[-1], "right")
            return int(found) if isinstance(uniform, float) else found
        sums = np.ascontiguousarray(shares.T)  # (V, B)
        blocked_cumsum(sums)
        return (sums <= uniform * sums[-1]).sum(axis=0)


def blocked_cumsum(rows: Numbers) -> None:
    """Add to each row all rows before it, in place.

    `np.add.accumulate` would go text by text. One addition for all texts is quicker, and few large ones are quicker
    than many small ones: so stretches of rows are added up side by side, then whole stretches.

    Args:
        rows: (V, B), one after another in memory.
    """
    length = math.isqrt(len(rows))
    n_whole = len(rows) // length * length
    stretches = rows[:n_whole].reshape(-1, length, rows.shape[1])
    for before, row in itertools.pairwise(stretches.swapaxes(0, 1)):
        row += before
    ends = stretches[:-1, -1].copy()
    for before, row in itertools.pairwise(ends):
        row += before
    stretches[1:] += ends[:, None]
    for before, row in itertools.pairwise(rows[n_whole - 1 :]):
        row += before


def uniform_stream(seed: int | None) -> Iterator[float]:
    """Return uniform numbers in [0, 1) without end, by PCG64 of a seed; None takes a fresh one.

    Raises:
        UsageError: the seed is out of its range.
    """
    generator = _generator(seed)
    return itertools.chain.from_iterable(generator.random(N_DRAWS).tolist() for _ in itertools.count())


def uniform_streams(seeds: Iterable[int | None]) -> Iterator[Numbers]:
    """Return what `uniform_stream` returns for each of several seeds, side by side, (B,).

    Raises:
        UsageError: a seed is out of its range.
    """
    generators = [_generator(seed) for seed in seeds]
    return itertools.chain.from_iterable(
        np.stack([generator.random(N_DRAWS) for generator in generators], axis=1) for _ in itertools.count()
    )


def _generator(seed: int | None) -> np.random.Generator:
    if seed is not None and not 0 <= seed < 2**64:
        raise UsageError(f"seed is {seed}; it must be at least 0 and below 2**64")
    return np.random.Generator(np.random.PCG64(seed))


def generate_ids(
    reader: Stepper, prime: Sequence[int], uniform: Iterable[Any], choice: SamplingParams, n_context: int | None = None
) -> Iterator[Any]:
    """Yield one character index after another, as long as there are uniform numbers.

    A reader that carries a state reads each character once; for one with a window, the window slides.

    Args:
        reader: it has read nothing.
        prime: what was written so far, at least one character, shorter than a window only if the caller wants so.
        uniform: each a number, or those of B texts, float64, (B,).
        choice: how to draw.
        n_context: characters in a window; None for a model that carries its state.

    Yields:
        the index, or those of B texts, (B,).

    Raises:
        CharlmError: the model's output is not a number.
    """
    read: list[Any] = list(prime) if n_context is None else list(prime)[-n_context:]
    for number in uniform:
        index = choice.index(reader.read(read), number)
        yield index
        if n_context is None:
            read = [index]
        else:
            read = [*read[1 - n_context :], index] if n_context > 1 else [index]
            reader.reset()


def columns(rows: Iterator[Sequence[T]], n_columns: int) -> list[Iterator[T]]:
    """Take apart what is made for many texts at once.

    Args:
        rows: what belongs to each text, step by step.
        n_columns: how many texts.

    Returns:
        what belongs to each text; the one that goes ahead makes the steps, the others find them made.
    """
    return [map(itemgetter(i), some) for i, some in enumerate(itertools.tee(rows, n_columns))]
