"""`charlm inspect`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from charlm.cli.completion import complete_runs
from charlm.cli.options import (
    FilePath,
    Name,
    choose_checkpoint,
    device_option,
    folder_option,
    json_option,
    own_model_option,
    part_option,
)
from charlm.cli.table import table
from charlm.errors import UsageError
from charlm.files import atomic_write, check_replaceable
from charlm.messages import say


@click.command(
    help="What a trained model RUN has learned: training curves, embedding, output biases, properties that its units "
    "detect, how far back it looks, gradient flow, weights of n-gram experts. Prints the best units; --html writes a "
    "page with all sections. Integrated gradients need the extra `inspect`."
)
@click.argument("run", type=Name(), required=False, shell_complete=complete_runs)
@click.option(
    "--corpus",
    type=Name(),
    multiple=True,
    help="The text to read: name, file, folder or - (standard input). Repeatable.",
)
@part_option
@click.option("--html", type=FilePath(path_type=Path, dir_okay=False), help="Write the report as a page.")
@own_model_option
@folder_option
@device_option
@json_option
def inspect(
    run: str | None,
    corpus: tuple[str, ...],
    part: str | None,
    html: Path | None,
    folder: Path,
    device: str,
    as_json: bool,
) -> None:
    """See the command's help."""
    if html is not None and as_json:
        raise UsageError("--html and --json exclude each other")
    if html is not None:
        check_replaceable(html)

    from charlm.experiments.score import open_text
    from charlm.experiments.trained_models import TrainedModel
    from charlm.inspection.gradient_flow import N_PLACES
    from charlm.inspection.inspect_page import inspect_page
    from charlm.inspection.report import N_CHARS, N_EXAMPLES, report
    from charlm.storage import run_log, runs
    from charlm.training.setup import choose_device

    trained = TrainedModel.load(choose_checkpoint(run, folder), choose_device(device))
    text = open_text([trained], corpus, part, say)
    where = f"{text.name}, {text.part}"
    network, n_chars = trained.model.model, text.ranges[0].n_chars
    size = f"{trained.model.metadata.model}, {network.n_parameters:,} parameters, {network.device.type}"
    say(
        f"inspecting {run or trained.path} ({size}) on {where}: units on {min(N_CHARS, n_chars):,} of {n_chars:,} "
        f"characters, saliency of {N_EXAMPLES} predictions, gradient flow of {N_PLACES}"
    )
    log = run_log.log_of(trained.path.parent) if (trained.path.parent / run_log.METRICS).is_file() else []
    sections = report(trained.model, text.ranges[0], log)
    if as_json:
        print(json.dumps({"model": str(trained.path), "corpus": text.name, "part": text.part} | sections))
        return
    for name, section in sections.items():
        if "omitted" in section:
            say(f"{name.replace('_', ' ')} left out: {section['omitted']}")
    if html is not None:
        summary = f"{repr(trained.model).strip('<>').removeprefix('LanguageModel ')}; read here: {where}"
        atomic_write(html, inspect_page(run or runs.model_name(trained.path), summary, sections).encode())
        say(f"page: {html}")
    rows = sections["units"].get("properties", [])
    if rows:
        columns = [
            [row["name"], str(row["unit"]), "+-"[row["sign"] < 0], f"{row['auc']:.3f}", f"{row['control']:.3f}"]
            for row in rows
        ]
        print(table(["property", "unit", "sign", "AUC", "shuffled"], columns))
