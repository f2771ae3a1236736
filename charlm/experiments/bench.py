"""Benchmark: models on one text under the one protocol, with one budget and several seeds, and an n-gram baseline.

Budgets: the recipe key `epochs` gives each model the same characters, `minutes` the same time. In addition, hidden
sizes can be chosen so that all models have about the same number of parameters.
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

from charlm import models, recipes
from charlm.data.corpus import Corpus
from charlm.errors import OutputError, UsageError, did_you_mean
from charlm.evaluation.metrics import nats_to_bits
from charlm.experiments.plots import figure
from charlm.files import atomic_write
from charlm.generation.language_model import LanguageModel
from charlm.options.ranges import checked_number
from charlm.recipe import Recipe
from charlm.storage import run_log, runs
from charlm.storage.transfer import resolve_recipe
from charlm.training.callbacks import Progress
from charlm.training.session import train
from charlm.training.setup import choose_device, fill_defaults

BASELINE = "ngram"  # part of every benchmark
SIZE_STEP = 8  # hidden sizes are multiples of this
SHARED_KEYS = ("corpus", "split", "bytes", "lower", "min_count", "seed", "device")  # the same for all entries

Row = dict[str, Any]


def shared_keys(names: Sequence[str], given: dict[str, Any], announce: Callable[[str], None]) -> dict[str, Any]:
    """Return the given keys that all entries share, with the text of a recipe if none is given.

    Args:
        names: see `entries`.
        given: recipe keys of the command.
        announce: called with a message for each recipe whose own split, preprocessing, seed or device is not used.

    Raises:
        UsageError: recipes name different texts, and `given` none.
    """
    chosen = {name: resolve_recipe(name, {}) for name in dict.fromkeys(names) if _is_recipe(name)}
    texts = {recipe.corpus: name for name, recipe in chosen.items() if recipe.corpus}
    if "corpus" not in given and texts:
        if len(texts) > 1:
            named = "; ".join(f"{name}: {', '.join(corpus)}" for corpus, name in texts.items())
            raise UsageError(f"the recipes name different texts ({named}); choose one with --corpus")
        given = given | {"corpus": list(next(iter(texts)))}
    common = Recipe().replace(**given)
    for name, recipe in chosen.items():
        differs = [key for key in SHARED_KEYS[1:] if key not in given and getattr(recipe, key) != getattr(common, key)]
        if differs:
            own = ", ".join(f"{key} {getattr(recipe, key)}" for key in differs)
            shared = ", ".join(f"{key} {getattr(common, key)}" for key in differs)
            announce(f"{name}: {own} is replaced by {shared}, as for all entries; an option chooses another")
    return given


def _is_recipe(name: str) -> bool:
    return name not in models.MODELS and (name in recipes.names() or name.endswith(".toml"))


def entries(
    names: Sequence[str], changes: dict[str, Any], n_parameters: int | None, vocab_size: int
) -> dict[str, Recipe]:
    """Return the recipes of a benchmark by entry name, the n-gram baseline first.

    Args:
        names: architectures, or recipes by name or file.
        changes: recipe keys that all entries share.
        n_parameters: number of parameters to match by the choice of hidden sizes; None keeps the sizes.
        vocab_size: V.

    Raises:
        UsageError: a name is neither a model nor a recipe, or a model cannot match `n_parameters`.
    """
    chosen: dict[str, Recipe] = {}
    for name in dict.fromkeys([BASELINE, *names]):
        if name in models.MODELS:
            entry = Recipe().replace(model=name, **changes)
        elif _is_recipe(name):
            entry = resolve_recipe(name, changes)
        else:
            known = [*models.MODELS, *recipes.names()]
            raise UsageError(f"no model or recipe {name!r}{did_you_mean(name, known)}; `charlm models` lists them")
        if n_parameters is not None and not is_ngram(entry.model):
            entry = entry.replace(options=match_parameters(entry, n_parameters, vocab_size))
        if (stem := Path(name).stem) in chosen:
            raise UsageError(f"{name}: there is an entry {stem!r} already; rename the file")
        chosen[stem] = entry
    return chosen


def is_ngram(model: str | None) -> bool:
    """Return True for a model without gradients: it has no hidden size, no budget and no random numbers."""
    return model is not None and not models.find(model).uses_gradients


def match_parameters(entry: Recipe, n_parameters: int, vocab_size: int) -> dict[str, int]:
    """Return the hidden size (`n_hidden`, or else `n_embed`) that brings a model nearest to a number of parameters.

    Raises:
        UsageError: the model has no such option, or too many parameters with the smallest size.
    """
    known = models.options_of(entry.model)
    option = next((name for name in ("n_hidden", "n_embed") if name in known), None)
    if option is None:
        raise UsageError(f"model {entry.model} has no hidden size to choose; leave it out, or leave out --parameters")

    def count(size: int) -> int:
        model = models.build(entry.model, vocab_size, **entry.options | {option: size})
        return sum(p.numel() for p in model.parameters())

    low, high = SIZE_STEP, 2 * SIZE_STEP
    while count(high) < n_parameters:
        low, high = high, 2 * high
    while high - low > SIZE_STEP:
        middle = (low + high) // 2 // SIZE_STEP * SIZE_STEP
        low, high = (middle, high) if count(middle) < n_parameters else (low, middle)
    best = min((low, high), key=lambda size: abs(count(size) - n_parameters))
    if count(best) > 1.5 * n_parameters:
        raise UsageError(f"model {entry.model} has at least {count(best):,} parameters; raise --parameters")
    return {option: best}


def run_benchmark(
    entries: dict[str, Recipe],
    n_seeds: int,
    corpus: Corpus,
    folder: Path,
    announce: Callable[[str], None],
    sample_seconds: float = 1.0,
) -> Iterator[Row]:
    """Train each entry with each seed, in a run of its own. Finished runs are reused, interrupted ones resumed.

    Args:
        entries: recipes by name.
        n_seeds: seeds per entry, counted up from the recipe's; an n-gram model is run once.
        corpus: the text.
        folder: folder of the runs.
        announce: called with each run's name before it starts.
        sample_seconds: seconds for which the sampling speed of each model is measured.

    Yields:
        one row a run: entry, model, seed, result, and characters per second in training and sampling.

    Raises:
        UsageError: the last seed is out of range.
        OutputError: a run's folder holds something else, or a run with another recipe or text.
        KeyboardInterrupt: the user interrupted a training; finished runs are kept.
    """
    for entry in entries.values():
        checked_number("seed", entry.seed + n_seeds - 1)
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
            resumes = not is_ngram(entry.model) and (run / "last.safetensors").is_file()
            if not resumes and (run / runs.RECIPE).is_file():  # the run was killed before its first checkpoint
                shutil.rmtree(run, ignore_errors=True)
            announce(run.name)
            model = train(entry, corpus, run, [Progress()], resume=(lambda differs: None) if resumes else None)
            if model.metadata.result["interrupted"]:
                raise KeyboardInterrupt
            row = {"entry": name, "model": entry.model, "seed": entry.seed} | model.metadata.result
            row["train_chars_per_second"] = _training_speed(run)
            row["sample_chars_per_second"] = _sampling_speed(model, sample_seconds)
            row["sha256"] = corpus.sha256
            atomic_write(row_file, json.dumps(row).encode())
            yield row


def _is_finished(run: Path, entry: Recipe, corpus: Corpus) -> bool:
    """Return True if a run has its result.

    Raises:
        OutputError: the run has another recipe or text.
    """
    if not run.exists():
        return False
    expected = fill_defaults(entry, choose_device(entry.device))
    if (run / runs.RECIPE).is_file() and recipes.load(str(run / runs.RECIPE)) != expected:
        raise OutputError(f"{run}: was trained with another recipe; choose another --name, or remove the folder")
    if not (run / "row.json").is_file():
        return False
    if json.loads((run / "row.json").read_text("utf-8")).get("sha256") != corpus.sha256:
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


def summary(rows: Sequence[Row]) -> list[Row]:
    """Return one row an entry, the best first: means over the seeds, and the standard deviations of several seeds.

    Args:
        rows: rows of `run_benchmark` and `baselines.baselines`.
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


