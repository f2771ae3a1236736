"""LanguageModel: a trained model with its vocabulary, ready to write and to score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from charlm.errors import DataError
from charlm.evaluation.metrics import Score, evaluate
from charlm.generation.generator import Writer
from charlm.generation.sampler import Reader
from charlm.generation.torch_stepper import reader_of
from charlm.models import CharModel
from charlm.storage import checkpoint
from charlm.storage.checkpoint import Checkpoint


@dataclass(eq=False)
class LanguageModel(Writer):
    """A model that writes and scores text.

    Attributes:
        model: the network.
        about: everything else that its checkpoint says.
    """

    model: CharModel
    about: Checkpoint

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> LanguageModel:
        """Read a checkpoint file.

        Raises:
            InputNotFoundError: there is no such file.
            CheckpointError: the file is damaged or foreign.
        """
        return cls(*checkpoint.load(Path(path), device))

    def save(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write a checkpoint file, with the weights converted to `dtype` if one is given.

        Raises:
            OutputError: the file cannot be written.
        """
        checkpoint.save(Path(path), self.model, replace(self.about, resume={}), dtype)

    def reader(self, n_texts: int | None = None) -> Reader:
        """Return what reads for `stream`, of the model as it is now."""
        return reader_of(self.model, self.about.n_context, n_texts)

    def score(self, text: str, unknown: str = "map") -> Score:
        """Predict every character of a text from those before it.

        Args:
            text: at least one character.
            unknown: see `prepare`.

        Raises:
            DataError: the text is empty.
        """
        codes = self.vocab.encode(self.prepare(text, unknown))
        if len(codes) == 0:
            raise DataError("there is no text to score")
        device = self.model.device
        return evaluate(
            self.model,
            torch.from_numpy(codes).to(device),
            first=0,
            stop=len(codes),
            n_context=self.about.n_context,
            start=self.vocab.start,
        )

    def bits_per_char(self, text: str) -> float:
        """Return the bits per character that the model needs for a text; lower is better."""
        return self.score(text).bits_per_char
