"""Mixtures and dynamic evaluation of trained models, with settings chosen on the validation part of their text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from charlm.data import named_texts
from charlm.data.byte_stream import ByteStream
from charlm.data.corpus import Corpus, make_corpus
from charlm.data.feeds import to_device_if_fits
from charlm.errors import CharlmError, UsageError
from charlm.evaluation.dynamic import DEFAULT_DECAY, DEFAULT_RATE, DynamicConfig, adapt, dynamic_nll, gradient_rms
from charlm.evaluation.protocol import TextRange
from charlm.evaluation.search import DECAY_GRID, RATE_GRID, SEARCH_CHARS, coordinate_search
from charlm.generation import mixture
from charlm.generation.language_model import LanguageModel
from charlm.models.counting import symbol_kinds

Announce = Callable[[str], None]  # receives messages for the user, one line each


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model and the file that it was loaded from."""

    path: Path
    model: LanguageModel

    @classmethod
    def load(cls, path: Path, device: torch.device) -> TrainedModel:
        """Load a checkpoint; the errors are those of `LanguageModel.load`."""
        return cls(path, LanguageModel.load(path, device))


@dataclass(frozen=True)
class DynamicOptions:
    """Options of dynamic evaluation, possibly incomplete; `dynamic_config` completes them.

    Attributes:
        method: "sgd", "rms", or "mix".
        rate: learning rate; None if not given.
        decay: decay towards the trained weights; None if not given.
        segment_len: characters between two steps; None if not given.
    """

    method: str
    rate: float | None = None
    decay: float | None = None
    segment_len: int | None = None

    @property
    def is_complete(self) -> bool:
        """True if nothing is left to choose."""
        return self.rate is not None and self.decay is not None


def sources_of(trained: TrainedModel, sources: Sequence[str]) -> Sequence[str]:
    """Return the given texts, or else the names of the training text.

    Raises:
        UsageError: the model was trained on standard input, or its checkpoint does not name its text.
    """
    names: Sequence[str] = sources or trained.model.metadata.recipe["corpus"]
    if not names:
        raise UsageError(f"{trained.path}: the checkpoint does not name its training text; name a text with --corpus")
    if not sources and "-" in names:
        raise UsageError(f"{trained.path}: trained on standard input; name the text with --corpus")
    return names


def read_text(
    trained: TrainedModel, sources: Sequence[str], announce: Announce, stream: ByteStream | None = None
) -> Corpus:
    """Read a text with a model's vocabulary: other texts, or the training text with the split of the training.

    Args:
        trained: the model.
        sources: names, files or folders; empty for the training text.
        announce: receives a warning if the training text has changed.
        stream: the bytes of the text, if it is open already.

    Raises:
        CharlmError: the text is missing or cannot be used.
    """
    model, recipe, metadata = trained.model, trained.model.metadata.recipe, trained.model.metadata
    names = sources_of(trained, sources)
    text = make_corpus(
        named_texts.open_texts(names) if stream is None else stream,
        named_texts.joined_names(names),
        named_texts.default_split(names) if sources else recipe["split"],
        metadata.is_bytes,
        recipe["lower"],
        vocab=model.vocab,
        min_chars=1,
    )
    if not sources and text.sha256 != metadata.corpus["sha256"]:
        announce(f"{text.name} is not the text that {trained.path} was trained on (SHA-256 differs)")
    return text


def read_part(trained: TrainedModel, part: str, remedy: str, announce: Announce) -> TextRange:
    """Return one part of the training text, which must not be empty."""
    try:
        text = read_text(trained, (), announce)
    except CharlmError as error:
        raise type(error)(f"{error}; or {remedy}") from None
    first, stop = text.bounds[part]
    if first == stop:
        split = trained.model.metadata.recipe["split"]
        raise UsageError(f"{trained.path}: split {split} has no {part} part; {remedy}")
    return TextRange(to_device_if_fits(text.ids, trained.model.model.device), first, stop, text.vocab.bos_id)


def check_rate(models: Sequence[TrainedModel], options: DynamicOptions | None) -> None:
    """Raise an error if gradient steps are asked for and no model has weights.

    Raises:
        UsageError: a learning rate or a decay, and counts alone.
    """
    if options is None or options.rate is None and options.decay is None:
        return
    if not any(trained.model.model.uses_gradients for trained in models):
        raise UsageError("--rate and --decay are for a network; leave them out for a model that has only counts")


