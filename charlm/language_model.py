"""LanguageModel: a trained model with its vocabulary, ready to write and to score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from charlm import checkpoint
from charlm.checkpoint import Checkpoint
from charlm.errors import DataError
from charlm.metrics import Score, evaluate
from charlm.models import CharModel
from charlm.sample import generate
from charlm.vocab import END, Vocab


@dataclass(eq=False)
class LanguageModel:
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

    @property
    def vocab(self) -> Vocab:
        """The vocabulary."""
        if not hasattr(self, "_vocab"):
            self._vocab = self.about.vocab
        return self._vocab

    def prepare(self, text: str, unknown: str = "error") -> str:
        """Return the text as the model was shown its own: in lower case if so, without what it does not know.

        Args:
            text: any.
            unknown: what to do with characters that were not in the training text: "error", "skip" leaves them out,
                "map" keeps them, as index 0.

        Raises:
            DataError: there are such characters, and `unknown` is "error".
        """
        text = text.lower() if self.about.recipe.get("lower") else text
        strange = "" if unknown == "map" else self.vocab.unknown(text)
        if strange and unknown == "error":
            raise DataError(
                f"the model has never seen {', '.join(map(repr, strange[:5]))}; "
                "leave such characters out with --unknown skip, or keep them as unknown with --unknown map"
            )
        return text.translate({ord(char): None for char in strange})

    def stream(
        self,
        prime: str = "",
        length: int = 300,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        stop: str | None = None,
        unknown: str = "error",
    ) -> Iterator[str]:
        """Write on, and yield the text as it is drawn, without `prime`.

        Args:
            prime: what was written so far.
            length: characters (or bytes) to draw.
            temperature: below 1 plays safe, above 1 takes risks; 0 always takes the most probable.
            top_k: draw from the k most probable only.
            top_p: draw from the fewest that together have this probability.
            min_p: draw from those at least this share as probable as the most probable.
            seed: of the draws; None takes a fresh one.
            stop: end before this text would appear.
            unknown: see `prepare`.

        Raises:
            DataError: a character in `prime` that the model has never seen.
            UsageError: an option out of its range.
        """
        codes = self.vocab.encode(self.prepare(prime, unknown)).tolist()
        n_context = self.about.n_context
        read = [self.vocab.start] * (n_context or 1) + codes
        if n_context is not None:
            read = read[-n_context:]
        indices = generate(self.model, read, n_context, temperature, top_k, top_p, min_p, seed)
        return self._texts(indices, length, stop)

    def _texts(self, indices: Iterator[int], length: int, stop: str | None) -> Iterator[str]:
        decode_next = self.vocab.decoder()
        held = ""  # may be the beginning of `stop`
        for i in range(length + 1):
            held += decode_next(next(indices) if i < length else END)
            if not stop:
                yield held
                held = ""
                continue
            if stop in held:
                yield held[: held.index(stop)]
                return
            n_safe = next(n for n in range(len(held) + 1) if stop.startswith(held[n:]))
            yield held[:n_safe]
            held = held[n_safe:]
        yield held

    def sample(self, prime: str = "", length: int = 300, **options: float | int | str | None) -> str:
        """Return what `stream` would yield, as one text, without `prime`; the options are those of `stream`."""
        return "".join(self.stream(prime, length, **options))  # type: ignore[arg-type]

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
