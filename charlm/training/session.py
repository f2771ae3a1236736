"""From a recipe and a text to a trained model, with everything that is kept of it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from charlm.data.corpus import Corpus
from charlm.data.feeds import Feed
from charlm.errors import CheckpointError, DataError, OutputError
from charlm.evaluation.metrics import EvalResult, evaluate_feed
from charlm.files import atomic_write, exclusive_lock, fsync_dir
from charlm.generation.language_model import LanguageModel
from charlm.models import CountingModel
from charlm.recipe import Recipe
from charlm.storage import checkpoint, runs
from charlm.storage.checkpoint import Metadata
from charlm.storage.weights import set_weights
from charlm.training import callbacks, distributed
from charlm.training.counting import count
from charlm.training.loop import Callback, TrainState, fit
from charlm.training.resume import restore, snapshot
from charlm.training.setup import gradient_callbacks, schedule_callback
from charlm.training.trainer import Trainer

N_LANES = 32  # lanes in which the validation part is read while training


def report_every(feed: Feed) -> int:
    """Return the steps between two points of the training curve: twenty points an epoch, at least 20 steps apart."""
    return max(20, len(feed) // 20)


def train(
    recipe: Recipe,
    corpus: Corpus,
    folder: Path | None = None,
    extra: Sequence[Callback] = (),
    resume: Callable[[list[str]], None] | None = None,
) -> LanguageModel:
    """Train a model, or let it count if it is one that counts.

    Several processes call this alike; the first one evaluates and writes.

    Args:
        recipe: all choices.
        corpus: the text, split as the recipe says.
        folder: for weights, metrics.jsonl, TensorBoard events and the recipe. None keeps nothing.
        extra: further callbacks, after all others; those that keep nothing need not be on all processes.
        resume: go on with the training in the folder, which must have been made from the same recipe and text; called
            with what is not as it was then and may change the rounding. None: the folder must not exist.

    Returns:
        the model as it was when it validated best (at the end, where there is no validation part); what is known of
        its quality and cost is in `metadata.result`.

    Raises:
        UsageError, DataError: choices that do not go together or with the text.
        OutputError: the folder exists or cannot be written.
        CheckpointError: there is nothing to go on with.
    """
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        trainer = Trainer.make(recipe, corpus)
        valid = partial(trainer.score, "valid", N_LANES)
        score = partial(distributed.run_on_rank0, valid) if trainer.has_valid else None
        listed = _steering(trainer, score) if trainer.run.model.uses_gradients else []
        with _workplace(folder, is_new=resume is None):
            return _train(trainer, folder, listed, extra, resume, score)


def _train(
    trainer: Trainer,
    folder: Path | None,
    listed: list[Callback],
    extra: Sequence[Callback],
    resume: Callable[[list[str]], None] | None,
    score: Callable[[], EvalResult] | None,
) -> LanguageModel:
    """Do what `train` promises, in a folder that is there; `listed` are the callbacks that steer."""
    recipe, run = trainer.recipe, trainer.run
    state_attrs: dict[str, tuple[Metadata, dict[str, Tensor]]] = {}

    def save(name: str, run: TrainState) -> None:
        metadata = trainer.language_model().metadata
        state_attrs[name] = metadata, {key: p.detach().clone() for key, p in run.model.named_parameters()}
        try:
            write(name, metadata)
        except OutputError as error:  # there may be room the next time; what was saved before is still there
            _say(f"not saved this time, the training goes on: {error}")

    def write(name: str, metadata: Metadata) -> None:
        if folder is None:
            return
        extra_tensors = None
        if name == "last" and run.model.uses_gradients:
            metadata.resume, extra_tensors = snapshot(run, listed)
        if distributed.is_main_process():
            checkpoint.save(folder / f"{name}.safetensors", run.model, metadata, extra_tensors=extra_tensors)

    if folder is not None and distributed.is_main_process():
        listed += _reports(trainer, folder)
    listed += [callbacks.ModelCheckpoint(save, recipe.save_steps, recipe.save_minutes), *extra]
    if resume is not None:
        assert folder is not None
        state_attrs |= _go_on(trainer, folder, listed, resume)
    if not run.model.uses_gradients:
        count(run, trainer.train_codes, trainer.char_classes, score, listed)
    else:
        if isinstance(run.model, CountingModel):
            _tell_of_what_is_left_out(run.model.training_span(trainer.train_codes), trainer.train_codes)
            run.model.fit_counts(trainer.train_codes, trainer.char_classes)
        fit(run, listed)

    name = "best" if "best" in state_attrs else "last"
    metadata, weights = state_attrs[name]
    run.model.load_state_dict(weights, strict=False)  # a counting model has none, and was saved as it is
    metadata.result = distributed.run_on_rank0(partial(_result, trainer))
    if isinstance(run.model, CountingModel):
        run.model.free_training_cache()
    write(name, metadata)
    if folder is not None and distributed.is_main_process():
        try:
            with (folder / runs.METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": time.time(), "result": metadata.result}) + "\n")
        except OSError as error:
            _say(f"{error.filename}: the result is in the checkpoint, but not here: {error.strerror}")
    return LanguageModel(run.model.eval(), metadata)


def _tell_of_what_is_left_out(learned: Tensor, ids: Tensor) -> None:
    if len(learned) < len(ids) and distributed.is_main_process():
        _say(f"the network learns from the last {len(learned):,} of {len(ids):,} characters, for the sake of memory")


def _say(message: str) -> None:
    """Tell on stderr of something that does not end the training."""
    print(f"\ncharlm: {message}", file=sys.stderr)


@contextmanager
def _workplace(folder: Path | None, is_new: bool) -> Iterator[None]:
    """Make the run's folder, if it is a new one, and be the only one to write there; of several processes the first.

    What ends before anything was learned leaves no new folder behind: the name stays free.

    Raises:
        OutputError: it exists already, cannot be made, or somebody else trains there.
    """
    if folder is None or not distributed.is_main_process():
        yield
        return
    try:
        if is_new:
            folder.mkdir(parents=True)
            fsync_dir(folder.parent)
    except FileExistsError:
        raise OutputError(f"{folder}: exists already; choose another --name, or remove it") from None
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}") from None
    try:
        with exclusive_lock(folder):
            yield
    except (Exception, KeyboardInterrupt):
        if is_new and not _has_begun(folder):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _has_begun(folder: Path) -> bool:
    """Return whether a run's folder holds anything that was learned or measured."""
    metrics = folder / runs.METRICS
    return any(folder.glob("*.safetensors")) or (metrics.is_file() and metrics.stat().st_size > 0)


