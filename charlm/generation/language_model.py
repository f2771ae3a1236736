"""LanguageModel: a trained model with its vocabulary, which generates and scores text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from charlm.errors import DataError
from charlm.evaluation.metrics import EvalResult
from charlm.evaluation.protocol import TextRange, evaluate
from charlm.generation.generator import TextGenerator
from charlm.generation.sampler import Stepper
from charlm.generation.torch_stepper import make_stepper
from charlm.models import CharModel
from charlm.storage import checkpoint
from charlm.storage.checkpoint import Metadata


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
        """
        return cls(*checkpoint.load(Path(path), device))

    def save(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write a checkpoint file, with the weights converted to `dtype` if one is given.

        Raises:
            OutputError: the file cannot be written.
        """
        checkpoint.save(Path(path), self.model, replace(self.metadata, resume={}), dtype)

    def stepper(self, n_texts: int | None = None) -> Stepper:
        """Return a stepper of the present weights; see `TextGenerator.stepper`."""
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
