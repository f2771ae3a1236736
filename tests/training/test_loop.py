"""The training loop: a plain loop with hooks, counters and a stop condition."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from charlm.data.feeds import Chunks, Stream, Windows
from charlm.evaluation.metrics import nats_per_char
from charlm.models import CharModel, build
from charlm.training.callbacks import TrainingStats
from charlm.training.loop import Callback, TrainState, detach, fit

HOOKS = ["on_fit_start", "on_batch_start", "on_backward_end", "on_batch_end", "on_epoch_end", "on_fit_end"]


def on(hook, do):
    """Return a callback with one hook."""
    return type("On", (Callback,), {hook: lambda self, state: do(state)})()


def listener(calls, name):
    """Return a callback that records every hook."""
    hooks = {hook: lambda self, state, hook=hook: calls.append((hook, name)) for hook in HOOKS}
    return type("Listener", (Callback,), hooks)()


def feeds(cycle):
    return {"windows": Windows(cycle(24), 3, 8), "chunks": Chunks(cycle(50), 5, 4), "stream": Stream(cycle(50), 5, 3)}


@pytest.mark.parametrize("kind", ["windows", "chunks", "stream"])
@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_fit_is_the_plain_loop(cycle, name, kind):
    ours, feed = build(name, 4, n_embed=4, n_hidden=6), feeds(cycle)[kind]
    theirs = copy.deepcopy(ours)
    fit(TrainState(ours, feed, torch.optim.SGD(ours.parameters(), 0.1), n_epochs=2))

    optimizer = torch.optim.SGD(theirs.parameters(), 0.1)
    for epoch in range(2):
        state = None
        for step in range(len(feed)):
            chars, targets = feed.batch(epoch, step)
            features, state = theirs.layers(theirs.embed(chars), state)
            logits = theirs.head(features)[:, -targets.shape[1] :]
            if kind != "stream":
                state = None
            elif name == "lstm":
                state = tuple(part.detach() for part in state)
            else:
                state = state.detach()
            optimizer.zero_grad()
            F.cross_entropy(logits.reshape(-1, 4), targets.reshape(-1)).backward()
            optimizer.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_hooks_are_called_in_the_order_of_training_and_of_the_list(make_run):
    calls = []
    fit(make_run(n_epochs=2), [listener(calls, "a"), listener(calls, "b")])
    batch = ["on_batch_start", "on_backward_end", "on_batch_end"]
    hooks = ["on_fit_start", *(batch * 7 + ["on_epoch_end"]) * 2, "on_fit_end"]
    assert calls == [(hook, name) for hook in hooks for name in "ab"]


@pytest.mark.parametrize("name", ["on_epoch_begin", "on_batch_ends", "on_loss"])
def test_a_misspelt_hook_is_an_error_when_the_class_is_created(name):
    with pytest.raises(TypeError, match=f"Wrong.{name} is not a hook"):
        type("Wrong", (Callback,), {name: lambda self, state: None})


def test_a_callback_may_have_other_methods_and_be_inherited():
    first = type("First", (Callback,), {"report": lambda self: 1, "on_fit_end": lambda self, state: None})
    assert type("Second", (first,), {})().report() == 1


def test_gradients_exist_before_the_step_and_weights_change_after_it(make_run):
    state, seen = make_run(n_epochs=1), []
    start = state.model.embed.weight.detach().clone()

    def look(state):
        weight = state.model.embed.weight
        seen.append((state.step, weight.grad is not None, torch.equal(weight, start)))
        state.stop = True

    fit(state, [on("on_batch_start", look), on("on_backward_end", look), on("on_batch_end", look)])
    assert seen == [(0, False, True), (0, True, True), (1, True, False)]


def test_counters_and_nats_add_up(make_run):
    state, seen = make_run(n_epochs=2), []
    names = ("step", "n_chars", "epoch", "step_in_epoch")
    fit(state, [on("on_batch_end", lambda state: seen.append(tuple(getattr(state, name) for name in names)))])
    assert seen == [(i + 1, 8 * (i + 1), i // 7, i % 7 + 1) for i in range(14)]
    assert (state.epoch, state.step_in_epoch, state.step, state.n_chars) == (2, 0, 14, 112)
    assert state.progress == 1
    assert not state.stop


def test_nats_are_summed_over_characters_also_of_smaller_batches(make_run, cycle):
    state, by_hand = make_run(feed=Chunks(cycle(49), 4, 5), rate=0.0, n_epochs=1), 0.0
    fit(state)
    for step in range(len(state.feed)):
        chars, targets = state.feed.batch(0, step)
        by_hand += F.cross_entropy(state.model(chars)[0].flatten(0, 1), targets.flatten(), reduction="sum").item()
    assert state.n_chars == 48
    assert float(state.sum_nats) == pytest.approx(by_hand, rel=1e-5)


def test_progress_goes_from_0_to_1_by_epochs(make_run):
    state, seen = make_run(n_epochs=2), []
    fit(state, [on("on_batch_start", lambda state: seen.append(state.progress))])
    assert seen == pytest.approx([i / 14 for i in range(14)])


@pytest.mark.parametrize("hook", ["on_batch_start", "on_backward_end", "on_batch_end", "on_epoch_end", "on_fit_start"])
def test_stop_takes_effect_after_the_present_step(make_run, hook):
    state, calls = make_run(n_epochs=3), []
    fit(state, [on(hook, lambda state: setattr(state, "stop", True)), listener(calls, "a")])
    hooks = [hook for hook, _ in calls]
    n_steps = {"on_fit_start": 0, "on_epoch_end": 7}.get(hook, 1)
    assert state.step == hooks.count("on_batch_end") == n_steps
    assert hooks.count("on_epoch_end") == (0 if n_steps == 0 else 1)
    assert hooks[-1] == "on_fit_end"
    assert (state.epoch, state.step_in_epoch) == (1, 0) if n_steps == 7 else (0, n_steps)


def test_a_training_continues_from_its_counters(make_run):
    state, seen = make_run(n_epochs=3), []
    state.model.register_forward_pre_hook(lambda model, inputs: seen.append(inputs[0]))
    state.epoch, state.step_in_epoch = 1, 4
    fit(state, [on("on_epoch_end", lambda state: setattr(state, "stop", len(seen) > 20))])
    places = [(1, step) for step in range(4, 7)] + [(2, step) for step in range(7)]
    torch.testing.assert_close(seen, [state.feed.batch(*place)[0] for place in places], rtol=0, atol=0)


@pytest.mark.parametrize("hook", HOOKS)
def test_after_an_exception_every_callback_that_started_ends(make_run, hook):
    def fail(state):
        raise RuntimeError("out of luck")

    calls = []
    with pytest.raises(RuntimeError, match="out of luck"):
        fit(make_run(), [listener(calls, "before"), on(hook, fail), listener(calls, "after")])
    ends = [name for called, name in calls if called == "on_fit_end"]
    assert ends == (["before"] if hook == "on_fit_start" else ["before", "after"])


def test_a_time_limit_stops_the_training_within_an_epoch(make_run):
    state, calls = make_run(n_epochs=math.inf, minutes=1e-9), []
    fit(state, [listener(calls, "a")])
    assert state.step == 1
    assert state.progress == 1
    assert [hook for hook, _ in calls][-2:] == ["on_epoch_end", "on_fit_end"]


def test_before_the_time_limit_the_epochs_end_the_training(make_run):
    state = make_run(n_epochs=2, minutes=1e9)
    fit(state)
    assert (state.epoch, state.step) == (2, 14)


def test_logs_last_for_one_hook(make_run):
    def write(state):
        assert state.logs == {}
        state.logs["train_nats"] = 1.0

    state, seen = make_run(n_epochs=1), []
    hooks = [hook for hook in HOOKS if hook != "on_fit_end"]
    fit(state, [c for hook in hooks for c in (on(hook, write), on(hook, lambda state: seen.append(dict(state.logs))))])
    assert seen == [{"train_nats": 1.0}] * (1 + 3 * 7 + 1)
    assert state.logs == {}


class Recorded(CharModel):
    """Record the states that the model gets and returns."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.came_in, self.went_out = inner, [], []

    def forward(self, chars, state=None, only_last=False):
        logits, out = self.inner(chars, state, only_last)
        self.came_in.append(state)
        self.went_out.append(out)
        return logits, out