def _go_on(
    trainer: Trainer, folder: Path, listed: Sequence[Callback], differs: Callable[[list[str]], None]
) -> dict[str, tuple[Metadata, dict[str, Tensor]]]:
    """Put a training back to where its last checkpoint was written; return the checkpoints that there are.

    Raises:
        CheckpointError: the last checkpoint does not belong to this training.
        DataError: the text has changed since.
    """
    metadata, tensors = checkpoint.read(folder / "last.safetensors")
    weights = {key: tensor for key, tensor in tensors.items() if "/" not in key}
    if metadata.corpus["sha256"] != trainer.corpus.sha256:
        raise DataError(f"{trainer.corpus.name}: the text has changed since {folder} was trained on it")
    try:
        set_weights(trainer.run.model, weights)
        differs(restore(trainer.run, listed, metadata.resume, tensors))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: there is nothing to go on with: {error}") from None
    state_attrs = {"last": (metadata, weights)}
    best = folder / "best.safetensors"
    return state_attrs | {"best": checkpoint.read(best)} if best.is_file() else state_attrs


def _steering(trainer: Trainer, score: Callable[[], EvalResult] | None) -> list[Callback]:
    """Return the callbacks that steer and measure the training of a model with gradients."""
    recipe = trainer.recipe
    listed = [callbacks.StopOnSignal(), schedule_callback(recipe), *gradient_callbacks(recipe)]
    if recipe.ema is not None:
        listed.append(callbacks.EMA(recipe.ema))
    if recipe.skip_nonfinite:
        listed.append(callbacks.SkipNonFinite())
    listed.append(callbacks.TrainingStats(report_every(trainer.run.feed)))
    if score is not None:
        listed.append(callbacks.Validate(score))
    if recipe.patience is not None:
        listed.append(callbacks.EarlyStop(recipe.patience))
    return listed


def _reports(trainer: Trainer, folder: Path) -> list[Callback]:
    """Return the callbacks that report into the run's folder."""
    toml = trainer.recipe.to_toml()
    atomic_write(folder / "recipe.toml", toml.encode())
    return [
        callbacks.Samples(lambda: trainer.language_model().sample(length=200, temperature=0.8, seed=0)),
        callbacks.IgnoreIOErrors(callbacks.JSONLinesLogger(folder / runs.METRICS)),
        callbacks.IgnoreIOErrors(callbacks.TensorBoard(folder, toml, trainer.corpus.vocab)),
    ]


def _result(trainer: Trainer) -> dict[str, Any]:
    """Score the model by the protocol, unless the training was interrupted, and say what it cost."""
    run = trainer.run
    result: dict[str, Any] = {
        "n_parameters": run.model.n_parameters,
        "n_chars": run.n_chars,
        "seconds": round(run.seconds, 2),
        "interrupted": run.interrupted,
        **({"signal": run.signal} if run.interrupted else {}),
        **({"n_skipped": run.n_skipped} if run.n_skipped else {}),
    }
    if not run.interrupted:
        if trainer.has_valid:
            result["valid_nats"] = trainer.score("valid").nats_per_char
        else:
            result["train_nats"] = evaluate_feed(run.model, run.feed).nats_per_char
        first, stop = trainer.corpus.bounds["test"]
        if first < stop:
            result["test_nats"] = trainer.score("test").nats_per_char
    return result
