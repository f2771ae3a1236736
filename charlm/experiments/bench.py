"""Contests: models on one text under the one protocol, with one budget, over several seeds, and counting beside them.

Budgets: the recipe's `epochs` gives each model the same characters, `minutes` the same time; on top of either, widths
can be chosen so that all have about the same number of parameters.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from charlm import models, recipe
from charlm.data.corpus import Corpus
from charlm.errors import OutputError, UsageError, did_you_mean
from charlm.evaluation.metrics import nats_to_bits
from charlm.experiments.plots import picture
from charlm.files import atomic_write
from charlm.generation.language_model import LanguageModel
from charlm.recipe import Recipe
from charlm.storage import runs
from charlm.training.callbacks import Progress
from charlm.training.session import train
from charlm.training.setup import choose_device, fill_defaults

COUNTING = "ngram"  # the architecture that every contest includes
SAMPLE_SECONDS = 1.0  # of drawing characters, to see how fast it goes
STEP = 8  # widths are multiples of this

Row = dict[str, Any]


def entries(
    names: Sequence[str], changes: dict[str, Any], n_parameters: int | None, vocab_size: int
) -> dict[str, Recipe]:
    """Return the recipes of a contest by name, the counting model first.

    Args:
        names: architectures, or recipes by name or file.
        changes: keys of a recipe that all have in common.
        n_parameters: choose widths so that each has about so many; None leaves them.
        vocab_size: V.

    Raises:
        UsageError: a name that is neither, or a model that cannot have so few or so many parameters.
    """
    chosen: dict[str, Recipe] = {}
    for name in dict.fromkeys([COUNTING, *names]):
        if name in models.MODELS:
            entry = Recipe().replace(model=name, **changes)
        elif name in recipe.names() or name.endswith(".toml"):
            entry = recipe.load(name).replace(**changes)
        else:
            known = [*models.MODELS, *recipe.names()]
            raise UsageError(f"no model or recipe {name!r}{did_you_mean(name, known)}; `charlm models` lists them")
        if n_parameters is not None and not is_ngram(entry.model):
            entry = entry.replace(options=match_parameters(entry, n_parameters, vocab_size))
        if (stem := Path(name).stem) in chosen:
            raise UsageError(f"{name}: there is a contestant {stem!r} already; give the file another name")
        chosen[stem] = entry
    return chosen


def is_ngram(model: str | None) -> bool:
    """Return whether a model counts and learns nothing else: it has no width, no budget and needs no second seed."""
    return model is not None and not models.find(model).uses_gradients


def match_parameters(entry: Recipe, n_parameters: int, vocab_size: int) -> dict[str, int]:
    """Return the width, `n_hidden` or else `n_embed`, with which a model comes nearest to a number of parameters.

    Raises:
        UsageError: it has no width, or even the smallest is too large.
    """
    known = models.options_of(entry.model)
    option = next((name for name in ("n_hidden", "n_embed") if name in known), None)
    if option is None:
        raise UsageError(f"model {entry.model} has no width to choose; leave it out, or leave out --parameters")

    def count(width: int) -> int:
        model = models.build(entry.model, vocab_size, **entry.options | {option: width})
        return sum(p.numel() for p in model.parameters())

    low, high = STEP, 2 * STEP
    while count(high) < n_parameters:
        low, high = high, 2 * high
    while high - low > STEP:
        middle = (low + high) // 2 // STEP * STEP
        low, high = (middle, high) if count(middle) < n_parameters else (low, middle)
    best = min((low, high), key=lambda width: abs(count(width) - n_parameters))
    if count(best) > 1.5 * n_parameters:
        raise UsageError(f"model {entry.model} has at least {count(best):,} parameters; ask for more than --parameters")
    return {option: best}


def run_benchmark(
    entries: dict[str, Recipe], n_seeds: int, corpus: Corpus, folder: Path, announce: Callable[[str], None]
) -> Iterator[Row]:
    """Train each entry with each seed, into a run of its own; finished runs are taken, interrupted ones go on.

    Args:
        entries: recipes by name.
        n_seeds: seeds each, from the recipe's on; one for counting, where nothing is drawn.
        corpus: the text.
        folder: of the runs.
        announce: called with each run's name before it starts.

    Yields:
        a row a run: entry, model, seed, result, and characters a second in training and sampling.

    Raises:
        OutputError: there is something else of a run's name, or a run with another recipe or text.
        KeyboardInterrupt: the user ended a training; finished runs are kept.
    """
    for i in range(n_seeds):
        for name, entry in entries.items():
            if i > 0 and is_ngram(entry.model):
                continue
            entry = entry.replace(seed=entry.seed + i)
            run = folder / f"{name}-{entry.seed}"
            row_file = run / "row.json"
            if _is_finished(run, entry, corpus):
                yield json.loads(row_file.read_text("utf-8"))
                continue
            going_on = not is_ngram(entry.model) and (run / "last.safetensors").is_file()
            if not going_on and (run / "recipe.toml").is_file():  # a run that ended before anything was saved
                shutil.rmtree(run, ignore_errors=True)
            announce(run.name)
            model = train(entry, corpus, run, [Progress()], resume=(lambda differs: None) if going_on else None)
            if model.metadata.result["interrupted"]:
                raise KeyboardInterrupt
            row = {"entry": name, "model": entry.model, "seed": entry.seed} | model.metadata.result
            row["train_chars_per_second"] = _training_speed(run)
            row["sample_chars_per_second"] = _sampling_speed(model)
            row["sha256"] = corpus.sha256
            atomic_write(row_file, json.dumps(row).encode())
            yield row


def _is_finished(run: Path, entry: Recipe, corpus: Corpus) -> bool:
    """Return whether a run is there with its result, and refuse one of another recipe or text."""
    if not run.exists():
        return False
    wanted = fill_defaults(entry, choose_device(entry.device))
    if (run / "recipe.toml").is_file() and recipe.load(str(run / "recipe.toml")) != wanted:
        raise OutputError(f"{run}: was trained with another recipe; choose another --name, or remove it")
    if not (run / "row.json").is_file():
        return False
    if json.loads((run / "row.json").read_text("utf-8")).get("sha256") != corpus.sha256:
        raise OutputError(f"{run}: was trained on another text; choose another --name, or remove it")
    return True


def _training_speed(run: Path) -> float:
    """Return the median of the characters a second that a run reported; of the whole, if it reported none."""
    lines = (run / runs.METRICS).read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    speeds = [float(row["chars_per_second"]) for row in rows if "chars_per_second" in row]
    result = runs.result_of(run)
    return statistics.median(speeds or [float(result["n_chars"] / max(result["seconds"], 1e-9))])


def _sampling_speed(model: LanguageModel) -> float:
    """Return how many characters a second the model writes, one text at a time."""
    texts = model.stream(length=10**9, seed=0)
    for _ in islice(texts, 20):  # the first ones are slower
        pass
    start, n = time.perf_counter(), 0
    while time.perf_counter() - start < SAMPLE_SECONDS:
        next(texts)
        n += 1
    return n / (time.perf_counter() - start)


def summary(rows: Sequence[Row]) -> list[Row]:
    """Return a row an entry, the best first: means over the seeds, and the standard deviation where there are several.

    Args:
        rows: of `run_benchmark` and `baselines.baselines`.
    """
    by_entry: dict[str, list[Row]] = {}
    for row in rows:
        by_entry.setdefault(row["entry"], []).append(row)
    result = []
    for entry, group in by_entry.items():
        numbers = {key for row in group for key, value in row.items() if isinstance(value, (int, float))}
        total: Row = {key: statistics.mean(row[key] for row in group) for key in numbers - {"seed", "interrupted"}}
        for key in ("valid_nats", "test_nats"):
            if key in total and len(group) > 1:
                total[f"{key}_spread"] = statistics.stdev(row[key] for row in group)
        result.append(total | {"entry": entry, "n_seeds": len(group), "model": group[0].get("model")})
    keys = ("test_nats", "valid_nats")
    return sorted(result, key=lambda row: next((float(row[key]) for key in keys if key in row), math.inf))


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw bits per character over the speed of training into a PNG file, counting as lines.

    Args:
        rows: of `summary`.
        path: the file.

    Raises:
        CharlmError: matplotlib, the `plot` extra, is not installed.
    """
    key = "test_nats" if any("test_nats" in row for row in rows) else "valid_nats"
    with picture(path, 8, 5) as axes:
        trained = [row for row in rows if row["model"] is not None and not is_ngram(row["model"])]
        trained.sort(key=lambda row: row["train_chars_per_second"])
        speeds = [row["train_chars_per_second"] for row in trained]
        for i, row in enumerate(trained):
            at = speeds[i], nats_to_bits(row[key])
            axes.errorbar(*at, nats_to_bits(row.get(f"{key}_spread", 0.0)), fmt="o", capsize=3)
            slower, faster = speeds[i - 1] if i else 0.0, speeds[i + 1] if i + 1 < len(speeds) else math.inf
            side = -1 if faster / at[0] < at[0] / max(slower, 1e-9) else 1  # the name turns its back to who is nearer
            offset, align = (8 * side, 0), "left" if side > 0 else "right"
            axes.annotate(row["entry"], at, xytext=offset, textcoords="offset points", ha=align, va="center")
        for row in rows:
            if is_ngram(row["model"]):  # what else needs no training is far above
                axes.axhline(nats_to_bits(row[key]), linestyle="--", linewidth=1, color="gray")
                at = 0.99, nats_to_bits(row[key])
                axes.annotate(row["entry"], at, xycoords=("axes fraction", "data"), ha="right", va="bottom")
        axes.margins(x=0.15)
        axes.set(xscale="log", xlabel="characters a second in training", ylabel=f"bits per character, {key[:-5]}")
        for show in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            show("{x:,.0f}")
        axes.tick_params(axis="x", which="both", labelrotation=30)
