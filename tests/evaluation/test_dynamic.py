"""Dynamic evaluation: predict, then update; afterwards the weights are restored. Coordinate search for its options."""

import itertools
import math
from collections import Counter
from contextlib import nullcontext
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from charlm.errors import CharlmError, UsageError
from charlm.evaluation import dynamic
from charlm.evaluation.dynamic import DynamicConfig, adapt, dynamic_nll, gradient_rms
from charlm.evaluation.metrics import EvalResult
from charlm.evaluation.protocol import TextRange, evaluate
from charlm.evaluation.search import coordinate_search
from charlm.models import CharModel, build
from charlm.models.gru import GRU

V = 6
PROBS = [0.05, 0.1, 0.15, 0.2, 0.22, 0.28]
KINDS = [("gru", None), ("lstm", None), ("char3", 3), ("loop", 4)]


@pytest.fixture
def ids():
    return torch.randint(V, (90,), dtype=torch.uint8)


def evaluate_dynamic(model, text, config, n_context=None):
    nats = dynamic_nll(model, text, config, n_context)
    return EvalResult(nats.sum().item(), len(nats))


def small(name):
    return build(name, V, n_embed=4, n_hidden=8).double()


def weights_of(model):
    return [p.detach().clone() for p in model.parameters()]


class ThreadRecorder(GRU):
    """A GRU that records with how many threads it is called."""

    def features(self, chars, state=None):
        self.n_threads = {*getattr(self, "n_threads", ()), torch.get_num_threads()}
        return super().features(chars, state)


@pytest.mark.parametrize("fails", [False, True])
def test_it_runs_in_one_thread_and_restores_the_number_of_threads(ids, fails):
    model = ThreadRecorder(V, n_embed=4, n_hidden=8)
    torch.set_num_threads(2)
    try:
        with pytest.raises(IndexError) if fails else nullcontext():
            dynamic_nll(model, TextRange(ids + V if fails else ids, 20, 85), DynamicConfig(0.01, 0.0))
        assert model.n_threads == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(("name", "n_context"), KINDS)
def test_at_rate_zero_it_is_the_static_evaluation(ids, name, n_context):
    model = small(name)
    static = evaluate(model, TextRange(ids, 20, 85, 2), n_context)
    for decay in (0.0, 0.5):
        config = DynamicConfig(0.0, decay, segment_len=16)
        result = evaluate_dynamic(model, TextRange(ids, 20, 85, 2), config, n_context)
        assert result.n_chars == static.n_chars
        assert result.nats == pytest.approx(static.nats, rel=1e-12)


@pytest.mark.parametrize(("name", "n_context"), KINDS)
def test_a_segment_is_predicted_before_the_update_on_it(ids, name, n_context):
    model, config = small(name), DynamicConfig(0.5, 0.0, segment_len=20)
    one = evaluate_dynamic(model, TextRange(ids, 0, 20), config, n_context)
    assert one.nats == pytest.approx(evaluate(model, TextRange(ids, 0, 20), n_context).nats, rel=1e-12)
    two = evaluate_dynamic(model, TextRange(ids, 0, 40), config, n_context)
    assert two.nats != pytest.approx(evaluate(model, TextRange(ids, 0, 40), n_context).nats, rel=1e-3)


def test_later_characters_do_not_affect_earlier_predictions(ids):
    model, config, later = small("gru"), DynamicConfig(0.5, 0.1, segment_len=8), ids.clone()
    later[50:] = (ids[50:] + 1) % V
    one, other = (evaluate_dynamic(model, TextRange(text, 10, 50), config) for text in (ids, later))
    assert one == other


@pytest.mark.parametrize("rms", [None, [0.02, 0.1, 0.03, 0.2, 0.05, 0.8]])
def test_updates_match_those_computed_by_hand(fixed_probs, rms):
    ids, rate, decay, n = [1, 5, 5, 2, 5, 3, 0, 1, 1, 5], 0.3, 0.4, 4
    model = fixed_probs(PROBS)
    text = TextRange(torch.tensor(ids), 0, len(ids))
    trained = [math.log(p) for p in PROBS]
    theta, by_hand = list(trained), 0.0
    mean = sum(rms) / V if rms else None
    for segment in (ids[:4], ids[4:8], ids[8:]):
        total = sum(map(math.exp, theta))
        probs = [math.exp(x) / total for x in theta]
        by_hand -= sum(math.log(probs[code]) for code in segment)
        for v in range(V):
            gradient = probs[v] - segment.count(v) / len(segment)
            divisor = rms[v] + dynamic.EPSILON * mean if rms else 1
            own_decay = min(decay * rms[v] / mean, 1) if rms else decay
            theta[v] += own_decay * (trained[v] - theta[v]) - rate * gradient / divisor
    config = DynamicConfig(rate, decay, None if rms is None else [torch.tensor(rms, dtype=torch.float64)], n)
    result = evaluate_dynamic(model, text, config)
    assert result.nats == pytest.approx(by_hand, rel=1e-12)
    adapt(model, text, config)
    assert model.logits.tolist() == pytest.approx(theta, rel=1e-12)


