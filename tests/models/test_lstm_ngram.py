"""LSTM with n-gram experts: cross-fitted features of the training text, weighted experts, training."""

import itertools
import math

import numpy as np
import pytest
import torch

from charlm.data.corpus import make_corpus
from charlm.evaluation.dynamic import gradient_rms
from charlm.evaluation.protocol import TextRange, evaluate
from charlm.experiments.lr_find import find_rate
from charlm.models import MODELS, build
from charlm.models.lstm_ngram import CHUNK_CHARS, N_FOLDS, LSTMNGram
from charlm.ngrams.cache_model import cache_probs, word_cache_probs
from charlm.ngrams.char_ngram import InterpolatedNGram
from charlm.ngrams.experts import ExpertReader
from charlm.ngrams.word_contexts import word_contexts
from charlm.ngrams.word_ngram import InterpolatedWordNGram
from charlm.recipe import Recipe
from charlm.storage import checkpoint
from charlm.storage.weights import weights_of
from charlm.training import session

TEXT = ("the cat sat on the mat, and the dog sat on the log. " * 30).encode()
V, ORDER = 4, 3
OPTIONS = {"n_embed": 4, "n_hidden": 8, "order": ORDER}
CLASSES = torch.tensor([3, 1, 1, 2], dtype=torch.uint8)
FOLDED = OPTIONS | {"folded_words": True}
LOWER = torch.tensor([0, 1, 1, 3])


@pytest.fixture(params=range(2))
def ids(request):
    return torch.randint(V, (60 + request.param,), generator=torch.Generator().manual_seed(request.param))


@pytest.fixture(params=[True, False], ids=["words", "characters"])
def words(request):
    return request.param


def counts_of(ids, words, before=None):
    """Return the counts of a text, and of another one before it, as the model of the test has them."""
    counts = (InterpolatedWordNGram if words else InterpolatedNGram)(V, ORDER)
    counts.count((ids if before is None else before).numpy(), CLASSES.numpy())
    if before is not None:
        counts.update(ids.numpy(), 0)
    return counts


def without_cache(words):
    """Return a model without cache models, whose features depend on the counts alone."""
    return build("lstm-ngram", V, **OPTIONS, words=words, cache_model=False)


def log_probs_of(model, chars, row_offsets=None):
    """Return the log-probabilities of the experts, (B, T, K V)."""
    state = None if row_offsets is None else model.state_at(row_offsets)
    return model.features(chars, state)[0][..., OPTIONS["n_hidden"] :] - math.log(V)


def expert_log_probs(counts, chars):
    """Return the same from counts."""
    contexts, _ = counts.read(chars.numpy())
    return torch.from_numpy(counts.expert_log_probs(contexts)).flatten(2)


def assert_same_counts(model, counts):
    arrays = counts.arrays()
    assert all(np.array_equal(array, arrays[name]) for name, array in model.counts.arrays().items())


def test_in_evaluation_the_counts_are_those_of_the_whole_text(words, ids):
    model, chars = without_cache(words), ids.unsqueeze(0)
    model.fit_counts(ids, CLASSES)
    torch.testing.assert_close(log_probs_of(model, chars), expert_log_probs(counts_of(ids, words), chars))


