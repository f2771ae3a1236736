"""`charlm export`."""

from __future__ import annotations

from pathlib import Path

import click

from charlm.cli.completion import complete_runs
from charlm.cli.options import FilePath, Name, folder_option, own_model_option
from charlm.errors import OutputError, UsageError
from charlm.files import atomic_write, check_replaceable
from charlm.messages import say

CHECKPOINT, PAGE, ONNX = ("", ".safetensors"), (".html", ".htm"), (".onnx",)


@click.command(
    help="Copy a checkpoint (of RUN, or a file) to PATH, a .safetensors file without the state of its training. Or "
    "write PATH.html, a page that runs the model in a browser; PATH.onnx, one step of it for ONNX Runtime; with --hub "
    "a folder for model hubs."
)
@click.argument("run", type=Name(), shell_complete=complete_runs)
@click.argument("path", type=FilePath(path_type=Path))
@click.option("--hub", is_flag=True, help="Write a folder: weights, config.json, model card. Nothing is uploaded.")
@click.option("--half", is_flag=True, help="Store the weights in float16: half the size.")
@click.option("--force", is_flag=True, help="Replace PATH if it exists.")
@own_model_option
@folder_option
def export(run: str, path: Path, hub: bool, half: bool, force: bool, folder: Path) -> None:
    """See the command's help."""
    suffix = path.suffix.lower()
    if not hub and suffix not in (*CHECKPOINT, *PAGE, *ONNX):
        raise UsageError(f"{path}: ends in {suffix}; take .safetensors, .html or .onnx, or --hub for a folder")
    if half and not hub and suffix not in CHECKPOINT:
        raise UsageError("--half is for a checkpoint; a page is in float16 where that costs no bits, ONNX in float32")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists already; --force replaces it")
    if not hub:
        check_replaceable(path)

    import torch

    from charlm.generation import LanguageModel, onnx_model, save_hub_folder
    from charlm.inspection import model_page
    from charlm.storage import find_checkpoint

    model = LanguageModel.load(find_checkpoint(run, folder))
    dtype = torch.float16 if half else None
    if hub:
        save_hub_folder(model, path, dtype, replace=force)
        files = sorted(path.iterdir())
    else:
        files = [path]
        if suffix in CHECKPOINT:
            model.save(path, dtype)
        else:
            atomic_write(path, model_page(model, path.stem).encode() if suffix in PAGE else onnx_model(model))
    for file in files:
        say(f"{file}: {file.stat().st_size:,} bytes")