def test_rms_is_the_root_mean_squared_gradient(fixed_probs):
    ids = torch.tensor([1, 5, 5, 2, 5, 3, 0, 1, 1])  # lanes 1552 and 5301, their targets 5525 and 3011
    batches = [[5, 5, 3, 0], [2, 5, 1, 1]]
    (rms,) = gradient_rms(fixed_probs(PROBS), ids, segment_len=2, n_lanes=2)
    by_hand = [math.sqrt(sum((PROBS[v] - batch.count(v) / 4) ** 2 for batch in batches) / 2) for v in range(V)]
    assert rms.tolist() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(("name", "n_context"), KINDS)
def test_rms_has_the_shapes_of_the_weights_and_leaves_them_unchanged(ids, name, n_context):
    model = small(name)
    before = weights_of(model)
    rms = gradient_rms(model, ids, n_context, segment_len=4)
    assert [r.shape for r in rms] == [p.shape for p in before]
    assert all((r >= 0).all() and r.isfinite().all() and r.any() for r in rms)
    assert all(map(torch.equal, weights_of(model), before))


def test_rms_with_ngrams_uses_counts_without_the_characters_to_predict():
    ids, char_classes = torch.randint(V, (2, 150)).flatten(), torch.ones(V, dtype=torch.uint8)
    model, fitted = (build("lstm-ngram", V, order=3, n_embed=4, n_hidden=8).eval() for _ in range(2))
    fitted.load_state_dict(model.state_dict())
    fitted.fit_counts(ids, char_classes)
    model.fit_counts(torch.randint(V, (70,)), char_classes)
    before = evaluate(model, TextRange(ids, 0, 300))
    found = gradient_rms(model, ids, segment_len=300, char_classes=char_classes, n_lanes=2)
    assert evaluate(model, TextRange(ids, 0, 300)) == before
    chars, targets = ids[:298].view(2, 149), ids[1:299].view(2, 149)
    logits, _ = fitted(chars, fitted.state_at(torch.tensor([0, 149])))
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(found, [g.abs() for g in torch.autograd.grad(loss, list(fitted.parameters()))])


@pytest.mark.parametrize("method", ["sgd", "rms"])
@pytest.mark.parametrize(("name", "n_context"), [("gru", None), ("loop", 4)])
def test_it_lowers_the_loss_on_a_repetitive_text_unseen_in_training(cycle, name, n_context, method):
    ids, model = cycle(600), small(name)
    rms = gradient_rms(model, torch.randint(V, (300,)), n_context, segment_len=4) if method == "rms" else None
    config = DynamicConfig(0.5 if rms is None else 0.01, 0.0, rms, segment_len=8)
    result = evaluate_dynamic(model, TextRange(ids, 0, 600), config, n_context)
    assert result.bits_per_char < 0.8 * evaluate(model, TextRange(ids, 0, 600), n_context).bits_per_char


def test_adapt_keeps_the_updates(cycle):
    ids, model = cycle(400), small("gru")
    before = evaluate(model, TextRange(ids, 0, 400)).nats
    adapt(model, TextRange(ids, 0, len(ids)), DynamicConfig(0.5, 0.0, segment_len=8))
    assert evaluate(model, TextRange(ids, 0, 400)).nats < 0.8 * before


@pytest.mark.parametrize("last", [3, V])  # there is no character V: reading it fails
@pytest.mark.parametrize("training", [True, False])
def test_weights_and_mode_are_restored_even_if_the_model_fails(ids, last, training):
    model = small("gru").train(training)
    before = weights_of(model)
    ids[60] = last
    try:
        evaluate_dynamic(model, TextRange(ids, 0, 90), DynamicConfig(0.5, 0.0, segment_len=8))
    except IndexError:
        assert last == V
    assert all(map(torch.equal, weights_of(model), before))
    assert model.training is training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_dropout_is_off(ids):
    model = build("lstm", V, n_embed=4, n_hidden=8, n_layers=2, dropout=0.5, head_dropout=0.5).train()
    results = [evaluate_dynamic(model, TextRange(ids, 0, 90), DynamicConfig(0.5, 0.0)) for _ in range(2)]
    assert results[0] == results[1]


def test_diverged_weights_give_infinite_nats(ids):
    model = small("gru")
    rms = [torch.full_like(parameter, 1e-300) for parameter in model.parameters()]
    config = DynamicConfig(1e38, 0.0, rms, segment_len=8)
    assert evaluate_dynamic(model, TextRange(ids, 0, 90), config).nats == math.inf


def test_weights_that_diverge_on_a_prompt_are_an_error_with_its_remedy(ids):
    with pytest.raises(CharlmError, match="the weights diverged at --rate 1e\\+38; use a lower --rate"):
        adapt(build("gru", V, n_embed=4, n_hidden=8), TextRange(ids, 0, 90), DynamicConfig(1e38, 0.0))


