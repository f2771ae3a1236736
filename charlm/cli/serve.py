"""`charlm serve`."""

from __future__ import annotations

from pathlib import Path

import click

from charlm.cli.completion import complete_runs
from charlm.cli.extras import import_extra
from charlm.cli.options import FilePath, Name, Number, choose_checkpoint, device_option, folder_option, own_model_option


@click.command(
    help="Serve models (of RUNs, or files; by default the newest run) over HTTP: OpenAI's completions protocol at "
    "/v1/completions, where a token is a character, the bits of each character at /v1/score, and a page at /. "
    "docs/serving.md has the fields and the limits."
)
@click.argument("names", type=Name(), nargs=-1, metavar="[RUN]...", shell_complete=complete_runs)
@click.option("--port", type=Number("port"), default=8000, show_default=True, help="TCP port; 0 takes a free one.")
@click.option(
    "--host", type=Name(), default="127.0.0.1", show_default=True, help="Address; 0.0.0.0 for all of this machine's."
)
@click.option(
    "--allow-host",
    type=Name(),
    multiple=True,
    metavar="NAME",
    help="Host name that clients may use, besides localhost, --host and IP addresses. Repeatable.",
)
@click.option(
    "--api-key-file",
    type=FilePath(path_type=Path, dir_okay=False),
    help="File with one API key a line; clients need one of them.",
)
@own_model_option
@folder_option
@device_option
def serve(
    names: tuple[str, ...],
    port: int,
    host: str,
    allow_host: tuple[str, ...],
    api_key_file: Path | None,
    folder: Path,
    device: str,
) -> None:
    """See the command's help."""
    serving = import_extra("serving", "serve", "serve", "starlette and uvicorn")
    keys = () if api_key_file is None else serving.read_keys(api_key_file)
    settings = serving.Settings(keys, frozenset(name.lower() for name in (host, *allow_host)))
    from charlm.training.setup import choose_device

    target = choose_device(device)
    paths = [choose_checkpoint(name, folder) for name in names or (None,)]
    with serving.open_socket(host, port) as opened:
        serving.serve(serving.load_models(paths, target), settings, host, opened)
