"""`charlm eval`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charlm.cli.options import device_option, folder_option, json_option
from charlm.cli.own_text import check_learning, dynamic_steps, learning_options, mixture_weights, read_for
from charlm.errors import CharlmError, UsageError

if TYPE_CHECKING:
    import torch

    from charlm.data.corpus import Corpus
    from charlm.evaluation.dynamic import DynamicConfig
    from charlm.generation.language_model import LanguageModel

NOT_COMPARABLE = "another game: the model learns from the text it has read"


@click.command(
    help="Bits per character of a trained model: on the part of its own text that it has not seen, or on another "
    "text. Of several models: each one's, and those of their mixture."
)
@click.argument("run", nargs=-1)
@click.option("--corpus", multiple=True, help="Another text: name, file, folder or -. Repeatable.")
@click.option(
    "--part",
    type=click.Choice(["train", "valid", "test", "all"]),
    help="Part of the text. [default: test of its own, all of another]",
)
@learning_options
@folder_option
@device_option
@json_option
def evaluate(
    run: tuple[str, ...],
    corpus: tuple[str, ...],
    part: str | None,
    dynamic: str | None,
    folder: Path,
    device: str,
    as_json: bool,
    **given: Any,
) -> None:
    """See the command's help."""
    import numpy as np

    from charlm.data.feeds import to_device_if_fits
    from charlm.evaluation import metrics as m
    from charlm.generation.language_model import LanguageModel
    from charlm.storage import runs
    from charlm.training.setup import choose_device

    check_learning(len(run), dynamic, **given)
    place = choose_device(device)
    paths = [runs.find_checkpoint(name, folder) for name in run or (None,)]
    models = [LanguageModel.load(path, place) for path in paths]
    path, model, metadata = paths[0], models[0], models[0].metadata
    text = read_for(model, path, corpus)
    asked, part = part, part or ("all" if corpus else "test")
    first, stop = (0, len(text.ids)) if part == "all" else text.bounds[part]
    if first == stop and not asked:
        part = "valid"
        first, stop = text.bounds[part]
    if first == stop:
        what = (
            f"{part} part; name another --part"
            if asked
            else "part that it has not seen; name a --corpus or --part train"
        )
        raise UsageError(f"{path}: split {metadata.recipe['split']} has no {what}")
    ids = to_device_if_fits(text.ids, place)
    n_unknown = stop - first - int(np.count_nonzero(text.ids[first:stop]))
    report: dict[str, Any] = {
        "model": " + ".join(map(str, paths)),
        "corpus": text.name,
        "part": part,
        "n_chars": stop - first,
        "n_unknown": n_unknown,
    }
    if len(models) > 1:
        if given["weights"] is None:
            _refuse_to_choose_where_it_counts(models[:1], text, first, stop, "--weights")
        weights = mixture_weights(models, paths, place, given["weights"])
        report |= _mixed(models, paths, ids, first, stop, weights)
    else:
        weights = [1.0]
        report |= _bits(m.evaluate(model.model, ids, first, stop, metadata.n_context, bos_id=model.vocab.bos_id))
    if dynamic is not None:
        if given["rate"] is None or given["decay"] is None:
            _refuse_to_choose_where_it_counts(models, text, first, stop, "--rate and --decay")
        learned = [_learned(*one, ids, first, stop, dynamic, given) for one in zip(models, paths, strict=True)]
        report["dynamic"] = _dynamic(dynamic, learned, weights)
    if as_json:
        print(json.dumps(report))
        return
    unit = "byte" if metadata.is_bytes else "character"
    for row in report.get("mixture", ()):
        print(f"{_shown(row)} per {unit}: {row['model']}, weight {row['weight']:.4f}")
    print(f"{_shown(report)} per {unit}{': the mixture' if len(models) > 1 else ''}")
    if dynamic is not None:
        who = "the mixture, " if len(models) > 1 else ""
        print(f"{_shown(report['dynamic'])} per {unit}, {who}dynamic ({dynamic}): {NOT_COMPARABLE}")
    unknown = f", {n_unknown} of them unknown to the model" if n_unknown else ""
    where = f"{text.name}, {part}: {stop - first:,} {unit}s{unknown}"
    print(f"{report['model']} on {where}", file=sys.stderr)


def _bits(score: Any) -> dict[str, float]:
    return {"nats_per_char": score.nats_per_char, "bits_per_char": score.bits_per_char}


def _shown(row: dict[str, Any]) -> str:
    return f"{row['bits_per_char']:.4f} bits ({row['nats_per_char']:.4f} nats)"


def _refuse_to_choose_where_it_counts(
    models: Sequence[LanguageModel], text: Corpus, first: int, stop: int, options: str
) -> None:
    """Refuse to evaluate on characters on which something is chosen, whatever the name of their text.

    Raises:
        UsageError: there are such characters.
    """
    from charlm.data.corpus import split_bounds

    for model in models:
        begin, end = split_bounds(len(text.ids), model.metadata.recipe["split"])["valid"]
        if text.sha256 == model.metadata.corpus["sha256"] and max(first, begin) < min(stop, end):
            raise UsageError(f"{options} would be chosen on characters that count here; give them, or another --part")


def _mixed(
    models: list[LanguageModel], paths: list[Path], ids: torch.Tensor, first: int, stop: int, weights: list[float]
) -> dict[str, Any]:
    """Return the bits of a mixture and of each of its models."""
    from charlm.evaluation.metrics import EvalResult
    from charlm.generation.mixture import each_nats, mixed_nats

    nats = each_nats(models, ids, first, stop)
    rows = [
        {"model": str(path), "weight": weight} | _bits(EvalResult(own.sum().item(), stop - first))
        for path, weight, own in zip(paths, weights, nats, strict=True)
    ]
    return {"mixture": rows} | _bits(EvalResult(mixed_nats(nats, weights).sum().item(), stop - first))


def _learned(
    model: LanguageModel, path: Path, ids: torch.Tensor, first: int, stop: int, method: str, given: dict[str, Any]
) -> tuple[DynamicConfig, torch.Tensor]:
    """Return how a model learns from what it has read, and the nats of each character."""
    from charlm.evaluation.dynamic import dynamic_nll

    steps = dynamic_steps(model, path, ids.device, method, given["rate"], given["decay"], given["piece"], pick=True)
    nats = dynamic_nll(model.model, ids, first, stop, steps, model.metadata.n_context, model.vocab.bos_id)
    if not nats.isfinite().all():
        raise CharlmError(f"{path}: the weights ran away at --rate {steps.rate:g}; take a lower one")
    return steps, nats


def _dynamic(method: str, learned: list[tuple[DynamicConfig, torch.Tensor]], weights: list[float]) -> dict[str, Any]:
    """Return the bits of one model that learns, or of a mixture of such."""
    import torch

    from charlm.evaluation.metrics import EvalResult
    from charlm.generation.mixture import mixed_nats

    nats = mixed_nats(torch.stack([own for _, own in learned]), weights)
    steps = learned[0][0]
    metadata = {"method": method, "n_piece": steps.n_piece}
    for name in ("rate", "decay"):
        each = [getattr(steps, name) for steps, _ in learned]
        metadata[name] = each[0] if len(each) == 1 else each
    return metadata | _bits(EvalResult(nats.sum().item(), len(nats)))
