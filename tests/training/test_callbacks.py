"""Callbacks that measure, change, stop and save a small training."""

import math
import os
import signal
import threading

import pytest
import torch

from charlm.errors import CharlmError, DivergedError
from charlm.evaluation.metrics import EvalResult
from charlm.training.callbacks import (
    ClipGradient,
    EarlyStop,
    ModelCheckpoint,
    Samples,
    Schedule,
    SkipNonFinite,
    StopOnSignal,
    TrainingStats,
    Validate,
    ValidationCurve,
)
from charlm.training.loop import Callback, fit
from charlm.training.schedules import one_cycle, one_cycle_momentum


def on(hook, do):
    """Return a callback with one hook."""
    return type("On", (Callback,), {hook: lambda self, state: do(state)})()


def validate(*nats):
    """Return a Validate with given results, nats per character."""
    scores = iter(nats)
    return Validate(lambda: EvalResult(10 * next(scores), 10))


def keep(seen, hook="on_batch_end"):
    """Return a callback that copies the logs."""
    return on(hook, lambda state: seen.append(state.logs | {"step": state.step}))


def norm_of(state):
    return torch.cat([p.grad.flatten() for p in state.model.parameters()]).norm().item()


def poison(state):
    with torch.no_grad():
        state.model.embed.weight.fill_(math.nan)


@pytest.mark.parametrize("max_norm", [1e-3, 1e3])
def test_clipping_shortens_a_long_gradient_and_leaves_a_short_one(make_run, max_norm):
    before, recorded, after = [], [], []
    fit(
        make_run(n_epochs=1),
        [
            on("on_backward_end", lambda state: before.append(norm_of(state))),
            ClipGradient(max_norm),
            on("on_backward_end", lambda state: recorded.append(float(state.logs["gradient_norm"]))),
            on("on_backward_end", lambda state: after.append(norm_of(state))),
        ],
    )
    assert recorded == pytest.approx(before, rel=1e-5)
    assert after == pytest.approx([min(norm, max_norm) for norm in before], rel=1e-3)


@pytest.mark.parametrize(
    ("nats", "patience", "n_epochs"),
    [((3, 2, 2.5, 2.4), 2, 4), ((3, 2, 2), 1, 3), ((3, 4, 2, 4, 4, 1), 2, 5), ((5, 4, 3, 2, 1, 0.5), 1, 6)],
)
def test_early_stopping_waits_for_patience_epochs_without_improvement(make_run, nats, patience, n_epochs):
    state = make_run(n_epochs=6)
    fit(state, [validate(*nats), EarlyStop(patience)])
    assert state.epoch == n_epochs


def test_without_validation_there_is_no_early_stopping(make_run):
    state = make_run(n_epochs=4)
    fit(state, [EarlyStop(1)])
    assert state.epoch == 4


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (lambda p: torch.optim.Adam(p, 1.0), lambda group: group["betas"][0]),
        (lambda p: torch.optim.SGD(p, 1.0, momentum=0.5), lambda group: group["momentum"]),
    ],
)
@pytest.mark.parametrize("momentum", [one_cycle_momentum, None])
def test_a_schedule_sets_learning_rate_and_momentum_before_every_step(make_run, make, read, momentum):
    state, seen = make_run(n_epochs=2), []
    state.optimizer = make(state.model.parameters())
    initial = read(state.optimizer.param_groups[0])
    groups = state.optimizer.param_groups
    step = on("on_backward_end", lambda state: seen.append((groups[0]["lr"], read(groups[0]))))
    fit(state, [Schedule(0.02, one_cycle, momentum), step])
    shares = [i / 14 for i in range(14)]
    assert [rate for rate, _ in seen] == pytest.approx([0.02 * one_cycle(share) for share in shares])
    assert [m for _, m in seen] == pytest.approx([momentum(share) if momentum else initial for share in shares])


@pytest.mark.parametrize("clip", [None, 0.01])
def test_training_stats_are_those_since_the_last_report(make_run, clip):
    state, sums, norms, seen, ends = make_run(n_epochs=2), [0.0], [], [], []
    listed = [
        on("on_backward_end", lambda state: norms.append(norm_of(state))),
        on("on_batch_end", lambda state: sums.append(float(state.sum_nats))),
        *([] if clip is None else [ClipGradient(clip)]),
        TrainingStats(every=3),
        keep(seen),
        keep(ends, "on_epoch_end"),
    ]
    fit(state, listed)
    assert [row["step"] for row in seen if "train_nats" in row] == [3, 6, 9, 12]
    assert [row["step"] for row in ends if "train_nats" in row] == [7, 14]
    rows, last = sorted(seen + ends, key=lambda row: row["step"]), 0
    for row in (row for row in rows if "train_nats" in row):
        step = row["step"]
        assert row["train_nats"] == pytest.approx((sums[step] - sums[last]) / (8 * (step - last)))
        assert row["learning_rate"] == 0.01
        assert row["chars_per_second"] > 0
        if step % 3 == 0:
            assert row["gradient_norm"] == pytest.approx(norms[step - 1], rel=1e-5)
        last = step


