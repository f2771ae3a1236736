"""The LSTM that reads what counts expect: in the text that was counted, each part is expected by the others."""

import itertools
import math

import pytest
import torch

from charlm.data.corpus import make_corpus
from charlm.data.feeds import Stream
from charlm.evaluation.dynamic import gradient_rms
from charlm.evaluation.metrics import evaluate
from charlm.experiments.lr_find import find_rate
from charlm.models import build, lstm_ngram
from charlm.models.lstm_ngram import N_FOLDS
from charlm.models.ngram import NGram
from charlm.models.word_ngram import WordNGram
from charlm.ngrams.cache_model import recent_probs, recent_word_probs
from charlm.ngrams.word_contexts import word_contexts
from charlm.recipe import Recipe
from charlm.storage import checkpoint
from charlm.training import session

TEXT = ("the cat sat on the mat, and the dog sat on the log. " * 30).encode()
V, ORDER = 4, 3
OPTIONS = {"n_embed": 4, "n_hidden": 8, "order": ORDER}
KINDS = torch.tensor([3, 1, 1, 2], dtype=torch.uint8)


@pytest.fixture(params=range(4))
def ids(request):
    return torch.randint(V, (60 + request.param,), generator=torch.Generator().manual_seed(request.param))


@pytest.fixture(params=[WordNGram, NGram])
def counts(request):
    """Return a function that counts a text in the same way as the model of the test."""

    def count(ids):
        model = request.param(V, ORDER)
        model.fit_counts(ids, KINDS)
        return model

    return count


@pytest.fixture
def counted(ids, counts):
    """Return the model of the test; it remembers nothing of late, which the text could not be compared without."""
    model = build("lstm-ngram", V, **OPTIONS, words=isinstance(counts(ids), WordNGram), recent=False)
    model.fit_counts(ids, KINDS)
    return model


def log_probs_of(model, chars, places=None):
    """Return what is expected, (B, T, K V)."""
    return model.features(chars, None, places)[0][..., OPTIONS["n_hidden"] :] - math.log(V)


def opinions_of(model, chars):
    """Return the same of counts alone."""
    return model.head.expert_log_probs(model.features(chars)[0]).flatten(2)


def test_in_evaluation_the_counts_say_all_they_know(counted, counts, ids):
    chars = ids.unsqueeze(0)
    torch.testing.assert_close(log_probs_of(counted, chars), opinions_of(counts(ids), chars))


def test_beside_the_counts_stands_what_was_read_of_late(ids):
    model, chars = build("lstm-ngram", V, **OPTIONS), ids.unsqueeze(0)
    model.fit_counts(ids, KINDS)
    of_words = recent_word_probs(chars, word_contexts(chars, KINDS)[0][..., :2], len(ids), V)
    wanted = torch.cat([recent_probs(chars, len(ids), V), of_words], dim=-1).log().float()
    torch.testing.assert_close(log_probs_of(model, chars)[..., -2 * V :], wanted)
    # In the training text it is what stood in the same part of it, and shortly before.
    place = len(ids) // N_FOLDS - 2
    found = log_probs_of(model, chars[:, place : place + 2], torch.tensor([place]))[..., -2 * V :]
    torch.testing.assert_close(found, wanted[:, place : place + 2], rtol=2e-3, atol=2e-3)