def plot(rows: Sequence[Row], path: Path, title: str) -> None:
    """Plot bits per character over training speed as a PNG file, with n-gram models as horizontal lines.

    Args:
        rows: rows of `summary`.
        path: the file.
        title: text, split and budget.

    Raises:
        CharlmError: matplotlib (extra `plot`) is not installed.
    """
    key = "test_nats" if any("test_nats" in row for row in rows) else "valid_nats"
    with figure(path, 8, 5) as axes:
        trained = [row for row in rows if row["model"] is not None and not is_ngram(row["model"])]
        trained.sort(key=lambda row: row["train_chars_per_second"])
        speeds = [row["train_chars_per_second"] for row in trained]
        for i, row in enumerate(trained):
            at = speeds[i], nats_to_bits(row[key])
            axes.errorbar(*at, nats_to_bits(row.get(f"{key}_spread", 0.0)), fmt="o", capsize=3)
            slower, faster = speeds[i - 1] if i else 0.0, speeds[i + 1] if i + 1 < len(speeds) else math.inf
            side = -1 if faster / at[0] < at[0] / max(slower, 1e-9) else 1  # label away from the nearest point
            offset, align = (8 * side, 0), "left" if side > 0 else "right"
            axes.annotate(row["entry"], at, xytext=offset, textcoords="offset points", ha=align, va="center")
        for row in rows:
            if is_ngram(row["model"]):  # the other baselines are far above
                axes.axhline(nats_to_bits(row[key]), linestyle="--", linewidth=1, color="gray")
                at = 0.99, nats_to_bits(row[key])
                axes.annotate(row["entry"], at, xycoords=("axes fraction", "data"), ha="right", va="bottom")
        axes.margins(x=0.15)
        axes.set_title(title)
        axes.set(xscale="log", xlabel="training speed, characters per second", ylabel=f"bits per character, {key[:-5]}")
        for show in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            show("{x:,.0f}")
        axes.tick_params(axis="x", which="both", labelrotation=30)
