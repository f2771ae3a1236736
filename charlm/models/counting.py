"""Interface of models with n-gram counts of the training text: n-grams only, or n-grams and a network.

Shapes: N characters of text, B batch_size, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from charlm.data.feeds import Feed
from charlm.data.vocab import Vocab
from charlm.models.base import CharModel, State
from charlm.ngrams.char_ngram import InterpolatedNGram
from charlm.ngrams.trie import COUNTS


@runtime_checkable
class HasCacheModel(Protocol):
    """A model with a cache model, which counts the characters that it reads."""

    def freeze_cache(self, state: State, n_texts: int) -> State:
        """Return a state after which no further characters are counted.

        Args:
            state: as the model returns it; None before the first characters.
            n_texts: B.
        """


class CountingModel(CharModel):
    """A model whose prediction uses n-gram counts of the training text.

    The text is counted before the first gradient step, in numpy; no gradient flows through the counts. A model with
    `uses_gradients = False` has only counts.

    Attributes:
        counts: counts of the training text; dynamic evaluation updates them between calls.
        max_counted: maximum number of counted characters; of a longer text, the last ones. Counting takes up to 110
            bytes per character, and 50 more with folded words.
    """

    max_counted = 16_000_000
    counts: InterpolatedNGram
    _kept: Mapping[str, Tensor] | None = None  # counts to which `fit_counts` adds

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.counts.vocab_size

    @property
    def n_parameters(self) -> int:
        """Number of learned values, counts included."""
        return super().n_parameters + self.counts.n_counts

    def fit_counts(self, ids: Tensor, char_classes: Tensor | None = None, lower: Tensor | None = None) -> None:
        """Count a text, replacing earlier counts except those of `keep_counts`.

        Args:
            ids: the text as indices, (N,).
            char_classes: class of each symbol, see `Vocab.char_classes`, uint8, (V,); None if unknown. Kept counts
                have their own.
            lower: index of the lower-case form of each symbol, see `Vocab.lower`, long, (V,); None if unknown. Kept
                counts have their own.

        Raises:
            DataError: the text is too short or too long.
        """
        ids = ids[-self.max_counted :]
        if self._kept is None:
            kinds = (None if kind is None else kind.cpu().numpy() for kind in (char_classes, lower))
            self.counts.count(ids.cpu().numpy(), *kinds)
        else:
            self.load_counts(self._kept)
            self.update_counts(ids, 0)

    def keep_counts(self, stored: Mapping[str, Tensor]) -> None:
        """Load counts of another text and let `fit_counts` add to them until `free_training_cache`.

        Args:
            stored: see `load_counts`.

        Raises:
            ValueError: the tensors are not valid counts.
        """
        self.load_counts(stored)
        self._kept = stored

    def update_counts(self, ids: Tensor, n_known: int) -> None:
        """Add counts of a text to the present ones.

        Args:
            ids: the text as indices, (N,).
            n_known: number of its first characters that are counted already.
        """
        self.counts.update(ids.cpu().numpy(), n_known)

    def load_counts(self, stored: Mapping[str, Tensor]) -> None:
        """Load counts from a checkpoint.

        Args:
            stored: tensors by the names of `counts.arrays()`.

        Raises:
            ValueError: the tensors are not valid counts.
        """
        self.counts.load({name: tensor.cpu().numpy() for name, tensor in stored.items()})

    def training_span(self, ids: Tensor) -> Tensor:
        """Return the suffix of the training text, (N,), used for gradient steps (default: all of it)."""
        return ids

    def state_at(self, row_offsets: Tensor) -> State:
        """Return the initial state of training rows.

        Args:
            row_offsets: position in the `training_span` where each row begins, long, (B,).

        Returns:
            None unless training reads a row differently from any other text.
        """
        return None

    def free_training_cache(self) -> None:
        """Release buffers that are only needed for training."""
        self._kept = None


def initial_state(model: CharModel, feed: Feed, epoch: int, step: int, rows: slice = slice(None)) -> State:
    """Return the state before rows of a training batch: `CountingModel.state_at`, None for any other model."""
    if not isinstance(model, CountingModel):
        return None
    return model.state_at(feed.row_offsets(epoch, step)[rows].to(model.device))


def counting_parts(model: CharModel) -> dict[str, CountingModel]:
    """Return the modules of a model that have counts, by the prefix of their weights' names ("" for the model)."""
    parts = model.named_modules()
    return {f"{name}." if name else "": part for name, part in parts if isinstance(part, CountingModel)}


def counts_of(model: CharModel) -> dict[str, Tensor]:
    """Return the counts of a model and its submodules by their names in a checkpoint."""
    return {
        f"{prefix}{COUNTS}{name}": torch.from_numpy(array)
        for prefix, part in counting_parts(model).items()
        for name, array in part.counts.arrays().items()
    }


@contextmanager
def keeping_counts(model: CharModel) -> Iterator[None]:
    """Restore the present counts of a model on exit."""
    parts = counting_parts(model).values()
    stored = [part.counts.arrays() for part in parts]
    try:
        yield
    finally:
        for part, arrays in zip(parts, stored, strict=True):
            part.counts.load(arrays)


def training_span(model: CharModel, ids: Tensor) -> Tensor:
    """Return the suffix of a training text used for gradient steps; see `CountingModel.training_span`."""
    return model.training_span(ids) if isinstance(model, CountingModel) else ids


def symbol_kinds(vocab: Vocab) -> tuple[Tensor, Tensor]:
    """Return the arguments of `fit_counts` about the symbols: `Vocab.char_classes` and `Vocab.lower`, each (V,)."""
    return torch.from_numpy(vocab.char_classes), torch.from_numpy(vocab.lower)


def fit_counts(model: CharModel, ids: Tensor, char_classes: Tensor | None = None, lower: Tensor | None = None) -> None:
    """Fit the counts of a model; no-op for a model without counts. See `CountingModel.fit_counts`."""
    if isinstance(model, CountingModel):
        model.fit_counts(ids, char_classes, lower)


def free_training_cache(model: CharModel) -> None:
    """Release the training buffers of a model; no-op for a model without counts."""
    if isinstance(model, CountingModel):
        model.free_training_cache()
