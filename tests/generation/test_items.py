"""Items: whole, different, new lines of a list; an error where the text is no list."""

import numpy as np
import pytest
import torch

from charlm.data.corpus import make_corpus
from charlm.errors import DataError, UsageError
from charlm.generation.items import check_items, sample_items, training_items
from charlm.generation.language_model import LanguageModel
from charlm.models import build
from charlm.storage.checkpoint import Metadata

NAMES = [f"{a}{b}{c}" for a in ("ad", "be", "cor") for b in ("an", "el", "or") for c in ("a", "us", "in")]


def model_of(text):
    """Return a model that has counted a text, and the text."""
    corpus = make_corpus(text.encode(), "names.txt", "all")
    model = build("ngram", len(corpus.vocab), order=3)
    model.fit_counts(torch.from_numpy(corpus.ids), None)
    symbols = corpus.vocab.codepoints.tolist()
    return LanguageModel(model, Metadata("ngram", model.config, len(corpus.vocab), symbols, False, None)), corpus


def test_items_are_whole_different_and_new():
    model, corpus = model_of("\n".join(NAMES[::2] * 3) + "\n")
    known = training_items(corpus)
    assert known == set(NAMES[::2])
    items = sample_items(model, 12, known=known, seed=1)
    assert len(set(items)) == 12 and not known & set(items)
    assert items == sample_items(model, 12, known=known, seed=1) != sample_items(model, 12, known=known, seed=2)
    assert all(item.startswith("be") for item in sample_items(model, 3, "be", seed=1))


def test_too_many_items_are_refused_with_the_number_found():
    model, _ = model_of("yes\nno\n" * 50)
    with pytest.raises(DataError, match=r"only \d+ different items in .* lines; lower --lines"):
        sample_items(model, 500, seed=1, temperature=0.1)


def test_texts_without_items_are_refused():
    with pytest.raises(DataError, match="has no line breaks"):
        sample_items(model_of("abc, " * 50)[0], 3)
    with pytest.raises(DataError, match="lines of up to .* so it is not a list of items"):
        sample_items(model_of("abcd " * 500 + "\n")[0], 3, seed=1, temperature=0.1)
    rng = np.random.default_rng(0)
    prose = ["x" * n for n in rng.integers(60, 73, 50)]
    with pytest.raises(DataError, match="wrapped prose"):
        check_items(prose, "book.txt")
    check_items(["x" * n for n in rng.integers(10, 73, 50)], "titles.txt")
    with pytest.raises(UsageError, match="--prime has 201 characters, and a line at most 200; give a shorter --prime"):
        sample_items(model_of("a\nb\n" * 50)[0], 3, "a" * 201)
    with pytest.raises(UsageError, match="without a line break"):
        sample_items(model_of("a\nb\n" * 50)[0], 3, "a\n")
