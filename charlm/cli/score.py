"""`charlm score`."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
)
from charlm.cli.table import table
from charlm.errors import UsageError
from charlm.messages import say

if TYPE_CHECKING:
    from charlm.experiments.score import TextToScore
    from charlm.inspection.scores import Block

SHOWN_CHARS = 4000  # of the text, in a terminal


@click.command(
    help="How many bits each character of a text takes under the trained model RUN, and what was likelier. The last "
    "argument is the text, if it is - (standard input), a folder or a file that is no checkpoint; else --corpus names "
    "it, or it is the test part of the model's own text. With several RUNs, the best one is named."
)
@click.argument("arguments", type=Name(), nargs=-1, metavar="[RUN]... [FILE|-]", shell_complete=complete_runs)
@click.option(
    "--corpus", type=Name(), multiple=True, help="The text: name, file, folder or - (standard input). Repeatable."
)
@click.option(
    "--part",
    type=click.Choice(["train", "valid", "test", "all"]),
    help="Part of the text. [default: test; all of another text]",
)
@click.option("--top", type=Number("top"), default=10, show_default=True, help="Number of surprising places.")
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
    if by and (html or as_csv):
        raise UsageError("--by prints totals; leave out --html and --csv")

    from charlm.experiments.score import open_text, parts_of, split_arguments
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
        files = parts_of(sources[0])
        texts = [open_text(models, [str(file)], part, say) for file in files]
        _print_files(texts, [str(file) for file in files], sources[0], names, as_json)
        return
    text = open_text(models, sources, part, say)
    if by == "line":
        _print_lines(text, names, as_json)
    elif as_json or as_csv:
        (_print_json if as_json else _print_csv)(text, names)
    else:
        _print_report(text, names, top, html)


def _print_report(text: TextToScore, names: list[str], top: int, html: Path | None) -> None:
    from charlm.files import atomic_write
    from charlm.inspection.score_page import ScorePage
    from charlm.inspection.terminal import coloured, has_truecolor
    from charlm.inspection.totals import Places, Totals

    vocabs = [trained.model.vocab for trained in text.models]
    totals, places = Totals(len(names), text.is_bytes), Places(top, vocabs[0].symbols)
    page = ScorePage(f"{text.name}, {text.part}", [vocab.symbols for vocab in vocabs]) if html else None
    in_colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    shown = 0
    for block in text.blocks():
        if in_colour and shown < SHOWN_CHARS:
            _write_styled(coloured(block.part(0, SHOWN_CHARS - shown), has_truecolor(os.environ)))
            shown += len(block.codepoints)
        totals.add(block)
        places.add(block)
        if page is not None:
            page.add(block)
    if in_colour:
        print("\n")
        if shown > SHOWN_CHARS:
            say(f"the first {SHOWN_CHARS:,} of {totals.n_chars:,} characters are shown; --html FILE shows more")
    rows = totals.rows(names)
    if html is not None and page is not None:
        atomic_write(html, page.html(rows).encode())
        say(f"page: {html}")
    if found := places.finish():
        head = ["line", "column", "bits", "came", "rank", "likeliest", "text"]
        print(table(head, [_place_row(place) for place in found]))
        print()
    unit = "byte" if text.is_bytes else "character"
    for row in rows:
        name = f"{row['model']}: " if len(rows) > 1 else ""
        per_byte = "" if text.is_bytes else f", {row['bits_per_byte']:.4f} per byte"
        print(f"{name}{row['bits_per_char']:.4f} bits per {unit}{per_byte}; {row['accuracy']:.1%} were the likeliest")
    if len(rows) > 1:
        print(f"best: {names[totals.best]}")
    say(f"{text.name}, {text.part}: {totals.n_chars:,} {unit}s")


def _place_row(place: Any) -> list[str]:
    excerpt = f"{place.before}[{place.char}]{place.after}"
    shown = "".join(char if char.isprintable() else " " for char in excerpt)
    return [
        str(place.line),
        str(place.column),
        f"{place.bits:.1f}",
        repr(place.char),
        str(place.rank),
        repr(place.likely),
        shown,
    ]


def _print_json(text: TextToScore, names: list[str]) -> None:
    from charlm.inspection.totals import Totals

    totals, symbols = Totals(len(names), text.is_bytes), [trained.model.vocab.symbols for trained in text.models]
    for block in text.blocks():
        totals.add(block)
        for offset, char, rows in _characters(block, symbols):
            found = rows[0] if len(rows) == 1 else {"models": dict(zip(names, rows, strict=True))}
            print(json.dumps({"offset": offset, "char": char} | found))
    results = totals.rows(names)
    summary = results[0] if len(results) == 1 else {"best": names[totals.best], "models": results}
    print(json.dumps({"corpus": text.name, "part": text.part} | summary))


def _print_csv(text: TextToScore, names: list[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    columns = [name if len(names) == 1 else f"{model} {name}" for model in names for name in ("bits", "rank", "likely")]
    writer.writerow(["offset", "char", *columns])
    symbols = [trained.model.vocab.symbols for trained in text.models]
    for block in text.blocks():
        for offset, char, rows in _characters(block, symbols):
            cells = [
                [f"{row['bits']:.4f}", row["rank"], " ".join(f"{char!r}:{prob:.4f}" for char, prob in row["likely"])]
                for row in rows
            ]
            writer.writerow([offset, char, *(cell for row in cells for cell in row)])


def _characters(block: Block, symbols: Sequence[str]) -> Iterable[tuple[int, str, list[dict[str, Any]]]]:
    """Yield offset, character and each model's bits, rank and likeliest characters."""
    from charlm.inspection.totals import text_of

    columns = [
        zip(
            scores.bits.tolist(),
            scores.ranks.tolist(),
            scores.likely_ids.tolist(),
            scores.likely_probs.tolist(),
            strict=True,
        )
        for scores in block.scores
    ]
    for i, (char, *rows) in enumerate(zip(text_of(block.codepoints), *columns, strict=True)):
        yield (
            block.offset + i,
            char,
            [
                {
                    "bits": bits,
                    "rank": rank,
                    "likely": [[known[k - 1], round(prob, 6)] for k, prob in zip(ids, probs, strict=True)],
                }
                for known, (bits, rank, ids, probs) in zip(symbols, rows, strict=True)
            ],
        )


