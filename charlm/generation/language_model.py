"""LanguageModel: a trained model with its vocabulary, which generates and scores text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from charlm.errors import DataError, UsageError, shown
from charlm.evaluation.metrics import EvalResult
from charlm.evaluation.protocol import TextRange, evaluate
from charlm.generation.generator import TextGenerator
from charlm.generation.sampler import Stepper
from charlm.generation.torch_stepper import make_stepper
from charlm.models import MODELS, CharModel
from charlm.options.arguments import checked_path
from charlm.options.ranges import checked_number
from charlm.storage import checkpoint
from charlm.storage.checkpoint import Metadata

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # of saved weights


@dataclass(eq=False, repr=False)
class LanguageModel(TextGenerator):
    """A model that generates and scores text.

    Attributes:
        model: the network.
        metadata: contents of its checkpoint, except for the weights.
    """

    model: CharModel
    metadata: Metadata

    def __repr__(self) -> str:
        """Return architecture, size and text in one line."""
        unit, corpus = "bytes" if self.metadata.is_bytes else "characters", self.metadata.corpus.get("name", "?")
        sizes = f"{self.model.n_parameters:,} parameters, {len(self.vocab) - 1} {unit}"
        return f"<LanguageModel {self.metadata.model}: {sizes}, trained on {corpus}>"

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> LanguageModel:
        """Read a checkpoint file.

        Raises:
            InputNotFoundError: there is no such file.
            CheckpointError: the file is damaged or foreign.
            UsageError: the device is not available.
        """
        return cls(*checkpoint.load(checked_path("path", path), _checked_device(device)))

    def save(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write a checkpoint file, with the weights converted to `dtype` if one is given.

        Args:
            path: file to write or to replace.
            dtype: one of `DTYPES`.

        Raises:
            OutputError: the file cannot be written.
            UsageError: another type, or a mixture, which is not one model.
        """
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype in DTYPES):
            raise UsageError(f"dtype must be one of {', '.join(map(str, DTYPES))}, got {shown(dtype)}")
        if self.metadata.model not in MODELS:
            raise UsageError(f"{self.metadata.model} cannot be saved; save the models that it is made of")
        checkpoint.save(checked_path("path", path), self.model, replace(self.metadata, resume={}), dtype)

    def stepper(self, n_texts: int | None = None) -> Stepper:
        """Return a stepper of the present weights; see `TextGenerator.stepper`."""
        n_texts = None if n_texts is None else checked_number("n_texts", n_texts)
        return make_stepper(self.model, self.metadata.n_context, n_texts)

    def score(self, text: str, unknown: str = "map") -> EvalResult:
        """Predict every character of a text from those before it.

        Args:
            text: at least one character.
            unknown: see `preprocess`.

        Raises:
            DataError: the text is empty.
        """
        ids = torch.from_numpy(self.vocab.encode(self.preprocess(text, unknown)))
        if len(ids) == 0:
            raise DataError("the text to score is empty")
        return evaluate(self.model, TextRange(ids, 0, len(ids), self.vocab.bos_id), self.metadata.n_context)

    def bits_per_char(self, text: str) -> float:
        """Return the mean bits per character of a text under the model; lower is better."""
        return self.score(text).bits_per_char


def _checked_device(device: object) -> torch.device:
    """Return an argument as a device.

    Raises:
        UsageError: it is no device, or not available.
    """
    try:
        found: torch.device = torch.device(device)  # type: ignore[call-overload]
        torch.empty(1, device=found).item()  # there is no item on "meta", a device without memory
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise UsageError(f"device {shown(device)} is not available; take cpu, cuda or mps") from error
    return found