def dynamic_config(
    trained: TrainedModel,
    options: DynamicOptions,
    announce: Announce,
    search: bool = True,
    search_chars: int = SEARCH_CHARS,
) -> DynamicConfig:
    """Complete the options of dynamic evaluation for a model.

    Args:
        trained: the model.
        options: as given.
        announce: receives the values that were chosen.
        search: choose missing values on the end of the validation part; otherwise take the defaults.
        search_chars: characters to search on, at most.

    Raises:
        CharlmError: a value out of its range, or a text that is needed is missing.
    """
    network, metadata, vocab = trained.model.model, trained.model.metadata, trained.model.vocab
    config = DynamicConfig(
        DEFAULT_RATE[options.method] if options.rate is None else options.rate,
        DEFAULT_DECAY if options.decay is None else options.decay,
    )
    if options.segment_len is not None:
        config = replace(config, segment_len=options.segment_len)
    if options.method == "rms":
        text = read_part(trained, "train", "use --dynamic sgd, which needs no training part", announce)
        train_ids = text.ids[text.first : text.stop]
        rms = gradient_rms(network, train_ids, metadata.n_context, config.segment_len, *symbol_kinds(vocab))
        config = replace(config, rms=rms)
    has_weights = any(parameter.requires_grad for parameter in network.parameters())
    if search and has_weights and not options.is_complete:
        part = read_part(trained, "valid", "give --rate and --decay", announce)
        end = replace(part, first=max(part.first, part.stop - search_chars))

        def nats(config: DynamicConfig) -> float:
            return dynamic_nll(network, end, config, metadata.n_context).sum().item()

        rates = RATE_GRID[options.method] if options.rate is None else (options.rate,)
        decays = DECAY_GRID if options.decay is None else (options.decay,)
        config = coordinate_search(nats, config, rates, decays)
        chosen = f"--rate {config.rate:g} --decay {config.decay:g}"
        announce(f"{trained.path}: {chosen}, chosen on the last {end.n_chars:,} characters of the validation part")
    return config


def mixture_weights(models: Sequence[TrainedModel], given: Sequence[float] | None, announce: Announce) -> list[float]:
    """Return the weights of a mixture: as given, or fitted on the validation part of the first model's text.

    Raises:
        CharlmError: models or weights that cannot be mixed, or no text to fit on.
    """
    mixture.check_compatible([trained.model for trained in models])
    if given is not None:
        return mixture.normalized(given, len(models))
    first_model, *others = models
    text = read_part(first_model, "valid", "give --weights", announce)
    for trained in others:
        if _text_and_split(trained) != _text_and_split(first_model):
            announce(f"{trained.path}: trained on another text or split, which may contain the characters scored here")
    return mixture.fit_weights(mixture.per_model_nats([trained.model for trained in models], text))


def _text_and_split(trained: TrainedModel) -> tuple[str, str]:
    metadata = trained.model.metadata
    return metadata.corpus["sha256"], metadata.recipe["split"]


def make_generator(
    models: Sequence[TrainedModel],
    weights: Sequence[float] | None,
    dynamic: DynamicOptions | None,
    prompt: str,
    unknown: str,
    announce: Announce,
) -> LanguageModel:
    """Return one model, or a mixture of several, after dynamic evaluation on a prompt if asked for.

    Args:
        models: of one vocabulary.
        weights: of the mixture; None fits them.
        dynamic: None for static models.
        prompt: the text to adapt to.
        unknown: treatment of unknown characters in the prompt, see `TextGenerator.preprocess`.
        announce: receives messages.

    Raises:
        CharlmError: see `mixture_weights` and `dynamic_config`.
    """
    fitted = mixture_weights(models, weights, announce) if len(models) > 1 else None
    check_rate(models, dynamic)
    if dynamic is not None:
        for trained in models:
            model = trained.model
            ids = torch.from_numpy(model.vocab.encode(model.preprocess(prompt, unknown))).to(model.model.device)
            config = dynamic_config(trained, dynamic, announce, search=False)
            adapt(model.model, TextRange(ids, 0, len(ids), model.vocab.bos_id), config, model.metadata.n_context)
    return models[0].model if fitted is None else mixture.mix([trained.model for trained in models], fitted)
