"""`--keep-counts`: the counts of a trained model, and those of the new text added to them."""

import signal
from collections import Counter

import numpy as np
import pytest
import torch

import charlm
from charlm import api
from charlm.data.generated_texts import human_numbers
from charlm.data.vocab import Vocab
from charlm.errors import UsageError
from charlm.models import build
from charlm.ngrams.char_ngram import InterpolatedNGram
from charlm.ngrams.trie import widened
from charlm.ngrams.word_ngram import InterpolatedWordNGram
from charlm.recipe import Recipe
from charlm.storage import checkpoint, runs
from charlm.training import session
from charlm.training.loop import Callback

ORDER = 4
FIRST, SECOND = human_numbers("200"), "Zebras count to TEN, 10, and stop. " * 20


def spelled(counts, symbols):
    """Return the counts of the longest k-grams by their characters."""
    names = ["?", *symbols]
    grams = [""]
    for level in counts.levels:
        parents, chars = np.divmod(level.keys, counts.vocab_size)
        grams = [grams[parent] + names[char] for parent, char in zip(parents, chars, strict=True)]
    return dict(zip(grams, counts.levels[-1].counts.tolist(), strict=True))


def grams_of(*texts):
    return Counter(text[i : i + ORDER] for text in texts for i in range(len(text) - ORDER + 1))


def train(text, **changes):
    return api.train(text=text, model="ngram", split="all", options={"order": ORDER}, **changes)


@pytest.fixture
def first(tmp_path):
    """Return the folder of a run on the first text."""
    train(FIRST, folder=tmp_path / "first")
    return tmp_path / "first"


def test_counts_are_those_of_both_texts_by_character_also_with_new_characters(first):
    both = train(SECOND, init_from=str(first), keep_counts=True)
    assert spelled(both.model.counts, both.vocab.symbols) == grams_of(FIRST, SECOND)
    alone = train(SECOND, init_from=str(first))
    assert spelled(alone.model.counts, alone.vocab.symbols) == grams_of(SECOND)


def test_two_halves_of_a_text_give_its_counts_but_for_what_spans_the_cut():
    half = len(FIRST) // 2
    vocab = Vocab(map(ord, sorted(set(FIRST))))
    ids = vocab.encode(FIRST)
    counts, whole = (InterpolatedNGram(len(vocab), ORDER, "witten-bell") for _ in range(2))
    counts.count(ids[:half])
    counts.load(widened(counts.arrays(), len(vocab), vocab.char_classes, vocab.lower))
    counts.update(ids[half:], 0)
    whole.count(ids)
    spanning = Counter(FIRST[i : i + ORDER] for i in range(half - ORDER + 1, half))
    assert Counter(spelled(counts, vocab.symbols)) + spanning == spelled(whole, vocab.symbols)


def test_counts_of_words_are_those_of_both_texts(tmp_path):
    options = {"model": "word-ngram", "split": "all", "options": {"order": ORDER}}
    api.train(text=FIRST, folder=tmp_path / "first", **options)
    both = api.train(text=SECOND, init_from=str(tmp_path / "first"), keep_counts=True, **options)
    apart = [build("word-ngram", len(both.vocab), order=ORDER).counts for _ in range(2)]
    for counts, text in zip(apart, (FIRST, SECOND), strict=True):
        counts.count(both.vocab.encode(text), both.vocab.char_classes)
    for level, *separate in zip(both.model.counts.word_levels, *(c.word_levels for c in apart), strict=True):
        wanted = Counter()
        for part in separate:
            wanted.update(dict(zip(part.keys.tolist(), part.counts.tolist(), strict=True)))
        assert dict(zip(level.keys.tolist(), level.counts.tolist(), strict=True)) == wanted
    assert both.sample(length=30, seed=0)


def test_symbols_keep_their_lower_case_form_and_new_ones_have_their_own():
    old, new = Vocab(map(ord, "AbB")), Vocab(map(ord, "AbBaCc"))
    counts = InterpolatedWordNGram(len(old), 2, folded_words=True)
    counts.count(old.encode("AbB"), old.char_classes, old.lower)
    found = widened(counts.arrays(), len(old), new.char_classes, new.lower)
    assert found["lower"].tolist() == [0, 1, 2, 2, 4, 6, 6]  # A was counted as its own, since there was no a


def test_a_model_with_kept_counts_predicts_both_texts(first):
    both = train(SECOND, init_from=str(first), keep_counts=True)
    alone = train(SECOND, init_from=str(first))
    assert both.bits_per_char(FIRST) < alone.bits_per_char(FIRST) - 2
    assert both.bits_per_char(SECOND) < 0.5


def test_counts_are_kept_over_several_trainings_and_each_text_is_counted_once(first, tmp_path):
    train(SECOND, init_from=str(first), keep_counts=True, folder=tmp_path / "second")
    both = charlm.load(tmp_path / "second")
    [kept] = both.metadata.corpus["counts_kept"]
    assert (kept["name"], kept["n_chars"]) == ("text in memory", len(FIRST))
    for text in (FIRST, SECOND):
        with pytest.raises(UsageError, match="has the counts of text in memory already; leave out --keep-counts"):
            train(text, init_from=str(tmp_path / "second"), keep_counts=True)
    third = train(SECOND.upper(), init_from=str(tmp_path / "second"), keep_counts=True)
    assert spelled(third.model.counts, third.vocab.symbols) == grams_of(FIRST, SECOND, SECOND.upper())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"order": 3}}, "its n-grams are of another kind; leave out the options of the model"),
        ({"options": {"smoothing": "witten-bell"}}, "its n-grams are of another kind"),
        ({"model": "gru"}, "has no n-gram counts; leave out --keep-counts"),
        ({"init_from": None}, "keep_counts needs a trained model; name it with --from"),
    ],
)
def test_counts_that_cannot_be_added_are_refused_in_one_line(first, changes, message):
    choices = {"model": "ngram", "options": {"order": ORDER}, "init_from": str(first)} | changes
    with pytest.raises(UsageError, match=message):
        api.train(text=SECOND, keep_counts=True, **choices)


class StopAfter(Callback):
    """End a training as a signal does."""

    def __init__(self, n_steps):
        self.n_steps = n_steps

    def on_batch_end(self, state):
        if state.step == self.n_steps:
            state.stop = signal.SIGTERM


def test_an_interrupted_training_resumes_to_the_bit_without_the_model_it_began_with(tmp_path):
    start = tmp_path / "first" / "best.safetensors"
    recipe = Recipe(
        model="lstm-ngram",
        options={"order": ORDER, "n_embed": 4, "n_hidden": 8},
        bptt=8,
        batch_size=4,
        epochs=2,
        device="cpu",
    )
    session.train(recipe, api.read_corpus(recipe, FIRST), start.parent)
    recipe = recipe.replace(init_from=str(start), keep_counts=True)
    corpus = api.read_corpus(recipe, SECOND)
    session.train(recipe, corpus, tmp_path / "whole")
    session.train(recipe, corpus, tmp_path / "more", [StopAfter(7)])
    start.unlink()
    corpus = api.read_corpus(recipe, SECOND, run=tmp_path / "more")
    session.train(recipe, corpus, tmp_path / "more", resume=lambda differences: None)
    (whole, wanted), (more, found) = (
        checkpoint.read(tmp_path / name / "last.safetensors") for name in ("whole", "more")
    )
    assert more.counters["step"] == whole.counters["step"] > 7
    assert found.keys() == wanted.keys() and all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert more.corpus == whole.corpus and whole.corpus["counts_kept"][0]["n_chars"] == len(FIRST)
    assert not (tmp_path / "more" / runs.START).exists()
