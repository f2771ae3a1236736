"""From a recipe and a text to a trained model and its run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from charlm import models
from charlm.data.corpus import Corpus
from charlm.errors import CheckpointError, DataError, DivergedError, OutputError
from charlm.evaluation.protocol import TextRange
from charlm.files import atomic_write
from charlm.generation.language_model import LanguageModel
from charlm.messages import say
from charlm.models.base import CharModel
from charlm.models.counting import fit_counts, free_training_cache, training_span
from charlm.recipe import Recipe
from charlm.recipes import to_toml
from charlm.storage import checkpoint, run_log, runs
from charlm.storage.checkpoint import Metadata
from charlm.storage.weights import set_weights
from charlm.training import callbacks, distributed, setup
from charlm.training.counting import count
from charlm.training.loop import Callback, TrainState, fit
from charlm.training.result import check_not_diverged, training_result
from charlm.training.resume import restore, snapshot
from charlm.training.run_folder import run_folder
from charlm.training.trainer import Trainer

SAVE_BEST_SECONDS = 5.0  # between two writes of "best" while training
Snapshots = dict[str, tuple[Metadata, dict[str, Tensor]]]  # metadata and weights of "best" and "last"


def train(
    recipe: Recipe,
    corpus: Corpus,
    folder: Path | None = None,
    extra: Sequence[Callback] = (),
    resume: Callable[[list[str]], None] | None = None,
    announce: Callable[[Trainer], None] | None = None,
) -> LanguageModel:
    """Train a model by gradient steps, or only fit its counts if it has no parameters.

    With several processes, all of them call this function; rank 0 evaluates and writes.

    Args:
        recipe: all options.
        corpus: the text, split as the recipe says.
        folder: run folder for weights, metrics.jsonl, TensorBoard events and the recipe; None writes nothing.
        extra: further callbacks, after the recipe's; those without `state_attrs` need not be on all processes.
        resume: resume the run in `folder`, which must have the same recipe and text; called with the differences that
            `restore` returns. A run without a saved state begins anew. None starts a new run in an unused folder.
        announce: called on rank 0 before anything is counted or trained.

    Returns:
        the model of the best validation loss (without a validation part: of the end); `metadata.result` has its
        losses and cost.

    Raises:
        UsageError, DataError: invalid combinations of options, or of options and text.
        OutputError: the folder exists or cannot be written.
        CheckpointError: there is no training to resume.
        DivergedError: the training diverged, or too many steps had no finite gradient.
    """
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        has_state = resume is not None and models.find(recipe.model).uses_gradients  # else it is counted again
        with run_folder(folder, is_new=resume is None, resumes=has_state) as resumes:
            trainer = Trainer.make(recipe, corpus, resumes, run=folder)
            if announce is not None and distributed.is_main_process():
                announce(trainer)
            return _train(trainer, folder, extra, resume if resumes else None)


def _train(
    trainer: Trainer,
    folder: Path | None,
    extra: Sequence[Callback],
    resume: Callable[[list[str]], None] | None,
) -> LanguageModel:
    """Train in an existing folder; see `train`."""
    recipe, state, model = trainer.recipe, trainer.state, trainer.state.model
    snapshots: Snapshots = {}
    best_is_pending = False  # the snapshot of "best" is not yet in its file
    write_best_after = 0.0

    def save(name: str, state: TrainState) -> None:
        """Keep a snapshot and write it; the file of "best" waits while epochs are short, at most until "last"."""
        nonlocal best_is_pending, write_best_after
        metadata = trainer.language_model().metadata
        snapshots[name] = metadata, _weights_of(model)
        try:
            if name == "best":
                best_is_pending = True
                if state.step == 0 or time.monotonic() < write_best_after:
                    return
                write_best_after = time.monotonic() + SAVE_BEST_SECONDS
            elif best_is_pending:
                _write_snapshot(model, snapshots["best"], partial(write, "best"))
            write(name, metadata)
            best_is_pending = False
        except OutputError as error:  # the next save may succeed, and the previous file is intact
            _warn(f"not saved this time, training continues: {error}")

    def write(name: str, metadata: Metadata) -> None:
        if folder is None:
            return
        extra_tensors = None
        if name == "last" and model.uses_gradients:
            metadata.resume, extra_tensors = snapshot(state, all_callbacks)
        if distributed.is_main_process():
            checkpoint.save(folder / f"{name}.safetensors", model, metadata, extra_tensors=extra_tensors)

    if folder is not None and resume is None and distributed.is_main_process():
        atomic_write(folder / runs.RECIPE, to_toml(recipe).encode())
        if trainer.start is not None and model.uses_gradients:
            checkpoint.save(folder / runs.START, *trainer.start)
    trainer.start = None  # frees its memory
    all_callbacks = [
        *trainer.callbacks,
        *(_loggers(trainer, folder) if folder is not None and distributed.is_main_process() else []),
        callbacks.ModelCheckpoint(save, recipe.save_steps, recipe.save_minutes),
        *extra,
    ]
    if resume is not None:
        assert folder is not None
        snapshots |= _resume(trainer, folder, all_callbacks, resume)
    if trainer.transfer is not None and distributed.is_main_process():
        _warn(trainer.transfer.message)
    if model.uses_gradients:
        _warn_truncated(training_span(model, trainer.train_ids), trainer.train_ids)
        fit_counts(model, trainer.train_ids, *trainer.symbol_kinds)
        first_step = state.step
        try:
            fit(state, [*all_callbacks, trainer.signals])
        except (LookupError, RuntimeError, TypeError, ValueError) as error:  # of a restored state that does not fit
            if resume is None or state.step > first_step:
                raise
            raise CheckpointError(
                f"{folder}: cannot be resumed: {str(error)[: checkpoint.MAX_REASON]}; train again"
            ) from None
    else:
        score = trainer.validate if trainer.has_valid else None
        count(state, trainer.train_ids, trainer.symbol_kinds, score, all_callbacks)

    if not snapshots:  # no validation part, and `SkipNonFinite` skipped every step
        raise DivergedError("no step had a finite gradient; try a lower --learning-rate or --clip 1")
    name = "best" if "best" in snapshots else "last"
    metadata, weights = snapshots[name]
    model.load_state_dict(weights, strict=False)  # counts are the same in all snapshots
    metadata.result = distributed.run_on_rank0(partial(training_result, trainer))
    free_training_cache(model)
    try:
        write(name, metadata)
    except OutputError as error:
        if not state.interrupted:
            raise
        _warn(f"not saved: {error}")  # a resumed run continues from the save before
    if folder is not None and distributed.is_main_process():
        try:
            run_log.append_result(folder, metadata.result)
            callbacks.write_final_scores(folder, metadata.result)
            if not state.interrupted:
                (folder / runs.START).unlink(missing_ok=True)
        except OSError as error:
            _warn(f"{folder / run_log.METRICS}: the result is in the checkpoint, but not here: {error.strerror}")
    check_not_diverged(metadata.result, recipe, len(trainer.corpus.vocab), folder)
    return LanguageModel(model.eval(), metadata)


def _warn_truncated(used: Tensor, ids: Tensor) -> None:
    if len(used) < len(ids) and distributed.is_main_process():
        _warn(f"to save memory, gradient steps use only the last {len(used):,} of {len(ids):,} characters")


def _weights_of(model: CharModel) -> dict[str, Tensor]:
    """Return copies of a model's parameters and buffers, without counts."""
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}


