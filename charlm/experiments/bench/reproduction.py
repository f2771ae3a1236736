"""Reproduction: train some rows of a results.json again, and compare them with the interval of their entry."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from charlm.api import read_corpus
from charlm.errors import DataError, DivergedError, InputNotFoundError, Interrupted
from charlm.evaluation.metrics import nats_to_bits
from charlm.experiments.bench.entry import is_ngram
from charlm.experiments.bench.intervals import student_quantile
from charlm.experiments.bench.results import Results
from charlm.recipe import Recipe
from charlm.training.callbacks import Progress
from charlm.training.session import train

TOLERANCE = 0.002  # bits; of a model that only counts, whose result depends on nothing but the text


def prediction_interval(bits: list[float]) -> tuple[float, float] | None:
    """Return the 95 % prediction interval of one more seed, Student's t; None for fewer than two seeds."""
    n = len(bits)
    if n < 2:
        return None
    half = student_quantile(n - 1) * statistics.stdev(bits) * math.sqrt(1 + 1 / n)
    return statistics.mean(bits) - half, statistics.mean(bits) + half


def reproduce(
    path: Path, n_rows: int, announce: Callable[[str], None], device: str | None = None, texts: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Train rows again, chosen at random, always the same ones.

    Args:
        path: results.json, or its folder.
        n_rows: number of rows; at most all of them.
        announce: called with the recorded machine, and with a message before and after each training.
        device: instead of that of the recipes.
        texts: names or files of the text, instead of those recorded, which may have moved.

    Yields:
        entry, seed, recorded and reproduced bits per character (None if the training diverged); `interval`, the 95 %
        prediction interval over the entry's seeds, None for a network with one seed; `is_within`, whether the new
        number lies in it: None without an interval, False if the training diverged.

    Raises:
        InputNotFoundError: the text is not there.
        DataError: there are no rows, or the text is not that of the results.
    """
    results = Results.load(path)
    key, corpus = f"{results.part}_nats", None
    rows = [row for row in results.rows if row["entry"] in results.entries and key in row]
    if not rows:
        raise DataError(f"{path}: has no finished training to reproduce")
    changes = {key: value for key, value in {"device": device, "corpus": list(texts)}.items() if value}
    announce(f"{path}: recorded on {results.machine}")
    for row in random.Random(0).sample(rows, min(n_rows, len(rows))):
        recipe = Recipe().replace(**results.entries[row["entry"]]).replace(seed=row["seed"], **changes)
        try:
            corpus = corpus or read_corpus(recipe)
        except InputNotFoundError as error:
            raise InputNotFoundError(f"{error}; --corpus names the text of {path}") from None
        if corpus.sha256 != results.sha256:
            raise DataError(f"{corpus.name}: is not the text of {path} (SHA-256 differs); name that with --corpus")
        interval = prediction_interval([nats_to_bits(r[key]) for r in rows if r["entry"] == row["entry"]])
        name, recorded = f"{row['entry']}, seed {row['seed']}", nats_to_bits(row[key])
        if is_ngram(recipe.model):
            interval = recorded - TOLERANCE, recorded + TOLERANCE
        announce(name)
        new: float | None = None
        is_within: bool | None = False
        try:
            result = train(recipe, corpus, None, [Progress()]).metadata.result
        except DivergedError as error:
            announce(f"{name}: {recorded:.3f} bits recorded; {error}")
        else:
            if result["interrupted"]:
                raise Interrupted(result["signal"])
            new = nats_to_bits(result[key])
            is_within = None if interval is None else interval[0] <= new <= interval[1]
            announce(f"{name}: {recorded:.3f} bits recorded, {new:.3f} reproduced")
        yield {
            "entry": row["entry"],
            "seed": row["seed"],
            "recorded_bits": recorded,
            "reproduced_bits": new,
            "interval": interval,
            "is_within": is_within,
        }
