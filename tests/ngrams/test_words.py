"""Word n-grams and their contexts equal a slow reference made of dictionaries and tuples."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charlm.data.vocab import BLANK, BREAK, LETTER, OTHER
from charlm.ngrams.char_ngram import InterpolatedNGram
from charlm.ngrams.interpolation import discounts
from charlm.ngrams.word_contexts import (
    MAX_LENGTH,
    N_WORD_LEVELS,
    folded_contexts,
    folded_contexts_step,
    nearest_known,
    start_of_contexts,
    word_contexts,
    word_contexts_step,
)
from charlm.ngrams.word_ngram import InterpolatedWordNGram

V, ORDER = 7, 3
LOWER = np.array([0, 1, 1, 3, 4, 5, 6])  # symbol 1 is the lower-case form of 2
CLASSES = np.array([OTHER, LETTER, LETTER, LETTER, BLANK, BREAK, OTHER], np.uint8)
TEXTS = st.lists(st.integers(0, V - 1), min_size=ORDER, max_size=60)


def contexts_of(text):
    """Return b, v b, u v b, and l, after each symbol."""
    found, begun, before, further, length, run = [], (), (), (), 0, 0
    for symbol in text:
        length = 0 if CLASSES[symbol] == BREAK else length + 1
        run = 0 if CLASSES[symbol] < BLANK else 1 if CLASSES[symbol] == BREAK else run + 1
        if CLASSES[symbol] == LETTER:
            begun = (*begun, symbol)
        else:
            if begun:
                further, before, begun = before, begun, ()
            if CLASSES[symbol] == OTHER:
                further, before = before, (symbol,)
        prefix = run if run > 1 else begun
        found.append((prefix, (before, prefix), (further, before, prefix), length))
    return found


def folded_contexts_of(text):
    """Return b, v b, u b, m b, and the column and kind, of the text in lower case after each symbol."""
    found, mark = [], ()
    folded = [int(LOWER[symbol]) for symbol in text]
    for symbol, (begun, (before, _), (further, *_), length) in zip(folded, contexts_of(folded), strict=True):
        mark = symbol if CLASSES[symbol] == OTHER else mark
        is_letter = CLASSES[symbol] == LETTER
        found.append((begun, (before, begun), (further, begun), (mark, begun), (length, is_letter)))
    return found


class Reference:
    """The same model by the formulas, in dictionaries."""

    def __init__(self, *texts):
        self.after = [defaultdict(Counter) for _ in range(9)]
        for text in texts:
            for contexts, folded, symbol in zip(contexts_of(text), folded_contexts_of(text), text[1:], strict=False):
                for after, context in zip(self.after, [*contexts, *folded], strict=True):
                    if after is not self.after[3] or CLASSES[symbol] >= BLANK:
                        after[context][symbol] += 1
        flat = [[c for seen in after.values() for c in seen.values()] for after in self.after]
        self.discount_mass = [discounts(np.array(counts, np.int32)) for counts in flat]

    def longer(self, k, context, probs):
        """Return the distribution after context k from that after the shorter ones."""
        seen, discount_mass = self.after[k].get(context), self.discount_mass[k]
        if not seen:
            return probs
        total, left = sum(seen.values()), sum(discount_mass[min(c, 3)] for c in seen.values())
        return [(seen[s] - discount_mass[min(seen[s], 3)] + left * p) / total for s, p in enumerate(probs)]

    def probs(self, text, by_chars):
        """Return the distributions of all experts after each symbol, from that of the first."""
        found = []
        for (begun, both, three, length), folded, probs in zip(
            contexts_of(text), folded_contexts_of(text), by_chars.tolist(), strict=True
        ):
            words = self.longer(2, three, self.longer(1, both, self.longer(0, begun, probs)))
            white = sum(p for p, kind in zip(words, CLASSES, strict=True) if kind >= BLANK)
            lengths = self.after[3]
            nearest = min(lengths, key=lambda known: (abs(known - length), -known), default=length)
            shares = self.longer(3, nearest if length < max(lengths, default=0) else length, [p / white for p in words])
            words = [white * q if kind >= BLANK else p for p, q, kind in zip(words, shares, CLASSES, strict=True)]
            by_folded = [self.longer(k, context, words) for k, context in enumerate(folded, N_WORD_LEVELS)]
            found.append([probs, words, *by_folded])
        return np.array(found)


def counted(text, **options):
    counts = InterpolatedWordNGram(V, ORDER, **options)
    counts.count(np.array(text), CLASSES, LOWER)
    return counts


def assert_equal(arrays, wanted):
    assert arrays.keys() == wanted.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, wanted[name])


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS, st.booleans())
@example([2, 4, 3, 3, 4, 0], [6, 3, 4], False)
@example([6, 2, 4, 1, 2, 4, 2, 1], [6, 1, 4, 2, 1], True)
def test_probabilities_are_those_of_the_reference_in_a_batch_and_step_by_step(text, read, folded_words):
    counts, by_chars = counted(text, folded_words=folded_words), InterpolatedNGram(V, ORDER)
    by_chars.count(np.array(text))
    contexts, _ = counts.read(np.array([read]))
    expected = Reference(text).probs(read, by_chars.probs(by_chars.read(np.array([read]))[0][:, 0]))
    expected = expected[:, : counts.n_experts]
    found = np.exp(counts.expert_log_probs(contexts)[0].astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    probs = np.exp(counts.log_probs(contexts)[0].astype(np.float64))
    np.testing.assert_allclose(probs, expected.mean(axis=1), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-5)
    state, steps = None, []
    for char in read:
        one, state = counts.step(char, state)
        steps.append([probs[0] for probs in counts.expert_probs(one)])
    np.testing.assert_allclose(steps, expected, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(TEXTS, TEXTS, st.data())
def test_updates_in_parts_equal_counting_two_texts_at_once(text, more, data):
    counts, cut = counted(text, folded_words=True), data.draw(st.integers(1, len(more)))
    counts.update(np.array(more[:cut]), 0)
    counts.update(np.array(more), cut)
    for level, after in zip(counts.word_levels, Reference(text, more).after, strict=True):
        assert sorted(level.counts.tolist()) == sorted(c for seen in after.values() for c in seen.values())


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, V - 1), min_size=1, max_size=40), st.integers(1, 9))
def test_contexts_are_those_of_a_text_in_parts_and_step_by_step(text, n):
    wanted, _ = word_contexts(np.array([text]), CLASSES)
    state, parts, steps, of_one = None, [], [], (0, 0, 0, 0)
    for first in range(0, len(text), n):
        contexts, state = word_contexts(np.array([text[first : first + n]]), CLASSES, state)
        parts.append(contexts)
    for char in text:
        contexts, of_one = word_contexts_step(char, CLASSES[char], of_one)
        steps.append(contexts)
    np.testing.assert_array_equal(np.concatenate(parts, axis=2), wanted)
    np.testing.assert_array_equal(np.array(steps).T, wanted[:, 0])
    assert of_one == state[0].tolist()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, V - 1), min_size=1, max_size=40), st.integers(1, 9))
def test_contexts_of_folded_words_are_those_of_a_text_in_parts_and_step_by_step(text, n):
    wanted, _ = folded_contexts(np.array([text]), CLASSES, LOWER)
    state, parts, steps, of_one = None, [], [], (0, 0, 0, 0, 0)
    for first in range(0, len(text), n):
        contexts, state = folded_contexts(np.array([text[first : first + n]]), CLASSES, LOWER, state)
        parts.append(contexts)
    for char in text:
        contexts, of_one = folded_contexts_step(int(LOWER[char]), CLASSES[char], of_one)
        steps.append(contexts)
    np.testing.assert_array_equal(np.concatenate(parts, axis=2), wanted)
    np.testing.assert_array_equal(np.array(steps).T, wanted[:, 0])
    assert of_one == state[0].tolist()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, V - 1), min_size=1, max_size=40), st.sampled_from([1, 5, 12]))
def test_contexts_do_not_depend_on_anything_before_their_start(text, n):
    read = np.array([[*text * n, *text[::2]]])
    start = start_of_contexts(CLASSES[read[0]])
    parts = read, read[:, start:], read[:, start // 2 :]
    wanted, found, further = (word_contexts(part, CLASSES)[0][:, 0, -1].tolist() for part in parts)
    assert found == further == wanted
    wanted, found, further = (folded_contexts(part, CLASSES, LOWER)[0][:, 0, -1].tolist() for part in parts)
    assert found == further == wanted


def test_in_a_text_of_words_the_start_is_near_the_end():
    classes = CLASSES[[1, 2, 4] * 1000]
    assert start_of_contexts(classes) == len(classes) - MAX_LENGTH
    assert start_of_contexts(np.full_like(classes, LETTER)) == 0


def test_a_long_text_is_counted_in_chunks():
    text = np.random.default_rng(0).integers(V, size=50).tolist()
    wanted = counted(text, folded_words=True).arrays()
    assert_equal(counted(text, folded_words=True, chunk_chars=7).arrays(), wanted)
    counts = counted(text[:20], folded_words=True, chunk_chars=7)
    counts.update(np.array(text), 20)
    assert_equal(counts.arrays(), wanted)


def test_counting_replaces_earlier_counts():
    counts = counted([1, 2, 4, 1, 6, 3])
    counts.count(np.array([3, 3, 3, 4, 1]), CLASSES)
    assert_equal(counts.arrays(), counted([3, 3, 3, 4, 1]).arrays())


def test_contexts_of_words_do_not_distinguish_white_space_and_marks_are_words():
    texts = [1, 2, 4, 3], [1, 2, 5, 4, 3], [1, 6, 3]
    one, other, mark = (word_contexts(np.array([text]), CLASSES)[0][:, 0, -1].tolist() for text in texts)
    assert one[:2] == other[:2]
    assert one[0] == mark[0]
    assert one[1] != mark[1]


def test_the_length_of_a_line_is_counted_from_its_beginning_up_to_a_limit():
    contexts, _ = word_contexts(np.array([[1, 4, 5, 5, *[3] * 300]]), CLASSES)
    assert contexts[3, 0].tolist() == [1, 2, 0, 0, *range(1, 256), *[255] * 45]


def test_a_length_that_was_not_counted_is_replaced_by_the_nearest_one_up_to_the_longest():
    assert nearest_known(np.array([3, 6, 9])).tolist() == [3] * 5 + [6] * 3 + [9] * 2 + list(range(10, 256))
    assert nearest_known(np.array([], np.int64)).tolist() == list(range(256))


def test_within_a_run_of_blanks_its_length_is_the_context_and_a_single_blank_is_none():
    deep, flat, single = [5, 4, 4, 4, 4, 2], [5, 4, 4, 2], [5, 1, 4, 2]
    contexts, _ = word_contexts(np.array([[*deep, *flat, *single]]), CLASSES)
    begun = contexts[0, 0]
    assert begun[:2].tolist() == [0, begun[7]] and begun[2] == begun[8] != begun[1]
    assert len(set(begun[1:5].tolist())) == 4
    assert begun[10] == begun[12] == 0
    counts = counted([*deep, 3, *deep, 3, *deep])
    by_words = np.exp(counts.expert_log_probs(counts.read(np.array([[5, *[4] * 4]]))[0])[0, :, 1])
    assert by_words[1:4, 4].min() > 0.7 > 0.2 > by_words[4, 4]


def test_contexts_stay_below_their_bound_in_a_very_long_word():
    contexts, _ = word_contexts(np.full((1, 10_000), V - 2), np.ones(V, np.uint8))
    assert contexts.min() > 0
    assert contexts.max() < 2**44
    assert len(np.unique(contexts[0])) == len(np.unique(contexts[1])) == 10_000


def test_contexts_of_short_words_do_not_collide():
    classes = np.array([LETTER] * 10 + [BLANK], np.uint8)
    words = [*([i] for i in range(10)), *([i, j] for i in range(10) for j in range(0, 10, 2))]
    texts = [[*u, 10, *v, 10, *b] for u in words for v in words for b in ([], *words[::9])]
    longest = max(len(text) for text in texts)
    read = np.array([[10] * (longest - len(text)) + text for text in texts])
    _, both, three, _ = word_contexts(read, classes)[0][:, :, -1]
    assert len(np.unique(three)) == len(texts)
    assert len(np.unique(both)) == len(texts) / len(words)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("char_classes", np.full(V, 4, np.uint8)),
        ("char_classes", np.zeros(V + 1, np.uint8)),
        ("char_classes", np.zeros(V)),
        ("lower", np.arange(V, dtype=np.int32)),
        ("lower", np.arange(V - 1)),
        ("lower", np.full(V, V)),
        ("lower", np.full(V, -1)),
        ("word_keys_9", np.array([-1])),
        ("word_keys_1", np.array([-1])),
        ("word_keys_2", np.array([2**62])),
        ("word_keys_3", np.array([9, 9])),
        ("word_counts_2", np.zeros(3, np.int32)),
        ("keys_1", np.array([-1])),
    ],
)
def test_invalid_stored_counts_are_refused_and_change_nothing(name, wrong):
    counts = counted([1, 2, 4, 1, 6, 3], folded_words=True)
    before = counts.arrays()
    with pytest.raises(ValueError, match="classes|lower|words|level 1"):
        counts.load(before | {name: wrong})
    with pytest.raises(ValueError, match=name):
        counts.load({key: array for key, array in before.items() if key != name})
    assert_equal(counts.arrays(), before)
