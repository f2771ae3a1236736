"""Intervals of `charlm bench`: how often they call equal models different, and how long the blocks must be.

    python benchmarks/intervals.py simulate rows.jsonl          # goes on where it was
    python benchmarks/intervals.py blocks FOLDER                # folder of a benchmark

`simulate`: contests of two equal models, an RNN of 8 units, trained with three seeds each, all six different, on a text
drawn anew for each contest from a known n-gram model (`markov`: 8 letters, each depends on the two before it). 40,000
characters are training text and 20,000 test text. The models are equal, so a "difference" is wrong. `blocks`: the
standard error of the difference of two trained models by the length of the blocks, mean over all pairs of runs with the
seed 0; it rises until the blocks are longer than the correlations.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charlm.data.corpus import Corpus, make_corpus
from charlm.data.synthetic_texts import entropy, markov
from charlm.experiments.bench.intervals import block_sums, compare_pairs
from charlm.experiments.bench.rows import BITS, per_char_bits
from charlm.recipe import Recipe
from charlm.storage import run_log
from charlm.training.loop import fit
from charlm.training.trainer import Trainer

N_TRAIN, N_TEST = 40_000, 20_000
N_SEEDS = 3
RECIPE = Recipe(
    model="rnn",
    options={"n_hidden": 8, "n_embed": 8},
    corpus=("markov",),
    epochs=1,
    batch_size=8,
    bptt=32,
    learning_rate=0.03,
    device="cpu",
)
LENGTHS = (1, 10, 50, 100, 200, 500, 1000, 2000)


def text_of(number: int) -> Corpus:
    """Return the text of a contest."""
    corpus = make_corpus(markov("2", number, N_TRAIN + N_TEST).encode(), f"markov {number}")
    bounds = {"train": (0, N_TRAIN), "valid": (N_TRAIN, N_TRAIN), "test": (N_TRAIN, N_TRAIN + N_TEST)}
    return replace(corpus, bounds=bounds)


def contest(number: int) -> dict[str, Any]:
    """Return the result of a contest: the difference and its intervals."""
    corpus, rows = text_of(number), []
    for i in range(2 * N_SEEDS):
        trainer = Trainer.make(RECIPE.replace(seed=1000 * number + i), corpus)
        fit(trainer.state, trainer.callbacks)
        bits = per_char_bits(trainer.language_model(), corpus)
        row = {"entry": "ab"[i // N_SEEDS], "model": "rnn", "seed": i, "block_bits": block_sums(bits).tolist()}
        rows.append(row | {"bits": bits.mean()})
    [pair] = compare_pairs(rows, N_TEST)
    return {"contest": number, "bits": [row["bits"] for row in rows]} | pair


def simulate(path: Path, n_contests: int) -> None:
    """Run the contests that are missing, and print the rates of wrong differences."""
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for number in range(len(done), n_contests):
        done.append(contest(number))
        run_log.append_line(path, done[-1])
    spread = statistics.mean(statistics.stdev(row["bits"]) for row in done)
    print(f"{len(done)} contests; entropy of the text {entropy('markov', '2'):.3f} bits, the models ", end="")
    print(f"{statistics.mean(row['bits'][0] for row in done):.3f}, standard deviation over seeds {spread:.4f}")
    for name in ("trained_models", "architectures"):
        wrong = sum(not row[name][0] <= 0 <= row[name][1] for row in done)
        width = statistics.mean(row[name][1] - row[name][0] for row in done)
        print(f"{name}: 0 is outside in {wrong} of {len(done)}, {wrong / len(done):.1%}; mean width {width:.4f} bits")


def blocks(folder: Path) -> None:
    """Print the standard error of a difference for each length of the blocks."""
    paths = sorted(folder.glob(f"*-0/{BITS}"))
    bits = np.stack([np.load(path).astype(float) for path in paths])
    centred, n_chars = bits - bits.mean(axis=1, keepdims=True), bits.shape[1]
    print(f"{len(paths)} runs, {n_chars:,} characters; mean standard error of a difference, in bits, and to that of 1")
    errors = {}
    for length in LENGTHS:
        sums = np.stack([block_sums(each, length) for each in centred])
        pairs = itertools.combinations(range(len(paths)), 2)
        errors[length] = statistics.mean(float(np.linalg.norm(sums[i] - sums[j])) / n_chars for i, j in pairs)
        print(f"{length:6,} characters: {errors[length]:.5f}, {errors[length] / errors[LENGTHS[0]]:.2f}")


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    simulation = commands.add_parser("simulate")
    simulation.add_argument("rows", type=Path)
    simulation.add_argument("--contests", type=int, default=200)
    commands.add_parser("blocks").add_argument("folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.process_time()
    simulate(options.rows, options.contests) if options.command == "simulate" else blocks(options.folder)
    print(f"{time.process_time() - begin:.0f} s of CPU")


if __name__ == "__main__":
    main()
