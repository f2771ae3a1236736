"""Counting characters and words: as good as a slow reference made of dictionaries and tuples."""

import math
from collections import Counter, defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm import checkpoint, training
from charlm.corpus import make_corpus
from charlm.models.ngram import NGram, discounts
from charlm.models.word_ngram import WordNGram, word_contexts
from charlm.recipe import Recipe
from charlm.vocab import BLANK, LETTER, OTHER

V, ORDER = 7, 3
KINDS = [OTHER, LETTER, LETTER, LETTER, BLANK, BLANK, OTHER]  # two kinds of white space, two marks
TEXTS = st.lists(st.integers(0, V - 1), min_size=ORDER, max_size=60)


def contexts_of(text):
    """Return b, and v and b, as tuples, after each symbol."""
    found, begun, before = [], (), ()
    for symbol in text:
        if KINDS[symbol] == LETTER:
            begun = (*begun, symbol)
        else:
            before = (symbol,) if KINDS[symbol] == OTHER else begun or before
            begun = ()
        found.append((begun, (before, begun)))
    return found


class Reference:
    """The same model by the formulas, in dictionaries."""

    def __init__(self, *texts):
        self.after = [defaultdict(Counter), defaultdict(Counter)]
        for text in texts:
            for contexts, symbol in zip(contexts_of(text), text[1:], strict=False):
                for after, context in zip(self.after, contexts, strict=True):
                    after[context][symbol] += 1
        flat = [[c for seen in after.values() for c in seen.values()] for after in self.after]
        self.freed = [discounts(torch.tensor(counts, dtype=torch.int32)) for counts in flat]

    def probs(self, text, by_chars):
        """Return both opinions after each symbol, from those of the n-gram."""
        found = []
        for contexts, probs in zip(contexts_of(text), by_chars.tolist(), strict=True):
            words = probs
            for after, freed, context in zip(self.after, self.freed, contexts, strict=True):
                if seen := after.get(context):
                    total, left = sum(seen.values()), sum(freed[min(c, 3)] for c in seen.values())
                    kept = [seen[s] - freed[min(seen[s], 3)] for s in range(V)]
                    words = [(k + left * p) / total for k, p in zip(kept, words, strict=True)]
            found.append([probs, words])
        return torch.tensor(found, dtype=torch.float64)


def counted(text):
    model = WordNGram(V, ORDER)
    model.count(torch.tensor(text), torch.tensor(KINDS, dtype=torch.uint8))
    return model


def opinions(model, text):
    return model.head.opinions(model.features(torch.tensor([text]))[0])[0].double().exp()


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS)
def test_probabilities_are_those_of_the_reference(text, read):
    model, ngram = counted(text), NGram(V, ORDER)
    ngram.count(torch.tensor(text))
    by_chars = ngram(torch.tensor([read]))[0][0].double().exp()
    expected = Reference(text).probs(read, by_chars)
    torch.testing.assert_close(opinions(model, read), expected, rtol=1e-4, atol=1e-9)
    probs = model(torch.tensor([read]))[0][0].double().exp()
    torch.testing.assert_close(probs, expected.mean(dim=1), rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(len(read), dtype=torch.float64), rtol=1e-5, atol=0)


@settings(deadline=None, max_examples=40)
@given(TEXTS, TEXTS, st.data())
def test_more_is_counted_as_if_it_had_all_been_counted_at_once(text, more, data):
    model, cut = counted(text), data.draw(st.integers(1, len(more)))
    model.count_on(torch.tensor(more[:cut], dtype=torch.long), 0)
    model.count_on(torch.tensor(more), cut)
    expected = Reference(text, more).after
    for k, after in enumerate(expected, 1):
        assert sorted(model.head.word_level(k)[1].tolist()) == sorted(
            c for seen in after.values() for c in seen.values()
        )


def test_counting_again_forgets_what_was_counted_before():
    model = counted([1, 2, 4, 1, 6, 3])
    model.count(torch.tensor([3, 3, 3, 4, 1]), torch.tensor(KINDS, dtype=torch.uint8))
    torch.testing.assert_close(model.state_dict(), counted([3, 3, 3, 4, 1]).state_dict(), rtol=0, atol=0)


def test_to_words_all_white_space_is_the_same_and_marks_are_words():
    kinds = torch.tensor(KINDS, dtype=torch.uint8)
    one, other, mark = (
        word_contexts(torch.tensor([text]), kinds)[0][0] for text in ([1, 2, 4, 3], [1, 2, 5, 4, 3], [1, 6, 3])
    )
    assert torch.equal(one[-1], other[-1])
    assert one[-1, 0] == mark[-1, 0]
    assert one[-1, 1] != mark[-1, 1]


def test_contexts_stay_below_their_bound_in_words_without_end():
    contexts, _ = word_contexts(torch.full((1, 10_000), V - 2), torch.ones(V, dtype=torch.uint8))
    assert contexts.min() > 0
    assert contexts.max() < 2**44
    assert len(contexts[0, :, 0].unique()) == len(contexts[0, :, 1].unique()) == 10_000


def test_words_make_counting_better_on_english():
    sentences = [
        "the old dog sleeps in",
        "the sun and a cat",
        "sits near the old wall",
        "in the old town a dog",
        "runs",
    ]
    text = "\n".join(f"{sentences[i * i % 5]} {sentences[i * 3 % 4]}" for i in range(60))
    nats = {}
    for name in ("ngram", "word-ngram"):
        choices = Recipe().changed(model=name, options={"order": 4}, device="cpu")
        nats[name] = training.train(choices, make_corpus(text.encode(), "dogs")).about.result["valid_nats"]
    assert nats["word-ngram"] < nats["ngram"]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("head.kinds", torch.full((V,), 3, dtype=torch.uint8)),
        ("head.kinds", torch.zeros(V + 1, dtype=torch.uint8)),
        ("head.kinds", torch.zeros(V)),
        ("head.word_keys_1", torch.tensor([-1], dtype=torch.int64)),
        ("head.word_keys_2", torch.tensor([2**62], dtype=torch.int64)),
        ("head.word_counts_2", torch.zeros(3, dtype=torch.int32)),
    ],
)
def test_counts_that_do_not_hold_together_are_refused_and_change_nothing(name, wrong):
    model = counted([1, 2, 4, 1, 6, 3])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="kinds|words"):
        model.restore(before | {name: wrong})
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_checkpoint_holds_all_that_it_needs(tmp_path):
    corpus = make_corpus(b"a dog and a cat and a dog. " * 30, "dogs")
    trained = training.train(Recipe().changed(model="word-ngram", device="cpu"), corpus, tmp_path / "run")
    model, _ = checkpoint.load(tmp_path / "run" / "best.safetensors")
    chars = torch.randint(len(corpus.vocab), (2, 50))
    torch.testing.assert_close(model(chars)[0], trained.model(chars)[0], rtol=0, atol=0)
    assert math.isfinite(trained.about.result["valid_nats"])
