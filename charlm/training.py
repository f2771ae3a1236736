"""From a recipe and a text to a trained model: everything is put together here."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import charlm
from charlm import callbacks, checkpoint, models
from charlm.checkpoint import Checkpoint
from charlm.corpus import Corpus
from charlm.errors import OutputError, UsageError
from charlm.feeds import Chunks, Feed, Stream, Windows, hold_out
from charlm.files import write_whole
from charlm.fit import Callback, Run, fit
from charlm.language_model import LanguageModel
from charlm.metrics import Score, evaluate, evaluate_feed
from charlm.recipe import Recipe
from charlm.schedules import make_schedule, one_cycle_momentum

N_LANES = 32  # lanes in which the validation part is read while training
HELD_OUT = 0.2  # share of the windows that the split "random20" holds out


def choose_device(name: str) -> torch.device:
    """Return the device of that name; "auto" takes cuda, then mps, then cpu.

    Raises:
        UsageError: the device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, is_there in there.items() if is_there))
    if not there[name]:
        raise UsageError(f"device {name} is not there; this machine has: {', '.join(d for d in there if there[d])}")
    return torch.device(name)


def resolve(recipe: Recipe, device: torch.device) -> Recipe:
    """Fill in what a recipe leaves to the model and the device: options, feed, window, batch size, bfloat16.

    Raises:
        UsageError: the feed or the split does not go with the model.
    """
    architecture = models.find(recipe.model)
    feed = recipe.feed or architecture.default_feed
    if architecture.n_context is not None and feed != "windows":
        raise UsageError(f"model {recipe.model} predicts after a fixed window; it needs --feed windows")
    if recipe.split == "random20" and feed == "stream":
        raise UsageError("split random20 holds out windows or chunks; with feed stream take another split")
    return recipe.changed(
        options=models.options_of(recipe.model) | recipe.options,
        feed=feed,
        n_context=architecture.n_context or recipe.n_context,
        batch_size=recipe.batch_size or (512 if feed == "windows" else 32),
        bf16=recipe.bf16 and device.type == "cuda" and torch.cuda.is_bf16_supported(),
    )


def make_feeds(recipe: Recipe, codes: Tensor) -> tuple[Feed, Feed | None]:
    """Return the feed of the training part, and the held-out windows if the split is of windows.

    Args:
        recipe: as `resolve` returns it.
        codes: the training part, (N,).
    """
    batch_size = recipe.batch_size
    assert batch_size is not None
    if recipe.feed == "stream":
        return Stream(codes, recipe.bptt, batch_size), None

    def rows(only: Tensor | None = None) -> Windows | Chunks:
        if recipe.feed == "windows":
            return Windows(codes, recipe.n_context, batch_size, recipe.seed, recipe.stride, only)
        return Chunks(codes, recipe.bptt, batch_size, recipe.seed, only)

    if recipe.split != "random20":
        return rows(), None
    kept, held_out = hold_out(rows().n_rows, HELD_OUT, recipe.seed)
    return rows(kept), rows(held_out)


