"""Rows of a benchmark: each entry is trained with each seed, in a run of its own; one training is one row.

A row holds what tables, intervals and curves need, so results.json makes all of them again without the runs.
"""

from __future__ import annotations

import gc
import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Container, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charlm import recipes
from charlm.data.corpus import Corpus
from charlm.errors import DivergedError, Interrupted, OutputError
from charlm.evaluation.protocol import TextRange, eval_mode, per_char_nll
from charlm.experiments.bench.entry import differences, folder_name, is_ngram
from charlm.experiments.bench.intervals import block_sums
from charlm.files import atomic_write
from charlm.generation.language_model import LanguageModel
from charlm.options.ranges import checked_number
from charlm.recipe import Recipe
from charlm.storage import run_log, runs
from charlm.storage.runs import DIVERGED
from charlm.training.callbacks import Progress
from charlm.training.session import train
from charlm.training.setup import choose_device, fill_defaults
from charlm.training.timer import reset_peak_memory
from charlm.training.trainer import FINAL_CHARS

ROW, BITS = "row.json", "bits.npy"  # files in the folder of a run
MAX_CURVE_POINTS = 60
Row = dict[str, Any]


def run_benchmark(
    entries: dict[str, Recipe],
    n_seeds: int,
    corpus: Corpus,
    folder: Path,
    announce: Callable[[str], None],
    sample_seconds: float = 1.0,
    left_out: Container[tuple[str, int]] = (),
) -> Iterator[Row]:
    """Train each entry with each seed, in a run of its own. Finished runs are reused, interrupted ones resumed.

    Args:
        entries: recipes by name.
        n_seeds: seeds per entry, counted up from the recipe's; an n-gram model is run once.
        corpus: the text, with a held-out part.
        folder: folder of the runs.
        announce: called with each run's name and number before it starts.
        sample_seconds: seconds for which the sampling speed of each model is measured.
        left_out: entry and seed of trainings that are left out.

    Yields:
        one row a run: entry, model, seed, result, speeds in characters per second, sums of bits over blocks of the
        test part (else of the validation part), and the validation curve. A training that diverged has an outcome and
        no losses.

    Raises:
        UsageError: the last seed is out of range.
        OutputError: a run's folder holds something else, or a run with another recipe or text.
        KeyboardInterrupt: the user interrupted a training; finished runs are kept.
    """
    for entry in entries.values():
        checked_number("seed", entry.seed + n_seeds - 1)
    planned = [
        (name, entry.replace(seed=entry.seed + i))
        for i in range(n_seeds)
        for name, entry in entries.items()
        if (i == 0 or not is_ngram(entry.model)) and (name, entry.seed + i) not in left_out
    ]
    for number, (name, entry) in enumerate(planned, 1):
        run = folder / f"{folder_name(name)}-{entry.seed}"
        if _is_finished(run, entry, corpus):
            yield json.loads((run / ROW).read_text("utf-8"))
            continue
        resumes = not is_ngram(entry.model) and (run / runs.LAST).is_file()
        if not resumes and (run / runs.RECIPE).is_file():  # the run was killed before its first checkpoint
            shutil.rmtree(run, ignore_errors=True)
        announce(f"{run.name}: training {number} of {len(planned)}")
        yield _train_row(name, entry, corpus, run, announce, resumes, sample_seconds)