@pytest.mark.parametrize("kind", ["windows", "chunks", "stream"])
@pytest.mark.parametrize("name", ["gru", "lstm", "loop"])
def test_only_a_stream_carries_the_state_and_without_its_graph(cycle, name, kind):
    model, feed = Recorded(build(name, 4, n_embed=4, n_hidden=6)), feeds(cycle)[kind]
    fit(TrainState(model, feed, torch.optim.Adam(model.parameters()), n_epochs=2))
    for i, came_in in enumerate(model.came_in):
        if kind != "stream" or i % len(feed) == 0:
            assert came_in is None
            continue
        parts = came_in if isinstance(came_in, tuple) else (came_in,)
        before = model.went_out[i - 1] if isinstance(came_in, tuple) else (model.went_out[i - 1],)
        assert all(part.grad_fn is None and not part.requires_grad for part in parts)
        torch.testing.assert_close(parts, before, rtol=0, atol=0)


def test_detach_handles_tensors_tuples_and_none():
    tensor = torch.ones(2, requires_grad=True) * 2
    assert detach(None) is None
    assert not detach(tensor).requires_grad
    (first, (second,)) = detach((tensor, (tensor,)))
    assert not first.requires_grad and not second.requires_grad


def test_the_loop_sets_training_mode(make_run):
    state, seen = make_run(n_epochs=2), []
    state.model.eval()
    end = on("on_epoch_end", lambda state: state.model.eval())
    fit(state, [end, on("on_batch_start", lambda state: seen.append(state.model.training))])
    assert all(seen)


