"""Evaluation: each character of a part is predicted once, from those before it, in any chunk size."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlm.data.feeds import Chunks, Stream, Windows
from charlm.evaluation.protocol import TextRange, evaluate, evaluate_feed
from charlm.models import build

V, BOS = 6, 2
PROBS = [0.05, 0.1, 0.15, 0.2, 0.22, 0.28]
SIZES = {"n_embed": 4, "n_hidden": 8}


@pytest.fixture
def ids():
    return torch.randint(V, (70,), dtype=torch.uint8)


def log_probs(logits):
    exponentials = logits.double().exp()
    return (exponentials / exponentials.sum(-1, keepdim=True)).log()


def nats_by_hand(model, ids, first, stop, n_context, warmup_chars):
    """Predict one character after another, each from a text of its own: the slow way."""
    text = [BOS] * (n_context or 1) + ids.tolist()
    total = 0.0
    for position in range(first, stop):
        end = position + (n_context or 1)  # in `text`, whose last character read is that before `position`
        begin = end - n_context if n_context else max(0, first - warmup_chars)
        logits, _ = model(torch.tensor([text[begin:end]]))
        total -= log_probs(logits[0, -1])[int(ids[position])].item()
    return total


@torch.no_grad()
@pytest.mark.parametrize(("first", "stop"), [(0, 70), (0, 1), (13, 50), (69, 70)])
@pytest.mark.parametrize(
    ("name", "n_context", "warmup_chars"),
    [("gru", None, 1024), ("lstm", None, 5), ("loop", None, 0), ("char3", 3, 0), ("rnn", 4, 0), ("loop", 1, 0)],
)
def test_evaluation_is_the_sum_over_characters_predicted_one_by_one(ids, name, n_context, warmup_chars, first, stop):
    model = build(name, V, **SIZES).double()
    result = evaluate(model, TextRange(ids, first, stop, BOS), n_context, warmup_chars=warmup_chars)
    assert result.n_chars == stop - first
    assert result.nats == pytest.approx(nats_by_hand(model, ids, first, stop, n_context, warmup_chars), rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_character_is_predicted_exactly_once(fixed_probs, data):
    ids = torch.tensor(data.draw(st.lists(st.integers(0, V - 1), min_size=1, max_size=60)))
    first = data.draw(st.integers(0, len(ids) - 1))
    stop = data.draw(st.integers(first + 1, len(ids)))
    n_context = data.draw(st.none() | st.integers(1, 9))
    sizes = {name: data.draw(st.integers(1, 20)) for name in ("n_lanes", "warmup_chars", "chunk_len")}
    result = evaluate(fixed_probs(PROBS), TextRange(ids, first, stop), n_context, **sizes)
    by_hand = -sum(math.log(PROBS[index]) for index in ids[first:stop].tolist())
    assert result.n_chars == stop - first
    assert result.nats == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(("name", "n_context"), [("gru", None), ("char3", 3)])
def test_the_result_does_not_depend_on_the_chunk_length(ids, name, n_context):
    model, text = build(name, V, **SIZES).double(), TextRange(ids, 20, 65)
    whole = evaluate(model, text, n_context)
    for chunk_len in (1, 7, 64, 10_000):
        assert evaluate(model, text, n_context, chunk_len=chunk_len).nats == pytest.approx(whole.nats, rel=1e-12)


def test_long_windows_are_read_in_small_batches(fixed_probs):
    model, sizes = fixed_probs(PROBS), []
    model.register_forward_hook(lambda module, args, result: sizes.append(args[0].numel()))
    evaluate(model, TextRange(torch.randint(V, (1000,)), 0, 1000), n_context=4096)
    assert sum(sizes) == 1000 * 4096 and max(sizes) <= 1 << 20


@pytest.mark.parametrize("n_context", [None, 4])
def test_only_earlier_characters_affect_a_prediction(ids, n_context):
    model = build("gru", V, **SIZES)
    result = evaluate(model, TextRange(ids, 20, 50), n_context)
    later, earlier = ids.clone(), ids.clone()
    later[50:] = (ids[50:] + 1) % V
    earlier[19] = (ids[19] + 1) % V
    assert evaluate(model, TextRange(later, 20, 50), n_context) == result
    assert evaluate(model, TextRange(earlier, 20, 50), n_context) != result


def test_evaluation_is_deterministic_and_restores_the_mode(ids):
    model = build("gru", V, n_layers=2, dropout=0.5, head_dropout=0.5, **SIZES)
    results = []
    for training in (True, False, True):
        model.train(training)
        results += [evaluate(model, TextRange(ids, 10, 60)), evaluate_feed(model, Chunks(ids, 5, 4))]
        assert [module.training for module in model.modules()] == [training] * len(list(model.modules()))
    assert results == results[:2] * 3


def test_the_index_before_the_text_is_bos_id(ids):
    model = build("gru", V, **SIZES)
    assert evaluate(model, TextRange(ids, 0, 30)) != evaluate(model, TextRange(ids, 0, 30, BOS))


def test_four_lanes_come_close_to_one():
    ids = torch.randint(V, (9000,))
    model = build("gru", V, n_embed=8, n_hidden=16)
    one = evaluate(model, TextRange(ids, 1500, 8999))
    four = evaluate(model, TextRange(ids, 1500, 8999), n_lanes=4)
    assert four.n_chars == one.n_chars
    assert four.nats_per_char == pytest.approx(one.nats_per_char, abs=1e-4)


@pytest.mark.parametrize("n_context", [None, 3])
def test_a_uniform_model_has_the_log_of_the_vocabulary_size(fixed_probs, ids, n_context):
    result = evaluate(fixed_probs([1 / V] * V), TextRange(ids, 5, 70), n_context)
    assert result.nats_per_char == pytest.approx(math.log(V), rel=1e-12)
    assert result.bits_per_char == pytest.approx(math.log2(V), rel=1e-12)


@pytest.mark.parametrize(("first", "stop"), [(5, 5), (6, 5)])
def test_an_empty_range_is_an_error(fixed_probs, ids, first, stop):
    with pytest.raises(ValueError, match="nothing to predict"):
        evaluate(fixed_probs(PROBS), TextRange(ids, first, stop))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["windows", "chunks", "stream"])
def test_a_feed_is_evaluated_on_all_its_targets(ids, kind):
    model = build("gru", V, **SIZES).double()
    feed = {"windows": Windows(ids, 4, 8), "chunks": Chunks(ids, 5, 4), "stream": Stream(ids, 5, 3)}[kind]
    result = evaluate_feed(model, feed)
    total, n, state = 0.0, 0, None
    for step in range(len(feed)):
        chars, targets = feed.batch(0, step)
        logits, after = model(chars, state)
        state = after if kind == "stream" else None
        total -= log_probs(logits)[:, -targets.shape[1] :].gather(2, targets.unsqueeze(2)).sum().item()
        n += targets.numel()
    assert result.n_chars == n
    assert result.nats == pytest.approx(total, rel=1e-12)


def test_the_mode_is_restored_if_the_model_fails(ids):
    model = build("char3", V, **SIZES).train()
    with pytest.raises(IndexError):
        evaluate(model, TextRange(ids, 0, 10), n_context=2)  # it needs three
    assert model.training
