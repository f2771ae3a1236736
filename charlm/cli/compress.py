"""`charlm compress` and `charlm decompress`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from charlm.cli.completion import complete_runs
from charlm.cli.extras import import_extra
from charlm.cli.options import FilePath, Name, Number, choose_checkpoint, folder_option
from charlm.errors import InputNotFoundError, OutputError, UsageError
from charlm.files import atomic_open, check_replaceable

if TYPE_CHECKING:
    from charlm.compression import CodingModel
    from charlm.compression.file_format import Header

SUFFIX = ".clm"
READ_BYTES = 1 << 16


def _one_model(ctx: click.Context, param: click.Parameter, names: tuple[str, ...]) -> str | None:
    """Import the classes among the values of `--model`, and return the other one."""
    classes = [name for name in names if ":" in name and name.rpartition(":")[2].isidentifier()]
    others = [name for name in names if name not in classes]
    if len(others) > 1:
        raise click.BadParameter(f"names {len(others)} models; a file is compressed by one")
    for name in classes:
        from charlm.models import use

        use(name)
    return others[0] if others else None


def model_option(help: str) -> Callable[..., Any]:
    """Return the option of the model, which may be given with the class of its architecture."""
    also = "FILE.py:CLASS, too, where its architecture is not in the package."
    return click.option(
        "--model", type=Name(), multiple=True, callback=_one_model, shell_complete=complete_runs, help=f"{help}. {also}"
    )


output_option = click.option(
    "-o", "--output", type=FilePath(path_type=Path, dir_okay=False, allow_dash=True), help="File to write; - is stdout."
)
force_option = click.option("--force", is_flag=True, help="Replace the output if it exists.")
file_argument = click.argument("file", type=FilePath(path_type=Path, dir_okay=False, allow_dash=True))


@click.command(
    help="Compress FILE (- is standard input) by the probabilities of a model, without any loss. The size is the bits "
    "that the model needs, see `charlm eval`. The compressed file names its model by SHA-256."
)
@file_argument
@output_option
@model_option(
    "A run, a checkpoint, or none: counts that begin with nothing [default: the newest finished run, else the built-in "
    "model]"
)
@click.option(
    "--blocks",
    type=Number("blocks"),
    default=1,
    show_default=True,
    help="Parts that are coded in lockstep: faster, and a little larger.",
)
@click.option("--dynamic", is_flag=True, help="Add the text read so far to the counts of the model, see `charlm eval`.")
@force_option
@folder_option
def compress(
    file: Path, output: Path | None, model: str | None, blocks: int, dynamic: bool, force: bool, folder: Path
) -> None:
    """See the command's help."""
    if dynamic and (blocks > 1 or model == "none"):
        raise UsageError("--dynamic reads one text by a trained model; leave out --blocks, or --model none")
    if output is None:
        output = file if str(file) == "-" else file.with_name(file.name + SUFFIX)
    _check_output(output, force)
    if str(output) == "-" and sys.stdout.isatty():
        raise UsageError("a terminal cannot show compressed bytes; redirect standard output, or give -o FILE")
    codec = _codec()
    with _opened(file) as source:
        coding_model = _load(model, folder, _size(file) if dynamic else None)
        with _writer(output) as write:
            report = codec.compress(_blocks(source, str(file)), write, coding_model, blocks)
    unit = "bits per character" if report.n_chars else "no characters"
    bits = f"{8 * report.payload_bytes / report.n_chars:.4f} " if report.n_chars else ""
    unknown = f", {report.n_unknown:,} unknown to the model: {report.unknown_bits / 8:,.0f} bytes of it"
    print(
        f"{report.n_bytes:,} bytes to {report.payload_bytes:,} and the header: {bits}{unit} by {coding_model.name}"
        f"{unknown if report.n_unknown else ''}",
        file=sys.stderr,
    )


@click.command(help="Restore FILE (- is standard input), written by `charlm compress`.")
@file_argument
@output_option
@model_option("The run or checkpoint that compressed it [default: found by its SHA-256 among the runs]")
@force_option
@folder_option
def decompress(file: Path, output: Path | None, model: str | None, force: bool, folder: Path) -> None:
    """See the command's help."""
    if output is None and str(file) != "-":
        if file.suffix != SUFFIX or file.name == SUFFIX:
            raise UsageError(f"{file}: its name does not end in {SUFFIX}; give -o FILE")
        output = file.with_suffix("")
    output = output or Path("-")
    _check_output(output, force)
    codec = _codec()

    def find(header: Header) -> CodingModel:
        found: CodingModel = codec.model_for(header, model, folder)
        return found

    with _opened(file) as source, _writer(output) as write:
        codec.decompress(source, str(file), write, find)


def _codec() -> Any:
    """Return `charlm.compression`; see `import_extra`."""
    return import_extra("compression", "compress", "compress", "constriction and threadpoolctl")


def _load(name: str | None, folder: Path, n_dynamic: int | None) -> CodingModel:
    """Return the model, static or for a text of `n_dynamic` characters."""
    from charlm.compression import models

    if name == "none":
        return models.adaptive_model()
    path = choose_checkpoint(name, folder)
    if n_dynamic is None:
        return models.load_model(path)
    from charlm.compression.dynamic import update_interval

    return models.load_model(path, update_interval(n_dynamic))


def _size(path: Path) -> int:
    """Return the length of a file; 0 if it has none, as a pipe."""
    return path.stat().st_size if path.is_file() else 0


def _check_output(path: Path, force: bool) -> None:
    if str(path) == "-":
        return
    if path.exists() and not force:
        raise OutputError(f"{path}: exists already; --force replaces it")
    check_replaceable(path)


def _opened(path: Path) -> AbstractContextManager[BinaryIO]:
    if str(path) == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return path.open("rb")
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read: {error.strerror}") from None


def _writer(path: Path) -> AbstractContextManager[Callable[[bytes], Any]]:
    """Return a context with a function that writes the next bytes of a file, or of standard output."""
    if str(path) == "-":
        return nullcontext(cast(Any, sys.stdout).write_bytes)
    return atomic_open(path)


def _blocks(file: BinaryIO, name: str) -> Iterator[bytes]:
    try:
        while block := file.read(READ_BYTES):
            yield block
    except OSError as error:
        raise InputNotFoundError(f"{name}: cannot be read: {error.strerror}") from None