def test_each_part_of_the_text_is_expected_by_counts_of_the_others(counted, counts, ids):
    first = [len(ids) * i // N_FOLDS for i in range(N_FOLDS + 1)]
    places = torch.tensor([0, *first[1:-1], 10, len(ids) - 4])
    chars = torch.stack([ids[place : place + 4] for place in places.tolist()])
    log_probs, n_compared = log_probs_of(counted, chars, places), 0
    for part in range(N_FOLDS):
        others = counts(torch.cat([ids[: first[part]], ids[first[part + 1] :]]))
        alone = opinions_of(others, ids.unsqueeze(0))[0]
        for row, place in enumerate(places.tolist()):
            for i in range(max(place, first[part]), min(place + 4, first[part + 1])):
                # The text is remembered in half precision.
                torch.testing.assert_close(log_probs[row, i - place], alone[i], rtol=2e-3, atol=2e-3)
                n_compared += 1
    assert n_compared == 4 * len(places)


def test_a_long_text_is_read_piece_by_piece(counted, ids, monkeypatch):
    expected = counted.expected
    monkeypatch.setattr(lstm_ngram, "N_AT_ONCE", 7)
    counted.fit_counts(ids, KINDS)
    torch.testing.assert_close(counted.expected, expected)


@pytest.mark.parametrize(("n_kept", "n_folds"), [(7, 1), (10, 2), (40, 6)])
def test_of_a_long_text_it_learns_from_the_end_and_counts_all(n_kept, n_folds, ids, counts, monkeypatch):
    model = build("lstm-ngram", V, **OPTIONS, words=isinstance(counts(ids), WordNGram), recent=False)
    monkeypatch.setattr(lstm_ngram, "MAX_CACHED", n_kept * model.n_expected + 1)
    model.fit_counts(ids, KINDS)
    torch.testing.assert_close(model.training_span(ids), ids[-n_kept:], rtol=0, atol=0)
    assert len(model.expected) == n_kept
    first = [len(ids) - n_kept + n_kept * i // n_folds for i in range(n_folds + 1)]
    for begin, end in itertools.pairwise(first):
        others = opinions_of(counts(torch.cat([ids[:begin], ids[end:]])), ids.unsqueeze(0))[0]
        found = model.expected[begin - len(ids) + n_kept :][: end - begin].float() - math.log(V)
        torch.testing.assert_close(found, others[begin:end], rtol=2e-3, atol=2e-3)
    whole = counts(ids)
    torch.testing.assert_close(model.counts.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_of_a_still_longer_text_the_end_is_counted(ids, counts, monkeypatch):
    model = build("lstm-ngram", V, **OPTIONS, words=isinstance(counts(ids), WordNGram))
    monkeypatch.setattr(lstm_ngram, "N_COUNTED", 30)
    model.fit_counts(ids, KINDS)
    assert len(model.training_span(ids)) == len(model.expected) == 30
    torch.testing.assert_close(model.counts.state_dict(), counts(ids[-30:]).state_dict(), rtol=0, atol=0)


def test_its_score_in_training_is_by_counts_of_the_other_parts(tmp_path):
    letters = torch.randint(97, 123, (4000,), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    corpus = make_corpus(letters.numpy().tobytes(), "noise", "all")  # nothing to be learned, much to be known by heart
    trained = session.train(Recipe().replace(model="lstm-ngram", options=OPTIONS, epochs=1, device="cpu"), corpus)
    assert math.log(26) - 0.1 < trained.metadata.result["train_nats"] < math.log(26) + 0.5
    whole = evaluate(trained.model, torch.from_numpy(corpus.ids), 0, 4000)
    assert whole.nats_per_char < math.log(26) - 0.5  # by counts of this very text
    assert trained.model.expected is None


def test_a_training_on_a_long_text_reads_its_end(monkeypatch, capsys):
    seen, read = [], Stream.batch
    monkeypatch.setattr(Stream, "batch", lambda *which: seen.append(read(*which)) or seen[-1])
    corpus = make_corpus(TEXT, "cats")
    ids = torch.from_numpy(corpus.part("train"))
    monkeypatch.setattr(lstm_ngram, "MAX_CACHED", 300 * 4 * len(corpus.vocab))
    recipe = Recipe().replace(model="lstm-ngram", options=OPTIONS, epochs=1, batch_size=1, bptt=1000, device="cpu")
    model = session.train(recipe, corpus).model
    assert torch.equal(seen[0][0][0], ids[-300:-1].long())
    assert f"learns from the last 300 of {len(ids):,} characters" in capsys.readouterr().err
    assert all(r.isfinite().all() for r in gradient_rms(model, ids))
    assert model.expected is None


def test_a_text_without_rules_teaches_it_nothing():
    """Were it shown counts of the very characters that it is to predict, it would trust them."""
    text = bytes(torch.randint(97, 101, (4000,), generator=torch.Generator().manual_seed(1)).tolist())
    choices = Recipe().replace(model="lstm-ngram", options=OPTIONS, epochs=2, batch_size=4, bptt=16, device="cpu")
    trained = session.train(choices.replace(learning_rate=0.01), make_corpus(text, "noise"))
    assert trained.metadata.result["valid_nats"] < 1.05 * math.log(4)


def test_the_lstm_reads_by_how_much_each_symbol_is_likelier_than_by_chance(ids):
    model, chars, read = build("lstm-ngram", V, **OPTIONS), ids.unsqueeze(0), []
    model.fit_counts(ids, KINDS)
    with model.layers.register_forward_pre_hook(lambda layers, inputs: read.append(inputs[0])):
        model(chars)
    wanted = (log_probs_of(model, chars) + math.log(V)).clamp(min=0)
    torch.testing.assert_close(read[0][..., OPTIONS["n_embed"] :], wanted)


def test_while_training_a_part_of_it_is_hidden_for_a_whole_sequence(ids):
    model, chars, read = build("lstm-ngram", V, **OPTIONS, input_dropout=0.5), ids.unsqueeze(0), []
    model.fit_counts(ids, KINDS)
    with model.layers.register_forward_pre_hook(lambda layers, inputs: read.append(inputs[0])):
        model.eval()(chars)
        model.train()(chars)
    hidden = (read[1] == 0).all(dim=1)
    assert 0.2 < hidden.float().mean() < 0.8
    torch.testing.assert_close(read[1], torch.where(hidden.unsqueeze(1), 0, 2 * read[0]))


def test_what_nothing_was_counted_for_is_as_likely_as_chance():
    log_probs = log_probs_of(build("lstm-ngram", V, **OPTIONS), torch.randint(V, (2, 5)))
    torch.testing.assert_close(log_probs[..., : 2 * V], torch.full((2, 5, 2 * V), -math.log(V)))


def test_it_begins_as_the_geometric_mean_of_what_is_expected(ids):
    model, chars = build("lstm-ngram", V, **OPTIONS), ids.unsqueeze(0)
    model.fit_counts(ids, KINDS)
    for parameter in model.head.own.parameters():  # the LSTM says nothing
        torch.nn.init.zeros_(parameter)
    by_each = log_probs_of(model, chars).unflatten(-1, (4, V))
    torch.testing.assert_close(model(chars)[0].log_softmax(-1), by_each.mean(dim=2).log_softmax(-1))


def test_what_the_lstm_knows_says_whom_to_trust(ids):
    model, chars = build("lstm-ngram", V, **OPTIONS), ids.unsqueeze(0)
    model.fit_counts(ids, KINDS)
    torch.nn.init.normal_(model.head.trust.weight)
    by_each = log_probs_of(model, chars).unflatten(-1, (4, V))
    hidden = model.features(chars)[0][..., : OPTIONS["n_hidden"]]
    trust = model.head.trust(hidden)
    assert trust.std(dim=1).min() > 0
    logits = model.head.own(hidden) + sum(trust[..., k, None] * by_each[..., k, :] for k in range(4))
    torch.testing.assert_close(model(chars)[0].log_softmax(-1), logits.log_softmax(-1))


def test_in_evaluation_a_text_in_pieces_reads_as_in_one(ids):
    model = build("lstm-ngram", V, **OPTIONS).eval()
    model.fit_counts(ids, KINDS)
    chars = torch.randint(V, (2, 30))
    half, state = model(chars[:, :13])
    torch.testing.assert_close(torch.cat([half, model(chars[:, 13:], state)[0]], 1), model(chars)[0])


def test_after_a_short_training_it_is_better_than_the_lstm_alone(tmp_path):
    corpus = make_corpus(TEXT, "cats")
    common = {"epochs": 3, "batch_size": 4, "bptt": 16, "device": "cpu", "learning_rate": 0.01}
    sizes = {"n_embed": 4, "n_hidden": 16}
    nats = {}
    for name, options in {"awd-lstm": sizes, "lstm-ngram": sizes | {"order": 3}}.items():
        trained = session.train(Recipe().replace(model=name, options=options, **common), corpus, tmp_path / name)
        nats[name] = trained.metadata.result["valid_nats"]
    assert nats["lstm-ngram"] < nats["awd-lstm"] - 0.5
    model, metadata = checkpoint.load(tmp_path / "lstm-ngram" / "best.safetensors")
    chars = torch.randint(V, (1, 40))
    torch.testing.assert_close(model(chars)[0], trained.model.eval()(chars)[0], rtol=0, atol=0)
    assert metadata.result["valid_nats"] == nats["lstm-ngram"]


def test_a_search_for_the_learning_rate_counts_the_text_too():
    recipe = Recipe().replace(options={"n_embed": 4, "n_hidden": 32}, batch_size=4, bptt=16, device="cpu")
    corpus, least = make_corpus(TEXT, "cats"), {}
    for name in ("lstm-ngram", "lstm"):
        least[name] = min(find_rate(recipe.replace(model=name), corpus, n_steps=100).nats)
    assert least["lstm-ngram"] < least["lstm"] - 0.1