def test_the_report_at_the_end_of_an_epoch_has_the_gradient_norm_of_the_last_step(make_run):
    norms, ends = [], []
    norm = on("on_backward_end", lambda state: norms.append(norm_of(state)))
    fit(make_run(n_epochs=2), [norm, TrainingStats(every=10), keep(ends, "on_epoch_end")])
    assert [row["gradient_norm"] for row in ends] == pytest.approx([norms[6], norms[13]], rel=1e-5)


def test_a_loss_that_is_not_finite_is_an_error(make_run):
    state, saved = make_run(), []
    with pytest.raises(CharlmError, match="not finite after step 2; try a lower --learning-rate"):
        fit(
            state,
            [
                on("on_batch_start", poison),
                TrainingStats(every=2),
                on("on_fit_end", lambda state: saved.append(state.step)),
            ],
        )
    assert saved == [2]


def test_the_best_and_the_last_are_saved(make_run):
    saved = []
    save = ModelCheckpoint(lambda name, state: saved.append((name, state.epoch)))
    fit(make_run(n_epochs=5), [validate(3, 4, 2, 2, 1), save])
    assert saved == [("best", 1), ("best", 3), ("best", 5), ("last", 5)]


def test_the_last_is_saved_after_an_error_but_not_before_the_first_step(make_run):
    saved = []
    save = ModelCheckpoint(lambda name, state: saved.append((name, state.step)))
    listed = [save, on("on_batch_end", lambda state: 1 / 0)]
    with pytest.raises(ZeroDivisionError):
        fit(make_run(), listed)
    assert saved == [("last", 1)]
    fit(make_run(n_epochs=0), listed)
    assert saved == [("last", 1)]


