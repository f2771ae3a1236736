"""`charlm eval`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from charlm.cli.completion import complete_runs
from charlm.cli.model_options import METHODS, MIX, dynamic_options, model_use_options
from charlm.cli.options import (
    Name,
    choose_checkpoint,
    device_option,
    folder_option,
    json_option,
    own_model_option,
    part_option,
)
from charlm.messages import say

NOT_COMPARABLE = "not comparable with static evaluation: the model learns from the text as it reads it"


@click.command(
    help="Bits per character of the trained model RUN, on the test part of its own text or on another text. Several "
    "models are evaluated one by one and as a mixture. Without RUN: the newest finished run, else the built-in model."
)
@click.argument("run", type=Name(), nargs=-1, shell_complete=complete_runs)
@click.option(
    "--corpus", type=Name(), multiple=True, help="Another text: name, file, folder or - (standard input). Repeatable."
)
@part_option
@model_use_options(
    METHODS | {"mix": MIX}, "chosen on validation text; for mix, no steps", "chosen on validation text; 0.01 for mix"
)
@own_model_option
@folder_option
@device_option
@json_option
def evaluate(
    run: tuple[str, ...],
    corpus: tuple[str, ...],
    part: str | None,
    weights: list[float] | None,
    folder: Path,
    device: str,
    as_json: bool,
    **given: Any,
) -> None:
    """See the command's help."""
    dynamic = dynamic_options(len(run), weights, **given)

    from charlm.experiments.evaluate import evaluate_models
    from charlm.experiments.trained_models import TrainedModel
    from charlm.training.setup import choose_device

    target = choose_device(device)
    models = [TrainedModel.load(choose_checkpoint(name, folder), target) for name in run or (None,)]
    report = evaluate_models(models, corpus, part, weights, dynamic, say)
    if as_json:
        print(json.dumps(report))
        return
    unit = "byte" if models[0].model.metadata.is_bytes else "character"
    for row in report.get("mixture", ()):
        print(f"{_bits(row)} per {unit}: {row['model']}, weight {row['weight']:.4f}")
    per_byte = "" if unit == "byte" else f", {report['bits_per_byte']:.4f} bits per byte"
    print(f"{_bits(report)} per {unit}{per_byte}{': the mixture' if len(models) > 1 else ''}")
    if dynamic is not None:
        mixture = "the mixture, " if len(models) > 1 else ""
        print(f"{_bits(report['dynamic'])} per {unit}, {mixture}dynamic ({dynamic.method}): {NOT_COMPARABLE}")
    unknown = f", {report['n_unknown']} of them unknown to the model" if report["n_unknown"] else ""
    print(
        f"{report['model']} on {report['corpus']}, {report['part']}: {report['n_chars']:,} {unit}s{unknown}",
        file=sys.stderr,
    )


def _bits(row: dict[str, Any]) -> str:
    return f"{row['bits_per_char']:.4f} bits ({row['nats_per_char']:.4f} nats)"
