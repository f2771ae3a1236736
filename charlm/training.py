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
from charlm.choices import choose_device, make_feeds, make_optimizer, resolve, schedule_callback
from charlm.corpus import Corpus
from charlm.errors import OutputError
from charlm.feeds import Feed
from charlm.files import write_whole
from charlm.fit import Callback, Run, fit
from charlm.language_model import LanguageModel
from charlm.metrics import Score, evaluate, evaluate_feed
from charlm.recipe import Recipe

N_LANES = 32  # lanes in which the validation part is read while training


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
            accumulate=recipe.accumulate,
            label_smoothing=recipe.label_smoothing,
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


def report_every(feed: Feed) -> int:
    """Return the steps between two points of the training curve: twenty points an epoch, at least 20 steps apart."""
    return max(20, len(feed) // 20)


def train(recipe: Recipe, corpus: Corpus, folder: Path | None = None, extra: Sequence[Callback] = ()) -> LanguageModel:
    """Train a model.

    Args:
        recipe: all choices.
        corpus: the text, split as the recipe says.
        folder: for weights, metrics.jsonl, TensorBoard events and the recipe; it must not exist. None keeps nothing.
        extra: further callbacks, after all others.

    Returns:
        the model as it was when it validated best (at the end, where there is no validation part); what is known of
        its quality and cost is in `about.result`.

    Raises:
        UsageError, DataError: choices that do not go together or with the text.
        OutputError: the folder exists or cannot be written.
    """
    with torch.random.fork_rng():
        trainer = Trainer.make(recipe, corpus)
        run = trainer.run
        kept: dict[str, tuple[Checkpoint, dict[str, Tensor]]] = {}

        def save(name: str, run: Run) -> None:
            model = trainer.language_model()
            kept[name] = model.about, {key: p.detach().clone() for key, p in run.model.named_parameters()}
            if folder is not None:
                model.save(folder / f"{name}.safetensors")

        listed: list[Callback] = [callbacks.StopOnInterrupt(), schedule_callback(trainer.recipe)]
        if recipe.ar or recipe.tar:
            listed.append(callbacks.PenaliseActivations(recipe.ar, recipe.tar))
        if recipe.clip is not None:
            listed.append(callbacks.ClipGradient(recipe.clip))
        if recipe.ema is not None:
            listed.append(callbacks.MovingAverage(recipe.ema))
        listed.append(callbacks.Meter(report_every(run.feed)))
        if trainer.has_valid:
            listed.append(callbacks.Validate(lambda: trainer.score("valid", N_LANES)))
        if folder is not None:
            listed += _reports(trainer, folder)
        listed.append(callbacks.Save(save))
        if recipe.patience is not None:
            listed.append(callbacks.EarlyStop(recipe.patience))
        fit(run, [*listed, *extra])

        name = "best" if "best" in kept else "last"
        about, weights = kept[name]
        checkpoint.set_weights(run.model, weights)
        about.result = _result(trainer)
        model = LanguageModel(run.model.eval(), about)
        if folder is not None:
            model.save(folder / f"{name}.safetensors")
            with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": time.time(), "result": about.result}) + "\n")
        return model


def _reports(trainer: Trainer, folder: Path) -> list[Callback]:
    """Make the run's folder and return the callbacks that report into it."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise OutputError(f"{folder}: exists already; choose another --name, or remove it") from None
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}") from None
    toml = trainer.recipe.to_toml()
    write_whole(folder / "recipe.toml", toml.encode())
    return [
        callbacks.Samples(lambda: trainer.language_model().sample(length=200, temperature=0.8, seed=0)),
        callbacks.History(folder / "metrics.jsonl"),
        callbacks.TensorBoard(folder, toml, trainer.corpus.vocab),
    ]


def _result(trainer: Trainer) -> dict[str, Any]:
    """Score the model by the protocol, unless the training was interrupted, and say what it cost."""
    run = trainer.run
    result: dict[str, Any] = {
        "n_parameters": sum(p.numel() for p in run.model.parameters()),
        "n_chars": run.n_chars,
        "seconds": round(run.seconds, 2),
        "interrupted": run.interrupted,
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
