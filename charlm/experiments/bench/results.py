"""results.json: everything that a benchmark found. Tables, intervals and figures are made from it alone."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from charlm.errors import DataError, InputNotFoundError
from charlm.experiments.bench.entry import is_ngram
from charlm.experiments.bench.intervals import compare_pairs
from charlm.files import atomic_write
from charlm.storage.runs import DIVERGED

FILE = "results.json"
FORMAT = 1
SPREAD_OF = ("valid_nats", "test_nats")  # with their standard deviation over seeds


@dataclass
class Results:
    """Results of a benchmark, complete or not.

    Attributes:
        task: text, split and preprocessing.
        sha256: of the text.
        part: the part that entries are compared on, "test" or "valid".
        n_scored: characters of it that are read.
        budget: of each training, in words.
        n_seeds: from the first to the last seed; an entry may lack some of them, see `seeds`.
        n_parameters: number that the sizes match; None for each entry's own size.
        machine: processor, cores, threads and versions.
        tuning: options of the tuning, in words; empty without.
        entries: the recipe of each entry, with the chosen values.
        chosen: the values that the tuning chose for each entry.
        trials: entry, number, values, validation loss and seconds of each trial, and whether it is final.
        rows: see `run_benchmark` and `baselines`.
    """

    task: str
    sha256: str
    part: str
    n_scored: int
    budget: str
    n_seeds: int
    n_parameters: int | None = None
    machine: str = ""
    tuning: str = ""
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    chosen: dict[str, dict[str, float]] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def part_name(self) -> str:
        """The part in words."""
        return {"test": "test", "valid": "validation"}[self.part]

    @property
    def first_seed(self) -> int:
        """The seed of the first training of each entry."""
        return min((recipe["seed"] for recipe in self.entries.values()), default=0)

    @property
    def seeds(self) -> str:
        """Trainings of each network, as "3", or "1 to 3" if some have fewer."""
        found = [row["n_seeds"] for row in summary(self.rows) if row["model"] and not is_ngram(row["model"])]
        low, high = min(found, default=self.n_seeds), max(found, default=self.n_seeds)
        return f"{high}" if low == high else f"{low} to {high}"

    @property
    def summary(self) -> list[dict[str, Any]]:
        """See `summary`; with the chosen values."""
        return [row | {"chosen": self.chosen.get(row["entry"], {})} for row in summary(self.rows)]

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """See `compare_pairs`."""
        return compare_pairs(self.rows, self.n_scored)

    def to_json(self) -> str:
        """Return the content of the file: all attributes, and the summary and the pairs for other programs."""
        derived = {"summary": self.summary, "pairs": self.pairs}
        lines = {key: json.dumps(value) for key, value in ({"format": FORMAT} | vars(self) | derived).items()}
        for key in ("trials", "rows", "summary", "pairs"):  # one object a line
            lines[key] = "[\n  " + ",\n  ".join(map(json.dumps, (vars(self) | derived)[key])) + "\n ]"
        return "{\n" + ",\n".join(f" {json.dumps(key)}: {value}" for key, value in lines.items()) + "\n}\n"

    def _use(self) -> None:
        """Compute what tables and figures need; a damaged field raises an error of Python."""
        self.to_json()
        _ = (
            self.part_name,
            self.first_seed + self.n_seeds,
            [math.fsum(values.values()) for values in self.chosen.values()],
        )
        for row in self.rows:
            if row.get("model") is not None:  # a training
                _ = self.entries[row["entry"]]["model"], row["seed"] + 0
                if row.get("outcome") != DIVERGED:
                    math.fsum([row["n_parameters"], row["n_chars"], row["seconds"]])
                    math.fsum([nats + n_chars + seconds for n_chars, seconds, nats in row.get("curve", ())])
        _ = [(trial["entry"], trial["trial"], trial["is_final"], trial["seconds"]) for trial in self.trials]

    def save(self, folder: Path) -> None:
        """Write the file into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / FILE, self.to_json().encode())

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read the file, given itself or its folder.

        Raises:
            InputNotFoundError: there is no such file.
            DataError: it is not of a benchmark, or of an older or newer format.
        """
        path = path / FILE if path.is_dir() else path
        try:
            found = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise InputNotFoundError(
                f"{path}: cannot be read: {error.strerror}; name the folder of a benchmark"
            ) from None
        except ValueError:
            raise DataError(f"{path}: is not JSON; name the results.json of a benchmark") from None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise DataError(f"{path}: is no results.json of format {FORMAT}; remove it and run the benchmark again")
        try:
            for trial in found["trials"]:
                trial.setdefault("is_final", False)  # of older versions
            results = cls(**{key.name: found[key.name] for key in fields(cls)})
            results._use()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise DataError(f"{path}: is damaged ({reason}); remove it and run the benchmark again") from None
        return results


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row an entry, the best first: means over the seeds, and the standard deviations of several seeds.

    Means are over the seeds that did not diverge, whose number is `n_diverged`.

    Args:
        rows: rows of `run_benchmark` and `baselines`.
    """
    by_entry: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_entry.setdefault(row["entry"], []).append(row)
    result = []
    for entry, group in by_entry.items():
        total: dict[str, Any] = {"entry": entry, "model": group[0].get("model"), "n_seeds": len(group)}
        total["n_diverged"] = sum(row.get("outcome") == DIVERGED for row in group)
        for key in dict.fromkeys(key for row in group for key in row if key not in ("seed", "interrupted")):
            values = [row[key] for row in group if isinstance(row.get(key), (int, float))]
            if values:
                total[key] = statistics.mean(values)
            if key in SPREAD_OF and len(values) > 1:
                total[f"{key}_spread"] = statistics.stdev(values)
        result.append(total)
    return sorted(result, key=best_nats)


def best_nats(row: Mapping[str, Any]) -> float:
    """Return the test loss of a row, else its validation loss; infinite without either."""
    return next((float(row[key]) for key in ("test_nats", "valid_nats") if key in row), math.inf)
