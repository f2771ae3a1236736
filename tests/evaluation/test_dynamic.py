"""Dynamic evaluation: a character is predicted before it is learned from, and the weights come back."""

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from charlm.errors import UsageError
from charlm.evaluation import dynamic
from charlm.evaluation.dynamic import DynamicConfig, adapt, dynamic_nll, gradient_rms
from charlm.evaluation.metrics import EvalResult, evaluate
from charlm.evaluation.tuning import coordinate_search
from charlm.models import CharModel, build
from charlm.storage.weights import weights_of as all_weights_of

V = 6
PROBS = [0.05, 0.1, 0.15, 0.2, 0.22, 0.28]
KINDS = [("gru", None), ("lstm", None), ("char3", 3), ("loop", 4)]


@pytest.fixture
def ids():
    return torch.randint(V, (90,), dtype=torch.uint8)


def evaluate_dynamic(model, ids, first, stop, *how, **options):
    nats = dynamic_nll(model, ids, first, stop, *how, **options)
    return EvalResult(nats.sum().item(), len(nats))


def small(name):
    return build(name, V, n_embed=4, n_hidden=8).double()


def weights_of(model):
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("rate", [0.01, math.nan])
def test_it_takes_one_thread_and_gives_the_others_back(ids, monkeypatch, rate):
    model, seen = small("gru"), []
    features = type(model).features
    noted = lambda *given: seen.append(torch.get_num_threads()) or features(*given)  # noqa: E731
    monkeypatch.setattr(type(model), "features", noted)
    torch.set_num_threads(2)
    try:
        if rate > 0:
            dynamic_nll(model, ids, 20, 85, DynamicConfig(rate, 0.0))
        else:
            with pytest.raises(IndexError):
                dynamic_nll(model, ids + V, 20, 85, DynamicConfig(0.0, 0.0))
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(("name", "n_context"), KINDS)
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_at_rate_zero_it_is_the_static_evaluation(ids, name, n_context, decay):
    model = small(name)
    static = evaluate(model, ids, 20, 85, n_context, bos_id=2)
    score = evaluate_dynamic(model, ids, 20, 85, DynamicConfig(0.0, decay, n_piece=16), n_context, bos_id=2)
    assert score.n_chars == static.n_chars
    assert score.nats == pytest.approx(static.nats, rel=1e-12)


@pytest.mark.parametrize(("name", "n_context"), KINDS)
def test_the_first_piece_is_predicted_before_anything_is_learned(ids, name, n_context):
    model, steps = small(name), DynamicConfig(0.5, 0.0, n_piece=20)
    one = evaluate_dynamic(model, ids, 0, 20, steps, n_context)
    assert one.nats == pytest.approx(evaluate(model, ids, 0, 20, n_context).nats, rel=1e-12)
    two = evaluate_dynamic(model, ids, 0, 40, steps, n_context)
    assert two.nats != pytest.approx(evaluate(model, ids, 0, 40, n_context).nats, rel=1e-3)


def test_what_comes_later_changes_nothing_earlier(ids):
    model, steps, later = small("gru"), DynamicConfig(0.5, 0.1, n_piece=8), ids.clone()
    later[50:] = (ids[50:] + 1) % V
    assert evaluate_dynamic(model, later, 10, 50, steps) == evaluate_dynamic(model, ids, 10, 50, steps)


@pytest.mark.parametrize("rms", [None, [0.02, 0.1, 0.03, 0.2, 0.05, 0.8]])
def test_the_steps_are_those_computed_by_hand(fixed_probs, rms):
    ids, rate, decay, n = [1, 5, 5, 2, 5, 3, 0, 1, 1, 5], 0.3, 0.4, 4
    model = fixed_probs(PROBS)
    trained = [math.log(p) for p in PROBS]
    theta, by_hand = list(trained), 0.0
    mean = sum(rms) / V if rms else None
    for piece in (ids[:4], ids[4:8], ids[8:]):
        total = sum(map(math.exp, theta))
        probs = [math.exp(x) / total for x in theta]
        by_hand -= sum(math.log(probs[code]) for code in piece)
        for v in range(V):
            gradient = probs[v] - piece.count(v) / len(piece)
            divisor = rms[v] + dynamic.EPSILON * mean if rms else 1
            share = min(decay * rms[v] / mean, 1) if rms else decay
            theta[v] += share * (trained[v] - theta[v]) - rate * gradient / divisor
    steps = DynamicConfig(rate, decay, None if rms is None else [torch.tensor(rms, dtype=torch.float64)], n)
    score = evaluate_dynamic(model, torch.tensor(ids), 0, len(ids), steps)
    assert score.nats == pytest.approx(by_hand, rel=1e-12)
    adapt(model, torch.tensor(ids), steps)
    assert model.logits.tolist() == pytest.approx(theta, rel=1e-12)


