"""Time to the lesson's best result: the recipe `quick` against the lesson's own recipe.

    python benchmarks/quick.py

The lesson's LSTM (2 x 512, 64 lanes, bptt 8) reached 1.2524 nats per character after 78 epochs (published). The time of
all epochs is extrapolated from steps of both recipes in alternation. The result of `quick` is measured by `charlm
train --recipe quick --split tail20 --lower --min-count 3`.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from common import require_text

from charlm import recipes
from charlm.api import read_corpus
from charlm.training.loop import Callback, TrainState, train_epoch
from charlm.training.trainer import Trainer

LESSON_EPOCHS = 78
N_CHARS = 1 << 15  # of a turn


class StopAfter(Callback):
    """End a turn."""

    def on_batch_end(self, state: TrainState) -> None:
        """Stop after `N_CHARS` characters."""
        state.stop = state.n_chars % N_CHARS == 0


def turn(trainer: Trainer) -> float:
    """Train on `N_CHARS` characters and return the seconds per character."""
    state = trainer.state
    state.stop, state.step_in_epoch, state.n_chars = False, 0, 0
    since = time.perf_counter()
    train_epoch(state, [StopAfter()])
    return (time.perf_counter() - since) / state.n_chars


def main(n_rounds: int) -> None:
    """Print the times and their ratio."""
    text = {"corpus": ["nietzsche"], "split": "tail20", "lower": True, "min_count": 3}
    quick, lesson = (recipes.load(name).replace(**text) for name in ("quick", "lesson-lstm"))
    corpus = read_corpus(quick)
    trainers = Trainer.make(quick, corpus), Trainer.make(lesson, corpus)
    first, stop = corpus.bounds["train"]
    since = time.perf_counter()
    trainers[0].state.model.fit_counts(trainers[0].train_ids, *trainers[0].symbol_kinds)
    counting = time.perf_counter() - since
    ratios, hours = [], []
    for i in range(n_rounds + 1):
        ours, theirs = (turn(trainer) for trainer in trainers)
        if i == 0:
            continue  # the first round warms up
        assert quick.epochs is not None
        seconds = ours * (stop - first) * quick.epochs + counting, theirs * (stop - first) * LESSON_EPOCHS
        ratios.append(seconds[0] / seconds[1])
        hours.append([s / 60 for s in seconds])
    low, ratio, high = statistics.quantiles(ratios, n=4)
    print(f"{torch.get_num_threads()} threads; minutes: quick {statistics.median(h[0] for h in hours):.1f}", end=", ")
    print(f"the lesson's recipe {statistics.median(h[1] for h in hours):.1f}; ratio {ratio:.3f} ({low:.3f}-{high:.3f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    require_text("nietzsche")
    main(given.rounds)
