"""Training of n-gram models: one pass over the text instead of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from charlm.evaluation.metrics import EvalResult
from charlm.models.counting import CountingModel
from charlm.training.loop import Callback, TrainState, fit_context, run_hooks


def count(
    state: TrainState,
    ids: Tensor,
    symbol_kinds: tuple[Tensor, Tensor],
    score: Callable[[], EvalResult] | None = None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Fit the counts of a model to a text.

    The model is validated once. The result is logged at 0 and at N characters: a horizontal line in the plots of other
    models' curves.

    Args:
        state: of a `CountingModel`; its counters report one epoch of one step afterwards.
        ids: the text as indices, (N,).
        symbol_kinds: classes and lower-case forms of the symbols, see `CountingModel.fit_counts`.
        score: evaluates the validation part; None if there is none.
        callbacks: called in this order.
    """
    assert isinstance(state.model, CountingModel)
    with fit_context(state, callbacks):
        state.model.fit_counts(ids, *symbol_kinds)
        measured = {} if score is None else {"valid_nats": score().nats_per_char}
        state.logs.update(measured)
        run_hooks("on_batch_end", state, callbacks)
        state.n_epochs, state.epoch, state.step, state.n_chars = 1, 1, 1, len(ids)
        state.logs.update(measured)
        run_hooks("on_epoch_end", state, callbacks)
