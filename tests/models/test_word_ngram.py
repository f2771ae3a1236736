"""Counting characters and words: as good as a slow reference made of dictionaries and tuples."""

import math
import textwrap
from collections import Counter, defaultdict

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charlm.data.corpus import make_corpus
from charlm.data.vocab import BLANK, BREAK, LETTER, OTHER
from charlm.models import word_ngram
from charlm.models.ngram import NGram, discounts
from charlm.models.word_ngram import WordNGram
from charlm.ngrams import word_contexts as words
from charlm.ngrams.word_contexts import start_of_contexts, word_contexts
from charlm.recipe import Recipe
from charlm.storage import checkpoint
from charlm.training import session

V, ORDER = 7, 3
KINDS = [OTHER, LETTER, LETTER, LETTER, BLANK, BREAK, OTHER]
TEXTS = st.lists(st.integers(0, V - 1), min_size=ORDER, max_size=60)


def contexts_of(text):
    """Return b, v b, u v b, and l, after each symbol."""
    found, begun, before, further, length = [], (), (), (), 0
    for symbol in text:
        length = 0 if KINDS[symbol] == BREAK else length + 1
        if KINDS[symbol] == LETTER:
            begun = (*begun, symbol)
        else:
            if begun:
                further, before, begun = before, begun, ()
            if KINDS[symbol] == OTHER:
                further, before = before, (symbol,)
        found.append((begun, (before, begun), (further, before, begun), length))
    return found


class Reference:
    """The same model by the formulas, in dictionaries."""

    def __init__(self, *texts):
        self.after = [defaultdict(Counter) for _ in range(4)]
        for text in texts:
            for contexts, symbol in zip(contexts_of(text), text[1:], strict=False):
                for after, context in zip(self.after, contexts, strict=True):
                    if after is not self.after[3] or KINDS[symbol] >= BLANK:
                        after[context][symbol] += 1
        flat = [[c for seen in after.values() for c in seen.values()] for after in self.after]
        self.discount_mass = [discounts(torch.tensor(counts, dtype=torch.int32)) for counts in flat]

    def longer(self, k, context, probs):
        """Return what is expected after a context of kind k, from what the shorter ones expect."""
        seen, discount_mass = self.after[k].get(context), self.discount_mass[k]
        if not seen:
            return probs
        total, left = sum(seen.values()), sum(discount_mass[min(c, 3)] for c in seen.values())
        return [(seen[s] - discount_mass[min(seen[s], 3)] + left * p) / total for s, p in enumerate(probs)]

    def probs(self, text, by_chars):
        """Return both opinions after each symbol, from those of the n-gram."""
        found = []
        for (begun, both, three, length), probs in zip(contexts_of(text), by_chars.tolist(), strict=True):
            words = self.longer(2, three, self.longer(1, both, self.longer(0, begun, probs)))
            white = sum(p for p, kind in zip(words, KINDS, strict=True) if kind >= BLANK)
            shares = self.longer(3, length, [p / white for p in words])
            words = [white * q if kind >= BLANK else p for p, q, kind in zip(words, shares, KINDS, strict=True)]
            found.append([probs, words])
        return torch.tensor(found, dtype=torch.float64)


def counted(text):
    model = WordNGram(V, ORDER)
    model.fit_counts(torch.tensor(text), torch.tensor(KINDS, dtype=torch.uint8))
    return model


def expert_log_probs(model, text):
    return model.head.expert_log_probs(model.features(torch.tensor([text]))[0])[0].double().exp()


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS)
@example([2, 4, 3, 3, 4, 0], [6, 3, 4])
def test_probabilities_are_those_of_the_reference(text, read):
    model, ngram = counted(text), NGram(V, ORDER)
    ngram.fit_counts(torch.tensor(text))
    by_chars = ngram(torch.tensor([read]))[0][0].double().exp()
    expected = Reference(text).probs(read, by_chars)
    torch.testing.assert_close(expert_log_probs(model, read), expected, rtol=1e-4, atol=1e-9)
    probs = model(torch.tensor([read]))[0][0].double().exp()
    torch.testing.assert_close(probs, expected.mean(dim=1), rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(len(read), dtype=torch.float64), rtol=1e-5, atol=0)


