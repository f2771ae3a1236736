"""`charlm corpora`, `charlm corpora add`."""

from __future__ import annotations

import json
from typing import Any

import click

from charlm.cli.completion import complete_splits
from charlm.cli.options import Name, json_option


@click.group(
    help="List the named texts: description, source, licence, split, and local file.", invoke_without_command=True
)
@json_option
@click.pass_context
def corpora(context: click.Context, as_json: bool) -> None:
    """See the command's help."""
    from charlm.data.named_texts import all_texts, describe

    if context.invoked_subcommand is not None:
        return
    report = {name: describe(text) for name, text in all_texts().items()}
    if as_json:
        print(json.dumps(report))
        return
    for name, facts in report.items():
        _print(name, facts)


@corpora.command(
    short_help="Add a text under a name.",
    help="Add a text under a name: an https URL, a file, or three files for training, validation and test part. The "
    "text is copied into a folder of the user, and its SHA-256 is checked whenever it is read. A zip archive of one "
    "file and a file of gzip are unpacked.",
)
@click.argument("name", type=Name())
@click.argument("source", nargs=-1, required=True, type=Name())
@click.option("--source", "origin", type=Name(), help="Origin of the text. [default: the URL or file]")
@click.option("--licence", type=Name(), help="Licence of the text.")
@click.option(
    "--split",
    type=Name(),
    help="Its default split. [default: the sizes of three files, else that of publications, else standard]",
    shell_complete=complete_splits,
)
@json_option
def add(
    name: str, source: tuple[str, ...], origin: str | None, licence: str | None, split: str | None, as_json: bool
) -> None:
    """See the command's help."""
    from charlm.data.named_texts import describe
    from charlm.data.user_texts import add_text, user_folder

    facts = describe(add_text(name, source, user_folder(), origin, licence, split))
    if as_json:
        print(json.dumps({name: facts}))
    else:
        _print(name, facts)


def _print(name: str, facts: dict[str, Any]) -> None:
    print(f"{name}\n  {facts['about']}\n  source:  {facts['source']}\n  licence: {facts['licence']}")
    size = f"{facts['n_bytes']:,} bytes" if facts["n_bytes"] else "varies"
    print(f"  size:    {size}\n  sha256:  {facts['sha256'] or 'varies'}\n  split:   {facts['split']}")
    print(f"  found:   {facts['found'] or facts['missing']}")