def test_bfloat16_keeps_weights_and_loss_in_float32(make_run):
    state, seen = make_run(n_epochs=1), []
    state.bf16 = True
    state.model.head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    fit(state)
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in state.model.parameters()} == {torch.float32}
    assert math.isfinite(float(state.sum_nats))


def test_label_smoothing_changes_the_gradient_and_not_the_reported_loss(make_run):
    plain, smooth = make_run(n_epochs=1, rate=0.0), make_run(n_epochs=1, rate=0.0)
    smooth.model.load_state_dict(plain.model.state_dict())
    smooth.label_smoothing = 0.2
    fit(plain)
    fit(smooth)
    assert float(smooth.sum_nats) == float(plain.sum_nats)
    assert not torch.equal(smooth.model.head[2].weight.grad, plain.model.head[2].weight.grad)


def test_label_smoothing_is_its_formula():
    logits, targets = torch.randn(2, 3, 5, dtype=torch.float64), torch.randint(5, (2, 3))
    wanted = 0.9 * nats_per_char(logits, targets) - 0.1 * logits.log_softmax(-1).mean()
    torch.testing.assert_close(nats_per_char(logits, targets, 0.1), wanted)


def test_a_loss_and_metrics_of_ones_own_are_minimised_and_reported(make_run):
    def first_symbol(logits, targets):  # drives all probability to symbol 1
        return -logits.log_softmax(-1)[..., 1].mean()

    def accuracy(logits, targets):
        return (logits.argmax(-1) == targets).float().mean()

    class Keep(Callback):
        def __init__(self):
            self.logs = []

        def on_batch_end(self, state):
            self.logs.append(dict(state.logs))

    state, keep = make_run(n_epochs=20, rate=0.05), Keep()
    state.loss_function, state.metrics = first_symbol, {"accuracy": accuracy}
    fit(state, [TrainingStats(7), keep])
    logits, _ = state.model(torch.tensor([[1, 2, 3]]))
    assert logits.softmax(-1)[..., 1].min() > 0.95
    last = [logs for logs in keep.logs if logs][-1]
    assert last["train_accuracy"] == pytest.approx(3 / 7, abs=0.06)  # the share of symbol 1 in the text
    assert last["train_nats"] > 1  # still the cross-entropy of the text
