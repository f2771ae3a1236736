"""Character n-grams equal a slow reference made of dictionaries, for a batch and character by character."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.errors import DataError, UsageError
from charlm.ngrams.char_ngram import CHUNK, SMOOTHINGS, InterpolatedNGram

V = 5
SYMBOLS = st.integers(0, V - 2)  # the last index is in no text that is counted


class Reference:
    """The same model by the formulas of the papers, in dictionaries and recursion."""

    def __init__(self, text, order, smoothing, *more_texts):
        self.order, self.smoothing = order, smoothing
        self.followers, self.discounts = defaultdict(dict), {}
        for k in range(1, order + 1):
            texts = (text, *more_texts)
            grams = [
                (tuple(t[i : i + k]), t[i - 1] if i else ("begins", j))
                for j, t in enumerate(texts)
                for i in range(len(t) - k + 1)
            ]
            counts = Counter(gram for gram, _ in grams)
            if smoothing == "kneser-ney" and k < order:
                counts = Counter(gram for gram, _ in set(grams))  # different symbols before it
            for gram, count in counts.items():
                self.followers[gram[:-1]][gram[-1]] = count
            self.discounts[k] = [self.discount(i, Counter(counts.values())) for i in (1, 2, 3)]

    @staticmethod
    def discount(i, n):
        if n[1] == 0 or n[i] == 0:
            return i / 2
        y = n[1] / (n[1] + 2 * n[2])
        found = i - (i + 1) * y * n[i + 1] / n[i]
        return found if 0 < found < i else i / 2

    def prob(self, context, symbol):
        lower = self.prob(context[1:], symbol) if context else 1 / V
        after = self.followers.get(context)
        if after is None:
            return lower
        c, total = after.get(symbol, 0), sum(after.values())
        if self.smoothing == "witten-bell":
            return (c + len(after) * lower) / (total + len(after))
        d = self.discounts[len(context) + 1]
        n = [sum(value == 1 for value in after.values()), sum(value == 2 for value in after.values())]
        gamma = (d[0] * n[0] + d[1] * n[1] + d[2] * (len(after) - sum(n))) / total
        return max(c - (d[min(c, 3) - 1] if c else 0), 0) / total + gamma * lower

    def probs(self, read):
        contexts = [tuple(read[max(0, t + 2 - self.order) : t + 1]) for t in range(len(read))]
        return [[self.prob(context, symbol) for symbol in range(V)] for context in contexts]


def counted(text, order, smoothing="kneser-ney", vocab_size=V):
    counts = InterpolatedNGram(vocab_size, order, smoothing)
    counts.count(np.array(text))
    return counts


def probs_of(counts, read):
    """Return the probabilities after each character of one text, (T, V), from a batch."""
    contexts, _ = counts.read(np.array([read]))
    return np.exp(counts.log_probs(contexts)[0].astype(np.float64))


def step_probs_of(counts, read):
    """Return the same character by character."""
    state, found = None, []
    for char in read:
        contexts, state = counts.step(char, state)
        found.append(counts.probs(contexts)[0])
    return np.array(found)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(SYMBOLS, min_size=5, max_size=60),
    st.lists(st.integers(0, V - 1), min_size=1, max_size=12),
    st.integers(1, 5),
    st.sampled_from(SMOOTHINGS),
)
def test_probabilities_are_those_of_the_reference_in_a_batch_and_step_by_step(text, read, order, smoothing):
    counts = counted(text, order, smoothing)
    expected = Reference(text, order, smoothing).probs(read)
    np.testing.assert_allclose(probs_of(counts, read), expected, rtol=1e-5)
    np.testing.assert_allclose(step_probs_of(counts, read), expected, rtol=1e-9)
    np.testing.assert_allclose(step_probs_of(counts, read).sum(axis=1), 1)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_on_a_longer_text_discounts_and_probabilities_are_those_of_the_formula(smoothing):
    text = np.random.default_rng(0).choice(4, 4000, p=[0.01, 0.6, 0.3, 0.09]).tolist()
    reference = Reference(text, 6, smoothing)
    assert all(0 < d < i and d != i / 2 for i, d in enumerate(reference.discounts[6], 1))
    read = text[:200] + [4] + text[100:110]
    np.testing.assert_allclose(probs_of(counted(text, 6, smoothing), read), reference.probs(read), rtol=1e-5)


def test_texts_of_a_batch_are_read_independently_and_in_parts():
    rng = np.random.default_rng(0)
    counts, texts = counted(rng.integers(4, size=500).tolist(), 4), rng.integers(5, size=(3, 50))
    for row, text in zip(counts.log_probs(counts.read(texts)[0]), texts.tolist(), strict=True):
        np.testing.assert_allclose(np.exp(row), probs_of(counts, text), rtol=1e-6)
    first, state = counts.read(texts[:, :2])
    second, _ = counts.read(texts[:, 2:], state)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=2), counts.read(texts)[0])


def test_more_positions_than_are_computed_at_once_give_the_same():
    counts, text = counted([1, 2, 3, 1, 1, 2] * 20, 3), np.random.default_rng(0).integers(5, size=2 * CHUNK + 100)
    np.testing.assert_array_equal(probs_of(counts, text.tolist())[-50:], probs_of(counts, text[-60:].tolist())[-50:])


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_after_an_unseen_context_the_frequencies_of_the_symbols_are_left(smoothing):
    counts = counted([1, 2, 1, 3, 1, 1, 2, 1, 0, 3], 3, smoothing)
    frequencies = Reference([1, 2, 1, 3, 1, 1, 2, 1, 0, 3], 3, smoothing).probs([4])[0]
    for read in ([4], [1, 4], [4, 4, 4]):
        assert probs_of(counts, read)[-1].tolist() == pytest.approx(frequencies, rel=1e-5)
    assert probs_of(counts, [4, 1])[-1].tolist() == pytest.approx(probs_of(counts, [1])[-1].tolist())


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_without_counts_the_distribution_is_uniform(smoothing):
    np.testing.assert_allclose(probs_of(InterpolatedNGram(V, 3, smoothing), [1, 2]), 1 / V, rtol=1e-6)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_an_unknown_symbol_is_possible_but_less_likely_than_any_seen(smoothing):
    found = probs_of(counted([1, 2, 3, 4] * 10, 3, smoothing), [1, 2])[-1]
    assert 0 < found[0] < found[1:].min()


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_after_a_long_and_certain_context_the_logits_of_other_symbols_are_finite(smoothing):
    counts = counted([1] * 100_000, 32, smoothing)
    contexts, _ = counts.read(np.ones((1, 40), np.int64))
    logits = counts.log_probs(contexts)
    assert np.isfinite(logits).all()
    assert np.exp(logits[0, -1]).tolist() == pytest.approx([0, 1, 0, 0, 0])


@pytest.mark.parametrize("vocab_size", [254, 255, 256, 257, 70_000])
def test_any_vocabulary_size_is_counted(vocab_size):
    low = probs_of(counted([0, 1, 2] * 5, 3, "witten-bell", vocab_size), [1, 2])[-1]
    top = vocab_size - 3
    high = probs_of(counted([top, top + 1, top + 2] * 5, 3, "witten-bell", vocab_size), [top + 1, top + 2])[-1]
    np.testing.assert_allclose(high[top:], low[:3], rtol=1e-6)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_there_is_one_count_for_each_distinct_k_gram(smoothing):
    text = np.random.default_rng(0).integers(4, size=300).tolist()
    n_grams = sum(len({tuple(text[i : i + k]) for i in range(len(text) - k + 1)}) for k in (1, 2, 3, 4))
    assert counted(text, 4, smoothing).n_counts == n_grams


def test_counting_replaces_earlier_counts():
    counts = counted([1, 2, 3] * 30, 3)
    counts.count(np.array([3, 1, 1, 2, 3, 2]))
    wanted = counted([3, 1, 1, 2, 3, 2], 3).arrays()
    assert all(np.array_equal(array, wanted[name]) for name, array in counts.arrays().items())


@settings(deadline=None, max_examples=60)
@given(
    st.lists(SYMBOLS, min_size=5, max_size=40),
    st.lists(SYMBOLS, min_size=1, max_size=40),
    st.lists(st.integers(1, 9), min_size=1),
    st.lists(st.integers(0, V - 1), min_size=1, max_size=8),
    st.integers(1, 5),
    st.sampled_from(SMOOTHINGS),
)
def test_updates_in_parts_equal_counting_two_texts_at_once(text, other, pieces, read, order, smoothing):
    counts, n_known = counted(text, order, smoothing), 0
    for n in itertools.cycle(pieces):
        if n_known == len(other):
            break
        counts.update(np.array(other[: n_known + n]), n_known)
        n_known = min(n_known + n, len(other))
    expected = Reference(text, order, smoothing, other).probs(read)
    np.testing.assert_allclose(probs_of(counts, read), expected, rtol=1e-5)


def test_a_text_shorter_than_the_order_cannot_be_counted():
    counted([1, 2, 3], 3)
    with pytest.raises(DataError, match="at least 3"):
        counted([1, 2], 3)


@pytest.mark.parametrize(("options", "message"), [({"order": 33}, "at most 32"), ({"smoothing": "none"}, "one of")])
def test_an_invalid_option_is_a_usage_error(options, message):
    with pytest.raises(UsageError, match=message):
        InterpolatedNGram(V, **{"order": 3} | options)


CRAFTED = {
    "keys of another type": ("keys_2", lambda keys: keys.astype(np.int32)),
    "counts of another type": ("counts_2", lambda counts: counts.astype(np.float32)),
    "a table of keys": ("keys_1", lambda keys: keys[None]),
    "fewer counts than keys": ("counts_2", lambda counts: counts[1:]),
    "fewer keys than counts": ("keys_2", lambda keys: keys[1:]),
    "keys out of order": ("keys_2", lambda keys: keys[::-1]),
    "a key twice": ("keys_3", lambda keys: np.append(keys[:1], keys[:-1])),
    "a negative key": ("keys_1", lambda keys: np.append(keys[:1] - 9, keys[1:])),
    "a symbol too high": ("keys_1", lambda keys: np.append(keys[:-1], keys[-1:] + 9)),
    "a parent that does not exist": ("keys_3", lambda keys: np.append(keys[:-1], keys[-1:] + 99)),
    "a key that wraps around": ("keys_2", lambda keys: np.insert(keys[2:], 0, [keys[0], -(2**63)])),
    "a count of 0": ("counts_3", lambda counts: counts * 0),
    "a negative count": ("counts_1", lambda counts: -counts),
}


@pytest.mark.parametrize(("name", "change"), CRAFTED.values(), ids=CRAFTED)
def test_invalid_stored_counts_are_refused_and_change_nothing(name, change):
    counts = counted([1, 2, 3, 1, 1, 2, 4, 1, 3, 2, 2], 3)
    before = counts.arrays()
    with pytest.raises(ValueError, match="level [123]"):
        counts.load(before | {name: change(before[name])})
    with pytest.raises(ValueError, match=name):
        counts.load({key: array for key, array in before.items() if key != name})
    with pytest.raises(ValueError, match="keys_9"):
        counts.load(before | {"keys_9": before["keys_1"]})
    assert all(array is before[key] for key, array in counts.arrays().items())


def test_stored_counts_give_the_same_probabilities():
    counts, loaded = counted([1, 2, 3, 1, 1, 2, 4, 1, 3, 2, 2], 3), InterpolatedNGram(V, 3)
    loaded.load(counts.arrays())
    np.testing.assert_array_equal(probs_of(loaded, [1, 2, 4, 0]), probs_of(counts, [1, 2, 4, 0]))


def test_a_trie_that_lacks_a_suffix_still_gives_distributions():
    arrays = counted([1, 2, 3, 1, 1, 2, 4, 1, 3, 2, 2], 3).arrays()
    kept = arrays["keys_3"][arrays["keys_3"] < V][:1]
    arrays |= {"keys_2": arrays["keys_2"][:1], "counts_2": arrays["counts_2"][:1]}
    arrays |= {"keys_3": kept, "counts_3": arrays["counts_3"][: len(kept)]}
    counts = InterpolatedNGram(V, 3)
    counts.load(arrays)
    for read in itertools.product(range(V), repeat=3):
        found = probs_of(counts, list(read))
        assert (found > 0).all() and found.sum(axis=1).tolist() == pytest.approx([1, 1, 1])
        np.testing.assert_allclose(step_probs_of(counts, read), found, rtol=1e-5)
