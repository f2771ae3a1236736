"""NumpyGenerator: a checkpoint that samples without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.numpy
from numpy.typing import NDArray

from charlm.errors import CheckpointError
from charlm.generation.generator import TextGenerator
from charlm.generation.numpy_engine import make_engine
from charlm.generation.sampler import Stepper
from charlm.storage import checkpoint
from charlm.storage.checkpoint import Metadata


@dataclass(eq=False)
class NumpyGenerator(TextGenerator):
    """A checkpoint that samples in numpy.

    Attributes:
        metadata: contents of the checkpoint, except for the weights.
        weights: by name.
    """

    metadata: Metadata
    weights: dict[str, NDArray[Any]]

    def stepper(self, n_texts: int | None = None) -> Stepper:
        """Return the numpy engine; see `TextGenerator.stepper`."""
        engine = _engine(self.metadata, self.weights, n_texts)
        assert engine is not None  # `load_numpy` has checked this
        return engine


def load_numpy(path: Path, n_texts: int = 1) -> NumpyGenerator | None:
    """Read a checkpoint file for sampling without PyTorch.

    Args:
        path: of the file.
        n_texts: number of texts that will be sampled.

    Returns:
        the generator; None if there is no numpy engine for this model and number of texts, or if the file is invalid
        (`LanguageModel.load` then raises the error).

    Raises:
        InputNotFoundError: the file does not exist or cannot be opened.
    """
    try:
        metadata, tensors = checkpoint.read(path, safetensors.numpy.load)
    except CheckpointError:
        return None
    weights = {name: tensor for name, tensor in tensors.items() if "/" not in name}
    engine = _engine(metadata, weights, None if n_texts == 1 else n_texts)
    return None if engine is None else NumpyGenerator(metadata, weights)


def _engine(metadata: Metadata, weights: dict[str, NDArray[Any]], n_texts: int | None) -> Stepper | None:
    options, vocab_size = metadata.options, metadata.vocab_size
    return make_engine(metadata.model, weights, options, vocab_size, metadata.n_context, n_texts)
