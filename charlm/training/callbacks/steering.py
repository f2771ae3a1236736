"""Callbacks that change the training: gradient, learning rate, early stopping."""

from __future__ import annotations

import math

from torch import Tensor, nn

from charlm.errors import DivergedError
from charlm.training.distributed import all_reduce_gradients
from charlm.training.loop import Callback, TrainState
from charlm.training.schedules import Factor


class AllReduceGradients(Callback):
    """Average gradient and loss over the processes; this callback must precede those that read either."""

    def on_backward_end(self, state: TrainState) -> None:
        """Average them."""
        batch = state.batch
        batch.loss = all_reduce_gradients(state.model.parameters(), batch.loss, batch.weight)


class Schedule(Callback):
    """Set the learning rate, and with `momentum` the momentum, before every step.

    A parameter group with a `rate_factor` gets the learning rate times this factor.

    Args:
        peak: learning rate where the factor is 1.
        factor: progress to factor, see `charlm.training.schedules`.
        momentum: progress to momentum (Adam: beta1); None leaves it unchanged.
    """

    def __init__(self, peak: float, factor: Factor, momentum: Factor | None = None) -> None:
        self.peak, self.factor, self.momentum = peak, factor, momentum

    def on_batch_start(self, state: TrainState) -> None:
        """Set them."""
        for group in state.optimizer.param_groups:
            group["lr"] = self.peak * self.factor(state.progress) * group.get("rate_factor", 1.0)
            if self.momentum is not None:
                if "betas" in group:
                    group["betas"] = (self.momentum(state.progress), group["betas"][1])
                elif "momentum" in group:
                    group["momentum"] = self.momentum(state.progress)


class ClipGradient(Callback):
    """Scale the gradient so that its L2 norm is at most `max_norm`.

    Reference: Pascanu et al. (2013), arXiv:1211.5063, algorithm 1.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def on_backward_end(self, state: TrainState) -> None:
        """Scale it."""
        state.logs["gradient_norm"] = nn.utils.clip_grad_norm_(state.model.parameters(), self.max_norm)


class ActivationRegularization(Callback):
    """Activation regularization (AR) and temporal activation regularization (TAR).

    The loss becomes nats per character + ar * mean(h_t^2) + tar * mean((h_t - h_{t-1})^2), where h are the features
    that the model's head reads. Only the gradient is changed, so the reported loss stays in nats per character.

    Reference: Merity, McCann, Socher (2017), arXiv:1708.01009.

    Args:
        ar: weight of the first penalty.
        tar: weight of the second penalty.
    """

    def __init__(self, ar: float, tar: float) -> None:
        self.ar, self.tar = ar, tar

    def on_fit_start(self, state: TrainState) -> None:
        """Hook into the input of the head."""

        def add_penalty(head: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            features = inputs[0]
            if features.requires_grad:
                h = features.detach()
                features.register_hook(lambda gradient: gradient + self._gradient(h))  # type: ignore[no-untyped-call]

        self._handle = state.model.head.register_forward_pre_hook(add_penalty)

    def on_fit_end(self, state: TrainState) -> None:
        """Remove the hook."""
        self._handle.remove()

    def _gradient(self, h: Tensor) -> Tensor:
        """Return the gradient of the penalties by the features, both (B, T, H)."""
        gradient = 2 * self.ar / h.numel() * h
        if self.tar and h.shape[1] > 1:
            change = h[:, 1:] - h[:, :-1]
            change *= 2 * self.tar / change.numel()
            gradient[:, 1:] += change
            gradient[:, :-1] -= change
        return gradient


class EarlyStop(Callback):
    """Early stopping: stop when validation has not improved for `patience` epochs. Place it after `Validate`."""

    state_attrs = ("best_nats", "n_worse")

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best_nats, self.n_worse = math.inf, 0

    def on_epoch_end(self, state: TrainState) -> None:
        """Compare `valid_nats` with the best so far."""
        nats = state.logs.get("valid_nats")
        if nats is None:
            return
        if nats < self.best_nats:
            self.best_nats, self.n_worse = nats, 0
        else:
            self.n_worse += 1
        state.stop = state.stop or self.n_worse >= self.patience

    def on_fit_start(self, state: TrainState) -> None:
        """Begin with the loss of the untrained model, if it was measured."""
        self.best_nats = min(self.best_nats, state.logs.get("valid_nats", math.inf))


class SkipNonFinite(Callback):
    """Skip steps whose gradient is not finite.

    Args:
        limit: consecutive steps that may be skipped.

    Raises:
        DivergedError: `limit` consecutive steps were skipped.
    """

    state_attrs = ("n_skipped", "n_consecutive")

    def __init__(self, limit: int = 100) -> None:
        self.limit = limit
        self.n_skipped = self.n_consecutive = 0

    def on_backward_end(self, state: TrainState) -> bool:
        """Look at the gradient; the device must wait for that."""
        gradients = [p.grad for p in state.model.parameters() if p.grad is not None]
        if nn.utils.get_total_norm(gradients).isfinite():
            self.n_consecutive = 0
            return False
        self.n_skipped += 1
        self.n_consecutive += 1
        if self.n_consecutive == self.limit:
            raise DivergedError(
                f"none of the last {self.limit} steps had a finite gradient; try a lower --learning-rate or --clip 1"
            )
        return True