@given(st.lists(st.floats(0, 9), min_size=12, max_size=12), st.integers(0, 3), st.integers(0, 2))
def test_no_neighbouring_rate_or_decay_is_better_than_those_chosen(losses, rate, decay):
    rates, decays, tried = (0.1, 0.2, 0.3, 0.4), (0.0, 0.5, 1.0), Counter()
    loss_of = dict(zip(itertools.product(rates, decays), losses, strict=True))

    def nats(config):
        tried[config.rate, config.decay] += 1
        return loss_of[config.rate, config.decay]

    chosen = coordinate_search(nats, DynamicConfig(rates[rate], decays[decay], segment_len=8), rates, decays)
    assert chosen.segment_len == 8
    assert max(tried.values()) == 1
    i, j = rates.index(chosen.rate), decays.index(chosen.decay)
    near = [(other, chosen.decay) for other in rates[max(0, i - 1) : i + 2]]
    near += [(chosen.rate, other) for other in decays[max(0, j - 1) : j + 2]]
    assert set(near) <= tried.keys()
    assert loss_of[chosen.rate, chosen.decay] == min(loss_of[pair] for pair in near)


def test_a_convex_loss_is_minimised_in_few_trials():
    tried = []

    def nats(config):
        tried.append(config)
        return (config.rate - 6) ** 2 + (8 * config.decay - 2) ** 2

    chosen = coordinate_search(nats, DynamicConfig(4, 5 / 8), rates=range(1, 8), decays=[i / 8 for i in range(8)])
    assert (chosen.rate, chosen.decay) == (6, 2 / 8)
    assert len(tried) == 12


def test_a_grid_of_one_point_gives_that_point():
    one = coordinate_search(lambda config: 1.0, DynamicConfig(7.0, 0.2), rates=(7.0,), decays=(0.2,))
    assert (one.rate, one.decay) == (7.0, 0.2)


def fitted(name, text):
    model = build(name, V, order=3)
    model.fit_counts(text, torch.ones(V, dtype=torch.uint8))
    return model


@pytest.mark.parametrize("name", ["ngram", "word-ngram", "lstm-ngram"])
def test_counts_are_updated_at_rate_zero_and_restored(name, cycle):
    model, ids = fitted(name, torch.randint(V, (200,))), cycle(400)
    static, config = evaluate(model, TextRange(ids, 0, 400)), DynamicConfig(0.0, 0.0, segment_len=8)
    start = TextRange(ids, 0, 64)
    assert evaluate_dynamic(model, start, config).nats == pytest.approx(evaluate(model, start).nats)
    adapted = evaluate_dynamic(model, TextRange(ids, 0, 400), config).nats
    assert adapted < 0.8 * static.nats if name != "lstm-ngram" else adapted != static.nats  # its LSTM is untrained
    assert evaluate(model, TextRange(ids, 0, 400)) == static


def test_every_character_is_counted_once(cycle):
    text, ids = torch.randint(V, (200,)), cycle(2500)
    model, both, unchanged = (fitted("ngram", text) for _ in range(3))
    adapt(model, TextRange(ids, 0, len(ids)), DynamicConfig(0.0, 0.0, segment_len=8))
    both.update_counts(ids, 0)
    start = TextRange(ids, 0, 400)
    assert evaluate(model, start) == evaluate(both, start) != evaluate(unchanged, start)


class Nothing(CharModel):
    """A model that has neither parameters nor counts."""

    def forward(self, chars, state=None, only_last=False):
        return nn.functional.one_hot(chars, V).double(), None


def test_a_model_that_has_nothing_cannot_learn(ids):
    for attempt in (
        lambda: evaluate_dynamic(Nothing(), TextRange(ids, 0, 90), DynamicConfig(0.1, 0.0)),
        lambda: gradient_rms(Nothing(), ids),
        lambda: adapt(Nothing(), TextRange(ids, 0, len(ids)), DynamicConfig(0.1, 0.0)),
    ):
        with pytest.raises(UsageError, match="this one has neither"):
            attempt()


def test_any_kind_of_number_is_an_option(ids):
    model, text, half = small("gru"), TextRange(ids, 0, 90), Fraction(1, 2)
    config = DynamicConfig(half, half)
    assert evaluate_dynamic(model, text, config) == evaluate_dynamic(model, text, DynamicConfig(0.5, 0.5))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": -1.0}, "rate must be at least 0, got -1"),
        ({"rate": math.inf}, "got inf"),
        ({"rate": math.nan}, "got nan"),
        ({"decay": 1.1}, "decay must be at least 0 and at most 1, got 1.1"),
        ({"decay": math.nan}, "got nan"),
        ({"segment_len": 0}, "segment_len must be at least 1 and at most 1,048,576, got 0"),
    ],
)
def test_values_out_of_range_are_a_usage_error(values, message):
    with pytest.raises(UsageError, match=message):
        DynamicConfig(**{"rate": 0.1, "decay": 0.0} | values)
