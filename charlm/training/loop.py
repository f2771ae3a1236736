"""The training loop: forward pass, loss, backward pass, optimiser step. Everything else is a callback.

Shapes: B batch_size, T characters, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from charlm.data.feeds import Feed
from charlm.evaluation.metrics import nats_per_char
from charlm.models.base import CharModel, State, detach
from charlm.models.counting import initial_state
from charlm.training.distributed import all_reduce_max, shard_bounds
from charlm.training.timer import Timer

Model = Callable[..., tuple[Tensor, State]]  # called like `CharModel.forward`
Measure = Callable[[Tensor, Tensor], Tensor]  # logits, float, (B, T, V), and targets, long, (B, T), to a value, ()


def train_epoch(state: TrainState, callbacks: Sequence[Callback] = ()) -> None:
    """Train from the present position in the feed to the end of the epoch, or until `state.stop`."""
    state.model.train()
    for batch in state.batches():  # this process's rows, on the device
        run_hooks("on_batch_start", state, callbacks)
        state.gradient_step(state, state.model)
        if run_hooks("on_backward_end", state, callbacks):
            state.skip_batch()
            continue
        state.optimizer.step()
        state.advance(batch)
        run_hooks("on_batch_end", state, callbacks)


def compute_gradients(state: TrainState, model: Model) -> None:
    """Compute the gradients of the loss of `state.batch`, and set `state.hidden` and the batch's loss.

    Args:
        state: with the batch, the hidden state before it, and an optimiser; its gradients are reset first.
        model: `state.model`, or its compiled form.
    """
    state.optimizer.zero_grad(set_to_none=True)
    with state.autocast():
        logits, state.hidden = model(state.batch.chars, state.hidden, state.feed.predicts == "last")
        loss = state.loss(logits, state.batch)  # mean nats per character
    loss.backward()  # type: ignore[no-untyped-call]


def fit(state: TrainState, callbacks: Sequence[Callback] = ()) -> None:
    """Train until all epochs are done or `state.stop`.

    Args:
        state: model, feed and optimiser; training continues from its counters.
        callbacks: called in this order.
    """
    with fit_context(state, callbacks):
        while not state.ended:
            train_epoch(state, callbacks)
            if state.step_in_epoch == len(state.feed) and not state.interrupted:  # else a resumed run ends the epoch
                state.epoch, state.step_in_epoch = state.epoch + 1, 0
            run_hooks("on_epoch_end", state, callbacks)
            state.synchronize()


@dataclass
class Shard:
    """This process's rows of a batch.

    Attributes:
        chars: long, (B, T).
        targets: long, (B, T) or (B, 1).
        n_chars: number of targets in the whole batch.
        weight: fraction of them in these rows. 0 where the batch has fewer rows than there are processes; `chars` is
            then another process's row.
        loss: mean nats per character without label smoothing, (); `AllReduceGradients` makes it that of all processes.
        metrics: `TrainState.metrics` of these rows, ().
    """

    chars: Tensor
    targets: Tensor
    n_chars: int
    weight: float
    loss: Tensor = field(init=False)
    metrics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(eq=False)
class TrainState:
    """The state of a training.

    Attributes:
        model, feed, optimizer: model, training data and optimiser.
        n_epochs: epochs to train; infinite if only the time is limited.
        timer: seconds of training and their limit.
        bf16: run the forward pass in bfloat16.
        label_smoothing: see `nats_per_char`.
        loss_function: loss to minimise, from logits and targets; None for nats per character. Reports stay in nats.
        metrics: further values to measure on each batch, which `TrainingStats` logs as "train_" and their name.
        gradient_step: forward pass, loss and backward pass, see `compute_gradients`; `CompiledStep` is a faster form.
        epoch, step_in_epoch: position of the next batch in the feed.
        step: optimiser steps taken.
        n_chars: characters predicted.
        sum_nats: loss summed over those characters, on the device; reading it makes the device wait.
        hidden: the model's state after the last batch; None to start from its initial state.
        batch: the batch being read.
        logs: values that callbacks measured during the present hook, for the callbacks after them.
        stop: set it to True to stop after this step; the number of the signal where a signal stops the training.
    """

    model: CharModel
    feed: Feed
    optimizer: torch.optim.Optimizer
    n_epochs: float
    timer: Timer = field(default_factory=Timer)
    bf16: bool = False
    label_smoothing: float = 0.0
    loss_function: Measure | None = None
    metrics: Mapping[str, Measure] = field(default_factory=dict)
    gradient_step: Callable[[TrainState, Model], None] = compute_gradients
    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    n_chars: int = 0
    sum_nats: Tensor | float = 0.0
    hidden: State = None
    batch: Shard = field(init=False)
    logs: dict[str, Any] = field(default_factory=dict)
    stop: int = False

    @property
    def progress(self) -> float:
        """Fraction of the training that is done, from 0 to 1: of the epochs or of the time limit, the larger one."""
        by_epochs = (self.epoch + self.step_in_epoch / len(self.feed)) / self.n_epochs
        return min(1.0, max(by_epochs, self.timer.progress))

    @property
    def n_begun(self) -> int:
        """Number of epochs that have begun, also one that was stopped within."""
        return self.epoch + (self.step_in_epoch > 0)

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to train."""
        return bool(self.stop) or self.epoch >= self.n_epochs

    @property
    def interrupted(self) -> bool:
        """Whether a signal stopped the training; slow work is then left out."""
        return self.stop > 1

    def batches(self) -> Iterator[Shard]:
        """Yield this process's rows of each batch until the epoch ends or `stop`."""
        device = self.model.device
        if self.step_in_epoch == 0:
            self.hidden = None
        for step in range(self.step_in_epoch, len(self.feed)):
            chars, targets = self.feed.batch(self.epoch, step)
            first, stop = shard_bounds(len(chars))
            rows = slice(first, max(stop, first + 1))
            weight, n_chars = (stop - first) / len(chars), targets.numel()
            chars, targets = chars[rows].to(device), targets[rows].to(device)
            if self.hidden is None:
                self.hidden = initial_state(self.model, self.feed, self.epoch, step, rows)
            self.batch = Shard(chars, targets, n_chars, weight)
            yield self.batch
            self.synchronize()
            if self.stop:
                return

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the forward pass."""
        return torch.autocast(self.model.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def loss(self, logits: Tensor, batch: Shard) -> Tensor:
        """Return the loss to minimise, (), and keep the one to report in `batch.loss`."""
        loss = nats_per_char(logits, batch.targets)
        batch.loss = loss.detach().float()
        batch.metrics = {name: measure(logits.detach(), batch.targets) for name, measure in self.metrics.items()}
        if self.loss_function is not None:
            return self.loss_function(logits, batch.targets)
        return nats_per_char(logits, batch.targets, self.label_smoothing) if self.label_smoothing else loss

    def advance(self, batch: Shard) -> None:
        """Count a step; detach the hidden state, or drop it if the next batch is not the continuation of this one."""
        self.hidden = detach(self.hidden) if self.feed.carries_state else None
        if isinstance(self.sum_nats, float):
            dtype = torch.float32 if batch.loss.device.type == "mps" else torch.float64  # mps has no float64
            self.sum_nats = batch.loss.new_full((), self.sum_nats, dtype=dtype)
        self.sum_nats = torch.add(self.sum_nats, batch.loss, alpha=batch.n_chars)
        self.n_chars += batch.n_chars
        self.step += 1
        self.step_in_epoch += 1

    def skip_batch(self) -> None:
        """Count a batch without a step; the next one starts from the initial state."""
        self.hidden = None
        self.step_in_epoch += 1

    def synchronize(self) -> None:
        """Agree with the other processes on the time and on `stop`; stop at the time limit."""
        self.timer.synced_seconds, stop = all_reduce_max(self.timer.seconds, self.stop)
        self.stop = int(stop) or self.timer.progress >= 1


class Callback:
    """Base class with the six hooks of a training; each does nothing unless it is overridden.

    Callbacks are called in the order of the list. A method whose name begins with `on_` and is not a hook raises
    TypeError when the class is created.

    Attributes:
        state_attrs: names of the attributes that a resumed training needs: numbers, tensors, lists of them.
    """

    state_attrs: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a misspelt hook."""
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            if name.startswith("on_") and not hasattr(Callback, name):
                raise TypeError(f"{cls.__name__}.{name} is not a hook of Callback")

    def on_fit_start(self, state: TrainState) -> None:
        """Before the first epoch."""

    def on_batch_start(self, state: TrainState) -> None:
        """Before the forward pass."""

    def on_backward_end(self, state: TrainState) -> bool | None:
        """After the backward pass, before the optimiser's step; return True to skip that step."""

    def on_batch_end(self, state: TrainState) -> None:
        """After the optimiser's step; the counters include it."""

    def on_epoch_end(self, state: TrainState) -> None:
        """After the last batch of an epoch, or of a training that ends within one."""

    def on_fit_end(self, state: TrainState) -> None:
        """At the end, also after an error, if this callback's `on_fit_start` succeeded."""


HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


def run_hooks(hook: str, state: TrainState, callbacks: Sequence[Callback]) -> bool:
    """Call one hook of every callback; return whether one of them returned True."""
    returned = [getattr(callback, hook)(state) for callback in callbacks]
    state.logs.clear()
    return True in returned


@contextmanager
def fit_context(state: TrainState, callbacks: Sequence[Callback]) -> Iterator[None]:
    """Start the timer and call `on_fit_start`; on exit, call `on_fit_end` of every callback that started."""
    state.timer.start()
    started: list[Callback] = []
    try:
        for callback in callbacks:
            callback.on_fit_start(state)
            started.append(callback)
        state.logs.clear()
        yield
    finally:
        with ExitStack() as ends:  # calls the last one first, and all of them even if one raises
            ends.callback(state.logs.clear)
            for callback in reversed(started):
                ends.callback(callback.on_fit_end, state)
