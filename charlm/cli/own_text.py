"""What `charlm eval` and `charlm sample` take from the text that a model was trained on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charlm.errors import CharlmError, UsageError

if TYPE_CHECKING:
    import torch

    from charlm.data.corpus import Corpus
    from charlm.evaluation.dynamic import DynamicConfig
    from charlm.generation.language_model import LanguageModel

Command = Callable[..., Any]


def learning_options(command: Command) -> Command:
    """Give a command the options of dynamic evaluation and of mixtures."""
    for option in (
        click.option("--weights", help="Weights of several models, as 0.7,0.3. [default: fitted on validation text]"),
        click.option("--piece", type=int, help="Characters from one --dynamic step to the next. [default: 32]"),
        click.option("--decay", type=float, help="Share of the way back to the trained weights, each --dynamic step."),
        click.option("--rate", type=float, help="Learning rate of --dynamic."),
        click.option(
            "--dynamic",
            type=click.Choice(["sgd", "rms"]),
            is_flag=False,
            flag_value="rms",
            help="Let the model learn from what it has read, by plain gradient steps, or by steps that are measured "
            "by the gradients of its training text (rms, also where neither is named).",
        ),
    ):
        command = option(command)
    return command


def check_learning(n_models: int, dynamic: str | None, **given: Any) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: an option of dynamic evaluation without it, or of a mixture without one.
    """
    if dynamic is None:
        for name in ("rate", "decay", "piece"):
            if given[name] is not None:
                raise UsageError(f"--{name} goes with --dynamic sgd or --dynamic rms")
    if given["weights"] is not None and n_models < 2:
        raise UsageError("--weights are those of several models; name them all")


def read_for(model: LanguageModel, path: Path, corpus: Sequence[str] = ()) -> Corpus:
    """Read the text that a model was trained on, split as then, or another one.

    Args:
        model: whose vocabulary and whose text.
        path: of the model, for messages.
        corpus: another text; nothing for its own.

    Raises:
        CharlmError: the text is not there or cannot be used.
    """
    from charlm.data import named_texts
    from charlm.data.corpus import make_corpus

    recipe, metadata = model.metadata.recipe, model.metadata
    sources = list(corpus) or recipe["corpus"]
    if not corpus and "-" in sources:
        raise UsageError(f"{path}: was trained on standard input; name the text with --corpus")
    text = make_corpus(
        named_texts.open_texts(sources),
        " + ".join(sources),
        "standard" if corpus else recipe["split"],
        metadata.is_bytes,
        recipe["lower"],
        vocab=model.vocab,
        min_chars=1,
    )
    if not corpus and text.sha256 != metadata.corpus["sha256"]:
        print(f"charlm: {text.name} is not the text it was trained on (another SHA-256)", file=sys.stderr)
    return text


def _part(model: LanguageModel, path: Path, part: str, otherwise: str) -> tuple[Corpus, int, int]:
    """Return a model's own text and the bounds of a part that must not be empty; errors say what to do otherwise."""
    try:
        text = read_for(model, path)
    except CharlmError as error:
        raise type(error)(f"{error}; or {otherwise}") from None
    first, stop = text.bounds[part]
    if first == stop:
        raise UsageError(f"{path}: split {model.metadata.recipe['split']} has no {part} part; {otherwise}")
    return text, first, stop


def dynamic_steps(
    model: LanguageModel,
    path: Path,
    place: torch.device,
    method: str,
    rate: float | None,
    decay: float | None,
    piece: int | None,
    pick: bool,
) -> DynamicConfig:
    """Return how a model is to learn from what it reads.

    Args:
        model: which.
        path: of the model, for messages.
        place: where the model is.
        method: "sgd" or "rms".
        rate: None leaves it open.
        decay: None leaves it open.
        piece: characters; None takes the default.
        pick: what was left open is chosen on the validation part of the model's own text; else it is the default.

    Raises:
        CharlmError: a value out of its range, or a text that is needed and is not there.
    """
    import torch

    from charlm.data.feeds import to_device_if_fits
    from charlm.evaluation import dynamic
    from charlm.evaluation.tuning import coordinate_search

    steps = dynamic.DynamicConfig(
        dynamic.RATE[method] if rate is None else rate,
        dynamic.DECAY if decay is None else decay,
        n_piece=dynamic.N_PIECE if piece is None else piece,
    )
    n_context, start = model.metadata.n_context, model.vocab.bos_id
    if method == "rms":
        text, first, stop = _part(model, path, "train", "take --dynamic sgd, which needs no training part")
        ids = to_device_if_fits(text.ids[first:stop], place)
        char_classes = torch.from_numpy(model.vocab.char_classes)
        steps = replace(steps, rms=dynamic.gradient_rms(model.model, ids, n_context, steps.n_piece, char_classes))
    learns_by_steps = any(parameter.requires_grad for parameter in model.model.parameters())
    if pick and learns_by_steps and (rate is None or decay is None):
        text, first, stop = _part(model, path, "valid", "give --rate and --decay")
        ids = to_device_if_fits(text.ids, place)
        rates = dynamic.RATES[method] if rate is None else (rate,)
        decays = dynamic.DECAYS if decay is None else (decay,)
        begin = max(first, stop - dynamic.N_TUNE)

        def nats(steps: dynamic.DynamicConfig) -> float:
            return dynamic.dynamic_nll(model.model, ids, begin, stop, steps, n_context, start).sum().item()

        steps = coordinate_search(nats, steps, rates, decays)
        print(
            f"charlm: {path}: --rate {steps.rate:g} --decay {steps.decay:g} picked on the end of the validation part",
            file=sys.stderr,
        )
    return steps


def mixture_weights(
    models: Sequence[LanguageModel], paths: Sequence[Path], place: torch.device, given: str | None
) -> list[float]:
    """Return the weights of a mixture: those given, else those fitted on the validation part of the first one's text.

    Raises:
        CharlmError: models or weights that cannot be mixed, or no text to fit on.
    """
    from charlm.data.feeds import to_device_if_fits
    from charlm.generation import mixture

    mixture.check_alike(models)
    if given is not None:
        try:
            return mixture.normalized([float(weight) for weight in given.split(",")], len(models))
        except ValueError:
            raise UsageError(f"--weights {given}: give numbers with commas between, one for each model") from None
    text, first, stop = _part(models[0], paths[0], "valid", "give --weights")
    metadata = models[0].metadata
    for model, path in zip(models[1:], paths[1:], strict=True):
        if (model.metadata.corpus["sha256"], model.metadata.recipe["split"]) != (
            metadata.corpus["sha256"],
            metadata.recipe["split"],
        ):
            print(f"charlm: {path} had another text or split; it may have seen what is predicted", file=sys.stderr)
    return mixture.fit_weights(mixture.each_nats(models, to_device_if_fits(text.ids, place), first, stop))