def test_a_batch_that_was_broken_off_is_read_again_from_the_initial_state(make_run):
    """The hidden state after a batch, with the position before it, would be that of other characters."""
    saved = []
    save = ModelCheckpoint(lambda name, state: saved.append((state.step_in_epoch, state.hidden is None)))
    for hook in ("on_backward_end", "on_batch_end"):
        with pytest.raises(ZeroDivisionError):
            fit(make_run(), [save, on(hook, lambda state: 1 / (3 - state.step) and None)])
    assert saved == [(3, True), (3, False)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_training_after_the_present_step_without_validation_and_sample(make_run, number):
    state, before, measured = make_run(), signal.getsignal(number), []
    kill = on("on_backward_end", lambda state: os.kill(os.getpid(), number) if state.step == 2 else None)
    slow = [Validate(lambda: measured.append("score")), Samples(lambda: measured.append("sample"))]
    fit(state, [kill, *slow, StopOnSignal()])
    assert (state.step, state.stop, state.interrupted) == (3, number, True)
    assert measured == []
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_the_training_at_once(make_run, number):
    state, before = make_run(), signal.getsignal(number)
    kill = [on("on_backward_end", lambda state: os.kill(os.getpid(), number)) for _ in range(2)]
    with pytest.raises(KeyboardInterrupt):
        fit(state, [*kill, StopOnSignal()])
    assert state.step == 0
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts_a_validation_and_rewinds_the_end_of_the_epoch(make_run, number):
    state, measured, signals = make_run(), [], StopOnSignal()

    def score():
        os.kill(os.getpid(), number)
        measured.append("the rest of it")

    fit(state, [Validate(score, signals), Samples(lambda: measured.append("sample")), signals])
    assert (state.interrupted, state.stop, measured) == (True, number, [])
    assert (state.epoch, state.step_in_epoch, state.step) == (0, 7, 7)
    state.stop = False
    fit(state, [Validate(lambda: EvalResult(1.0, 1))])
    assert (state.epoch, state.step) == (2, 14)


class Poison(Callback):
    """Make the gradient of some steps infinite."""

    def __init__(self, *steps):
        self.steps = steps
        self.n_seen = 0

    def on_backward_end(self, state):
        self.n_seen += 1
        if self.n_seen in self.steps:
            next(state.model.parameters()).grad.view(-1)[0] = math.inf


def test_steps_without_a_finite_gradient_are_skipped_and_the_others_taken(make_run):
    state, skip = make_run(), SkipNonFinite(limit=3)
    fit(state, [Poison(3, 4, 9), skip])
    assert (state.step, skip.n_skipped, state.epoch) == (11, 3, 2)
    assert all(p.isfinite().all() for p in state.model.parameters())
    assert state.n_chars == 11 * 8


def test_a_skipped_step_changes_no_weight_and_resets_the_hidden_state(make_run):
    state, seen = make_run(), []

    class Look(Callback):
        def on_batch_start(self, state):
            seen.append((state.model.embed.weight.detach().clone(), state.hidden))

    fit(state, [Look(), Poison(3), SkipNonFinite()])
    assert torch.equal(seen[2][0], seen[3][0]) and not torch.equal(seen[3][0], seen[4][0])
    assert seen[2][1] is not None and seen[3][1] is None and seen[4][1] is not None


def test_too_many_skipped_steps_are_an_error(make_run):
    with pytest.raises(DivergedError, match="none of the last 3 steps had a finite gradient; try"):
        fit(make_run(), [Poison(*range(4, 20)), SkipNonFinite(limit=3)])


def test_a_sigusr1_signal_saves_after_the_present_step_and_training_continues(make_run):
    state, saved = make_run(), []
    kill = on("on_backward_end", lambda state: os.kill(os.getpid(), signal.SIGUSR1) if state.step == 2 else None)
    fit(state, [kill, ModelCheckpoint(lambda name, state: saved.append((name, state.step)))])
    assert saved == [("last", 3), ("last", 14)]
    assert not state.interrupted


def test_outside_the_main_thread_no_signal_handler_is_installed(make_run):
    state, handlers = make_run(), []
    before = signal.getsignal(signal.SIGINT)
    look = on("on_batch_end", lambda state: handlers.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(target=fit, args=(state, [StopOnSignal(), look]))
    thread.start()
    thread.join()
    assert state.epoch == 2 and set(handlers) == {before}


def test_weights_that_are_not_finite_are_not_saved(make_run):
    def poison(state):
        if state.step == 4:
            next(state.model.parameters()).data[0] = math.nan

    saved = []
    save = ModelCheckpoint(lambda name, state: saved.append((name, state.step)), every_steps=1)
    fit(make_run(), [on("on_batch_end", poison), save])
    assert saved == [("last", 1), ("last", 2), ("last", 3)]


def test_a_long_epoch_is_validated_within_it_without_changing_the_best(make_run):
    seen, saved, ends = [], [], []
    within = iter([0.1, 0.2, 0.3, 0.4])  # lower than those of the whole part
    scores = iter([3.0, 2.0])
    check = Validate(lambda: EvalResult(next(scores), 1), sketch=lambda: EvalResult(next(within), 1), every=3)
    save = ModelCheckpoint(lambda name, state: saved.append((name, state.step)))
    fit(make_run(n_epochs=2), [check, save, keep(seen), keep(ends, "on_epoch_end")])
    assert [(row["step"], row["valid_nats"]) for row in seen if "valid_nats" in row] == [(3, 0.1), (10, 0.2)]
    assert [row["valid_nats"] for row in ends] == [3.0, 2.0]
    assert saved == [("best", 7), ("best", 14), ("last", 14)]


def test_the_untrained_model_is_a_candidate_of_early_stopping(make_run):
    saved, curve, stop = [], ValidationCurve(), EarlyStop(2)
    scores = iter([1.0, 1.5, 2.0])
    check = Validate(lambda: EvalResult(next(scores), 1), at_start=True)
    save = ModelCheckpoint(lambda name, state: saved.append((name, state.step)))
    state = make_run(n_epochs=5)
    fit(state, [check, curve, stop, save])
    assert state.epoch == 2 and saved == [("best", 0), ("last", 14)]
    assert (curve.best_epoch, curve.outcome) == (0, "overfitted")


@pytest.mark.parametrize(
    ("nats", "best", "outcome"),
    [
        ((3.0, 2.0, 2.5), 2, "overfitted"),
        ((3.0, 2.5, 2.0), 3, "improving"),
        ((3.0, 2.0, 2.001), 2, "converged"),
        ((2.0,), 1, "improving"),
        ((3.0, 2.0, 4.0, 2.0, 3.5, 3.0), 2, "overfitted"),
    ],
)
def test_the_curve_tells_overfitting_by_at_most_three_epochs(make_run, nats, best, outcome):
    curve = ValidationCurve()
    fit(make_run(n_epochs=len(nats)), [validate(*nats), curve])
    assert (curve.best_epoch, curve.outcome) == (best, outcome)
    assert len(curve.nats) == len(curve.epochs) <= 3


@pytest.mark.parametrize(("step", "epochs"), [(3, [1]), (7, [1]), (10, [1, 2])])
def test_an_epoch_that_is_stopped_within_has_its_number(make_run, step, epochs):
    curve, stop = ValidationCurve(), on("on_batch_end", lambda state: setattr(state, "stop", state.step == step))
    fit(make_run(n_epochs=5), [stop, validate(2.0, 1.0), curve])
    assert (curve.epochs, curve.best_epoch) == (epochs, epochs[-1])


def test_of_many_epochs_some_are_sampled_and_the_last(make_run):
    seen = []
    fit(make_run(n_epochs=11), [Samples(lambda: "text", n_samples=3), keep(seen, "on_epoch_end")])
    assert [row["step"] // 7 for row in seen if "sample" in row] == [4, 8, 11]
