"""Counting: as good as a slow reference made of dictionaries, and as the numbers known for the Nietzsche text."""

import itertools
from collections import Counter, defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.data.corpus import make_corpus
from charlm.errors import CheckpointError, DataError, UsageError
from charlm.evaluation.metrics import evaluate
from charlm.generation import generator
from charlm.models.ngram import SMOOTHINGS, NGram
from charlm.storage import checkpoint
from charlm.storage.checkpoint import Metadata

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
                counts = Counter(gram for gram, _ in set(grams))  # after how many symbols
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


def counted(text, order, smoothing, vocab_size=V):
    model = NGram(vocab_size, order, smoothing)
    model.fit_counts(torch.tensor(text))
    return model


def probs(model, read):
    return model(torch.tensor([read]))[0][0].double().exp()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(SYMBOLS, min_size=5, max_size=60),
    st.lists(st.integers(0, V - 1), min_size=1, max_size=12),
    st.integers(1, 5),
    st.sampled_from(SMOOTHINGS),
)
def test_probabilities_are_those_of_the_reference(text, read, order, smoothing):
    found = probs(counted(text, order, smoothing), read)
    expected = torch.tensor(Reference(text, order, smoothing).probs(read), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(len(read), dtype=torch.float64), rtol=1e-5, atol=0)
    assert (found > 0).all()


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_on_a_longer_text_the_discounts_are_of_the_formula_and_so_are_the_probabilities(smoothing):
    text = torch.multinomial(torch.tensor([0.01, 0.6, 0.3, 0.09]), 4000, replacement=True).tolist()
    reference = Reference(text, 6, smoothing)
    assert all(0 < d < i and d != i / 2 for i, d in enumerate(reference.discounts[6], 1))
    read = text[:200] + [4] + text[100:110]
    expected = torch.tensor(reference.probs(read), dtype=torch.float64)
    torch.testing.assert_close(probs(counted(text, 6, smoothing), read), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_after_what_was_never_counted_only_the_frequencies_of_the_symbols_are_left(smoothing):
    model = counted([1, 2, 1, 3, 1, 1, 2, 1, 0, 3], 3, smoothing)
    frequencies = Reference([1, 2, 1, 3, 1, 1, 2, 1, 0, 3], 3, smoothing).probs([4])[0]
    for read in ([4], [1, 4], [4, 4, 4]):
        assert probs(model, read)[-1].tolist() == pytest.approx(frequencies, rel=1e-5)
    assert probs(model, [4, 1])[-1].tolist() == pytest.approx(probs(model, [1])[-1].tolist())


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_a_model_that_has_counted_nothing_finds_all_alike(smoothing):
    torch.testing.assert_close(probs(NGram(V, 3, smoothing), [1, 2]), torch.full((2, V), 1 / V, dtype=torch.float64))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_what_is_unknown_is_possible_but_less_so_than_anything_seen(smoothing):
    found = probs(counted([1, 2, 3, 4] * 10, 3, smoothing), [1, 2])[-1]
    assert 0 < found[0] < found[1:].min()


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_the_impossible_after_a_long_and_certain_context_still_has_finite_logits(smoothing):
    model = counted([1] * 100_000, 32, smoothing)
    logits, _ = model(torch.ones(1, 40, dtype=torch.long))
    assert logits.isfinite().all()
    assert logits[0, -1].exp().tolist() == pytest.approx([0, 1, 0, 0, 0])


@pytest.mark.parametrize("vocab_size", [254, 255, 256, 257, 70_000])
def test_any_number_of_symbols_will_do(vocab_size):
    low = probs(counted([0, 1, 2] * 5, 3, "witten-bell", vocab_size), [1, 2])[-1]
    top = vocab_size - 3
    high = probs(counted([top, top + 1, top + 2] * 5, 3, "witten-bell", vocab_size), [top + 1, top + 2])[-1]
    torch.testing.assert_close(high[top:], low[:3])


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_parameters_are_the_different_k_grams(smoothing):
    text = torch.randint(4, (300,)).tolist()
    n_grams = sum(len({tuple(text[i : i + k]) for i in range(len(text) - k + 1)}) for k in (1, 2, 3, 4))
    assert counted(text, 4, smoothing).n_parameters == n_grams


def test_counting_again_forgets_what_was_counted_before():
    model = counted([1, 2, 3] * 30, 3, "kneser-ney")
    model.fit_counts(torch.tensor([3, 1, 1, 2, 3, 2]))
    torch.testing.assert_close(model.state_dict(), counted([3, 1, 1, 2, 3, 2], 3, "kneser-ney").state_dict())


@settings(deadline=None, max_examples=60)
@given(
    st.lists(SYMBOLS, min_size=5, max_size=40),
    st.lists(SYMBOLS, min_size=1, max_size=40),
    st.lists(st.integers(1, 9), min_size=1),
    st.lists(st.integers(0, V - 1), min_size=1, max_size=8),
    st.integers(1, 5),
    st.sampled_from(SMOOTHINGS),
)
def test_counting_on_piece_by_piece_is_counting_two_texts_at_once(text, other, pieces, read, order, smoothing):
    model, n_known = counted(text, order, smoothing), 0
    for n in itertools.cycle(pieces):
        if n_known == len(other):
            break
        model.update_counts(torch.tensor(other[: n_known + n]), n_known)
        n_known = min(n_known + n, len(other))
    expected = torch.tensor(Reference(text, order, smoothing, other).probs(read), dtype=torch.float64)
    torch.testing.assert_close(probs(model, read), expected, rtol=1e-5, atol=0)


def test_a_text_shorter_than_the_order_cannot_be_counted():
    counted([1, 2, 3], 3, "kneser-ney")
    with pytest.raises(DataError, match="at least 3"):
        counted([1, 2], 3, "kneser-ney")


@pytest.mark.parametrize(("options", "message"), [({"order": 33}, "at most 32"), ({"smoothing": "none"}, "one of")])
def test_an_option_that_cannot_be_meant_is_a_usage_error(options, message):
    with pytest.raises(UsageError, match=message):
        NGram(V, **options)


@pytest.mark.parametrize(("lower", "nats"), [(True, 1.465), (False, 1.491)])
def test_witten_bell_of_order_5_needs_the_known_number_of_nats(lower, nats, nietzsche):
    corpus = make_corpus(nietzsche.read_bytes(), "nietzsche", "tail20", lower=lower)
    ids = torch.from_numpy(corpus.ids)
    model = NGram(len(corpus.vocab), 5, "witten-bell")
    model.fit_counts(torch.from_numpy(corpus.part("train")))
    score = evaluate(model, ids, *corpus.bounds["valid"], n_lanes=32)
    assert score.nats_per_char == pytest.approx(nats, abs=0.005)


TEXT = [1, 2, 3, 1, 1, 2, 4, 1, 3, 2, 2]
OPTIONS = {"order": 3, "smoothing": "kneser-ney"}


def saved(path, options, change=lambda model: None):
    """Write a checkpoint of a small model whose tensors were changed, with a hash that is correct."""
    model = counted(TEXT, 3, "kneser-ney")
    change(model)
    checkpoint.save(path, model, Metadata("ngram", options, V, [97, 98, 99, 100], False, None))


def put(name, change):
    """Return a function that changes one tensor of a model."""

    def replace(model):
        module, name_there = model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        setattr(module, name_there, change(getattr(module, name_there)))

    return replace


CRAFTED = {
    "keys of another type": ("head.keys_2", lambda keys: keys.int()),
    "counts of another type": ("head.counts_2", lambda counts: counts.float()),
    "a table of keys": ("head.keys_1", lambda keys: keys.unsqueeze(0)),
    "fewer counts than keys": ("head.counts_2", lambda counts: counts[1:]),
    "fewer keys than counts": ("head.keys_2", lambda keys: keys[1:]),
    "keys out of order": ("head.keys_2", lambda keys: keys.flip(0)),
    "a key twice": ("head.keys_3", lambda keys: torch.cat([keys[:1], keys[:-1]])),
    "a negative key": ("head.keys_1", lambda keys: torch.cat([keys[:1] - 9, keys[1:]])),
    "a symbol too high": ("head.keys_1", lambda keys: torch.cat([keys[:-1], keys[-1:] + 9])),
    "a parent that is not there": ("head.keys_3", lambda keys: torch.cat([keys[:-1], keys[-1:] + 99])),
    "a key that wraps around": (
        "head.keys_2",
        lambda keys: torch.cat([keys[:1], torch.tensor([-(2**63)]), keys[2:]]),
    ),
    "a count of 0": ("head.counts_3", lambda counts: counts * 0),
    "a negative count": ("head.counts_1", lambda counts: -counts),
}


def test_a_file_that_is_right_is_read_and_half_precision_leaves_the_counts_alone(tmp_path):
    saved(tmp_path / "x", OPTIONS)
    assert generator.load(tmp_path / "x") is not None
    model, metadata = checkpoint.load(tmp_path / "x")
    checkpoint.save(tmp_path / "half", model, metadata, torch.float16)
    chars = torch.tensor([TEXT])
    for path in ("x", "half"):
        assert torch.equal(checkpoint.load(tmp_path / path)[0](chars)[0], counted(TEXT, 3, "kneser-ney")(chars)[0])


@pytest.mark.parametrize(("name", "change"), CRAFTED.values(), ids=CRAFTED)
def test_counts_that_do_not_hold_together_are_refused(name, change, tmp_path):
    saved(tmp_path / "x", OPTIONS, put(name, change))
    with pytest.raises(CheckpointError, match="level [123]"):
        checkpoint.load(tmp_path / "x")
    assert generator.load(tmp_path / "x") is None


@pytest.mark.parametrize("changes", [{"order": 2}, {"order": 4}, {"order": 10**9}, {"smoothing": "x"}], ids=str)
def test_options_that_do_not_fit_the_counts_are_refused(changes, tmp_path):
    saved(tmp_path / "x", OPTIONS | changes)
    with pytest.raises(CheckpointError, match="do not fit"):
        checkpoint.load(tmp_path / "x")
    assert generator.load(tmp_path / "x") is None


def test_a_trie_that_lacks_a_suffix_is_odd_but_does_no_harm(tmp_path):
    def without_the_gram_2(model):
        put("head.keys_2", lambda keys: keys[:1])(model)
        put("head.counts_2", lambda counts: counts[:1])(model)
        put("head.keys_3", lambda keys: keys[keys < V][:1])(model)
        put("head.counts_3", lambda counts: counts[: len(model.head.keys_3)])(model)

    saved(tmp_path / "x", OPTIONS, without_the_gram_2)
    model, _ = checkpoint.load(tmp_path / "x")
    for read in itertools.product(range(V), repeat=3):
        found = probs(model, list(read))
        assert (found > 0).all() and found.sum(dim=1).tolist() == pytest.approx([1, 1, 1])
        logits = generator.load(tmp_path / "x").reader().read(read)
        assert logits.tolist() == pytest.approx(found[-1].log().tolist(), rel=1e-5)
