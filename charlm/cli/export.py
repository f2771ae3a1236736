"""`charlm export`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from charlm.cli.completion import complete_runs
from charlm.cli.options import folder_option, own_model_option
from charlm.errors import OutputError
from charlm.files import check_replaceable


@click.command(help="Copy a checkpoint (of RUN, or a file) to FILE, without the state of its training.")
@click.argument("run", shell_complete=complete_runs)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--half", is_flag=True, help="Store the weights in float16: half the size.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@own_model_option
@folder_option
def export(run: str, file: Path, half: bool, force: bool, folder: Path) -> None:
    """See the command's help."""
    import torch

    from charlm.generation.language_model import LanguageModel
    from charlm.storage import runs

    if file.exists() and not force:
        raise OutputError(f"{file}: exists already; --force replaces it")
    check_replaceable(file)
    model = LanguageModel.load(runs.find_checkpoint(run, folder))
    model.save(file, torch.float16 if half else None)
    print(f"{file}: {file.stat().st_size:,} bytes", file=sys.stderr)
