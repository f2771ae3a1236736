"""Exponential moving average of the weights."""

from __future__ import annotations

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from charlm.training.loop import Callback, TrainState


class EMA(Callback):
    """Exponential moving average (EMA) of the weights.

    From the end of an epoch to the next step the model holds the average, which is then validated, sampled from and
    saved by the callbacks after this one. The average begins as the plain mean of the first steps: the decay after
    step t is min(decay, t / (t + 1)).

    Reference: Polyak and Juditsky (1992), Acceleration of stochastic approximation by averaging.

    Args:
        decay: weight of the previous average in each step.
    """

    state_attrs = ("n_steps", "average", "_raw")

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.n_steps = 0
        self.average: list[Tensor] = []
        self._raw: list[Tensor] = []  # the trained weights while the model holds the average

    def on_batch_start(self, state: TrainState) -> None:
        """Restore the trained weights."""
        if self._raw:
            _swap(state, self._raw)
            self._raw = []

    def on_batch_end(self, state: TrainState) -> None:
        """Add the new weights to the average."""
        weights = [p.detach() for p in state.model.parameters()]
        if not self.average:
            self.average = [p.clone() for p in weights]
        decay = min(self.decay, self.n_steps / (self.n_steps + 1))
        get_ema_multi_avg_fn(decay)(self.average, weights, None)  # type: ignore[no-untyped-call]
        self.n_steps += 1

    def on_epoch_end(self, state: TrainState) -> None:
        """Replace the weights by the average."""
        if self.average and not self._raw:
            self._raw = _swap(state, self.average)


def _swap(state: TrainState, values: list[Tensor]) -> list[Tensor]:
    """Set the model's weights and return the previous ones."""
    parameters = list(state.model.parameters())
    before = [p.detach().clone() for p in parameters]
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data.copy_(value)
    return before
