"""N-gram counts of a trained model, kept in a training that begins with it.

The new vocabulary is the old one, followed by the further symbols of the new text. So the stored counts and the hashed
contexts of words stay valid, and the counts of the new text are added to them.

A run with gradient steps has a copy of the trained model while it is not finished, because a resumed training counts
its text again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from charlm.data.corpus import Corpus
from charlm.data.vocab import Vocab
from charlm.errors import UsageError
from charlm.models import CharModel
from charlm.models.counting import CountingModel
from charlm.ngrams.trie import widened
from charlm.recipe import Recipe
from charlm.storage import checkpoint, runs
from charlm.storage.checkpoint import Metadata


def counts_file(choices: Recipe, run: Path | None = None) -> Path:
    """Return the file of the trained model whose counts are kept.

    Args:
        choices: a recipe with `keep_counts`.
        run: folder of the run; it need not exist.
    """
    if run is not None and (run / runs.START).is_file():
        return run / runs.START
    return runs.find_checkpoint(choices.init_from)


def known_vocab(choices: Recipe, run: Path | None = None) -> Vocab | None:
    """Return the symbols with which the vocabulary of a text begins; None if no counts are kept. See `counts_file`."""
    return checkpoint.read(counts_file(choices, run))[0].vocab if choices.keep_counts else None


def keep_counts(
    model: CharModel, corpus: Corpus, choices: Recipe, run: Path | None = None
) -> tuple[CharModel, Metadata]:
    """Let `fit_counts` of a new model add to the counts of a trained one.

    Args:
        model: a model that counts.
        corpus: the new text, its vocabulary from `known_vocab`.
        choices: the recipe, with `keep_counts`.
        run: see `counts_file`.

    Returns:
        the trained model and its metadata.

    Raises:
        InputNotFoundError: there is no such run or file.
        CheckpointError: the file is damaged or not a checkpoint.
        UsageError: the counts are of another kind, or the text was counted already.
    """
    assert isinstance(model, CountingModel)  # see `setup.fill_defaults`
    path = counts_file(choices, run)
    old, metadata = checkpoint.load(path)
    if not isinstance(old, CountingModel) or old.counts.kind != model.counts.kind:
        raise UsageError(f"{path}: its n-grams are of another kind; leave out the options of the model")
    if corpus.sha256 in (text.get("sha256") for text in counted_texts(metadata)):
        raise UsageError(f"{path}: has the counts of {corpus.name} already; leave out --keep-counts")
    n_old = len(metadata.vocab)
    if not np.array_equal(corpus.vocab.codepoints[: n_old - 1], metadata.vocab.codepoints):
        raise UsageError(f"{path}: changed while it was read; try again when its training has ended")
    counts = widened(old.counts.arrays(), n_old, corpus.vocab.char_classes, corpus.vocab.lower)
    model.keep_counts({name: torch.from_numpy(array) for name, array in counts.items()})
    return old, metadata


def counted_texts(metadata: Metadata) -> list[dict[str, Any]]:
    """Return the texts whose counts a model has, each with name, sha256 and n_chars; the last one is its own."""
    own = {key: metadata.corpus.get(key) for key in ("name", "sha256", "n_chars")}
    return [*metadata.corpus.get("counts_kept", []), own]
