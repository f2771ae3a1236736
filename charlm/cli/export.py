"""`charlm export`."""

from __future__ import annotations

from pathlib import Path

import click

from charlm.cli.completion import complete_runs
from charlm.cli.options import FilePath, Name, folder_option, own_model_option
from charlm.errors import OutputError, UsageError
from charlm.files import atomic_write, check_replaceable
from charlm.messages import say


@click.command(
    help="Copy a checkpoint (of RUN, or a file) to FILE.safetensors, without the state of its training; or write it as "
    "a page, FILE.html, that runs the model in a browser, without a network."
)
@click.argument("run", type=Name(), shell_complete=complete_runs)
@click.argument("file", type=FilePath(path_type=Path, dir_okay=False))
@click.option("--half", is_flag=True, help="Store the weights in float16: half the size.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@own_model_option
@folder_option
def export(run: str, file: Path, half: bool, force: bool, folder: Path) -> None:
    """See the command's help."""
    import torch

    from charlm.generation.language_model import LanguageModel
    from charlm.inspection.page import model_page
    from charlm.storage import runs

    is_page = file.suffix.lower() in (".html", ".htm")
    if is_page and half:
        raise UsageError("--half is for a checkpoint; a page is in float16 where that costs no bits")
    if file.exists() and not force:
        raise OutputError(f"{file}: exists already; --force replaces it")
    check_replaceable(file)
    model = LanguageModel.load(runs.find_checkpoint(run, folder))
    if is_page:
        atomic_write(file, model_page(model, file.stem).encode())
    else:
        model.save(file, torch.float16 if half else None)
    say(f"{file}: {file.stat().st_size:,} bytes")
