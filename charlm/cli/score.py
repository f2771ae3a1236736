"""`charlm score`."""

from __future__ import annotations

from pathlib import Path

import click

from charlm.cli.completion import complete_runs
from charlm.cli.options import (
    FilePath,
    Name,
    Number,
    choose_checkpoint,
    device_option,
    folder_option,
    json_option,
    own_model_option,
    part_option,
)
from charlm.errors import UsageError
from charlm.files import check_replaceable
from charlm.messages import say


@click.command(
    help="Bits of each character of a text under the trained model RUN: the most surprising characters and the totals. "
    "The last argument is the text if it is - (standard input), a folder or a file that is no checkpoint. Otherwise "
    "--corpus names it; the default is the test part of the model's own text. Several RUNs are compared."
)
@click.argument("arguments", type=Name(), nargs=-1, metavar="[RUN]... [FILE|-]", shell_complete=complete_runs)
@click.option(
    "--corpus", type=Name(), multiple=True, help="The text: name, file, folder or - (standard input). Repeatable."
)
@part_option
@click.option("--top", type=Number("top"), default=10, show_default=True, help="Number of surprising characters.")
@click.option("--by", type=click.Choice(["line", "file"]), help="A row for each line, or for each file of a folder.")
@click.option("--html", type=FilePath(path_type=Path, dir_okay=False), help="Write the coloured text as a page.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a row of CSV for each character.")
@own_model_option
@folder_option
@device_option
@json_option
def score(
    arguments: tuple[str, ...],
    corpus: tuple[str, ...],
    part: str | None,
    top: int,
    by: str | None,
    html: Path | None,
    as_csv: bool,
    folder: Path,
    device: str,
    as_json: bool,
) -> None:
    """See the command's help."""
    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other")
    if html is not None and (as_csv or as_json):
        raise UsageError(f"--html and --{'csv' if as_csv else 'json'} exclude each other")
    if by and (html is not None or as_csv):
        raise UsageError("--by prints totals; leave out --html and --csv")
    if html is not None:
        check_replaceable(html)

    from charlm.cli import score_output
    from charlm.data.named_texts import text_files
    from charlm.experiments.score import open_text, split_arguments
    from charlm.experiments.trained_models import TrainedModel
    from charlm.training.setup import choose_device

    runs, source = split_arguments(arguments, folder)
    if source is not None and corpus:
        raise UsageError(f"{source} and --corpus both name a text; leave one out")
    sources = [source] if source is not None else list(corpus)
    target = choose_device(device)
    models = [TrainedModel.load(choose_checkpoint(name, folder), target) for name in runs or (None,)]
    names = list(runs) or [str(models[0].path)]
    if by == "file":
        if len(sources) != 1:
            raise UsageError("--by file needs one folder or file as the text")
        folder_or_file = Path(sources[0])
        files = list(map(str, text_files(folder_or_file))) if folder_or_file.is_dir() else sources
        texts = [open_text(models, [file], part, say) for file in files]
        score_output.print_files(texts, files, sources[0], names, as_json)
        return
    text = open_text(models, sources, part, say)
    if by == "line":
        score_output.print_lines(text, names, as_json)
    elif as_json:
        score_output.print_json(text, names)
    elif as_csv:
        score_output.print_csv(text, names)
    else:
        score_output.print_report(text, names, top, html)
