"""Cache models equal a slow reference that looks back position by position, for a batch and step by step."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.ngrams.cache_model import (
    MAX_CONTEXT,
    N_BEFORE,
    WINDOW,
    CacheCounts,
    WordCacheCounts,
    cache_probs,
    earlier_occurrences,
    word_cache_probs,
)
from charlm.ngrams.word_contexts import word_contexts

V, SHORT = 5, 40
KEPT = SHORT + MAX_CONTEXT - 1  # as N_BEFORE
CLASSES = np.array([1, 1, 2, 3, 0], np.uint8)
TEXTS = st.lists(st.integers(0, V - 1), min_size=1, max_size=90)


def longer(probs, after):
    """Return the distribution with one more context, after which these symbols came."""
    n_different = len(set(after))
    counts = np.bincount(after, minlength=V) if after else np.zeros(V)
    return (counts + n_different * probs) / (len(after) + n_different) if after else probs


def reference(text, n_counted=90):
    """Return the distribution by characters after each, by the formula, (N, V)."""
    found = []
    for t in range(len(text)):
        probs = np.full(V, 1 / V)
        for k in range(3, 9):
            last = text[t - k + 1 : t + 1]
            earlier = range(max(0, t - SHORT), min(t, n_counted - 1))
            places = (s for s in earlier if s >= k - 1 and text[s - k + 1 : s + 1] == last)
            probs = longer(probs, [text[s + 1] for s in places])
        found.append(probs)
    return np.array(found)


def word_reference(text, contexts, n_counted=90):
    """Return the distribution by words after each character, by the formula, (N, V)."""
    found = []
    for t, (begun, both) in enumerate(contexts):
        earlier, probs = range(max(0, t - SHORT), min(t, n_counted - 1)), np.full(V, 1 / V)
        if begun:
            probs = longer(probs, [text[s + 1] for s in earlier if contexts[s][0] == begun])
        found.append(longer(probs, [text[s + 1] for s in earlier if contexts[s][1] == both]))
    return np.array(found)


def contexts_of(texts):
    """Return the contexts b and v b after each character, (2, B, N)."""
    return word_contexts(texts, CLASSES)[0][:2]


def test_the_last_characters_are_counted_and_no_others():
    text = [0, 1, 2, 3, *([4] * (SHORT - 5)), 0, 1, 2]
    probs = cache_probs(np.array([text]), len(text), V, SHORT)[0, -1]
    np.testing.assert_allclose(probs, [0.1, 0.1, 0.1, 0.6, 0.1])
    text = [0, 1, 2, 3, *([4] * (SHORT - 3)), 0, 1, 2]
    np.testing.assert_allclose(cache_probs(np.array([text]), len(text), V, SHORT)[0, -1], 0.2)


@settings(deadline=None)
@given(text=TEXTS, n_before=st.integers(0, 60))
def test_characters_are_the_reference(text, n_before):
    n_read = len(text) - min(n_before, len(text) - 1)
    wanted, part = reference(text), np.array([text])[:, -n_read - KEPT :]
    np.testing.assert_allclose(cache_probs(part, n_read, V, SHORT)[0], wanted[-n_read:], atol=1e-12)
    cache = CacheCounts(V, SHORT)
    for _ in range(2):
        np.testing.assert_allclose([cache.step(char)[0] for char in text], wanted, atol=1e-12)
        cache.reset()


@settings(deadline=None)
@given(text=TEXTS, n_before=st.integers(0, 60))
def test_words_are_the_reference(text, n_before):
    n_read = len(text) - min(n_before, len(text) - 1)
    texts = np.array([text])
    contexts = contexts_of(texts)
    each = contexts[:, 0].T.tolist()
    wanted = word_reference(text, each)
    part, of_part = texts[:, -n_read - KEPT :], contexts[:, :, -n_read - KEPT :]
    np.testing.assert_allclose(word_cache_probs(part, of_part, n_read, V, SHORT)[0], wanted[-n_read:], atol=1e-12)
    cache = WordCacheCounts(V, SHORT)
    for _ in range(2):
        read = [cache.step(char, after)[0] for char, after in zip(text, each, strict=True)]
        np.testing.assert_allclose(read, wanted, atol=1e-12)
        cache.reset()


@settings(deadline=None)
@given(text=TEXTS, n_counted=st.integers(0, 60), n_read=st.integers(1, 60))
def test_the_last_characters_can_be_left_out_of_the_counts(text, n_counted, n_read):
    n_counted, n_read, texts = min(n_counted, len(text)), min(n_read, len(text)), np.array([text])
    contexts = contexts_of(texts)
    each = contexts[:, 0].T.tolist()
    wanted, by_words = reference(text, n_counted), word_reference(text, each, n_counted)
    options = n_read, V, SHORT, 7, n_counted
    np.testing.assert_allclose(cache_probs(texts, *options)[0], wanted[-n_read:], atol=1e-12)
    np.testing.assert_allclose(word_cache_probs(texts, contexts, *options)[0], by_words[-n_read:], atol=1e-12)
    cache, word_cache = CacheCounts(V, SHORT), WordCacheCounts(V, SHORT)
    steps = [cache.step(char, i < n_counted)[0] for i, char in enumerate(text)]
    word_steps = [word_cache.step(char, each[i], i < n_counted)[0] for i, char in enumerate(text)]
    np.testing.assert_allclose(steps, wanted, atol=1e-12)
    np.testing.assert_allclose(word_steps, by_words, atol=1e-12)


def test_texts_of_a_batch_are_read_independently():
    texts = np.random.default_rng(0).integers(2, size=(3, 80))
    contexts = contexts_of(texts)
    wanted = np.array([reference(text) for text in texts.tolist()])
    each = zip(texts.tolist(), contexts.transpose(1, 2, 0).tolist(), strict=True)
    by_words = np.array([word_reference(*one) for one in each])
    late, of_late = texts[:, 50 - KEPT :], contexts[:, :, 50 - KEPT :]
    for n_read in (30, 1):
        found = cache_probs(late, n_read, V, SHORT), word_cache_probs(late, of_late, n_read, V, SHORT)
        np.testing.assert_allclose(found[0], wanted[:, -n_read:], atol=1e-12)
        np.testing.assert_allclose(found[1], by_words[:, -n_read:], atol=1e-12)


def test_without_earlier_characters_the_distribution_is_uniform():
    for n_read in (1, 2):
        np.testing.assert_allclose(cache_probs(np.zeros((2, n_read), np.int64), n_read, V), 1 / V)


def test_characters_before_the_window_give_the_longest_context_of_its_first_position():
    text = [0, 1, 2, 3, 0, 2, 1, 3, 2, *([4] * (SHORT - 9)), *[0, 1, 2, 3, 0, 2, 1, 3]]
    wanted = reference(text)
    assert len(text) - 1 - SHORT == 7 and wanted[-1].argmax() == 2  # where the first position ends
    part = np.array([text])[:, -1 - KEPT :]
    np.testing.assert_allclose(cache_probs(part, 1, V, SHORT)[0], wanted[-1:], atol=1e-12)
    assert np.abs(cache_probs(part[:, 1:], 1, V, SHORT)[0] - wanted[-1:]).max() > 1e-3
    assert N_BEFORE == WINDOW + MAX_CONTEXT - 1


def test_many_pairs_are_counted_in_parts():
    texts = np.random.default_rng(0).integers(2, size=(3, 80))
    contexts = contexts_of(texts)
    wanted = cache_probs(texts, 60, V, SHORT), word_cache_probs(texts, contexts, 60, V, SHORT)
    sizes = [len(row) for _, row, _ in earlier_occurrences(texts, 60, V, SHORT, 7)]
    assert len(sizes) > 100 and max(sizes) < 7 + SHORT
    np.testing.assert_array_equal(cache_probs(texts, 60, V, SHORT, 7), wanted[0])
    np.testing.assert_array_equal(word_cache_probs(texts, contexts, 60, V, SHORT, 7), wanted[1])
