"""Evaluation of trained models on a text: each model, their mixture, and dynamic evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from charlm.data.corpus import Corpus
from charlm.data.feeds import to_device_if_fits
from charlm.errors import CharlmError, UsageError
from charlm.evaluation.dynamic import DEFAULT_DECAY, diverged, dynamic_nll
from charlm.evaluation.metrics import EvalResult
from charlm.evaluation.mixing import mixed_nll
from charlm.evaluation.protocol import TextRange, evaluate
from charlm.experiments.trained_models import (
    Announce,
    DynamicOptions,
    TrainedModel,
    check_rate,
    dynamic_config,
    mixture_weights,
    read_part,
    read_text,
)
from charlm.generation.mixture import mixture_nats, per_model_nats
from charlm.options.splits import split_of


def evaluate_models(
    models: Sequence[TrainedModel],
    sources: Sequence[str],
    part: str | None,
    weights: Sequence[float] | None,
    dynamic: DynamicOptions | None,
    announce: Announce,
) -> dict[str, Any]:
    """Evaluate one model, or several models and their mixture, by the protocol.

    Args:
        models: of one vocabulary.
        sources: another text: names, files or folders; empty for the text that the first model was trained on.
        part: "train", "valid", "test" or "all"; None takes the held-out part, or all of another text.
        weights: of the mixture; None fits them on validation text.
        dynamic: also evaluate the model that learns from the text; None does not.
        announce: receives messages.

    Returns:
        the report of `charlm eval --json`.

    Raises:
        CharlmError: a text, an option or a model that cannot be used.
    """
    corpus = read_text(models[0], sources, announce)
    part, first, stop = part_bounds(models[0], corpus, part, is_other=bool(sources))
    ids = to_device_if_fits(corpus.ids, models[0].model.model.device)
    text = TextRange(ids, first, stop, corpus.vocab.bos_id)
    check_rate(models, dynamic)
    mixed = None
    if dynamic is not None and dynamic.method == "mix":  # before the static evaluation, since it refuses more
        mixed = _evaluate_mixing(models, corpus, text, dynamic, announce)
    report: dict[str, Any] = {
        "model": " + ".join(str(trained.path) for trained in models),
        "corpus": corpus.name,
        "part": part,
        "n_chars": text.n_chars,
        "n_unknown": text.n_chars - int(np.count_nonzero(corpus.ids[first:stop])),
        "bytes_per_char": corpus.vocab.bytes_per_symbol(corpus.ids[first:stop]),
    }
    if len(models) > 1:
        if weights is None:
            _check_held_out(models[:1], corpus, text, "--weights")
        used = mixture_weights(models, weights, announce)
        report |= _evaluate_mixture(models, text, used)
    else:
        used, model = [1.0], models[0].model
        report |= _bits(evaluate(model.model, text, model.metadata.n_context))
    if mixed is not None:
        report["dynamic"] = mixed
    elif dynamic is not None:
        if not dynamic.is_complete:
            _check_held_out(models, corpus, text, "--rate and --decay")
        uniform = math.log(models[0].model.model.vocab_size)
        limits = [row["nats_per_char"] + uniform for row in report.get("mixture", [report])]
        report["dynamic"] = _evaluate_dynamic(models, text, used, dynamic, limits, announce)
    for row in (report, *report.get("mixture", ()), *([report["dynamic"]] if dynamic is not None else [])):
        row["bits_per_byte"] = row["bits_per_char"] / report["bytes_per_char"]
    return report


def part_bounds(trained: TrainedModel, text: Corpus, part: str | None, is_other: bool) -> tuple[str, int, int]:
    """Return the part to evaluate on, by default the test part or else the validation part, and its bounds.

    Args:
        trained: the model.
        text: its training text, or another one.
        part: "train", "valid", "test" or "all"; None for the default.
        is_other: the text is not the training text; by default all of it is used.

    Raises:
        UsageError: there is no such part.
    """
    if part == "all" or (part is None and is_other):
        return "all", 0, len(text.ids)
    for name in [part] if part else ["test", "valid"]:
        first, stop = text.bounds[name]
        if first < stop:
            return name, first, stop
    split = trained.model.metadata.recipe["split"]
    if part and is_other:
        raise UsageError(f"{text.name}: {len(text.ids):,} characters are too few for a {part} part; use --part all")
    if part:
        raise UsageError(f"{trained.path}: split {split} has no {part} part; name another --part")
    raise UsageError(f"{trained.path}: split {split} has no held-out part; name a --corpus or --part train")


def _check_held_out(models: Sequence[TrainedModel], corpus: Corpus, text: TextRange, options: str) -> None:
    """Refuse to evaluate on characters on which options would be chosen; texts are compared by their SHA-256.

    Raises:
        UsageError: the characters overlap the validation part of a model's training text.
    """
    for trained in models:
        metadata = trained.model.metadata
        if corpus.sha256 == metadata.corpus["sha256"] and _overlaps_valid(text, corpus, metadata.recipe["split"]):
            raise UsageError(
                f"{options} would be chosen on the characters that are evaluated; give {options}, or another --part"
            )


def _overlaps_valid(text: TextRange, corpus: Corpus, split: str) -> bool:
    """Return whether a range of a text overlaps the validation part of a split; True if their orders differ."""
    if split == corpus.split:
        first, stop = corpus.bounds["valid"]
    elif split_of(split).order != "text" or split_of(corpus.split).order != "text":
        return True
    else:
        first, stop = split_of(split).bounds(len(corpus.ids))["valid"]
    return max(first, text.first) < min(stop, text.stop)


def _evaluate_mixture(models: Sequence[TrainedModel], text: TextRange, weights: list[float]) -> dict[str, Any]:
    """Return the result of a mixture and of each of its models."""
    nats = per_model_nats([trained.model for trained in models], text)
    rows = [
        {"model": str(trained.path), "weight": weight} | _bits(EvalResult(row.sum().item(), text.n_chars))
        for trained, weight, row in zip(models, weights, nats, strict=True)
    ]
    return {"mixture": rows} | _bits(EvalResult(mixture_nats(nats, weights).sum().item(), text.n_chars))


def _evaluate_dynamic(
    models: Sequence[TrainedModel],
    text: TextRange,
    weights: list[float],
    options: DynamicOptions,
    limits: Sequence[float],
    announce: Announce,
) -> dict[str, Any]:
    """Return the result of dynamic evaluation: each model is adapted separately; their probabilities are mixed.

    Raises:
        CharlmError: the loss of a model is above its limit, nats per character: its weights diverged.
    """
    configs, nats = [], []
    for trained, limit in zip(models, limits, strict=True):
        model, config = trained.model, dynamic_config(trained, options, announce)
        row = dynamic_nll(model.model, text, config, model.metadata.n_context)
        if not row.mean() <= limit:  # also NaN
            raise CharlmError(f"{trained.path}: {diverged(config)}")
        configs.append(config)
        nats.append(row)

    def values(name: str) -> Any:
        found = [getattr(config, name) for config in configs]
        return found[0] if len(found) == 1 else found

    settings = {"method": options.method, "n_piece": configs[0].segment_len}
    settings |= {"rate": values("rate"), "decay": values("decay")}
    mixed = mixture_nats(torch.stack(nats), weights)
    return settings | _bits(EvalResult(mixed.sum().item(), text.n_chars))


def _evaluate_mixing(
    models: Sequence[TrainedModel], corpus: Corpus, text: TextRange, options: DynamicOptions, announce: Announce
) -> dict[str, Any]:
    """Return the result of context mixing.

    The mixer reads the training part, and then another text, or the characters between the training part and `text`.

    Raises:
        UsageError: several models, or characters of the training part.
        CharlmError: see `read_part` and `mixed_nll`.
    """
    if len(models) > 1:
        raise UsageError("--dynamic mix is for one model; name one, or use --dynamic rms")
    model, begin, config = models[0].model, 0, None
    if corpus.sha256 == model.metadata.corpus["sha256"]:
        begin = corpus.bounds["train"][1]
        if text.first < begin or corpus.split != model.metadata.recipe["split"]:
            raise UsageError("--dynamic mix reads the training part first; evaluate the valid or test part after it")
    known = read_part(models[0], "train", "use --dynamic sgd, which needs no training part", announce)
    if options.rate is not None:
        decay = DEFAULT_DECAY if options.decay is None else options.decay
        config = dynamic_config(models[0], replace(options, method="rms", decay=decay), announce)
    train_ids = known.ids[known.first : known.stop]
    nats = mixed_nll(model.model, train_ids, text, begin, model.vocab, model.metadata.n_context, config)
    settings = {} if config is None else {"n_piece": config.segment_len, "rate": config.rate, "decay": config.decay}
    return {"method": "mix"} | settings | _bits(EvalResult(float(nats.sum()), text.n_chars))


def _bits(result: EvalResult) -> dict[str, float]:
    return {"nats_per_char": result.nats_per_char, "bits_per_char": result.bits_per_char}
