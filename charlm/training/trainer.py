"""Trainer: the state, the callbacks and the evaluation of one training, made from a recipe and a text."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from charlm import models
from charlm.data.corpus import Corpus
from charlm.data.feeds import Feed, to_device_if_fits
from charlm.errors import UsageError
from charlm.evaluation.metrics import EvalResult
from charlm.evaluation.protocol import TextRange, evaluate, evaluate_feed
from charlm.generation.language_model import LanguageModel
from charlm.messages import say
from charlm.models import CharModel
from charlm.models.counting import CountingModel, symbol_kinds, training_span
from charlm.recipe import Recipe
from charlm.storage.checkpoint import Metadata
from charlm.storage.kept_counts import counted_texts, keep_counts
from charlm.storage.transfer import Transfer, transfer_weights
from charlm.training import distributed, setup
from charlm.training.callbacks import (
    EMA,
    EarlyStop,
    SkipNonFinite,
    StopOnSignal,
    TrainingStats,
    Validate,
    ValidationCurve,
)
from charlm.training.compiled import CompiledStep
from charlm.training.loop import Callback, TrainState
from charlm.training.timer import Timer
from charlm.version import __version__

N_LANES = 32  # at most, for validation while training
LANE_CHARS = 1024  # of the validation part in each lane at least
MAX_VALID_CHARS = 1 << 16  # of the validation part that are read at most while training
SKETCH_CHARS = 1 << 14  # the same within an epoch
FINAL_CHARS = 125_000  # of a part that are read at most after the training, the first ones
VALID_EVERY = 100_000  # characters between two validations within an epoch at least
MAX_VALID_PER_EPOCH = 10


@dataclass
class Trainer:
    """A training that is ready to start.

    Attributes:
        recipe: with all defaults filled in.
        corpus: the text.
        ids: the text as indices, on the device if it fits, (N,).
        state: for `fit`.
        held_out: held-out feed of split "random20", else None.
        callbacks: callbacks of the recipe; those that save and report are added after them.
        signals: callback that must be the last one.
        transfer: what was taken from the model of `init_from`; None without one, and if the run resumes.
        start: the trained model whose counts are kept, and its metadata, until the run has a copy; None without one.
        counts_kept: texts whose counts are kept, see `counted_texts`.
    """

    recipe: Recipe
    corpus: Corpus
    ids: Tensor
    state: TrainState
    held_out: Feed | None
    callbacks: list[Callback] = field(default_factory=list)
    signals: StopOnSignal = field(default_factory=StopOnSignal)
    transfer: Transfer | None = None
    start: tuple[CharModel, Metadata] | None = None
    counts_kept: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def make(cls, recipe: Recipe, corpus: Corpus, resumes: bool = False, run: Path | None = None) -> Trainer:
        """Prepare a training. Weights are drawn from torch's global generator, seeded here.

        Args:
            recipe: all options.
            corpus: the text.
            resumes: the caller restores the weights, so those of `init_from` are not read.
            run: folder of a run that resumes.

        Raises:
            UsageError: an unknown option of the model, or invalid combinations.
            DataError: the text is too short.
        """
        device = setup.choose_device(recipe.device)
        requested_bf16, recipe = recipe.bf16, setup.fill_defaults(recipe, device)
        torch.manual_seed(recipe.seed)
        model = models.build(recipe.model, len(corpus.vocab), **recipe.options)
        starts_from = recipe.init_from is not None and not resumes
        transfer = transfer_weights(model, corpus.vocab, recipe) if starts_from else None
        start = keep_counts(model, corpus, recipe, run) if recipe.keep_counts else None
        model = model.to(device)
        if requested_bf16 and any(isinstance(part, nn.RNNBase) for part in model.modules()):
            raise UsageError(
                f"model {recipe.model}: PyTorch would run its layers in float16, not bf16; leave out --bf16"
            )
        distributed.broadcast_weights(model)
        distributed.seed_rank(recipe.seed)
        ids = to_device_if_fits(corpus.ids, device)
        first, stop = corpus.bounds["train"]
        feed, held_out = setup.make_feeds(recipe, training_span(model, ids[first:stop]))
        state = TrainState(
            model,
            feed,
            setup.make_optimizer(recipe, model),
            n_epochs=math.inf if recipe.epochs is None else recipe.epochs,
            timer=Timer(recipe.minutes),
            bf16=recipe.bf16,
            label_smoothing=recipe.label_smoothing,
        )
        if recipe.compile and model.uses_gradients:
            state.gradient_step = CompiledStep(model, _report)
        trainer = cls(recipe, corpus, ids, state, held_out, transfer=transfer, start=start)
        trainer.counts_kept = counted_texts(start[1]) if start else []
        if model.uses_gradients:
            trainer.callbacks = trainer._training_callbacks()
        return trainer

    def _training_callbacks(self) -> list[Callback]:
        recipe = self.recipe
        found = setup.freeze_callbacks(recipe, self.state.model)
        found += [*setup.gradient_callbacks(recipe), setup.schedule_callback(recipe)]
        if recipe.ema is not None:
            found.append(EMA(recipe.ema))
        if recipe.skip_nonfinite:
            found.append(SkipNonFinite())
        stats = TrainingStats(every=max(20, len(self.state.feed) // 20))  # 20 points per epoch
        found.append(stats)
        if self.has_valid:
            start = recipe.patience is not None and isinstance(self.state.model, CountingModel)
            every = setup.steps_between_validations(self.state.feed, VALID_EVERY, MAX_VALID_PER_EPOCH)
            found.append(Validate(self.validate, self.signals, self.sketch, every, stats.pause, start))
            found.append(ValidationCurve())
        if recipe.patience is not None:
            found.append(EarlyStop(recipe.patience))
        return found

    def language_model(self) -> LanguageModel:
        """Return the model as it is now, with the metadata of its checkpoint."""
        state, corpus, vocab = self.state, self.corpus, self.corpus.vocab
        metadata = Metadata(
            model=self.recipe.model,
            options=self.recipe.options,
            vocab_size=len(vocab),
            symbols=vocab.codepoints.tolist(),
            is_bytes=vocab.is_bytes,
            n_context=self.recipe.n_context if self.recipe.feed == "windows" else None,
            recipe=self.recipe.to_dict(),
            corpus={
                "name": corpus.name,
                "sha256": corpus.sha256,
                "n_chars": len(corpus.ids),
                "longest_line": corpus.longest_line,
            }
            | ({"counts_kept": self.counts_kept} if self.counts_kept else {}),
            counters={
                "epoch": state.epoch,
                "step": state.step,
                "n_chars": state.n_chars,
                "seconds": state.timer.seconds,
            },
            versions={"charlm": __version__, "torch": torch.__version__},
        )
        return LanguageModel(state.model, metadata)

    @property
    def train_ids(self) -> Tensor:
        """The training part, (N,)."""
        first, stop = self.corpus.bounds["train"]
        return self.ids[first:stop]

    @property
    def symbol_kinds(self) -> tuple[Tensor, Tensor]:
        """See `counting.symbol_kinds`."""
        return symbol_kinds(self.corpus.vocab)

    @property
    def has_valid(self) -> bool:
        """Whether there is anything to validate on."""
        first, stop = self.corpus.bounds["valid"]
        return self.held_out is not None or first < stop

    def score(self, part: str, n_lanes: int = 1, max_chars: int | None = None) -> EvalResult:
        """Evaluate a part of the text by the protocol; "valid" is the held-out feed where there is one.

        Args:
            part: "train", "valid" or "test"; it must not be empty.
            n_lanes: see `evaluate`.
            max_chars: see `evaluate`.
        """
        if part == "valid" and self.held_out is not None:
            return evaluate_feed(self.state.model, self.held_out)
        n_context = self.recipe.n_context if self.recipe.feed == "windows" else None
        text = TextRange(self.ids, *self.corpus.bounds[part], self.corpus.vocab.bos_id)
        return evaluate(self.state.model, text, n_context, n_lanes, max_chars)

    def final_scores(self, max_chars: int = FINAL_CHARS) -> dict[str, Any]:
        """Evaluate the validation and the test part, as far as they exist, each from its start.

        Without a validation part, the training feed is evaluated instead.

        Args:
            max_chars: characters of each part that are read at most.

        Returns:
            `valid_nats`, `valid_accuracy` and `valid_bits_per_byte`; of a longer part also `valid_chars`, which were
            read, and `valid_part_chars`, its length. The same for "test" or "train".
        """
        first, stop = self.corpus.bounds["test"]
        scores = {}
        if self.has_valid:
            scores["valid"] = self.score("valid", max_chars=max_chars)
        else:
            scores["train"] = evaluate_feed(self.state.model, self.state.feed)
        if first < stop:
            scores["test"] = self.score("test", max_chars=max_chars)
        found: dict[str, Any] = {}
        for part, score in scores.items():
            found |= {f"{part}_nats": score.nats_per_char, f"{part}_accuracy": score.accuracy}
            first, stop = self.corpus.bounds[part]
            scored = self.corpus.ids if first == stop else self.corpus.ids[first : first + score.n_chars]
            per_char = self.corpus.vocab.bytes_per_symbol(scored)
            found[f"{part}_bits_per_byte"] = score.bits_per_char / per_char
            if part != "train" and stop - first > max_chars:
                found |= {f"{part}_chars": score.n_chars, f"{part}_part_chars": stop - first}
        return found

    def validate(self, max_chars: int = MAX_VALID_CHARS) -> EvalResult:
        """Evaluate the validation part, or lanes spread over a long one, on rank 0, for all processes."""
        first, stop = self.corpus.bounds["valid"]
        n_lanes = max(1, min(N_LANES, (stop - first) // LANE_CHARS, max_chars // LANE_CHARS))
        return distributed.run_on_rank0(partial(self.score, "valid", n_lanes, max_chars))

    def sketch(self) -> EvalResult:
        """Evaluate less of the validation part, within an epoch."""
        return self.validate(SKETCH_CHARS)


def _report(message: str) -> None:
    """Print a message below the progress bar, once for all processes."""
    if distributed.is_main_process():
        say(message, start="\n")