def test_rms_is_the_root_of_the_mean_squared_gradient(fixed_probs, monkeypatch):
    monkeypatch.setattr(dynamic, "N_LANES", 2)
    ids = torch.tensor([1, 5, 5, 2, 5, 3, 0, 1, 1])  # lanes 1552 and 5301, their targets 5525 and 3011
    batches = [[5, 5, 3, 0], [2, 5, 1, 1]]
    (rms,) = gradient_rms(fixed_probs(PROBS), ids, n_piece=2)
    by_hand = [math.sqrt(sum((PROBS[v] - batch.count(v) / 4) ** 2 for batch in batches) / 2) for v in range(V)]
    assert rms.tolist() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(("name", "n_context"), KINDS)
def test_rms_has_a_number_for_each_weight_and_changes_none(ids, name, n_context):
    model = small(name)
    before = weights_of(model)
    rms = gradient_rms(model, ids, n_context, n_piece=4)
    assert [r.shape for r in rms] == [p.shape for p in before]
    assert all((r >= 0).all() and r.isfinite().all() and r.any() for r in rms)
    assert all(map(torch.equal, weights_of(model), before))


def test_rms_of_what_reads_counts_is_of_counts_that_do_not_know_what_comes(monkeypatch):
    monkeypatch.setattr(dynamic, "N_LANES", 2)
    ids, char_classes = torch.randint(V, (2, 150)).flatten(), torch.ones(V, dtype=torch.uint8)
    model, fitted = (build("lstm-ngram", V, order=3, n_embed=4, n_hidden=8).eval() for _ in range(2))
    fitted.load_state_dict(model.state_dict())
    fitted.fit_counts(ids, char_classes)
    model.fit_counts(torch.randint(V, (70,)), char_classes)
    before = {key: value.clone() for key, value in all_weights_of(model).items()}
    found = gradient_rms(model, ids, n_piece=300, char_classes=char_classes)
    assert all(torch.equal(value, before[key]) for key, value in all_weights_of(model).items())
    chars, targets = ids[:298].view(2, 149), ids[1:299].view(2, 149)
    logits, _ = fitted(chars, fitted.state_at(torch.tensor([0, 149])))
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(found, [g.abs() for g in torch.autograd.grad(loss, list(fitted.parameters()))])


@pytest.mark.parametrize("method", ["sgd", "rms"])
@pytest.mark.parametrize(("name", "n_context"), [("gru", None), ("loop", 4)])
def test_it_helps_where_the_text_repeats_what_the_model_never_saw(cycle, name, n_context, method):
    ids, model = cycle(600), small(name)
    rms = gradient_rms(model, torch.randint(V, (300,)), n_context, n_piece=4) if method == "rms" else None
    steps = DynamicConfig(0.5 if rms is None else 0.01, 0.0, rms, n_piece=8)
    score = evaluate_dynamic(model, ids, 0, 600, steps, n_context)
    assert score.bits_per_char < 0.8 * evaluate(model, ids, 0, 600, n_context).bits_per_char


def test_what_was_learned_from_a_text_stays(cycle):
    ids, model = cycle(400), small("gru")
    before = evaluate(model, ids, 0, 400).nats
    adapt(model, ids, DynamicConfig(0.5, 0.0, n_piece=8))
    assert evaluate(model, ids, 0, 400).nats < 0.8 * before


@pytest.mark.parametrize("last", [3, V])  # there is no character V: reading it fails
@pytest.mark.parametrize("training", [True, False])
def test_weights_and_mode_come_back_even_if_the_model_fails(ids, last, training):
    model = small("gru").train(training)
    before = weights_of(model)
    ids[60] = last
    try:
        evaluate_dynamic(model, ids, 0, 90, DynamicConfig(0.5, 0.0, n_piece=8))
    except IndexError:
        assert last == V
    assert all(map(torch.equal, weights_of(model), before))
    assert model.training is training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_dropout_is_off(ids):
    model = build("lstm", V, n_embed=4, n_hidden=8, n_layers=2, dropout=0.5, head_dropout=0.5).train()
    scores = [evaluate_dynamic(model, ids, 0, 90, DynamicConfig(0.5, 0.0)) for _ in range(2)]
    assert scores[0] == scores[1]


def test_weights_that_run_away_cost_infinitely_many_nats(ids):
    assert evaluate_dynamic(small("gru"), ids, 0, 90, DynamicConfig(1e300, 0.0, n_piece=8)).nats == math.inf


