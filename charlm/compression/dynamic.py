"""Dynamic counts: n-gram models updated on the text read so far, as in `charlm eval --dynamic`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charlm.compression.predictors import ModelPredictor
from charlm.errors import UsageError
from charlm.evaluation.dynamic import SEGMENT_LEN, count_interval
from charlm.generation.language_model import LanguageModel
from charlm.generation.torch_stepper import TorchStepper
from charlm.models.counting import CountingModel

MAX_KNOWN = 4096  # characters before an update, as contexts of its first characters


def update_interval(n_chars: int) -> int:
    """Return the number of characters between two updates of counts, as in dynamic evaluation.

    Args:
        n_chars: of the text.
    """
    return -(-count_interval(n_chars) // SEGMENT_LEN) * SEGMENT_LEN


class DynamicPredictor(ModelPredictor):
    """N-gram model whose counts are updated with the text read so far, at fixed intervals.

    Args:
        model: of counts alone.
        interval: characters between two updates.

    Raises:
        UsageError: the model has weights.
    """

    def __init__(self, model: LanguageModel, interval: int) -> None:
        network = model.model
        if not isinstance(network, CountingModel) or network.uses_gradients:
            raise UsageError(f"--dynamic needs a model of counts alone (ngram, word-ngram), not {network.name}")
        self.network, self.interval = network, interval
        self.trained = network.counts.arrays()
        metadata = model.metadata
        super().__init__(TorchStepper(network), metadata.vocab, lower=metadata.is_lower)

    def reset(self) -> None:
        """Restore the counts of the training text and the initial state."""
        self.network.counts.load(self.trained)
        self.known: list[int] = []  # already counted
        self.new: list[int] | None = None  # to be counted; None before the first line break
        super().reset()

    def read(self, ids: NDArray[Any]) -> None:
        """Read a character of each text, (B,), and add the characters since the last update when there are enough."""
        if self.new is None:
            self.new = []
        else:
            self.new.append(int(ids[0]))
        if len(self.new) == self.interval:
            text: NDArray[Any] = np.array(self.known + self.new, self.vocab.dtype)
            self.network.update_counts(torch.from_numpy(text), len(self.known))
            self.known, self.new = text[-MAX_KNOWN:].tolist(), []
        super().read(ids)
