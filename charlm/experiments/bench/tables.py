"""Tables of a benchmark as text, Markdown and CSV: the entries, and the differences of pairs."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from charlm.evaluation.metrics import nats_to_bits
from charlm.experiments.bench.intervals import BLOCK_CHARS
from charlm.experiments.bench.results import Results
from charlm.experiments.bench.tuning import shown_values

HEAD = ("model", "params", "valid", "test", "b/byte", "sec", "train/s", "sample/s", "MB", "chosen")
PAIR_HEAD = ("better", "worse", "bits", "these trained models", "the architectures", "result")
N_PAIRS = 5  # entries of which all pairs are shown; of more, neighbours, and pairs without a difference
Cells = list[list[str]]


def entry_table(results: Results) -> tuple[list[str], Cells]:
    """Return head and cells of the entries, the best first; without the chosen values if nothing was tuned."""
    cells = [_entry_cells(row) for row in results.summary]
    n = len(HEAD) if results.tuning else len(HEAD) - 1
    return list(HEAD[:n]), [row[:n] for row in cells]


def _entry_cells(row: Mapping[str, Any]) -> list[str]:
    def bits(key: str) -> str:
        if key not in row:
            return "-"
        spread = f" ± {nats_to_bits(row[f'{key}_spread']):.3f}" if f"{key}_spread" in row else ""
        return f"{nats_to_bits(row[key]):.3f}{spread}"

    def count(key: str, unit: float = 1.0) -> str:
        return f"{row[key] / unit:,.0f}" if key in row else "-"

    diverged = f" ({row['n_diverged']} of {row['n_seeds']} diverged)" if row["n_diverged"] else ""
    per_byte = f"{row['test_bits_per_byte']:.3f}" if "test_bits_per_byte" in row else "-"
    numbers = [count(key) for key in ("seconds", "train_chars_per_second", "sample_chars_per_second")]
    return [
        row["entry"],
        count("n_parameters"),
        bits("valid_nats"),
        bits("test_nats") + diverged,
        per_byte,
        *numbers,
        count("peak_bytes", 1e6),
        shown_values(row["chosen"]) or "-",
    ]


def pair_table(results: Results) -> tuple[list[str], Cells]:
    """Return head and cells of the differences, see `shown_pairs`."""
    return list(PAIR_HEAD), [_pair_cells(pair) for pair in shown_pairs(results.pairs)]


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
    return "different" if pair["architectures"] else "these models only (one seed)"


def interval(ends: Sequence[float] | None) -> str:
    """Return an interval, in bits, as text."""
    return "-" if ends is None else f"{ends[0]:+.3f} to {ends[1]:+.3f}"


def _pair_cells(pair: Mapping[str, Any]) -> list[str]:
    intervals = [interval(pair[key]) for key in ("trained_models", "architectures")]
    return [pair["first"], pair["second"], f"{pair['difference']:+.3f}", *intervals, verdict(pair)]


def caption(results: Results) -> str:
    """Return what the numbers are: text, split, budget, seeds, machine."""
    seeds = f"mean and standard deviation over {results.n_seeds} seeds" if results.n_seeds > 1 else "one seed"
    size = "" if results.n_parameters is None else f", about {results.n_parameters:,} parameters"
    tuned = f" Tuned by {results.tuning}." if results.tuning else ""
    return (
        f"Bits per character on the {results.part_name} part of {results.task} ({results.n_scored:,} characters): "
        f"{seeds}. Training of networks: {results.budget}{size}.{tuned} Machine: {results.machine}."
    )


def pair_caption(results: Results) -> str:
    """Return what the intervals are, and which pairs are shown."""
    pairs = results.pairs
    left_out = " Neighbours, and all other pairs without a difference." if len(shown_pairs(pairs)) < len(pairs) else ""
    return (
        "Differences in bits per character and 95 % intervals: of these trained models (block bootstrap over the "
        f"{results.part_name} text, blocks of {BLOCK_CHARS} characters), and of the architectures (variance between "
        f"seeds added, Student's t).{left_out}"
    )


def markdown(results: Results) -> str:
    """Return both tables in Markdown."""
    blocks = [f"{caption(results)}\n\n{markdown_table(*entry_table(results))}"]
    if results.pairs:
        blocks.append(f"{pair_caption(results)}\n\n{markdown_table(*pair_table(results))}")
    return "\n".join(blocks)


def markdown_table(head: list[str], cells: Cells) -> str:
    """Return a table in Markdown."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *cells])


def csv_text(results: Results) -> str:
    """Return one line a training as CSV, numbers in full, with the chosen values."""
    left_out = ("block_bits", "curve")
    rows = [{key: value for key, value in row.items() if key not in left_out} for row in results.rows]
    rows = [row | {f"chosen_{key}": v for key, v in results.chosen.get(row["entry"], {}).items()} for row in rows]
    file = StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
