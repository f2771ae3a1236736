"""What stands in the place of the training loop for a model that counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from charlm.evaluation.metrics import EvalResult
from charlm.models.counting import CountingModel
from charlm.training.loop import Callback, TrainState, fit_context, run_hooks


def count(
    run: TrainState,
    ids: Tensor,
    char_classes: Tensor | None = None,
    score: Callable[[], EvalResult] | None = None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Let a counting model read a text once.

    It is validated once and that is reported twice, before the first character and after the last: a flat line, to
    be laid over the curves of models that are trained.

    Args:
        run: whose model counts; its counters say afterwards that one epoch was one step.
        ids: the text as indices, (N,).
        char_classes: of the symbols, see `CountingModel.fit_counts`.
        score: predicts the validation part; None where there is none.
        callbacks: called in this order.
    """
    assert isinstance(run.model, CountingModel)
    with fit_context(run, callbacks):
        run.model.fit_counts(ids, char_classes)
        measured = {} if score is None else {"valid_nats": score().nats_per_char}
        run.logs.update(measured)
        run_hooks("on_batch_end", run, callbacks)
        run.n_epochs, run.epoch, run.step, run.n_chars = 1, 1, 1, len(ids)
        run.logs.update(measured)
        run_hooks("on_epoch_end", run, callbacks)
