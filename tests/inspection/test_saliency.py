"""Saliency and gradient flow: known answers, and completeness of integrated gradients."""

import numpy as np
import pytest
import torch

from charlm.errors import UsageError
from charlm.evaluation.protocol import TextRange
from charlm.inspection.gradient_flow import gradient_flow
from charlm.inspection.saliency import Context, integrated_gradients, left_out, rank_correlation
from charlm.models import build

NETWORKS = ["char3", "loop", "concat", "rnn", "gru", "lstm", "gru-scratch", "awd-lstm", "min-gru"]


def context_of(model, n=6):
    ids = torch.randint(1, 9, (40 + n,))
    n = model.n_context or n
    return Context(ids[:0] if model.n_context else ids[:40], ids[-n:], 5)


@pytest.mark.parametrize("name", NETWORKS)
def test_integrated_gradients_add_up_to_the_difference_of_logits(name):
    pytest.importorskip("captum", reason="captum is not installed")
    model = build(name, 9, n_embed=6)
    context = context_of(model)
    attributions, difference = integrated_gradients(model, context)
    assert len(attributions) == len(context.chars)
    assert attributions.sum() == pytest.approx(difference, rel=0.01, abs=1e-4)
    zeros = torch.zeros_like(context.chars)
    with torch.no_grad():
        model.eval().embed.weight[0] = 0
        logits = [
            model(torch.cat([context.before, chars])[None], only_last=True)[0][0, 0, 5]
            for chars in (context.chars, zeros)
        ]
    assert difference == pytest.approx((logits[0] - logits[1]).item(), abs=1e-5)


def test_tied_weights_of_the_head_stay_as_they_are():
    pytest.importorskip("captum", reason="captum is not installed")
    model = build("gru", 9, n_embed=6, tied=True)
    attributions, difference = integrated_gradients(model, context_of(model))
    assert attributions.sum() == pytest.approx(difference, rel=0.01, abs=1e-5)
    assert difference != 0


def test_only_the_character_that_decides_matters():
    model = build("ngram", 9, order=3)
    text = torch.randint(1, 9, (300,)).repeat_interleave(2)  # each symbol twice
    model.fit_counts(text)
    context = Context(torch.tensor([1, 1, 2, 2]), torch.tensor([3, 3, 4, 4, 5]), 5)
    bits = left_out(model, context)
    assert bits.argmax() == 4
    assert bits[:3] == pytest.approx(0, abs=1e-6)  # a trigram does not see them
    with pytest.raises(UsageError, match="counts n-grams"):
        integrated_gradients(model, context)


def test_leaving_out_equals_reading_with_index_0():
    model = build("lstm", 9).eval()
    context = context_of(model)
    bits = left_out(model, context)
    for t in (0, 5):
        changed = context.chars.clone()
        changed[t] = 0
        with torch.no_grad():
            probs = [
                model(torch.cat([context.before, chars])[None], only_last=True)[0].softmax(-1)[0, 0, 5]
                for chars in (context.chars, changed)
            ]
        assert bits[t] == pytest.approx((probs[0] / probs[1]).log2().item(), abs=1e-5)
    np.testing.assert_allclose(left_out(model, context, batch_chars=1), bits, atol=1e-5)


def test_a_logit_that_jumps_at_the_baseline_has_no_integrated_gradients():
    pytest.importorskip("captum", reason="captum is not installed")
    model = build("transformer", 9, n_embed=16, n_layers=2, head_size=8)
    with torch.no_grad():
        model.head.weight.mul_(5)
    with pytest.raises(UsageError, match="transformer: the logit jumps at the zero vector"):
        integrated_gradients(model, context_of(model))


def test_rank_correlation_is_spearmans():
    assert rank_correlation(np.array([1.0, 5, 9]), np.array([0.1, 0.2, 0.9])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])) == pytest.approx(0.8)


def test_gradients_of_a_linear_recurrence_shrink_by_its_factor():
    model = build("rnn", 9, n_embed=4, n_hidden=6, n_layers=1)
    with torch.no_grad():
        model.embed.weight.zero_()  # the hidden state stays at 0, where tanh is linear
        for name, weight in model.layers.named_parameters():
            weight.zero_()
            if name.startswith("weight_hh"):
                weight.copy_(0.5 * torch.eye(6))
    text = TextRange(torch.randint(1, 9, (200,)), 0, 200)
    flow = gradient_flow(model, text, lags=(4, 1, 2), n_places=4)
    assert flow.norms.shape == (3, 1)
    np.testing.assert_allclose(flow.norms[:, 0] / flow.norms[1, 0], [0.125, 1, 0.5], rtol=1e-5)


def test_gradient_flow_has_a_column_for_each_layer_and_needs_a_state():
    text = TextRange(torch.randint(1, 9, (200,)), 0, 200)
    assert gradient_flow(build("lstm", 9, n_layers=3), text, (1, 2), 2).norms.shape == (2, 3)
    with pytest.raises(UsageError, match="char3: gradient flow needs a model that carries a state"):
        gradient_flow(build("char3", 9), text, (1,), 1)
    with pytest.raises(UsageError, match="needs more than 66 characters, got 50"):
        gradient_flow(build("lstm", 9), TextRange(text.ids, 0, 50), (1,), 1)