def _train_row(
    name: str,
    entry: Recipe,
    corpus: Corpus,
    run: Path,
    announce: Callable[[str], None],
    resumes: bool,
    sample_seconds: float,
) -> Row:
    """Train one run and return its row, which is also written into its folder; see `run_benchmark`."""
    gc.collect()
    has_peak = reset_peak_memory()
    row = {"entry": name, "model": entry.model, "seed": entry.seed, "sha256": corpus.sha256}
    try:
        model = train(entry, corpus, run, [Progress()], resume=(lambda differs: None) if resumes else None)
    except DivergedError as error:
        announce(f"{run.name}: {error}")
        row["outcome"] = DIVERGED
        run.mkdir(exist_ok=True)  # a run without a checkpoint was removed
        recipe = fill_defaults(entry, choose_device(entry.device))
        atomic_write(run / runs.RECIPE, recipes.to_toml(recipe).encode())
        atomic_write(run / ROW, json.dumps(row).encode())
        return row
    if model.metadata.result["interrupted"]:
        raise Interrupted(model.metadata.result["signal"])
    row |= model.metadata.result
    if not has_peak:
        row.pop("peak_bytes", None)
    row["train_chars_per_second"] = _training_speed(run)
    row["sample_chars_per_second"] = _sampling_speed(model, sample_seconds)
    bits, buffer = per_char_bits(model, corpus), BytesIO()
    np.save(buffer, bits.astype(np.float16), allow_pickle=False)
    atomic_write(run / BITS, buffer.getbuffer())
    row["block_bits"] = [round(total, 3) for total in block_sums(bits).tolist()]
    row["curve"] = validation_curve(run)
    atomic_write(run / ROW, json.dumps(row).encode())
    return row


def compared_part(corpus: Corpus) -> str:
    """Return the part by which entries are compared: "test", or "valid" where there is no test part."""
    first, stop = corpus.bounds["test"]
    return "test" if first < stop else "valid"


def per_char_bits(model: LanguageModel, corpus: Corpus) -> NDArray[np.float64]:
    """Return the bits of each character of the compared part by the protocol, float64, (N,).

    Args:
        model: reads the first `FINAL_CHARS` characters, as in the final evaluation of a training.
        corpus: the text, with a held-out part.
    """
    first, stop = corpus.bounds[compared_part(corpus)]
    text = TextRange(torch.from_numpy(corpus.ids), first, min(stop, first + FINAL_CHARS), corpus.vocab.bos_id)
    with eval_mode(model.model):
        nats = torch.cat([chunk.cpu() for chunk in per_char_nll(model.model, text, model.metadata.n_context)])
    bits: NDArray[np.float64] = nats.double().numpy() / math.log(2)
    return bits


def validation_curve(run: Path) -> list[list[float]]:
    """Return characters, seconds and validation loss in nats at up to `MAX_CURVE_POINTS` points of a training."""
    keys = ("n_chars", "seconds", "valid_nats")
    points = [[row[key] for key in keys] for row in run_log.log_of(run) if all(key in row for key in keys)]
    thinned = points[:: -(-len(points) // MAX_CURVE_POINTS) or 1]
    return thinned if not points or thinned[-1] == points[-1] else [*thinned, points[-1]]


def _is_finished(run: Path, entry: Recipe, corpus: Corpus) -> bool:
    """Return True if a run has its row.

    Raises:
        OutputError: the run has another recipe or text.
    """
    if not run.exists():
        return False
    expected = fill_defaults(entry, choose_device(entry.device))
    if (run / runs.RECIPE).is_file() and (found := recipes.load(str(run / runs.RECIPE))) != expected:
        keys = differences(found, expected)
        raise OutputError(
            f"{run}: was trained with another recipe ({keys}); choose another --name, or remove the folder"
        )
    if not (run / ROW).is_file():
        return False
    if json.loads((run / ROW).read_text("utf-8")).get("sha256") != corpus.sha256:
        raise OutputError(f"{run}: was trained on another text; choose another --name, or remove the folder")
    return True


def _training_speed(run: Path) -> float:
    """Return the median of the training speeds that a run logged (its mean speed if it logged none), char/s."""
    speeds = [float(row["chars_per_second"]) for row in run_log.log_of(run) if "chars_per_second" in row]
    result = run_log.result_of(run)
    return statistics.median(speeds or [float(result["n_chars"] / max(result["seconds"], 1e-9))])


def _sampling_speed(model: LanguageModel, seconds: float) -> float:
    """Return the sampling speed for one text, char/s."""
    texts = model.stream(length=10**9, seed=0)
    for _ in islice(texts, 20):  # warm-up
        pass
    start, n = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(texts)
        n += 1
    return n / (time.perf_counter() - start)
