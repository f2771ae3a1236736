"""What was read of late: the same as a slow reference that looks back character by character, in torch and in numpy."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import charlm.models.recent as model
import charlm.steps.recent as steps

V, SHORT = 5, 40
TEXTS = st.lists(st.integers(0, V - 1), min_size=1, max_size=90)


@pytest.fixture(autouse=True)
def _remembers_little(monkeypatch):
    for module in (model, steps):
        monkeypatch.setattr(module, "N_RECENT", SHORT)


def reference(text):
    """Return what is expected after each character, by the formula, (N, V)."""
    found = []
    for t in range(len(text)):
        probs = np.full(V, 1 / V)
        for k in range(3, 9):
            last = text[t - k + 1 : t + 1]
            after = Counter(
                text[s + 1] for s in range(max(0, t - SHORT), t) if s >= k - 1 and text[s - k + 1 : s + 1] == last
            )
            if after:
                counts = np.array([after[w] for w in range(V)])
                probs = (counts + len(after) * probs) / (counts.sum() + len(after))
        found.append(probs)
    return np.array(found)


def test_the_last_characters_are_counted_and_no_others():
    text = [0, 1, 2, 3, *([4] * (SHORT - 5)), 0, 1, 2]
    probs = model.recent_probs(torch.tensor([text]), torch.empty(1, 0, dtype=torch.int64), V)[0, -1]
    torch.testing.assert_close(probs, torch.tensor([0.1, 0.1, 0.1, 0.6, 0.1], dtype=torch.float64))
    text = [0, 1, 2, 3, *([4] * (SHORT - 3)), 0, 1, 2]
    probs = model.recent_probs(torch.tensor([text]), torch.empty(1, 0, dtype=torch.int64), V)[0, -1]
    torch.testing.assert_close(probs, torch.full((V,), 0.2, dtype=torch.float64))


@given(text=TEXTS, n_before=st.integers(0, 60))
def test_it_is_the_reference(text, n_before):
    before, chars = text[:-1][:n_before][-SHORT:], text[:-1][n_before:] + text[-1:]
    tensors = torch.tensor([chars]), torch.tensor([before], dtype=torch.int64)
    wanted = reference(text)
    np.testing.assert_allclose(model.recent_probs(*tensors, V)[0].numpy(), wanted[-len(chars) :], atol=1e-12)
    reader = steps.Recent(V)
    reader.allocate(())
    np.testing.assert_allclose([reader.step(char)[0] for char in text], wanted, atol=1e-12)


def test_texts_side_by_side_are_read_apart():
    texts = torch.randint(2, (3, 80))
    wanted = [reference(text) for text in texts.tolist()]
    found = model.recent_probs(texts[:, 50:], texts[:, 50 - SHORT : 50], V)
    np.testing.assert_allclose(found.numpy(), [probs[50:] for probs in wanted], atol=1e-12)
    reader = steps.Recent(V)
    reader.allocate((3,))
    read = np.stack([reader.step(chars) for chars in texts.T.numpy()], axis=1)
    np.testing.assert_allclose(read, wanted, atol=1e-12)


def test_both_remember_the_same():
    assert (model.N_RECENT, model.SHORTEST, model.LONGEST) == (steps.N_RECENT, steps.SHORTEST, steps.LONGEST)
