"""`charlm plot`."""

from __future__ import annotations

from pathlib import Path

import click

from charlm.cli.completion import complete_runs
from charlm.cli.options import FilePath, Name, choose_checkpoint, folder_option, own_model_option
from charlm.errors import UsageError
from charlm.messages import say


@click.command(
    help="Plot the training curves of all runs, or of the named runs, labelled at their ends: bits per character of "
    "the validation part (thick) and of training (thin). Needs matplotlib, the extra `plot`."
)
@click.argument("run", type=Name(), nargs=-1, shell_complete=complete_runs)
@click.option(
    "--output",
    "-o",
    type=FilePath(path_type=Path, dir_okay=False),
    help="File: .png, .svg or .pdf. [default: curves.png; embedding.png with --embedding]",
)
@click.option("--over", type=click.Choice(["chars", "seconds"]), help="The x axis. [default: chars]")
@click.option("--embedding", is_flag=True, help="Plot the map of one model's embedding instead.")
@own_model_option
@folder_option
def plot(run: tuple[str, ...], output: Path | None, over: str | None, embedding: bool, folder: Path) -> None:
    """See the command's help."""
    from charlm.experiments.plots import check_suffix
    from charlm.files import check_replaceable

    output = output or Path("embedding.png" if embedding else "curves.png")
    check_suffix(output)
    check_replaceable(output)
    if embedding and (over or len(run) > 1):
        raise UsageError("--embedding plots one model; leave out --over and other RUNs")

    from charlm.experiments.curves import plot_curves, plot_embedding, read_curves
    from charlm.storage import runs

    if embedding:
        from charlm.generation.language_model import LanguageModel

        checkpoint = choose_checkpoint(run[0] if run else None, folder)
        plot_embedding(LanguageModel.load(checkpoint), run[0] if run else runs.model_name(checkpoint), output)
    else:
        folders = [runs.find_run(name, folder) for name in run] or runs.all_runs(folder)
        over = over or "chars"
        plot_curves(read_curves(folders, over, say), over, output)
    say(f"plot: {output}")
