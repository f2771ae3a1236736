"""EMA of the weights; activation regularization."""

import pytest
import torch

from charlm.data.feeds import Stream
from charlm.evaluation.metrics import nats_per_char
from charlm.training import callbacks
from charlm.training.loop import Callback, fit


class Weights(Callback):
    """Copy the weights after every step and at the end of every epoch."""

    def __init__(self):
        self.after_step, self.after_epoch = [], []

    def on_batch_end(self, state):
        self.after_step.append(state.model.embed.weight.detach().clone())

    def on_epoch_end(self, state):
        self.after_epoch.append(state.model.embed.weight.detach().clone())


def trained(make_run, *listed, **options):
    torch.manual_seed(0)
    state, weights = make_run(**options), Weights()
    fit(state, [*listed, weights])
    return state, weights


def test_at_the_end_of_an_epoch_the_model_holds_the_average(make_run):
    _, weights = trained(make_run, callbacks.EMA(0.8))
    average = weights.after_step[0].clone()
    for step, new in enumerate(weights.after_step[1:], start=1):
        decay = min(0.8, step / (step + 1))
        average = decay * average + (1 - decay) * new
        if (step + 1) % 7 == 0:
            torch.testing.assert_close(weights.after_epoch[step // 7], average)


def test_with_a_decay_near_one_the_average_is_the_mean_of_all_steps(make_run):
    _, weights = trained(make_run, callbacks.EMA(0.9999))
    torch.testing.assert_close(weights.after_epoch[1], torch.stack(weights.after_step).mean(0))


def test_training_continues_from_the_trained_weights_not_from_the_average(make_run):
    _, with_average = trained(make_run, callbacks.EMA(0.8))
    _, without = trained(make_run)
    torch.testing.assert_close(with_average.after_step, without.after_step, rtol=0, atol=0)


@pytest.mark.parametrize("n_chars", [4, 1])
def test_penalties_have_the_gradient_of_the_penalised_loss(make_run, n_chars, cycle):
    feed = Stream(cycle(4 * n_chars + 1), bptt=n_chars, batch_size=4)
    state, _ = trained(
        make_run,
        callbacks.ActivationRegularization(ar=0.7, tar=0.9),
        rate=0.0,
        n_epochs=1,
        feed=feed,
    )
    found = {name: p.grad.clone() for name, p in state.model.named_parameters()}

    chars, targets = feed.batch(0, 0)
    h, _ = state.model.features(chars)
    loss = nats_per_char(state.model.head(h), targets) + 0.7 * h.square().mean()
    if n_chars > 1:
        loss = loss + 0.9 * (h[:, 1:] - h[:, :-1]).square().mean()
    state.model.zero_grad()
    loss.backward()
    torch.testing.assert_close(found, {name: p.grad for name, p in state.model.named_parameters()})
    nats = nats_per_char(state.model.head(h), targets).item()
    assert float(state.sum_nats) / state.n_chars == pytest.approx(nats, rel=1e-5)


def test_penalties_are_removed_after_the_training(make_run):
    state, _ = trained(make_run, callbacks.ActivationRegularization(ar=5.0, tar=5.0))
    chars, targets = state.feed.batch(0, 0)
    gradients = []
    for model in (state.model, make_run().model):
        model.load_state_dict(state.model.state_dict())
        model.zero_grad()
        nats_per_char(model(chars)[0], targets).backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)