def _write_snapshot(
    model: CharModel, kept: tuple[Metadata, dict[str, Tensor]], write: Callable[[Metadata], None]
) -> None:
    """Write a checkpoint of earlier weights, and restore the present ones."""
    now = _weights_of(model)
    model.load_state_dict(kept[1], strict=False)
    try:
        write(kept[0])
    finally:
        model.load_state_dict(now, strict=False)


def _warn(message: str) -> None:
    """Print a message on stderr about a problem that does not end the training."""
    say(message, start="\n")


def _resume(
    trainer: Trainer, folder: Path, listed: Sequence[Callback], report: Callable[[list[str]], None]
) -> Snapshots:
    """Restore a training from its last checkpoint; return the snapshots in the folder.

    Raises:
        CheckpointError: the last checkpoint does not belong to this training.
        DataError: the text has changed.
    """
    metadata, tensors = checkpoint.read(folder / runs.LAST)
    weights = {key: tensor for key, tensor in tensors.items() if "/" not in key}
    if metadata.corpus["sha256"] != trainer.corpus.sha256:
        raise DataError(f"{trainer.corpus.name}: the text has changed since {folder} was trained on it")
    if not metadata.resume:
        raise CheckpointError(f"{folder}: cannot be resumed: its last checkpoint has no training state; train again")
    try:
        set_weights(trainer.state.model, weights)
        report(restore(trainer.state, listed, metadata.resume, tensors))
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder}: cannot be resumed: {str(error)[: checkpoint.MAX_REASON]}; train again"
        ) from None
    best = folder / runs.BEST
    return {"last": (metadata, weights)} | ({"best": checkpoint.read(best)} if best.is_file() else {})


def _loggers(trainer: Trainer, folder: Path) -> list[Callback]:
    """Return the callbacks that report into the run folder."""
    defaults = setup.fill_defaults(Recipe(model=trainer.recipe.model), trainer.state.model.device)
    bounds = trainer.corpus.bounds["valid" if trainer.has_valid else "train"]
    return [
        callbacks.Samples(lambda: trainer.language_model().sample(length=200, temperature=0.8, seed=0)),
        callbacks.MeasureGradientFlow(TextRange(trainer.ids, *bounds, trainer.corpus.vocab.bos_id)),
        callbacks.IgnoreIOErrors(callbacks.JSONLinesLogger(folder / run_log.METRICS)),
        callbacks.IgnoreIOErrors(callbacks.TensorBoard(folder, trainer.recipe, defaults, trainer.corpus.vocab)),
    ]
