"""A training, put together from a recipe and a text, and its score at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from charlm import models
from charlm.data.corpus import Corpus
from charlm.data.feeds import Feed, to_device_if_fits
from charlm.errors import UsageError
from charlm.evaluation.metrics import EvalResult, evaluate, evaluate_feed
from charlm.generation.language_model import LanguageModel
from charlm.recipe import Recipe
from charlm.storage.checkpoint import Metadata
from charlm.training import distributed
from charlm.training.loop import TrainState
from charlm.training.setup import choose_device, make_feeds, make_optimizer, resolve
from charlm.version import __version__


@dataclass
class Trainer:
    """One training, put together and ready to go.

    Attributes:
        recipe: as resolved.
        corpus: the text.
        ids: the text, on the device if it is not too large for that, (N,).
        run: for `fit`.
        held_out: held-out windows, where the split is of windows.
    """

    recipe: Recipe
    corpus: Corpus
    ids: Tensor
    run: TrainState
    held_out: Feed | None

    @classmethod
    def make(cls, recipe: Recipe, corpus: Corpus) -> Trainer:
        """Put a training together; the weights are drawn from torch's global generator, seeded here.

        Raises:
            UsageError: an option that the model does not have, or choices that do not go together.
            DataError: the text is too short.
        """
        device = choose_device(recipe.device)
        asked_bf16, recipe = recipe.bf16, resolve(recipe, device)
        torch.manual_seed(recipe.seed)
        model = models.build(recipe.model, len(corpus.vocab), **recipe.options).to(device)
        if asked_bf16 and any(isinstance(part, nn.RNNBase) for part in model.modules()):
            raise UsageError(
                f"model {recipe.model}: PyTorch would run its layers in float16, not bf16; leave out --bf16"
            )
        distributed.broadcast_weights(model)
        distributed.seed_rank(recipe.seed)
        ids = to_device_if_fits(corpus.ids, device)
        first, stop = corpus.bounds["train"]
        train_ids = ids[first:stop]
        if isinstance(model, models.CountingModel):
            train_ids = model.training_span(train_ids)
        feed, held_out = make_feeds(recipe, train_ids)
        run = TrainState(
            model,
            feed,
            make_optimizer(recipe, model),
            n_epochs=math.inf if recipe.epochs is None else recipe.epochs,
            minutes=recipe.minutes,
            bf16=recipe.bf16,
            accumulate=recipe.accumulate,
            label_smoothing=recipe.label_smoothing,
        )
        return cls(recipe, corpus, ids, run, held_out)

    def language_model(self) -> LanguageModel:
        """Return the model as it is now, with all that belongs into its checkpoint."""
        run, corpus, vocab = self.run, self.corpus, self.corpus.vocab
        metadata = Metadata(
            model=self.recipe.model,
            options=self.recipe.options,
            vocab_size=len(vocab),
            symbols=vocab.codepoints.tolist(),
            is_bytes=vocab.is_bytes,
            n_context=self.recipe.n_context if self.recipe.feed == "windows" else None,
            recipe=self.recipe.to_dict(),
            corpus={"name": corpus.name, "sha256": corpus.sha256, "n_chars": len(corpus.ids)},
            counters={"epoch": run.epoch, "step": run.step, "n_chars": run.n_chars, "seconds": run.seconds},
            versions={"charlm": __version__, "torch": torch.__version__},
        )
        return LanguageModel(run.model, metadata)

    @property
    def train_codes(self) -> Tensor:
        """The training part."""
        first, stop = self.corpus.bounds["train"]
        return self.ids[first:stop]

    @property
    def char_classes(self) -> Tensor:
        """What its symbols are, for models that count."""
        return torch.from_numpy(self.corpus.vocab.char_classes)

    @property
    def has_valid(self) -> bool:
        """Whether anything is held out for validation."""
        first, stop = self.corpus.bounds["valid"]
        return self.held_out is not None or first < stop

    def score(self, part: str, n_lanes: int = 1) -> EvalResult:
        """Predict a part of the text by the protocol; "valid" is the held-out windows where the split is of windows.

        Args:
            part: "train", "valid" or "test"; it must not be empty.
            n_lanes: see `evaluate`.
        """
        if part == "valid" and self.held_out is not None:
            return evaluate_feed(self.run.model, self.held_out)
        n_context = self.recipe.n_context if self.recipe.feed == "windows" else None
        start = self.corpus.vocab.bos_id
        return evaluate(self.run.model, self.ids, *self.corpus.bounds[part], n_context, n_lanes, start)