def test_the_last_two_experts_are_cache_models(ids):
    model, chars = build("lstm-ngram", V, **OPTIONS), ids.unsqueeze(0)
    model.fit_counts(ids, CLASSES)
    contexts = word_contexts(chars.numpy(), CLASSES.numpy())[0][:2]
    caches = [cache_probs(chars.numpy(), len(ids), V), word_cache_probs(chars.numpy(), contexts, len(ids), V)]
    wanted = torch.from_numpy(np.concatenate(caches, axis=-1)).log().float()
    torch.testing.assert_close(log_probs_of(model, chars)[..., -2 * V :], wanted)
    # In the training text they start with the fold.
    place = len(ids) // N_FOLDS - 2
    found = log_probs_of(model, chars[:, place : place + 2], torch.tensor([place]))[..., -2 * V :]
    torch.testing.assert_close(found, wanted[:, place : place + 2], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("folded_words", [True, False])
@pytest.mark.parametrize("cache_model", [True, False])
def test_character_by_character_the_experts_are_those_of_a_batch(words, cache_model, folded_words, ids):
    options = {"words": words, "cache_model": cache_model, "folded_words": folded_words and words}
    model = build("lstm-ngram", V, **OPTIONS, **options)
    model.fit_counts(ids, CLASSES, LOWER)
    wanted = model.expert_features(ids.unsqueeze(0))[0][0].numpy()
    reader = ExpertReader(model.experts)
    for _ in range(2):
        found = [reader.step(char).ravel().copy() for char in ids.tolist()]
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
        reader.reset()


@pytest.mark.parametrize("before", [None, torch.tensor([2, 0, 1, 1, 3] * 9)], ids=["", "kept counts"])
def test_the_features_of_each_fold_are_those_of_the_counts_of_the_others(words, ids, before):
    model = without_cache(words)
    if before is not None:
        model.keep_counts({name: torch.from_numpy(part) for name, part in counts_of(before, words).arrays().items()})
    model.fit_counts(ids, CLASSES)
    assert_same_counts(model, counts_of(ids, words, before))
    first = [len(ids) * i // N_FOLDS for i in range(N_FOLDS + 1)]
    places = torch.tensor([0, *first[1:-1], 10, len(ids) - 4])
    chars = torch.stack([ids[place : place + 4] for place in places.tolist()])
    log_probs, n_compared = log_probs_of(model, chars, places), 0
    for begin, stop in itertools.pairwise(first):
        others = counts_of(torch.cat([ids[:begin], ids[stop:]]), words, before)
        alone = expert_log_probs(others, ids.unsqueeze(0))[0]
        for row, place in enumerate(places.tolist()):
            for i in range(max(place, begin), min(place + 4, stop)):
                torch.testing.assert_close(log_probs[row, i - place], alone[i], rtol=2e-3, atol=2e-3)  # from float16
                n_compared += 1
    assert n_compared == 4 * len(places)


def test_the_features_of_a_long_fold_are_computed_in_chunks(words):
    ids = torch.randint(V, (N_FOLDS * (CHUNK_CHARS + 20),))
    model = without_cache(words)
    model.fit_counts(ids, CLASSES)
    n = len(ids) // N_FOLDS
    alone = expert_log_probs(counts_of(ids[n:], words), ids[:n].unsqueeze(0))[:, -30:]
    found = log_probs_of(model, ids[None, n - 30 : n], torch.tensor([n - 30]))
    torch.testing.assert_close(found, alone, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("n_cached", "n_folds"), [(7, 1), (10, 2), (40, 6)])
def test_gradient_steps_use_the_end_of_a_long_text_that_is_counted_as_a_whole(n_cached, n_folds, ids, words):
    model = without_cache(words)
    model.max_cached = n_cached * model.n_features + 1
    model.fit_counts(ids, CLASSES)
    torch.testing.assert_close(model.training_span(ids), ids[-n_cached:], rtol=0, atol=0)
    first = [len(ids) - n_cached + n_cached * i // n_folds for i in range(n_folds + 1)]
    for begin, stop in itertools.pairwise(first):
        others = counts_of(torch.cat([ids[:begin], ids[stop:]]), words)
        wanted = expert_log_probs(others, ids.unsqueeze(0))[:, begin:stop]
        found = log_probs_of(model, ids[None, begin:stop], torch.tensor([begin - len(ids) + n_cached]))
        torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-3)
    assert_same_counts(model, counts_of(ids, words))


def test_of_a_still_longer_text_the_end_is_counted(ids, words):
    model = without_cache(words)
    model.max_counted = 30
    model.fit_counts(ids, CLASSES)
    assert len(model.training_span(ids)) == 30
    assert_same_counts(model, counts_of(ids[-30:], words))


def test_the_loss_in_training_is_that_of_the_counts_of_the_other_folds():
    letters = torch.randint(97, 123, (4000,), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    corpus = make_corpus(letters.numpy().tobytes(), "noise", "all")  # nothing to learn, but counts of the text overfit
    trained = session.train(Recipe().replace(model="lstm-ngram", options=OPTIONS, epochs=1, device="cpu"), corpus)
    assert math.log(26) - 0.1 < trained.metadata.result["train_nats"] < math.log(26) + 0.5
    whole = evaluate(trained.model, TextRange(torch.from_numpy(corpus.ids), 0, 4000))
    assert whole.nats_per_char < math.log(26) - 0.5
    assert trained.model.state_at(torch.zeros(1, dtype=torch.long)) is None  # the cached features are released


def test_a_training_on_a_long_text_reads_its_end(monkeypatch, capsys):
    corpus = make_corpus(TEXT, "cats")

    class Small(LSTMNGram):
        max_cached = 300 * 4 * len(corpus.vocab)

    monkeypatch.setitem(MODELS, "lstm-ngram", Small)
    ids = torch.from_numpy(corpus.part("train"))
    recipe = Recipe().replace(model="lstm-ngram", options=OPTIONS, epochs=1, batch_size=1, bptt=1000, device="cpu")
    trained = session.train(recipe, corpus)
    assert trained.metadata.counters["n_chars"] == 299
    assert f"only the last 300 of {len(ids):,} characters" in capsys.readouterr().err
    assert all(r.isfinite().all() for r in gradient_rms(trained.model, ids))


def test_a_text_without_rules_teaches_it_nothing():
    """With counts of the very characters to predict, it would learn to rely on them."""
    text = bytes(torch.randint(97, 101, (4000,), generator=torch.Generator().manual_seed(1)).tolist())
    recipe = Recipe().replace(model="lstm-ngram", options=OPTIONS, epochs=2, batch_size=4, bptt=16, device="cpu")
    trained = session.train(recipe.replace(learning_rate=0.01), make_corpus(text, "noise"))
    assert trained.metadata.result["valid_nats"] < 1.05 * math.log(4)


def inputs_of(model, chars, train=False):
    """Return what the LSTM reads, (B, T, E + K V)."""
    read = []
    with model.layers.register_forward_pre_hook(lambda layers, inputs: read.append(inputs[0])):
        model.train(train)(chars)
    return read[0]


def test_the_lstm_reads_the_log_ratio_to_the_uniform_distribution_where_it_is_positive(ids):
    model, chars = build("lstm-ngram", V, **OPTIONS), ids.unsqueeze(0)
    model.fit_counts(ids, CLASSES)
    wanted = (log_probs_of(model, chars) + math.log(V)).clamp(min=0)
    torch.testing.assert_close(inputs_of(model, chars)[..., OPTIONS["n_embed"] :], wanted)


def ratios_of(model, chars):
    """Return r_k by definition: e_k of the character at each step by the prediction before it, (B, T, K)."""
    by_each = (log_probs_of(model, chars) + math.log(V)).unflatten(-1, (-1, V))
    ratios = by_each[:, :-1].gather(-1, chars[:, 1:, None, None].expand(-1, -1, by_each.shape[2], 1)).squeeze(-1)
    return torch.cat([torch.zeros_like(ratios[:, :1]), ratios], dim=1)


def test_with_folded_words_the_lstm_reads_how_well_each_expert_predicted_the_character_and_no_more_distributions(ids):
    model, chars = build("lstm-ngram", V, **FOLDED), ids.unsqueeze(0)
    model.fit_counts(ids, CLASSES, LOWER)
    wanted = (log_probs_of(model, chars) + math.log(V))[..., : 4 * V].clamp(min=0)
    found = inputs_of(model, chars)[..., OPTIONS["n_embed"] :]
    torch.testing.assert_close(found, torch.cat([wanted, ratios_of(model, chars)], dim=-1))
    assert found.shape[-1] == 4 * V + 9


def test_in_training_the_ratios_are_those_of_the_cross_fitted_features(ids):
    model = build("lstm-ngram", V, **FOLDED)
    model.fit_counts(ids, CLASSES, LOWER)
    starts, read = torch.tensor([0, 5, 20]), []
    chars = torch.stack([ids[start : start + 8] for start in starts.tolist()])
    whole = ids[None, :30]
    with model.layers.register_forward_pre_hook(lambda layers, inputs: read.append(inputs[0][..., -9:])):
        model(whole, model.state_at(torch.tensor([0])))
        model(chars, model.state_at(starts))
    for row, start in enumerate(starts.tolist()):
        torch.testing.assert_close(read[1][row], read[0][0, start : start + 8])


def test_without_words_there_are_no_experts_of_folded_words():
    assert build("lstm-ngram", V, **FOLDED, words=False).experts.n_experts == 2


def test_input_dropout_hides_inputs_for_a_whole_sequence(ids):
    model, chars = build("lstm-ngram", V, **OPTIONS, input_dropout=0.5), ids.unsqueeze(0)
    model.fit_counts(ids, CLASSES)
    whole, dropped = inputs_of(model, chars), inputs_of(model, chars, train=True)
    hidden = (dropped == 0).all(dim=1)
    assert 0.2 < hidden.float().mean() < 0.8
    torch.testing.assert_close(dropped, torch.where(hidden.unsqueeze(1), 0, 2 * whole))


def test_without_counts_the_experts_are_uniform():
    log_probs = log_probs_of(build("lstm-ngram", V, **OPTIONS), torch.randint(V, (2, 5)))
    torch.testing.assert_close(log_probs[..., : 2 * V], torch.full((2, 5, 2 * V), -math.log(V)))


def test_it_begins_as_the_geometric_mean_of_the_experts(ids):
    model, chars = build("lstm-ngram", V, **OPTIONS), ids.unsqueeze(0)
    model.fit_counts(ids, CLASSES)
    for parameter in model.head.base_head.parameters():  # the LSTM's own logits are 0
        torch.nn.init.zeros_(parameter)
    by_each = log_probs_of(model, chars).unflatten(-1, (4, V))
    torch.testing.assert_close(model(chars)[0].log_softmax(-1), by_each.mean(dim=2).log_softmax(-1))


def test_the_hidden_state_determines_the_weights_of_the_experts(ids):
    model, chars = build("lstm-ngram", V, **OPTIONS), ids.unsqueeze(0)
    model.fit_counts(ids, CLASSES)
    torch.nn.init.normal_(model.head.expert_weights.weight)
    by_each = log_probs_of(model, chars).unflatten(-1, (4, V))
    hidden = model.features(chars)[0][..., : OPTIONS["n_hidden"]]
    weights = model.head.expert_weights(hidden)
    assert weights.std(dim=1).min() > 0
    logits = model.head.base_head(hidden) + sum(weights[..., k, None] * by_each[..., k, :] for k in range(4))
    torch.testing.assert_close(model(chars)[0].log_softmax(-1), logits.log_softmax(-1))


def test_in_evaluation_a_text_in_parts_reads_as_in_one(ids):
    model = build("lstm-ngram", V, **FOLDED, n_layers=2, tied=True).eval()
    model.fit_counts(ids, CLASSES, LOWER)
    chars = torch.randint(V, (2, 30))
    half, state = model(chars[:, :13])
    torch.testing.assert_close(torch.cat([half, model(chars[:, 13:], state)[0]], 1), model(chars)[0])


def test_counts_are_weights_and_are_counted_among_the_parameters(ids):
    model = build("lstm-ngram", V, **OPTIONS)
    model.fit_counts(ids, CLASSES)
    weights = weights_of(model)
    assert torch.equal(weights["counts.keys_2"], torch.from_numpy(model.counts.levels[1].keys))
    assert model.n_parameters == sum(p.numel() for p in model.parameters()) + model.counts.n_counts


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
    corpus, minimum = make_corpus(TEXT, "cats"), {}
    for name in ("lstm-ngram", "lstm"):
        minimum[name] = min(find_rate(recipe.replace(model=name), corpus, n_steps=100).nats)
    assert minimum["lstm-ngram"] < minimum["lstm"] - 0.1
