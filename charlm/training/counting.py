"""What stands in the place of the training loop for a model that counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from charlm.evaluation.metrics import Score
from charlm.models.base import CountingModel
from charlm.training.loop import Callback, Run, call, started


def count(
    run: Run,
    codes: Tensor,
    kinds: Tensor | None = None,
    score: Callable[[], Score] | None = None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Let a counting model read a text once.

    It is validated once and that is reported twice, before the first character and after the last: a flat line, to
    be laid over the curves of models that are trained.

    Args:
        run: whose model counts; its counters say afterwards that one epoch was one step.
        codes: the text as indices, (N,).
        kinds: of the symbols, see `CharModel.count`.
        score: predicts the validation part; None where there is none.
        callbacks: called in this order.
    """
    assert isinstance(run.model, CountingModel)
    with started(run, callbacks):
        run.model.count(codes, kinds)
        measured = {} if score is None else {"valid_nats": score().nats_per_char}
        run.record.update(measured)
        call("on_batch_end", run, callbacks)
        run.n_epochs, run.epoch, run.step, run.n_chars = 1, 1, 1, len(codes)
        run.record.update(measured)
        call("on_epoch_end", run, callbacks)
