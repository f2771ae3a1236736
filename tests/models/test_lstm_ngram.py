"""The LSTM that reads what counts expect: in the text that was counted, each character is expected by the others."""

import math
from collections import Counter

import pytest
import torch

from charlm import checkpoint, training
from charlm.corpus import make_corpus
from charlm.lr_find import find_rate
from charlm.models import build
from charlm.models.ngram import NGram
from charlm.recipe import Recipe

TEXT = ("the cat sat on the mat, and the dog sat on the log. " * 30).encode()
V, ORDER = 4, 3
OPTIONS = {"n_embed": 4, "n_hidden": 8, "order": ORDER}


@pytest.fixture(params=range(4))
def codes(request):
    return torch.randint(V, (60 + request.param,), generator=torch.Generator().manual_seed(request.param))


@pytest.fixture
def counted(codes):
    model = build("lstm-ngram", V, **OPTIONS)
    model.count(codes)
    return model


def tables(codes, smoothing, but):
    """Return the counts of each k-gram, k = 1..n, but for the n-gram that ends at a place."""
    text = codes.tolist()
    grams = [Counter(tuple(text[i : i + k]) for i in range(len(text) - k + 1)) for k in range(1, ORDER + 1)]
    ends = [tuple(text[but - k + 1 : but + 1]) for k in range(1, ORDER + 1)]
    grams[-1][ends[-1]] -= 1
    for k in reversed(range(ORDER - 1)):
        if smoothing == "kneser-ney":  # how many different symbols stand before it, the text's beginning among them
            grams[k] = Counter(gram[1:] for gram, count in grams[k + 1].items() if count > 0)
            grams[k][tuple(text[: k + 1])] += 1
        else:
            grams[k][ends[k]] -= 1
    return grams


def probs_by_hand(model, grams, context):
    """Return what follows a context by the formula of `ngram.py`, with the discounts of the model."""
    probs = [1 / V] * V
    for k in range(ORDER):
        counts = [grams[k].get((*context[len(context) - k :], w), 0) for w in range(V)]
        freed = [model.head.freed[k, min(count, 3)].item() for count in counts]
        kept = [
            count - (f if model.head.smoothing == "kneser-ney" else 0) for count, f in zip(counts, freed, strict=True)
        ]
        if (total := sum(kept) + sum(freed)) > 0:
            probs = [(kept[w] + sum(freed) * probs[w]) / total for w in range(V)]
    return probs


@pytest.mark.parametrize("smoothing", ["kneser-ney", "witten-bell"])
def test_an_occurrence_that_is_taken_out_is_in_no_count(codes, smoothing):
    model = NGram(V, ORDER, smoothing)
    model.count(codes)
    nodes, _ = model.features(codes.unsqueeze(0))
    log_probs = model.head(nodes[:, :-1], without=codes[1:].unsqueeze(0))[0]
    for t in range(ORDER - 2, len(codes) - 1):
        grams = tables(codes, smoothing, but=t + 1)
        by_hand = probs_by_hand(model, grams, tuple(codes[t - ORDER + 2 : t + 1].tolist()))
        torch.testing.assert_close(log_probs[t].exp(), torch.tensor(by_hand), atol=1e-5, rtol=1e-5)


def test_in_evaluation_the_counts_say_all_they_know(counted, codes):
    expected, _ = counted.eval().expected(codes.unsqueeze(0), None)
    torch.testing.assert_close(expected * 3 - math.log(V), counted.counts(codes.unsqueeze(0))[0])


def test_in_training_nothing_is_expected_after_the_last_character_and_of_none_its_own_occurrence(counted, codes):
    expected, _ = counted.train().expected(codes.unsqueeze(0), None)
    assert expected[:, -1].abs().max() == 0
    nodes, _ = counted.counts.features(codes.unsqueeze(0))
    others = counted.counts.head(nodes[:, :-1], without=codes[1:].unsqueeze(0))
    torch.testing.assert_close(expected[:, :-1] * 3 - math.log(V), others)


def test_what_nothing_was_counted_for_is_as_likely_as_chance():
    model = build("lstm-ngram", V, **OPTIONS)
    expected, _ = model.eval().expected(torch.randint(V, (2, 5)), None)
    assert expected.abs().max() < 1e-6


def test_in_evaluation_a_text_in_pieces_reads_as_in_one(counted):
    counted.eval()
    chars = torch.randint(V, (2, 30))
    half, state = counted(chars[:, :13])
    torch.testing.assert_close(torch.cat([half, counted(chars[:, 13:], state)[0]], 1), counted(chars)[0])


def test_after_a_short_training_it_is_better_than_the_lstm_alone(tmp_path):
    corpus = make_corpus(TEXT, "cats")
    common = {"epochs": 3, "batch_size": 4, "bptt": 16, "device": "cpu", "learning_rate": 0.01}
    sizes = {"n_embed": 4, "n_hidden": 16}
    nats = {}
    for name, options in {"awd-lstm": sizes, "lstm-ngram": sizes | {"order": 3}}.items():
        trained = training.train(Recipe().changed(model=name, options=options, **common), corpus, tmp_path / name)
        nats[name] = trained.about.result["valid_nats"]
    assert nats["lstm-ngram"] < nats["awd-lstm"] - 0.5
    model, about = checkpoint.load(tmp_path / "lstm-ngram" / "best.safetensors")
    chars = torch.randint(V, (1, 40))
    torch.testing.assert_close(model(chars)[0], trained.model.eval()(chars)[0], rtol=0, atol=0)
    assert about.result["valid_nats"] == nats["lstm-ngram"]


def test_a_search_for_the_learning_rate_counts_the_text_too():
    recipe = Recipe().changed(options={"n_embed": 4, "n_hidden": 8}, batch_size=4, bptt=16, device="cpu")
    corpus, least = make_corpus(TEXT, "cats"), {}
    for name in ("lstm-ngram", "lstm"):
        least[name] = min(find_rate(recipe.changed(model=name), corpus, n_steps=100).nats)
    assert least["lstm-ngram"] < least["lstm"] - 0.3
