"""Callback that measures gradient flow at the ends of some epochs."""

from __future__ import annotations

from charlm.errors import UsageError
from charlm.evaluation.protocol import TextRange
from charlm.inspection.gradient_flow import gradient_flow
from charlm.training.loop import Callback, TrainState

LAGS = (1, 4, 16, 64)
N_PLACES = 8


class MeasureGradientFlow(Callback):
    """Log `gradient_flow`: mean norm of d loss_t / d state_{t-k} over the layers, by lag k as a string.

    It is measured where a `sample` is logged, at most 20 times in a training; place it after `Samples`. Models without
    a state of floating-point tensors, and short texts, have none.

    Args:
        text: the characters to predict.
    """

    def __init__(self, text: TextRange) -> None:
        self.text = text

    def on_epoch_end(self, state: TrainState) -> None:
        """Measure."""
        if "sample" not in state.logs:
            return
        try:
            flow = gradient_flow(state.model, self.text, LAGS, N_PLACES)
        except UsageError:
            return
        state.logs["gradient_flow"] = {
            str(lag): round(float(norm), 6) for lag, norm in zip(flow.lags, flow.norms.mean(axis=1), strict=True)
        }
