"""The result of a training: its cost, its final losses, and whether it diverged."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from charlm.errors import DivergedError
from charlm.evaluation.metrics import nats_to_bits
from charlm.recipe import Recipe
from charlm.storage.runs import DIVERGED
from charlm.training import callbacks
from charlm.training.timer import peak_memory
from charlm.training.trainer import FINAL_CHARS, Trainer

WORSE_THAN_UNIFORM = 1.1  # times its loss: diverged; an untrained network is less than 1.1 times worse


def training_result(trainer: Trainer) -> dict[str, Any]:
    """Return the cost of a training and, unless it was interrupted, its losses by the protocol and its outcome."""
    state = trainer.state
    n_skipped = sum(c.n_skipped for c in trainer.callbacks if isinstance(c, callbacks.SkipNonFinite))
    result: dict[str, Any] = {
        "n_parameters": state.model.n_parameters,
        "n_chars": state.n_chars,
        "seconds": round(state.timer.seconds, 2),
        "interrupted": state.interrupted,
        **({"signal": int(state.stop)} if state.interrupted else {}),
        **({"n_skipped": n_skipped} if n_skipped else {}),
    }
    for curve in trainer.callbacks:
        if isinstance(curve, callbacks.ValidationCurve) and curve.nats and not state.interrupted:
            result |= {"best_epoch": curve.best_epoch, "last_epoch": curve.epochs[-1], "outcome": curve.outcome}
    if not state.interrupted:
        result |= trainer.final_scores()
        if state.model.uses_gradients and _has_diverged(trainer, result):
            result["outcome"] = DIVERGED
    if (peak := peak_memory()) is not None:
        result["peak_bytes"] = peak
    return result


def _has_diverged(trainer: Trainer, result: dict[str, Any]) -> bool:
    """Return whether the model is worse than a uniform guess on the held-out part and on the training part.

    A model that is worse on the held-out part alone was trained on another kind of text.
    """
    limit = WORSE_THAN_UNIFORM * math.log(len(trainer.corpus.vocab))
    nats = _held_out_nats(result)
    if "valid_nats" in result and not nats <= limit:  # also NaN
        nats = trainer.score("train", max_chars=FINAL_CHARS).nats_per_char
    return not nats <= limit


def check_not_diverged(result: dict[str, Any], recipe: Recipe, vocab_size: int, folder: Path | None) -> None:
    """Check that a training did not diverge.

    Args:
        result: see `training_result`.
        recipe: with all defaults.
        vocab_size: V.
        folder: where the checkpoint is; None for nowhere.

    Raises:
        DivergedError: the training diverged.
    """
    if result.get("outcome") != DIVERGED:
        return
    bits, uniform = nats_to_bits(_held_out_nats(result)), math.log2(vocab_size)
    kept = "" if folder is None else f"; the checkpoint is kept in {folder}"
    raise DivergedError(
        f"the training diverged to {bits:.4g} bits per character, worse than a uniform guess with {uniform:.2f}: "
        f"lower --learning-rate (now {recipe.learning_rate:g}); `charlm lr-find` suggests one{kept}"
    )


def _held_out_nats(result: dict[str, Any]) -> float:
    """Return the loss on the validation part, or else on the training part, nats per character."""
    return float(result["valid_nats"] if "valid_nats" in result else result["train_nats"])