@given(st.lists(st.floats(0, 9), min_size=12, max_size=12), st.integers(0, 3), st.integers(0, 2))
def test_no_next_rate_and_no_next_decay_is_better_than_those_picked(costs, rate, decay):
    rates, decays, asked = (0.1, 0.2, 0.3, 0.4), (0.0, 0.5, 1.0), Counter()
    cost_of = dict(zip(itertools.product(rates, decays), costs, strict=True))

    def nats(steps):
        asked[steps.rate, steps.decay] += 1
        return cost_of[steps.rate, steps.decay]

    picked = coordinate_search(nats, DynamicConfig(rates[rate], decays[decay], n_piece=8), rates, decays)
    assert picked.n_piece == 8
    assert max(asked.values()) == 1
    i, j = rates.index(picked.rate), decays.index(picked.decay)
    near = [(other, picked.decay) for other in rates[max(0, i - 1) : i + 2]]
    near += [(picked.rate, other) for other in decays[max(0, j - 1) : j + 2]]
    assert set(near) <= asked.keys()
    assert cost_of[picked.rate, picked.decay] == min(cost_of[pair] for pair in near)


def test_where_the_valley_is_one_the_best_of_all_is_picked_with_few_tries():
    asked = []

    def nats(steps):
        asked.append(steps)
        return (steps.rate - 6) ** 2 + (8 * steps.decay - 2) ** 2

    picked = coordinate_search(nats, DynamicConfig(4, 5 / 8), rates=range(1, 8), decays=[i / 8 for i in range(8)])
    assert (picked.rate, picked.decay) == (6, 2 / 8)
    assert len(asked) == 12


def test_what_is_the_only_choice_is_picked():
    one = coordinate_search(lambda steps: 1.0, DynamicConfig(7.0, 0.2), rates=(7.0,), decays=(0.2,))
    assert (one.rate, one.decay) == (7.0, 0.2)


def counted(name, text):
    model = build(name, V, order=3)
    model.fit_counts(text, torch.ones(V, dtype=torch.uint8))
    return model


@pytest.mark.parametrize("name", ["ngram", "word-ngram", "lstm-ngram"])
def test_counts_learn_whatever_the_rate_and_come_back(name, cycle, monkeypatch):
    monkeypatch.setattr(dynamic, "N_COUNTED", 50)
    model, ids = counted(name, torch.randint(V, (200,))), cycle(400)
    before = {key: value.clone() for key, value in all_weights_of(model).items()}
    static, steps = evaluate(model, ids, 0, 400), DynamicConfig(0.0, 0.0, n_piece=8)
    assert evaluate_dynamic(model, ids, 0, 56, steps).nats == pytest.approx(evaluate(model, ids, 0, 56).nats)
    learned = evaluate_dynamic(model, ids, 0, 400, steps).nats
    assert learned < 0.8 * static.nats if name != "lstm-ngram" else learned != static.nats  # the LSTM knows nothing yet
    assert all(torch.equal(value, before[key]) for key, value in all_weights_of(model).items())
    assert evaluate(model, ids, 0, 400) == static


def test_counts_learn_every_character_once(cycle):
    text, ids = torch.randint(V, (200,)), cycle(2500)
    model, both = counted("ngram", text), counted("ngram", text)
    adapt(model, ids, DynamicConfig(0.0, 0.0, n_piece=8))
    both.update_counts(ids, 0)
    torch.testing.assert_close(all_weights_of(model), all_weights_of(both), rtol=0, atol=0)


class Nothing(CharModel):
    """A model that has neither parameters nor counts."""

    def forward(self, chars, state=None, only_last=False):
        return nn.functional.one_hot(chars, V).double(), None


def test_a_model_that_has_nothing_cannot_learn(ids):
    for attempt in (
        lambda: evaluate_dynamic(Nothing(), ids, 0, 90, DynamicConfig(0.1, 0.0)),
        lambda: gradient_rms(Nothing(), ids),
        lambda: adapt(Nothing(), ids, DynamicConfig(0.1, 0.0)),
    ):
        with pytest.raises(UsageError, match="neither weights nor counts"):
            attempt()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": -1.0}, "rate is -1"),
        ({"rate": math.inf}, "rate is inf"),
        ({"rate": math.nan}, "rate is nan"),
        ({"decay": 1.1}, "decay is 1.1"),
        ({"decay": math.nan}, "decay is nan"),
        ({"n_piece": 0}, "piece is 0"),
    ],
)
def test_steps_that_cannot_be_meant_are_a_usage_error(values, message):
    with pytest.raises(UsageError, match=message):
        DynamicConfig(**{"rate": 0.1, "decay": 0.0} | values)
