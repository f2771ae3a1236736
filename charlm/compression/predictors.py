"""Predictors: next-character probabilities of B texts in lockstep.

Encoder and decoder run the same function on arrays of the same shapes, in one thread. Two machines with different
fingerprints of a predictor compute different integers.

Shapes: B texts (lanes), V vocab_size.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from charlm.compression.quantization import Floats, quantized, softmax
from charlm.data.vocab import Vocab
from charlm.generation.sampler import Stepper
from charlm.ngrams.adaptive import AdaptiveNGram
from charlm.ngrams.match import MatchModel

FINGERPRINT_STEPS, FINGERPRINT_PERIOD = 32, 16


class Predictor(Protocol):
    """Next-character probabilities of B texts.

    Attributes:
        vocab: of the model.
        n_lanes: B.
        n_context: characters in a window; None for a model that carries a state.
        lower: the model reads lower case.
        probs: of the next characters, float64, (B, V).
    """

    vocab: Vocab
    lower: bool
    n_lanes: int
    n_context: int | None
    probs: Floats

    def reset(self) -> None:
        """Return to the initial state."""

    def read(self, ids: NDArray[Any]) -> None:
        """Read a character of each text, (B,)."""


class ModelPredictor(Predictor):
    """A model with constant weights, evaluated by the protocol of `charlm eval`.

    Args:
        stepper: of one text if B is 1, else of B texts.
        vocab: of the model.
        n_lanes: B.
        n_context: characters in a window; None for a model that carries a state.
        lower: the model reads lower case.
    """

    def __init__(
        self, stepper: Stepper, vocab: Vocab, n_lanes: int = 1, n_context: int | None = None, lower: bool = False
    ) -> None:
        self.stepper, self.vocab, self.n_lanes, self.n_context = stepper, vocab, n_lanes, n_context
        self.lower = lower
        self.reset()

    def reset(self) -> None:
        """Return to the initial state, in which a line break has been read."""
        self.stepper.reset()
        before = np.full(self.n_lanes, self.vocab.bos_id)
        self.window: list[Any] = [self._step(before)] * (self.n_context or 0)
        self.read(before)

    def read(self, ids: NDArray[Any]) -> None:
        """Read a character of each text, (B,)."""
        chars = [self._step(ids)]
        if self.n_context is not None:
            self.window = chars = [*self.window[1:], *chars]
            self.stepper.reset()
        logits = self.stepper.read(chars)
        self.probs = softmax(logits if self.n_lanes > 1 else logits[None])

    def _step(self, ids: NDArray[Any]) -> Any:
        return ids if self.n_lanes > 1 else int(ids[0])


class AdaptivePredictor(Predictor):
    """Byte counts that start empty, shared by all lanes, and a match model for each lane.

    Args:
        n_lanes: B.
        counts: they are reset.
    """

    lower, n_context = False, None

    def __init__(self, n_lanes: int, counts: AdaptiveNGram) -> None:
        self.vocab, self.n_lanes, self.counts = Vocab.of_bytes(), n_lanes, counts
        self.reset()

    def reset(self) -> None:
        """Drop the counts and the matches."""
        self.counts.reset()
        self.histories = [b""] * self.n_lanes
        self.probs = np.zeros((self.n_lanes, len(self.vocab)))
        self.matches = [MatchModel(self.counts.n_context) for _ in range(self.n_lanes)]
        self._predict()

    def read(self, ids: NDArray[Any]) -> None:
        """Read and count a byte of each text, (B,)."""
        for lane, index in enumerate(ids.tolist()):
            if index:
                self.counts.read(self.histories[lane], index - 1)
                self.matches[lane].read(index - 1)
                self.histories[lane] = (self.histories[lane] + bytes([index - 1]))[-self.counts.n_context :]
        self._predict()

    def _predict(self) -> None:
        for row, match, history in zip(self.probs, self.matches, self.histories, strict=True):
            row[1:] = match.mix(self.counts.probs(history))


def fingerprint(predictor: Predictor) -> str:
    """Return a hash of the integers that a predictor computes on a fixed short text, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    predictor.reset()
    for step in range(FINGERPRINT_STEPS):
        digest.update(quantized(predictor.probs).astype("<i4").tobytes())
        predictor.read((1 + 7 * (step % FINGERPRINT_PERIOD) + np.arange(predictor.n_lanes)) % len(predictor.vocab))
    predictor.reset()
    return digest.hexdigest()[:16]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: the number of threads may change the order of additions, and so the rounding.

    PyTorch is limited only if it is imported already; enter a second context after code that may import it.
    """
    with threadpool_limits(limits=1):
        if "torch" not in sys.modules:
            yield
            return
        import torch

        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(n_threads)