@settings(deadline=None, max_examples=40)
@given(TEXTS, TEXTS, st.data())
def test_more_is_counted_as_if_it_had_all_been_counted_at_once(text, more, data):
    model, cut = counted(text), data.draw(st.integers(1, len(more)))
    model.update_counts(torch.tensor(more[:cut], dtype=torch.long), 0)
    model.update_counts(torch.tensor(more), cut)
    expected = Reference(text, more).after
    for k, after in enumerate(expected, 1):
        assert sorted(model.head.word_level(k)[1].tolist()) == sorted(
            c for seen in after.values() for c in seen.values()
        )


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, V - 1), min_size=1, max_size=40), st.sampled_from([4, words.MAX_LENGTH]))
def test_contexts_do_not_depend_on_what_is_further_back_than_their_start(text, max_length):
    char_classes, read = torch.tensor(KINDS, dtype=torch.uint8), torch.tensor([text])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(words, "MAX_LENGTH", max_length)
        start = start_of_contexts(char_classes[read[0]])
        wanted, found = (word_contexts(part, char_classes)[0][0, -1] for part in (read, read[:, start:]))
        further, _ = word_contexts(read[:, start // 2 :], char_classes)
    assert found.tolist() == further[0, -1].tolist() == wanted.tolist()


def test_of_a_text_of_words_little_has_to_be_read_again():
    char_classes = torch.tensor(KINDS, dtype=torch.uint8)[torch.tensor([1, 2, 4] * 1000)]
    assert start_of_contexts(char_classes) == len(char_classes) - words.MAX_LENGTH
    assert start_of_contexts(torch.full_like(char_classes, LETTER)) == 0


def test_a_long_text_is_counted_piece_by_piece(monkeypatch):
    text = torch.randint(V, (50,)).tolist()
    wanted = counted(text).state_dict()
    monkeypatch.setattr(word_ngram, "N_AT_ONCE", 7)
    torch.testing.assert_close(counted(text).state_dict(), wanted, rtol=0, atol=0)
    model = counted(text[:20])
    model.update_counts(torch.tensor(text), 20)
    torch.testing.assert_close(model.state_dict(), wanted, rtol=0, atol=0)


def test_counting_again_forgets_what_was_counted_before():
    model = counted([1, 2, 4, 1, 6, 3])
    model.fit_counts(torch.tensor([3, 3, 3, 4, 1]), torch.tensor(KINDS, dtype=torch.uint8))
    torch.testing.assert_close(model.state_dict(), counted([3, 3, 3, 4, 1]).state_dict(), rtol=0, atol=0)


def test_to_words_all_white_space_is_the_same_and_marks_are_words():
    char_classes = torch.tensor(KINDS, dtype=torch.uint8)
    texts = [1, 2, 4, 3], [1, 2, 5, 4, 3], [1, 6, 3]
    one, other, mark = (word_contexts(torch.tensor([text]), char_classes)[0][0, -1].tolist() for text in texts)
    assert one[:2] == other[:2]
    assert one[0] == mark[0]
    assert one[1] != mark[1]


def test_lines_are_measured_from_their_break_up_to_a_limit():
    contexts, _ = word_contexts(torch.tensor([[1, 4, 5, 5, *[3] * 300]]), torch.tensor(KINDS, dtype=torch.uint8))
    assert contexts[0, :, 3].tolist() == [1, 2, 0, 0, *range(1, 256), *[255] * 45]


def test_where_lines_end_after_forty_characters_counts_know_it():
    words = "a dog and a cat and a man who had a bird and the other dog were on the way to town".split()
    text = textwrap.fill(" ".join(words[i * i % 19] for i in range(1200)), 40)
    choices = Recipe().replace(model="word-ngram", options={"order": 3}, device="cpu")
    trained = session.train(choices, make_corpus(text.encode(), "dogs"))
    blank, line_break = trained.vocab.encode(" \n").tolist()
    for start, is_end in (("\na cat", False), ("\nand who had the other dog and a cat had", True)):
        by_words = expert_log_probs(trained.model, trained.vocab.encode(start).tolist())[-1, 1]
        assert (by_words[line_break] > 5 * by_words[blank]) == is_end


def test_contexts_stay_below_their_bound_in_words_without_end():
    contexts, _ = word_contexts(torch.full((1, 10_000), V - 2), torch.ones(V, dtype=torch.uint8))
    assert contexts.min() > 0
    assert contexts.max() < 2**44
    assert len(contexts[0, :, 0].unique()) == len(contexts[0, :, 1].unique()) == 10_000


def test_no_two_contexts_of_short_words_share_a_number():
    char_classes = torch.tensor([LETTER] * 20 + [BLANK], dtype=torch.uint8)
    words = [*([i] for i in range(20)), *([i, j] for i in range(20) for j in range(0, 20, 3))]
    texts = [[*u, 20, *v, 20, *b] for u in words for v in words for b in ([], *words[::9])]
    longest = max(len(text) for text in texts)
    read = torch.tensor([[20] * (longest - len(text)) + text for text in texts])
    _, both, three, _ = word_contexts(read, char_classes)[0][:, -1].T
    assert len(three.unique()) == len(texts)
    assert len(both.unique()) == len(texts) / len(words)


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
        choices = Recipe().replace(model=name, options={"order": 4}, device="cpu")
        nats[name] = session.train(choices, make_corpus(text.encode(), "dogs")).metadata.result["valid_nats"]
    assert nats["word-ngram"] < nats["ngram"]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("head.kinds", torch.full((V,), 4, dtype=torch.uint8)),
        ("head.kinds", torch.zeros(V + 1, dtype=torch.uint8)),
        ("head.kinds", torch.zeros(V)),
        ("head.word_keys_1", torch.tensor([-1], dtype=torch.int64)),
        ("head.word_keys_2", torch.tensor([2**62], dtype=torch.int64)),
        ("head.word_keys_3", torch.tensor([9, 9], dtype=torch.int64)),
        ("head.word_counts_2", torch.zeros(3, dtype=torch.int32)),
    ],
)
def test_counts_that_do_not_hold_together_are_refused_and_change_nothing(name, wrong):
    model = counted([1, 2, 4, 1, 6, 3])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="kinds|words"):
        model.load_counts(before | {name: wrong})
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_checkpoint_holds_all_that_it_needs(tmp_path):
    corpus = make_corpus(b"a dog and a cat and a dog. " * 30, "dogs")
    trained = session.train(Recipe().replace(model="word-ngram", device="cpu"), corpus, tmp_path / "run")
    model, _ = checkpoint.load(tmp_path / "run" / "best.safetensors")
    chars = torch.randint(len(corpus.vocab), (2, 50))
    torch.testing.assert_close(model(chars)[0], trained.model(chars)[0], rtol=0, atol=0)
    assert math.isfinite(trained.metadata.result["valid_nats"])
