"""Mixtures: fitted weights, mean probabilities, and models with and without a window."""

import math
from dataclasses import replace
from itertools import islice

import pytest
import torch

from charlm.errors import UsageError
from charlm.evaluation.protocol import TextRange, evaluate
from charlm.generation.language_model import LanguageModel
from charlm.generation.mixture import Mixture, fit_weights, mix, mixture_nats, normalized, per_model_nats
from charlm.generation.sampler import SamplingParams, generate_ids, uniform_stream
from charlm.generation.torch_stepper import TorchStepper
from charlm.models import build
from charlm.storage.checkpoint import Metadata

V = 5
FIRST, SECOND = [0.1, 0.4, 0.2, 0.2, 0.1], [0.1, 0.1, 0.1, 0.2, 0.5]
SYMBOLS = [10, 97, 98, 99]


def language_model(model, n_context=None, **changes):
    metadata = Metadata("gru", {}, V, SYMBOLS, False, n_context, recipe={"lower": False})
    return LanguageModel(model, replace(metadata, **changes))


def small(name):
    return build(name, V, n_embed=4, n_hidden=8).double()


@pytest.fixture
def ids():
    return torch.randint(1, V, (300,))


def test_two_models_that_are_certain_of_different_characters_get_their_fractions():
    certain, impossible = 0.0, math.inf  # nats
    nats = torch.tensor([[certain] * 3 + [impossible] * 7, [impossible] * 3 + [certain] * 7]).double()
    assert fit_weights(nats) == pytest.approx([0.3, 0.7])


def test_the_weights_solve_the_equation_of_two_fixed_models(fixed_probs):
    # With counts a of symbol 1 and b of symbol 4, and p = w * first + (1 - w) * second, the derivative of
    # a ln p(1) + b ln p(4) is 0 at a * (0.4 - 0.1) / p(1) = b * (0.5 - 0.1) / p(4)
    a, b = 60, 40
    ids = torch.tensor([1] * a + [4] * b)
    nats = per_model_nats([language_model(fixed_probs(p)) for p in (FIRST, SECOND)], TextRange(ids, 0, a + b))
    w = fit_weights(nats)[0]
    p1, p4 = 0.4 * w + 0.1 * (1 - w), 0.1 * w + 0.5 * (1 - w)
    by_hand = (0.3 * a * 0.5 - 0.4 * b * 0.1) / (0.3 * 0.4 * (a + b))
    assert w == pytest.approx(by_hand, abs=1e-3)
    assert a * 0.3 / p1 == pytest.approx(b * 0.4 / p4, rel=1e-3)


def test_on_the_fitted_text_the_mixture_is_at_least_as_good_as_its_best_model(ids):
    models = [language_model(small("gru")), language_model(small("lstm")), language_model(small("char3"), 3)]
    nats = per_model_nats(models, TextRange(ids, 50, 300))
    weights = fit_weights(nats)
    assert sum(weights) == pytest.approx(1) and min(weights) >= 0
    assert mixture_nats(nats, weights).sum() <= nats.sum(dim=1).min() + 1e-9


def test_each_model_has_the_loss_that_it_has_alone(ids):
    models = [language_model(small("gru")), language_model(small("char3"), 3)]
    text = TextRange(ids, 50, 300, models[0].vocab.bos_id)
    for model, nats in zip(models, per_model_nats(models, text), strict=True):
        score = evaluate(model.model, text, model.metadata.n_context)
        assert nats.sum().item() == pytest.approx(score.nats, rel=1e-12)


def test_the_probability_of_a_mixture_is_the_weighted_mean(ids):
    nats = per_model_nats([language_model(small("gru")), language_model(small("lstm"))], TextRange(ids, 0, 300))
    by_hand = -(0.3 * (-nats[0]).exp() + 0.7 * (-nats[1]).exp()).log()
    torch.testing.assert_close(mixture_nats(nats, [0.3, 0.7]), by_hand)
    torch.testing.assert_close(mixture_nats(nats, [0.0, 1.0]), nats[1])


@pytest.mark.parametrize("names", [["gru", "lstm"], ["gru", "char3"], ["char3", "loop"]])
def test_the_loss_of_a_mixture_is_that_of_the_mean_probabilities(ids, names):
    windows = {"char3": 3, "loop": 4}
    models = [language_model(small(name), windows.get(name)) for name in names]
    mixture, text = mix(models, [0.25, 0.75]), TextRange(ids, 0, 300, models[0].vocab.bos_id)
    score = evaluate(mixture.model, text, mixture.metadata.n_context)
    by_hand = mixture_nats(per_model_nats(models, text), [0.25, 0.75]).sum().item()
    assert score.nats == pytest.approx(by_hand, rel=1e-9)


@torch.no_grad()
def test_single_characters_give_the_probabilities_of_the_whole(ids):
    mixture = mix([language_model(small("lstm")), language_model(small("char3"), 3)], [0.5, 0.5]).model
    chars, steps, state = ids[:40].view(2, 20), [], None
    for step in range(20):
        logits, state = mixture(chars[:, step : step + 1], state, only_last=True)
        steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), mixture(chars)[0])
    torch.testing.assert_close(mixture(chars)[0].exp().sum(dim=-1), torch.ones(2, 20).double())


def test_draws_have_the_mean_probabilities(fixed_probs):
    n = 2000
    mixture = Mixture([fixed_probs(FIRST), fixed_probs(SECOND)], [0.25, 0.75])
    counts = torch.bincount(
        torch.tensor(list(islice(generate_ids(TorchStepper(mixture), [1], uniform_stream(3), SamplingParams(1.0)), n))),
        minlength=V,
    )
    expected = n * (0.25 * torch.tensor(FIRST) + 0.75 * torch.tensor(SECOND))[1:] / 0.9  # index 0 is never sampled
    assert counts[0] == 0
    assert ((counts[1:] - expected) ** 2 / expected).sum() < 16.3  # chi-square, 3 degrees of freedom, p = 0.001


def test_a_mixture_with_one_positive_weight_samples_as_that_model():
    models = [language_model(small("lstm")), language_model(small("char3"), 3)]
    for weights, alone in (([1, 0], models[0]), ([0, 1], models[1])):
        for prompt in ("", "a", "a\ncab"):
            wanted = alone.sample(prompt, length=30, seed=2)
            assert mix(models, weights).sample(prompt, length=30, seed=2) == wanted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symbols": [10, 97, 98, 100]}, "vocabulary"),
        ({"is_bytes": True}, "bytes or characters"),
        ({"recipe": {"lower": True}}, "lower case"),
    ],
)
def test_models_that_encode_a_text_differently_are_not_mixed(fixed_probs, changes, message):
    models = [language_model(fixed_probs(FIRST)), language_model(fixed_probs(SECOND), **changes)]
    with pytest.raises(UsageError, match=f"models 1 and 2 differ in: {message}"):
        mix(models, [0.5, 0.5])


@pytest.mark.parametrize("weights", [[1.0], [0.5, 0.3, 0.2], [-0.1, 1.1], [0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_invalid_weights_are_a_usage_error(weights):
    with pytest.raises(UsageError, match="weights"):
        normalized(weights, 2)


def test_weights_are_normalized():
    assert normalized([3, 1], 2) == [0.75, 0.25]