def make_optimizer(recipe: Recipe, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimiser from `torch.optim`."""
    parameters, rate, decay = list(model.parameters()), recipe.learning_rate, recipe.weight_decay
    fused = parameters[0].device.type in ("cpu", "cuda")
    match recipe.optimizer:
        case "adam":
            return torch.optim.Adam(parameters, rate, weight_decay=decay, fused=fused)
        case "adamw":
            return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=fused)
        case "sgd":
            return torch.optim.SGD(parameters, rate, recipe.momentum, weight_decay=decay, fused=fused)
        case _:
            return torch.optim.RMSprop(parameters, rate, momentum=recipe.momentum, weight_decay=decay)


def schedule_callback(recipe: Recipe) -> Callback:
    """Return the callback that moves the learning rate as the recipe says.

    Raises:
        UsageError: lengths in epochs that do not fit into the training, or where only the minutes are known.
    """
    n_epochs = recipe.epochs
    if n_epochs is None:
        if recipe.warmup_epochs or recipe.hold_epochs or recipe.drop_epochs:
            raise UsageError("warm-up, hold and drops are in epochs; say how many --epochs there are in all")
        n_epochs = 1
    if recipe.warmup_epochs + recipe.hold_epochs >= n_epochs and recipe.schedule != "constant":
        raise UsageError(f"warm-up and hold leave none of the {n_epochs} epochs to schedule {recipe.schedule}")
    factor = make_schedule(
        recipe.schedule,
        n_epochs,
        recipe.warmup_epochs,
        recipe.hold_epochs,
        recipe.drop_epochs,
        recipe.n_cycles,
    )
    has_momentum = recipe.optimizer in ("adam", "adamw") or (recipe.optimizer == "sgd" and recipe.momentum > 0)
    moves = recipe.schedule == "one-cycle" and has_momentum
    return callbacks.Schedule(recipe.learning_rate, factor, one_cycle_momentum if moves else None)


@dataclass
class Trainer:
    """One training, put together and ready to go.

    Attributes:
        recipe: as resolved.
        corpus: the text.
        codes: the text on the device, (N,).
        run: for `fit`.
        held_out: held-out windows, where the split is of windows.
    """

    recipe: Recipe
    corpus: Corpus
    codes: Tensor
    run: Run
    held_out: Feed | None

    @classmethod
    def make(cls, recipe: Recipe, corpus: Corpus) -> Trainer:
        """Put a training together; the weights are drawn from torch's global generator, seeded here.

        Raises:
            UsageError: an option that the model does not have, or choices that do not go together.
            DataError: the text is too short.
        """
        device = choose_device(recipe.device)
        recipe = resolve(recipe, device)
        torch.manual_seed(recipe.seed)
        model = models.build(recipe.model, len(corpus.vocab), **recipe.options).to(device)
        codes = torch.from_numpy(corpus.codes).to(device)
        first, stop = corpus.bounds["train"]
        feed, held_out = make_feeds(recipe, codes[first:stop])
        run = Run(
            model,
            feed,
            make_optimizer(recipe, model),
            n_epochs=math.inf if recipe.epochs is None else recipe.epochs,
            minutes=recipe.minutes,
            bf16=recipe.bf16,
        )
        return cls(recipe, corpus, codes, run, held_out)

    def language_model(self) -> LanguageModel:
        """Return the model as it is now, with all that belongs into its checkpoint."""
        run, corpus, vocab = self.run, self.corpus, self.corpus.vocab
        about = Checkpoint(
            model=self.recipe.model,
            options=self.recipe.options,
            vocab_size=len(vocab),
            symbols=vocab.points.tolist(),
            is_bytes=vocab.is_bytes,
            n_context=self.recipe.n_context if self.recipe.feed == "windows" else None,
            recipe=self.recipe.to_dict(),
            corpus={"name": corpus.name, "sha256": corpus.sha256, "n_chars": len(corpus.codes)},
            counters={"epoch": run.epoch, "step": run.step, "n_chars": run.n_chars, "seconds": run.seconds},
            versions={"charlm": charlm.__version__, "torch": torch.__version__},
        )
        return LanguageModel(run.model, about)

    @property
    def has_valid(self) -> bool:
        """Whether anything is held out for validation."""
        first, stop = self.corpus.bounds["valid"]
        return self.held_out is not None or first < stop

    def score(self, part: str, n_lanes: int = 1) -> Score:
        """Predict a part of the text by the protocol; "valid" is the held-out windows where the split is of windows.

        Args:
            part: "train", "valid" or "test"; it must not be empty.
            n_lanes: see `evaluate`.
        """
        if part == "valid" and self.held_out is not None:
            return evaluate_feed(self.run.model, self.held_out)
        n_context = self.recipe.n_context if self.recipe.feed == "windows" else None
        start = self.corpus.vocab.start
        return evaluate(self.run.model, self.codes, *self.corpus.bounds[part], n_context, n_lanes, start)


def train(recipe: Recipe, corpus: Corpus, folder: Path | None = None, extra: Sequence[Callback] = ()) -> LanguageModel:
    """Train a model.

    Args:
        recipe: all choices.
        corpus: the text, split as the recipe says.
        folder: for weights, metrics.jsonl, TensorBoard events and the recipe; it must not exist. None keeps nothing.
        extra: further callbacks, after all others.

    Returns:
        the model with the best validation (the last, where there is no validation part); what is known of its
        quality and cost is in `about.result`.

    Raises:
        UsageError, DataError: choices that do not go together or with the text.
        OutputError: the folder exists or cannot be written.
    """
    with torch.random.fork_rng():
        trainer = Trainer.make(recipe, corpus)
        run = trainer.run
        listed: list[Callback] = [callbacks.StopOnInterrupt(), schedule_callback(trainer.recipe)]
        if recipe.clip is not None:
            listed.append(callbacks.ClipGradient(recipe.clip))
        listed.append(callbacks.Meter())
        if trainer.has_valid:
            listed.append(callbacks.Validate(lambda: trainer.score("valid", N_LANES)))
        if folder is not None:
            listed += _in_folder(trainer, folder)
        if recipe.patience is not None:
            listed.append(callbacks.EarlyStop(recipe.patience))
        fit(run, [*listed, *extra])
        return _finish(trainer, folder)


def _in_folder(trainer: Trainer, folder: Path) -> list[Callback]:
    """Make the run's folder and return the callbacks that write into it."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise OutputError(f"{folder}: exists already; choose another --name, or remove it") from None
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}") from None
    toml = trainer.recipe.to_toml()
    write_whole(folder / "recipe.toml", toml.encode())

    def save(name: str, run: Run) -> None:
        trainer.language_model().save(folder / f"{name}.safetensors")

    def write_sample() -> str:
        return trainer.language_model().sample(length=200, temperature=0.8, seed=0)

    return [
        callbacks.Samples(write_sample),
        callbacks.History(folder / "metrics.jsonl"),
        callbacks.TensorBoard(folder, toml, trainer.corpus.vocab),
        callbacks.Save(save),
    ]


def _finish(trainer: Trainer, folder: Path | None) -> LanguageModel:
    """Take the best weights, score them by the protocol, and write the result down."""
    seconds = trainer.run.seconds
    best = folder / "best.safetensors" if folder is not None else None
    if best is not None and best.exists():
        checkpoint.set_weights(trainer.run.model, checkpoint.read(best)[1])
    model = trainer.language_model()
    result: dict[str, Any] = {
        "n_parameters": sum(p.numel() for p in trainer.run.model.parameters()),
        "n_chars": trainer.run.n_chars,
        "seconds": round(seconds, 2),
        "interrupted": trainer.run.interrupted,
    }
    if not trainer.run.interrupted:
        if trainer.has_valid:
            result["valid_nats"] = trainer.score("valid").nats_per_char
        else:
            result["train_nats"] = evaluate_feed(trainer.run.model, trainer.run.feed).nats_per_char
        first, stop = trainer.corpus.bounds["test"]
        if first < stop:
            result["test_nats"] = trainer.score("test").nats_per_char
    model.about.result = result
    if folder is not None:
        if best is not None and best.exists():
            model.save(best)
        with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time(), "result": result}) + "\n")
    trainer.run.model.eval()
    return model
