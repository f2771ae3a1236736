"""Output of `charlm score`: a report, JSON or CSV for each character, a row for each line or file."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from charlm.cli.table import table
from charlm.experiments.score import TextToScore, confusion
from charlm.files import atomic_write
from charlm.inspection.score_page import ScorePage
from charlm.inspection.surprises import Surprise, Surprises
from charlm.inspection.terminal import coloured, has_truecolor
from charlm.inspection.totals import Totals, by_line
from charlm.messages import say

SHOWN_CHARS = 4000  # of the text, in a terminal
Value = TypeVar("Value")


def print_report(text: TextToScore, names: Sequence[str], top: int, html: Path | None) -> None:
    """Print the text in colours (in a terminal), the most surprising characters and the totals.

    Args:
        text: to score.
        names: of its models.
        top: number of surprising characters.
        html: file for the page, if any.

    Raises:
        OutputError: the page cannot be written.
    """
    symbols = _symbols(text)
    totals, surprises = Totals(len(names)), Surprises(top, symbols[0])
    unit = "byte" if text.is_bytes else "character"
    page = ScorePage(f"{text.name}, {text.part}", symbols, unit)
    in_colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for block in text.blocks():
        n_left = SHOWN_CHARS - totals.n_chars
        if in_colour and n_left > 0:
            _write_styled(coloured(block.part(0, n_left), has_truecolor(os.environ)))
        totals.add(block)
        surprises.add(block)
        if html is not None:
            page.add(block)
    if in_colour:
        print("\n")
        if totals.n_chars > SHOWN_CHARS:
            say(f"the first {SHOWN_CHARS:,} of {totals.n_chars:,} characters are shown; --html FILE shows more")
    rows = totals.rows(names)
    if html is not None:
        atomic_write(html, page.html(rows).encode())
        say(f"page: {html}")
    if len(rows) > 1:
        say(f"surprising characters and colours: under {names[0]}")
    if found := surprises.finish():
        print(table(["line", "column", "bits", "char", "rank", "likeliest", "text"], list(map(_cells, found))))
        print()
    for row in rows:
        name = f"{row['model']}: " if len(rows) > 1 else ""
        per_byte = "" if text.is_bytes else f", {row['bits_per_byte']:.4f} bits per byte"
        print(f"{name}{row['bits_per_char']:.4f} bits per {unit}{per_byte}; accuracy {row['accuracy']:.1%}")
    if len(rows) > 1:
        print(f"best: {names[totals.best]}")
    say(f"{text.name}, {text.part}: {totals.n_chars:,} {unit}s")


def _cells(surprise: Surprise) -> list[str]:
    excerpt = f"{surprise.before}[{surprise.char}]{surprise.after}"
    return [
        str(surprise.line),
        str(surprise.column),
        f"{surprise.bits:.1f}",
        repr(surprise.char),
        str(surprise.rank),
        repr(surprise.likely),
        "".join(char if char.isprintable() else " " for char in excerpt),
    ]


def _write_styled(text: str) -> None:
    """Write text with escape sequences to the terminal, where `write` would print them as text."""
    getattr(sys.stdout, "write_styled", sys.stdout.write)(text)


def print_json(text: TextToScore, names: Sequence[str]) -> None:
    """Print an object for each character, and one with the totals at the end."""
    totals, symbols = Totals(len(names)), _symbols(text)
    for block in text.blocks():
        totals.add(block)
        for offset, char, rows in block.characters(symbols):
            found = rows[0] if len(names) == 1 else {"models": dict(zip(names, rows, strict=True))}
            print(json.dumps({"offset": offset, "char": char} | found))
    results = totals.rows(names)
    summary = results[0] if len(names) == 1 else {"best": names[totals.best], "models": results}
    print(json.dumps({"corpus": text.name, "part": text.part} | summary))


def print_csv(text: TextToScore, names: Sequence[str]) -> None:
    """Print a row for each character, with three columns for each model."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    columns = [name if len(names) == 1 else f"{model} {name}" for model in names for name in ("bits", "rank", "likely")]
    writer.writerow(["offset", "char", *columns])
    symbols = _symbols(text)
    for block in text.blocks():
        for offset, char, rows in block.characters(symbols):
            cells: list[Any] = [offset, char]
            for row in rows:
                likely = " ".join(f"{symbol!r}:{prob:.4f}" for symbol, prob in row["likely"])
                cells += [f"{row['bits']:.4f}", row["rank"], likely]
            writer.writerow(cells)


def print_lines(text: TextToScore, names: Sequence[str], as_json: bool) -> None:
    """Print number, bits per character and text of each line; of several models also the best."""
    for line in by_line(text.blocks(n_likely=1), len(names)):
        bits = _bits_per_char(line.totals, names)
        best = names[line.totals.best]
        if as_json:
            row = {"line": line.number, "n_chars": line.totals.n_chars, "text": line.text}
            print(json.dumps(row | {"bits_per_char": _one_or_by_name(names, bits), "best": best}))
        else:
            numbers = "  ".join(f"{value:7.3f}" for value in bits)
            print(f"{line.number:6}  {numbers}  {best + '  ' if len(names) > 1 else ''}{line.text}")


def print_files(
    texts: Sequence[TextToScore], files: Sequence[str], source: str, names: Sequence[str], as_json: bool
) -> None:
    """Print bits per character of each file, and for several models a table: folder by best model.

    Args:
        texts: one a file.
        files: their paths.
        source: the folder that they are in, or the only file.
        names: of the models.
        as_json: print objects, the table last.
    """
    best, rows = [], []
    for text, file in zip(texts, files, strict=True):
        totals = Totals(len(names))
        for block in text.blocks(n_likely=1):
            totals.add(block)
        bits = _bits_per_char(totals, names)
        best.append(names[totals.best])
        rows.append([file, str(totals.n_chars), *(f"{value:.4f}" for value in bits), best[-1]])
        if as_json:
            row = {"file": file, "n_chars": totals.n_chars}
            print(json.dumps(row | {"bits_per_char": _one_or_by_name(names, bits), "best": best[-1]}))
    counts = confusion(files, source, best)
    if as_json:
        print(json.dumps({"confusion": counts}))
    elif len(names) == 1:
        print(table(["file", "characters", "bits"], [row[:3] for row in rows]))
    else:
        print(table(["file", "characters", *names, "best"], rows))
        print()
        by_folder = [[path, *(str(row.get(name, 0)) for name in names)] for path, row in counts.items()]
        print(table(["folder", *names], by_folder))


def _symbols(text: TextToScore) -> list[str]:
    """Return the vocabulary of each model."""
    return [trained.model.vocab.symbols for trained in text.models]


def _bits_per_char(totals: Totals, names: Sequence[str]) -> list[float]:
    return [row["bits_per_char"] for row in totals.rows(names)]


def _one_or_by_name(names: Sequence[str], values: Sequence[Value]) -> Value | dict[str, Value]:
    """Return the value of the only model, or the value of each model by its name."""
    return values[0] if len(names) == 1 else dict(zip(names, values, strict=True))
