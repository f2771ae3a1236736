"""What was read of late: the same as a slow reference that looks back place by place, in torch and in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import charlm.generation.steps.recent as steps
import charlm.ngrams.cache_model as model
from charlm.ngrams.word_contexts import word_contexts

V, SHORT = 5, 40
KEPT = SHORT + model.LONGEST - 1  # as N_REMEMBERED
KINDS = torch.tensor([1, 1, 2, 3, 0], dtype=torch.uint8)
TEXTS = st.lists(st.integers(0, V - 1), min_size=1, max_size=90)


@pytest.fixture(autouse=True)
def _remembers_little(monkeypatch):
    for module in (model, steps):
        monkeypatch.setattr(module, "N_RECENT", SHORT)


def longer(probs, after):
    """Return what is expected with one more context, after which these symbols came."""
    char_classes = len(set(after))
    counts = np.bincount(after, minlength=V) if after else np.zeros(V)
    return (counts + char_classes * probs) / (len(after) + char_classes) if after else probs


def reference(text):
    """Return what is expected by characters after each, by the formula, (N, V)."""
    found = []
    for t in range(len(text)):
        probs = np.full(V, 1 / V)
        for k in range(3, 9):
            last = text[t - k + 1 : t + 1]
            places = (s for s in range(max(0, t - SHORT), t) if s >= k - 1 and text[s - k + 1 : s + 1] == last)
            probs = longer(probs, [text[s + 1] for s in places])
        found.append(probs)
    return np.array(found)


def word_reference(text, contexts):
    """Return what is expected by words after each character, by the formula, (N, V)."""
    found = []
    for t, (begun, both) in enumerate(contexts):
        earlier, probs = range(max(0, t - SHORT), t), np.full(V, 1 / V)
        if begun:
            probs = longer(probs, [text[s + 1] for s in earlier if contexts[s][0] == begun])
        found.append(longer(probs, [text[s + 1] for s in earlier if contexts[s][1] == both]))
    return np.array(found)


def contexts_of(texts):
    """Return the contexts of words after each character, (B, N, 2)."""
    return word_contexts(texts, KINDS)[0][..., :2]


def test_the_last_characters_are_counted_and_no_others():
    text = [0, 1, 2, 3, *([4] * (SHORT - 5)), 0, 1, 2]
    probs = model.recent_probs(torch.tensor([text]), len(text), V)[0, -1]
    torch.testing.assert_close(probs, torch.tensor([0.1, 0.1, 0.1, 0.6, 0.1], dtype=torch.float64))
    text = [0, 1, 2, 3, *([4] * (SHORT - 3)), 0, 1, 2]
    probs = model.recent_probs(torch.tensor([text]), len(text), V)[0, -1]
    torch.testing.assert_close(probs, torch.full((V,), 0.2, dtype=torch.float64))


@given(text=TEXTS, n_before=st.integers(0, 60))
def test_it_is_the_reference(text, n_before):
    n_read = len(text) - min(n_before, len(text) - 1)
    wanted, part = reference(text), torch.tensor([text])[:, -n_read - KEPT :]
    np.testing.assert_allclose(model.recent_probs(part, n_read, V)[0].numpy(), wanted[-n_read:], atol=1e-12)
    reader = steps.Recent(V)
    reader.allocate(())
    np.testing.assert_allclose([reader.step(char)[0] for char in text], wanted, atol=1e-12)


@given(text=TEXTS, n_before=st.integers(0, 60))
def test_words_are_the_reference(text, n_before):
    n_read = len(text) - min(n_before, len(text) - 1)
    texts = torch.tensor([text])
    contexts = contexts_of(texts)
    wanted = word_reference(text, contexts[0].tolist())
    part, of_part = texts[:, -n_read - KEPT :], contexts[:, -n_read - KEPT :]
    found = model.recent_word_probs(part, of_part, n_read, V)[0].numpy()
    np.testing.assert_allclose(found, wanted[-n_read:], atol=1e-12)
    reader = steps.RecentWords(V)
    reader.allocate(())
    read = [reader.step(char, after)[0] for char, after in zip(text, contexts[0].tolist(), strict=True)]
    np.testing.assert_allclose(read, wanted, atol=1e-12)


def test_texts_side_by_side_are_read_apart():
    texts = torch.randint(2, (3, 80))
    contexts = contexts_of(texts)
    wanted = np.array([reference(text) for text in texts.tolist()])
    by_words = np.array([word_reference(*each) for each in zip(texts.tolist(), contexts.tolist(), strict=True)])
    late = texts[:, 50 - KEPT :], contexts[:, 50 - KEPT :]
    np.testing.assert_allclose(model.recent_probs(late[0], 30, V).numpy(), wanted[:, 50:], atol=1e-12)
    np.testing.assert_allclose(model.recent_word_probs(*late, 30, V).numpy(), by_words[:, 50:], atol=1e-12)
    reader, words = steps.Recent(V), steps.RecentWords(V)
    for each in (reader, words):
        each.allocate((3,))
    for place in range(80):
        chars, after = texts[:, place].numpy(), contexts[:, place].T.numpy()
        np.testing.assert_allclose(reader.step(chars), wanted[:, place], atol=1e-12)
        np.testing.assert_allclose(words.step(chars, after), by_words[:, place], atol=1e-12)


def test_a_short_beginning_has_nothing_before_it():
    for n_read in (1, 2):
        probs = model.recent_probs(torch.zeros(2, n_read, dtype=torch.int64), n_read, V)
        torch.testing.assert_close(probs, torch.full((2, n_read, V), 1 / V, dtype=torch.float64))


def test_what_is_kept_is_enough_for_the_longest_context_of_the_oldest_place():
    text = [0, 1, 2, 3, 0, 2, 1, 3, 2, *([4] * (SHORT - 9)), *[0, 1, 2, 3, 0, 2, 1, 3]]
    wanted = reference(text)
    assert len(text) - 1 - SHORT == 7 and wanted[-1].argmax() == 2  # where the oldest place ends
    part = torch.tensor([text])[:, -1 - KEPT :]
    np.testing.assert_allclose(model.recent_probs(part, 1, V)[0].numpy(), wanted[-1:], atol=1e-12)
    assert np.abs(model.recent_probs(part[:, 1:], 1, V)[0].numpy() - wanted[-1:]).max() > 1e-3


def test_many_pairs_are_counted_some_at_a_time(monkeypatch):
    texts = torch.randint(2, (3, 80))
    contexts = contexts_of(texts)
    wanted = model.recent_probs(texts, 60, V), model.recent_word_probs(texts, contexts, 60, V)
    monkeypatch.setattr(model, "N_PAIRS", 7)
    sizes = [len(asked) for asked, _ in model.recent_pairs(texts, 60)]
    assert len(sizes) > 100 and max(sizes) < 7 + SHORT
    found = model.recent_probs(texts, 60, V), model.recent_word_probs(texts, contexts, 60, V)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_both_remember_the_same():
    assert model.N_REMEMBERED == 16384 + 8 - 1
    assert (model.N_RECENT, model.SHORTEST, model.LONGEST) == (steps.N_RECENT, steps.SHORTEST, steps.LONGEST)
