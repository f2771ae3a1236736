"""The callback that averages weights over the steps."""

from __future__ import annotations

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from charlm.training.loop import Callback, TrainState


class EMA(Callback):
    """Keep an exponential moving average of the weights; from an epoch's end to the next step, it is the model.

    So it is what is validated, sampled from and saved, if it comes before the callbacks that do so. The average begins
    as the plain mean of the first steps: the decay after step t is the smaller of `decay` and t / (t + 1).

    Reference: Polyak and Juditsky (1992), Acceleration of stochastic approximation by averaging.

    Args:
        decay: weight of the past, a step.
    """

    state_attrs = ("n_steps", "average", "_raw")

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.n_steps = 0
        self.average: list[Tensor] = []
        self._raw: list[Tensor] = []  # the weights as they were trained, while the average is in their place

    def on_batch_start(self, run: TrainState) -> None:
        """Go on from the weights as they were trained."""
        if self._raw:
            _exchange(run, self._raw)
            self._raw = []

    def on_batch_end(self, run: TrainState) -> None:
        """Take the new weights into the average."""
        weights = [p.detach() for p in run.model.parameters()]
        if not self.average:
            self.average = [p.clone() for p in weights]
        decay = min(self.decay, self.n_steps / (self.n_steps + 1))
        get_ema_multi_avg_fn(decay)(self.average, weights, None)  # type: ignore[no-untyped-call]
        self.n_steps += 1

    def on_epoch_end(self, run: TrainState) -> None:
        """Put the average in the place of the weights."""
        if self.average and not self._raw:
            self._raw = _exchange(run, self.average)


def _exchange(run: TrainState, values: list[Tensor]) -> list[Tensor]:
    """Set the model's weights and return what they were."""
    parameters = list(run.model.parameters())
    before = [p.detach().clone() for p in parameters]
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data.copy_(value)
    return before
