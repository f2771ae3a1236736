"""Tables of a benchmark, in Markdown and CSV: the entries, the chosen hyper-parameters, the differences of pairs."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, NamedTuple

from charlm.evaluation.metrics import nats_to_bits
from charlm.experiments.bench.entry import is_ngram
from charlm.experiments.bench.intervals import BLOCK_CHARS
from charlm.experiments.bench.results import Results

HEAD = ("model", "params", "valid", "test", "b/byte", "sec", "train/s", "sample/s", "MB")
PAIR_HEAD = ("better", "worse", "bits", "these models", "architectures", "result")
N_PAIRS = 5  # entries of which all pairs are shown; of more, neighbours, and pairs without a difference
Cells = list[list[str]]


class Table(NamedTuple):
    """A table.

    Attributes:
        label: for references to it.
        caption: what the numbers are.
        head: titles of the columns.
        cells: rows of texts.
    """

    label: str
    caption: str
    head: list[str]
    cells: Cells


def tables_of(results: Results) -> list[Table]:
    """Return the tables: entries, best first; chosen values, if there was a tuning; differences, of two or more."""
    found = [Table("bench", caption(results), list(HEAD), [_entry_cells(results, row) for row in results.summary])]
    if results.tuning and results.chosen:
        found.append(Table("bench-chosen", "Hyper-parameters that the tuning chose.", *_chosen(results)))
    if pairs := results.pairs:
        cells = [_pair_cells(pair) for pair in shown_pairs(pairs)]
        found.append(Table("bench-pairs", pair_caption(results), list(PAIR_HEAD), cells))
    return found


def _entry_cells(results: Results, row: Mapping[str, Any]) -> list[str]:
    def bits(part: str) -> str:
        key = f"{part}_nats"
        if key not in row:
            return "-"
        has_spread = part == results.part and f"{key}_spread" in row
        spread = f" ± {nats_to_bits(row[f'{key}_spread']):.3f}" if has_spread else ""
        return f"{nats_to_bits(row[key]):.3f}{spread}"

    def count(key: str, unit: float = 1.0) -> str:
        return f"{row[key] / unit:,.0f}" if key in row else "-"

    def seconds() -> str:
        return f"{row['seconds']:.1f}" if row.get("seconds", 10) < 10 else count("seconds")

    diverged = f" ({row['n_diverged']} of {row['n_seeds']} diverged)" if row["n_diverged"] else ""
    per_byte = f"{results.part}_bits_per_byte"
    return [
        row["entry"],
        count("n_parameters"),
        bits("valid"),
        bits("test") + diverged,
        f"{row[per_byte]:.3f}" if per_byte in row else "-",
        seconds(),
        *(count(key) for key in ("train_chars_per_second", "sample_chars_per_second")),
        count("peak_bytes", 1e6),
    ]


def _chosen(results: Results) -> tuple[list[str], Cells]:
    """Return head and cells of the chosen values, a column for each hyper-parameter."""
    names = list(dict.fromkeys(name for values in results.chosen.values() for name in values))
    cells = [
        [row["entry"], *(f"{row['chosen'][name]:.3g}" if name in row["chosen"] else "-" for name in names)]
        for row in results.summary
        if row["chosen"]
    ]
    return ["model", *names], cells


def shown_pairs(pairs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the pairs of a table: of many entries, neighbours, and others if there is no difference."""
    ranked = list(dict.fromkeys([pair["first"] for pair in pairs] + [pair["second"] for pair in pairs]))
    if len(ranked) <= N_PAIRS:
        return list(pairs)
    place = {entry: i for i, entry in enumerate(ranked)}
    return [pair for pair in pairs if place[pair["second"]] - place[pair["first"]] == 1 or not pair["is_different"]]


def verdict(pair: Mapping[str, Any]) -> str:
    """Return the result of a pair in words."""
    if not pair["is_different"]:
        return "no difference"
    return "different" if pair["architectures"] else "these models only"


def interval(ends: Sequence[float] | None) -> str:
    """Return an interval, in bits, as text."""
    return "-" if ends is None else f"{ends[0]:+.3f} to {ends[1]:+.3f}"


def _pair_cells(pair: Mapping[str, Any]) -> list[str]:
    intervals = [interval(pair[key]) for key in ("trained_models", "architectures")]
    return [pair["first"], pair["second"], f"{pair['difference']:+.3f}", *intervals, verdict(pair)]


def caption(results: Results) -> str:
    """Return what the numbers are: text, split, budget, seeds, machine."""
    if all(is_ngram(recipe["model"]) for recipe in results.entries.values()):
        training = ""
    else:
        seeds = "one seed" if results.seeds == "1" else f"mean and standard deviation over {results.seeds} seeds"
        size = "" if results.n_parameters is None else f", about {results.n_parameters:,} parameters"
        tuned = f" Tuned by {results.tuning}." if results.tuning else ""
        training = f": {seeds}. Training of {results.budget}{size}.{tuned}"
    return (
        f"Bits per character on the {results.part_name} part of {results.task} ({results.n_scored:,} characters)"
        f"{training or '.'} Machine: {results.machine}."
    )


def pair_caption(results: Results) -> str:
    """Return what the intervals are, and which pairs are shown."""
    pairs = results.pairs
    left_out = " Neighbours, and all other pairs without a difference." if len(shown_pairs(pairs)) < len(pairs) else ""
    return (
        "Differences in bits per character and 95 % intervals: of these trained models (block bootstrap over the "
        f"{results.part_name} text, blocks of {BLOCK_CHARS} characters), and of the architectures (variance between "
        f"seeds added, Student's t; two seeds at least).{left_out}"
    )


def markdown(results: Results) -> str:
    """Return all tables in Markdown."""
    return "\n".join(f"{table.caption}\n\n{markdown_table(table.head, table.cells)}" for table in tables_of(results))


def markdown_table(head: list[str], cells: Cells) -> str:
    """Return a table in Markdown."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *cells])


def csv_text(results: Results) -> str:
    """Return one line a training as CSV, numbers in full, with the chosen values."""
    left_out = ("block_bits", "curve")
    rows = [{key: value for key, value in row.items() if key not in left_out} for row in results.rows]
    rows = [row | {f"chosen_{key}": v for key, v in results.chosen.get(row["entry"], {}).items()} for row in rows]
    file = StringIO()
    columns = list(dict.fromkeys(["entry", "model", "seed", *(key for row in rows for key in row)]))
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
