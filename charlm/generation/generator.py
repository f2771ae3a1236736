"""Writing text with a model, whatever computes its logits; and a checkpoint that writes without PyTorch."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import safetensors.numpy
from numpy.typing import NDArray

from charlm.data.vocab import FLUSH, Vocab
from charlm.errors import CheckpointError, DataError, UsageError, did_you_mean
from charlm.generation import workers
from charlm.generation.sampler import SamplingParams, Stepper, columns, generate_ids, uniform_stream, uniform_streams
from charlm.generation.steps import Steps, agrees, prepare
from charlm.storage import checkpoint
from charlm.storage.checkpoint import Metadata

N_TEXTS = 256  # written at once
UNKNOWN = ("error", "skip", "map")  # what to do with characters that a model has never seen


class TextGenerator:
    """Something that writes text; a subclass says what reads for it.

    Attributes:
        metadata: everything that its checkpoint says beside the weights.
    """

    metadata: Metadata

    def reader(self, n_texts: int | None = None) -> Stepper:
        """Return a reader that has read nothing.

        Args:
            n_texts: how many texts it is to read at once; None for one.
        """
        raise NotImplementedError

    @property
    def vocab(self) -> Vocab:
        """The vocabulary."""
        if not hasattr(self, "_vocab"):
            self._vocab = self.metadata.vocab
        return self._vocab

    def prepare(self, text: str, unknown: str = "error") -> str:
        """Return the text as the model was shown its own: in lower case if so, without what it does not know.

        Args:
            text: any.
            unknown: what to do with characters that were not in the training text: "error", "skip" leaves them out,
                "map" keeps them, as index 0.

        Raises:
            DataError: there are such characters, and `unknown` is "error".
            UsageError: `unknown` is none of these.
        """
        if unknown not in UNKNOWN:
            raise UsageError(
                f"unknown is {unknown!r}{did_you_mean(unknown, UNKNOWN)}; it is one of: {', '.join(UNKNOWN)}"
            )
        text = text.lower() if self.metadata.recipe.get("lower") else text
        strange = "" if unknown == "map" else self.vocab.unknown(text)
        if strange and unknown == "error":
            raise DataError(
                f"the model has never seen {', '.join(map(repr, strange[:5]))}; "
                "leave such characters out with --unknown skip, or keep them as unknown with --unknown map"
            )
        return text.translate({ord(char): None for char in strange})

    def generate_many(
        self,
        n_texts: int,
        prime: str = "",
        length: int = 300,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        stop: str | None = None,
        unknown: str = "error",
    ) -> Iterator[Iterator[str]]:
        """Write several texts, as `stream` would one by one with the seeds seed, seed + 1, ...; they are one batch.

        Args:
            n_texts: how many.
            prime: what was written so far.
            length: characters (or bytes) to draw.
            temperature: below 1 plays safe, above 1 takes risks; 0 always takes the most probable.
            top_k: draw from the k most probable only.
            top_p: draw from the fewest that together have this probability.
            min_p: draw from those at least this share as probable as the most probable.
            seed: of the first text's draws; None takes fresh ones.
            stop: end before this text would appear.
            unknown: see `prepare`.

        Raises:
            DataError: a character in `prime` that the model has never seen.
            UsageError: an option out of its range.
        """
        choice = SamplingParams(temperature, top_k, top_p, min_p)
        if n_texts < 1:
            raise UsageError(f"{n_texts} texts are none; ask for one at least")
        first = secrets.randbits(63) if seed is None else seed
        seeds = range(first, first + n_texts)
        uniform_stream(seeds[-1])  # the largest, whose error is to come now
        ids = self.vocab.encode(self.prepare(prime, unknown)).tolist()
        n_context = self.metadata.n_context
        read = [self.vocab.bos_id] * (n_context or 1) + ids
        return self._texts(read, seeds, choice, length, stop)

    def _texts(
        self, read: list[int], seeds: Sequence[int], choice: SamplingParams, length: int, stop: str | None
    ) -> Iterator[Iterator[str]]:
        for first in range(0, len(seeds), N_TEXTS):
            yield from self.texts(read, choice, length, stop, seeds[first : first + N_TEXTS])

    def texts(
        self, read: list[int], choice: SamplingParams, length: int, stop: str | None, seeds: Sequence[int]
    ) -> list[Iterator[str]]:
        """Return the texts of some seeds, which are one batch; `read` is the prime with what stands before it."""
        n_context = self.metadata.n_context
        if len(seeds) == 1:
            each = [generate_ids(self.reader(), read, uniform_stream(seeds[0]), choice, n_context)]
        else:
            steps = generate_ids(self.reader(len(seeds)), read, uniform_streams(seeds), choice, n_context)
            each = columns((step.tolist() for step in steps), len(seeds))
        return [self._text(indices, length, stop) for indices in each]

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
        return next(self.generate_many(1, prime, length, temperature, top_k, top_p, min_p, seed, stop, unknown))

    def _text(self, indices: Iterator[int], length: int, stop: str | None) -> Iterator[str]:
        pieces = map(self.vocab.decoder(), chain(islice(indices, length), [FLUSH]))
        return _until(stop, pieces) if stop else pieces

    def sample(self, prime: str = "", length: int = 300, **options: float | int | str | None) -> str:
        """Return what `stream` would yield, as one text, without `prime`; the options are those of `stream`."""
        return "".join(self.stream(prime, length, **options))  # type: ignore[arg-type]


def _until(stop: str, pieces: Iterable[str]) -> Iterator[str]:
    held = ""  # may be the beginning of `stop`
    for piece in pieces:
        held += piece
        if stop in held:
            yield held[: held.index(stop)]
            return
        n_safe = next(n for n in range(len(held) + 1) if stop.startswith(held[n:]))
        yield held[:n_safe]
        held = held[n_safe:]
    yield held


@dataclass(eq=False)
class NumpyGenerator(TextGenerator):
    """A checkpoint that writes in numpy.

    Attributes:
        metadata: what it says beside the weights.
        weights: by name.
        path: where it lies.
    """

    metadata: Metadata
    weights: dict[str, NDArray[Any]]
    path: Path

    def reader(self, n_texts: int | None = None) -> Steps:
        """Return steps; see `TextGenerator.reader`."""
        steps = _prepare(self.metadata, self.weights)
        assert steps is not None  # as `load` made sure
        return steps

    def _texts(
        self, read: list[int], seeds: Sequence[int], choice: SamplingParams, length: int, stop: str | None
    ) -> Iterator[Iterator[str]]:
        n_workers = 1
        if len(seeds) > 1:
            n_workers = workers.n_workers(len(seeds), length, sum(array.nbytes for array in self.weights.values()))
        if n_workers == 1:
            yield from super()._texts(read, seeds, choice, length, stop)
            return
        make_texts = partial(_texts_of, self.path, self.metadata.counters, read, choice, length, stop)
        n_pieces = length + 2  # what the end completes, and what was held back as the beginning of `stop`
        for first in range(0, len(seeds), n_at_once := N_TEXTS * n_workers):
            yield from workers.written(make_texts, seeds[first : first + n_at_once], n_pieces, n_workers)


def load(path: Path) -> NumpyGenerator | None:
    """Read a checkpoint file without PyTorch.

    Returns:
        what writes; None where that needs PyTorch, which also says what is wrong with a file that cannot be used.

    Raises:
        InputNotFoundError: there is no such file.
    """
    try:
        metadata, tensors = checkpoint.read(path, safetensors.numpy.load)
    except CheckpointError:
        return None
    weights = {name: tensor for name, tensor in tensors.items() if "/" not in name}
    return None if _prepare(metadata, weights) is None else NumpyGenerator(metadata, weights, path)


def _texts_of(
    path: Path,
    counters: dict[str, Any],
    read: list[int],
    choice: SamplingParams,
    length: int,
    stop: str | None,
    seeds: Sequence[int],
) -> list[Iterator[str]]:
    """Return the texts of some seeds, by a file that another process has read, too."""
    writer = load(path)
    if writer is None or writer.metadata.counters != counters:
        raise CheckpointError(f"{path}: written anew by a training while it was read; try again")
    return writer.texts(read, choice, length, stop, seeds)


def _prepare(metadata: Metadata, weights: dict[str, NDArray[Any]]) -> Steps | None:
    told = metadata.options | {"vocab_size": metadata.vocab_size}
    steps = prepare(metadata.model, weights, told, metadata.n_context)
    return steps if steps is not None and agrees(steps, metadata.options) else None
