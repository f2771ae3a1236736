"""The one training loop. Forward, loss, backward and step are here; everything else is a callback."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from charlm.data.feeds import Feed
from charlm.evaluation.metrics import nats_per_char
from charlm.models.base import CharModel, State, detach
from charlm.models.counting import CountingModel
from charlm.training import distributed


@dataclass(eq=False)
class TrainState:
    """All that is known of a training while it goes on.

    Attributes:
        model, feed, optimizer: what is trained, on what, by what.
        n_epochs: epochs to train; infinite where `minutes` alone says when to end.
        minutes: wall-clock minutes after which training stops; None for no limit.
        bf16: run the forward pass in bfloat16.
        accumulate: read each batch in so many pieces; gradients add up to the whole batch's.
        label_smoothing: see `nats_per_char`; the loss that is reported is without it.
        epoch, step_in_epoch: where in the feed the next batch is.
        step: optimiser steps taken.
        n_chars: characters predicted.
        sum_nats: nats over those characters, kept on the device; reading it makes the device wait.
        fit_context: time.perf_counter() at the start.
        seconds_before: seconds that the training took before it was resumed.
        states: the model's state after the last step, one for each piece of a batch.
        share: of the batch that the piece being read is; 1 where a batch is read at once.
        logs: what callbacks measured during the present hook, for the callbacks after them in the list.
        stop: set it to end the training after this step.
        save: set it, on all processes, to have the training saved after this step.
        skip: set it, on all processes, to leave out the optimiser's step, and the batch's loss with it.
        n_skipped: steps left out.
        interrupted: a signal ended it; what takes long is to be left out.
        signal: number of that signal.
        pending_signal: number of a signal that is still to be agreed upon.
        save_requested: a signal that is still to be agreed upon.
        synced_seconds: seconds of training at the end of the step before, the same on all processes.
        interruptible: a signal may raise `Interrupted` at once, because what is being done can be done again.
    """

    model: CharModel
    feed: Feed
    optimizer: torch.optim.Optimizer
    n_epochs: float
    minutes: float | None = None
    bf16: bool = False
    accumulate: int = 1
    label_smoothing: float = 0.0
    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    n_chars: int = 0
    sum_nats: Tensor | float = 0.0
    fit_context: float = field(default_factory=time.perf_counter)
    seconds_before: float = 0.0
    states: list[State] = field(default_factory=list)
    share: float = 1.0
    logs: dict[str, Any] = field(default_factory=dict)
    stop: bool = False
    save: bool = False
    skip: bool = False
    n_skipped: int = 0
    interrupted: bool = False
    signal: int = 0
    pending_signal: int = 0
    save_requested: bool = False
    synced_seconds: float = 0.0
    interruptible: bool = False

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return self.seconds_before + time.perf_counter() - self.fit_context

    @property
    def progress(self) -> float:
        """The share of the training that is done, from 0 to 1, by epochs or by minutes, whichever is more."""
        by_epochs = (self.epoch + self.step_in_epoch / len(self.feed)) / self.n_epochs
        by_minutes = self.synced_seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_epochs, by_minutes))

    @property
    def ended(self) -> bool:
        """Whether the training came to its end, and was not cut short by an error."""
        return self.stop or self.epoch >= self.n_epochs

    def advance(self, loss: Tensor, n_chars: int) -> None:
        """Count one step of `n_chars` predictions at a mean loss, nats, ()."""
        if isinstance(self.sum_nats, float):
            exact = torch.float32 if loss.device.type == "mps" else torch.float64  # mps has no float64
            self.sum_nats = loss.new_full((), self.sum_nats, dtype=exact)
        self.sum_nats = torch.add(self.sum_nats, loss, alpha=n_chars)
        self.n_chars += n_chars
        self.step += 1
        self.step_in_epoch += 1

    def synchronize(self) -> None:
        """Let all processes have one clock, and do what any of them was asked to: stop, save."""
        save_requested, self.save_requested = self.save_requested, False
        self.synced_seconds, stop, signal, save = distributed.all_reduce_max(
            self.seconds, self.stop, self.pending_signal, save_requested
        )
        self.save = self.save or bool(save)
        self.signal = self.signal or int(signal)
        self.interrupted = self.interrupted or bool(signal)
        self.stop = bool(stop) or self.interrupted or (self.minutes is not None and self.progress >= 1)

    def skip_batch(self) -> None:
        """Count a batch that gave no step."""
        self.n_skipped += 1
        self.step_in_epoch += 1
        self.skip = False


class Callback:
    """Something to do at the six moments of a training; each hook does nothing unless it is overridden.

    Callbacks are called in the order of the list. A method whose name begins with `on_` and is not a hook is an
    error when the class is made.

    Attributes:
        state_attrs: names of the attributes that a resumed training needs; numbers, tensors, lists of them.
    """

    state_attrs: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a misspelt hook."""
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            if name.startswith("on_") and not hasattr(Callback, name):
                raise TypeError(f"{cls.__name__}.{name} is not a hook of Callback")

    def on_fit_start(self, run: TrainState) -> None:
        """Before the first epoch."""

    def on_batch_start(self, run: TrainState) -> None:
        """Before the forward pass."""

    def on_backward_end(self, run: TrainState) -> None:
        """Between the backward pass and the optimiser's step: gradients are there."""

    def on_batch_end(self, run: TrainState) -> None:
        """After the optimiser's step; the counters include it."""

    def on_epoch_end(self, run: TrainState) -> None:
        """After the last batch of an epoch, or of a training that ends within one."""

    def on_fit_end(self, run: TrainState) -> None:
        """At the end, whatever ended it; for callbacks whose `on_fit_start` has run."""


HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


def run_hooks(hook: str, run: TrainState, callbacks: Sequence[Callback]) -> None:
    """Call one hook of every callback."""
    for callback in callbacks:
        getattr(callback, hook)(run)
    run.logs.clear()


def train_epoch(run: TrainState, callbacks: Sequence[Callback] = ()) -> None:
    """Train from the run's place in the feed to the epoch's end, or until `run.stop`."""
    feed, model, optimizer = run.feed, run.model, run.optimizer
    device_type = model.device.type
    model.train()
    if run.step_in_epoch == 0 or not run.states:
        run.states = [None] * run.accumulate
    for step in range(run.step_in_epoch, len(feed)):
        batch = [part.to(model.device) for part in feed.batch(run.epoch, step)]  # a large text is not on the device
        if isinstance(model, CountingModel):
            batch.append(feed.row_offsets(run.epoch, step).to(model.device))
        n_chars, total = batch[1].numel(), None
        run_hooks("on_batch_start", run, callbacks)
        optimizer.zero_grad(set_to_none=True)
        for i, (chars, targets, *row_offsets) in enumerate(distributed.micro_batches(batch, run.accumulate)):
            run.share = targets.numel() / n_chars
            with torch.autocast(device_type, torch.bfloat16) if run.bf16 else nullcontext():
                state = run.states[i]
                if state is None and isinstance(model, CountingModel):
                    state = model.state_at(*row_offsets)
                logits, state = model(chars, state, feed.predicts == "last")
                loss = nats_per_char(logits, targets)
                smooth = nats_per_char(logits, targets, run.label_smoothing) if run.label_smoothing else loss
            run.states[i] = detach(state) if feed.carries_state else None
            nats = loss.detach().float()
            if run.share < 1:
                smooth, nats = smooth * run.share, nats * run.share
            smooth.backward()  # type: ignore[no-untyped-call]
            total = nats if total is None else total + nats
        if total is None:  # this process has no rows
            total = batch[1].new_zeros((), dtype=torch.float32)
        distributed.all_reduce_gradients(model.parameters(), total)
        run_hooks("on_backward_end", run, callbacks)
        if run.skip:
            run.skip_batch()
            continue
        optimizer.step()
        run.advance(total, n_chars)
        run_hooks("on_batch_end", run, callbacks)
        run.synchronize()
        if run.stop:
            break


@contextmanager
def fit_context(run: TrainState, callbacks: Sequence[Callback]) -> Iterator[None]:
    """Call `on_fit_start` of every callback, and `on_fit_end` of those for which that went well, whatever happens."""
    run.fit_context, run.synced_seconds = time.perf_counter(), run.seconds_before
    begun: list[Callback] = []
    try:
        for callback in callbacks:
            callback.on_fit_start(run)
            begun.append(callback)
        run.logs.clear()
        yield
    finally:
        run_hooks("on_fit_end", run, begun)


def fit(run: TrainState, callbacks: Sequence[Callback] = ()) -> None:
    """Train until the epochs are done or `run.stop`.

    Args:
        run: what to train; its counters go on from where they are.
        callbacks: called in this order.
    """
    with fit_context(run, callbacks):
        while run.epoch < run.n_epochs and not run.stop:
            train_epoch(run, callbacks)
            if run.step_in_epoch == len(run.feed) and not run.interrupted:  # else its end is still to be done
                run.epoch, run.step_in_epoch = run.epoch + 1, 0
            run_hooks("on_epoch_end", run, callbacks)
            run.synchronize()