def _print_lines(text: TextToScore, names: list[str], as_json: bool) -> None:
    from charlm.inspection.totals import by_line

    for line in by_line(text.blocks(n_likely=1), len(names), text.is_bytes):
        bits = [row["bits_per_char"] for row in line.totals.rows(names)]
        best = names[line.totals.best]
        if as_json:
            found = bits[0] if len(bits) == 1 else dict(zip(names, bits, strict=True))
            row = {"line": line.number, "n_chars": line.totals.n_chars, "text": line.text}
            print(json.dumps(row | {"bits_per_char": found, "best": best}))
        else:
            numbers = "  ".join(f"{value:7.3f}" for value in bits)
            print(f"{line.number:6}  {numbers}  {best + '  ' if len(names) > 1 else ''}{line.text}")


def _print_files(texts: list[TextToScore], files: list[str], source: str, names: list[str], as_json: bool) -> None:
    from charlm.experiments.score import confusion
    from charlm.inspection.totals import Totals

    winners, rows = [], []
    for text, file in zip(texts, files, strict=True):
        totals = Totals(len(names), text.is_bytes)
        for block in text.blocks(n_likely=1):
            totals.add(block)
        bits = [row["bits_per_char"] for row in totals.rows(names)]
        winners.append(names[totals.best])
        rows.append([file, str(totals.n_chars), *(f"{value:.4f}" for value in bits), winners[-1]])
        if as_json:
            found = bits[0] if len(bits) == 1 else dict(zip(names, bits, strict=True))
            print(json.dumps({"file": file, "n_chars": totals.n_chars, "bits_per_char": found, "best": winners[-1]}))
    counts = confusion(files, source, winners)
    if as_json:
        print(json.dumps({"confusion": counts}))
        return
    print(table(["file", "characters", *names, "best"], rows))
    if len(names) > 1:
        print(
            "\n" + table(["folder", *names], [[k, *(str(v.get(name, 0)) for name in names)] for k, v in counts.items()])
        )


def _write_styled(text: str) -> None:
    """Write text with escape sequences to the terminal."""
    getattr(sys.stdout, "write_styled", sys.stdout.write)(text)
