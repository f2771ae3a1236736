"""Overhead of the training loop: `charlm train` against a bare PyTorch loop, same model, same batches, in one run.

    python benchmarks/overhead.py

Both train the same architecture from the same weights on the same text. The bare loop is forward, loss, backward and
step only; ours runs the progress bar, the learning rate schedule, metrics.jsonl and TensorBoard. They alternate, and
the ratio of each pair is reported, because the speed of the machine drifts. Validation and samples between epochs are
not included. The progress bar writes to a pseudo-terminal.
"""

from __future__ import annotations

import argparse
import os
import pty
import statistics
import tempfile
import threading
import time
from contextlib import redirect_stderr
from pathlib import Path

from common import machine, require_text, synchronize

from charlm.api import read_corpus
from charlm.evaluation.metrics import nats_per_char
from charlm.models.base import detach
from charlm.models.counting import initial_state
from charlm.recipe import Recipe
from charlm.training import callbacks
from charlm.training.loop import Callback, TrainState, train_epoch
from charlm.training.trainer import Trainer

SHAPES = {
    "rnn 256, stream 64 x 64": {"model": "rnn", "batch_size": 64},
    "gru 256, stream 64 x 64": {"model": "gru", "batch_size": 64},
    "lstm 256, stream 64 x 64": {"model": "lstm", "batch_size": 64},
    "rnn 256, chunks 512 x 8": {"model": "rnn", "feed": "chunks", "bptt": 8, "batch_size": 512},
    "rnn 256, stream 64 x 8": {"model": "rnn", "bptt": 8, "batch_size": 64},
}


def bare(trainer: Trainer, n_steps: int) -> float:
    """Train `n_steps` in a bare loop; return characters/s."""
    model, optimizer, feed = trainer.state.model, trainer.state.optimizer, trainer.state.feed
    model.train()
    state, n_chars = None, 0
    synchronize(model.device)
    began = time.perf_counter()
    for step in range(n_steps):
        chars, targets = feed.batch(0, step % len(feed))
        state = initial_state(model, feed, 0, step % len(feed)) if state is None else state
        logits, state = model(chars, state)
        state = detach(state) if feed.carries_state else None
        loss = nats_per_char(logits, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        n_chars += targets.numel()
    synchronize(model.device)
    return n_chars / (time.perf_counter() - began)


class StopAfter(Callback):
    """Stop after some steps."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps

    def on_batch_end(self, state: TrainState) -> None:
        """Count."""
        state.stop = state.step % self.n_steps == 0


def ours(trainer: Trainer, listed: list[Callback], n_steps: int) -> float:
    """Train `n_steps` with every callback of `charlm train`; return characters/s."""
    state = trainer.state
    state.stop, state.step_in_epoch, before = False, 0, state.n_chars
    synchronize(state.model.device)
    began = time.perf_counter()
    while state.n_chars == before or not state.stop:
        state.step_in_epoch = 0
        train_epoch(state, listed)
    synchronize(state.model.device)
    return (state.n_chars - before) / (time.perf_counter() - began)


def speed(n_seconds: float, n_rounds: int) -> None:
    """Print the table of ratios."""
    print(machine())
    print(f"{'shape':28}{'bare, char/s':>14}{'charlm, char/s':>16}{'ratio':>8}{'middle half':>16}")
    for name, choice in SHAPES.items():
        recipe = Recipe().replace(corpus=[CORPUS], epochs=1000, device="cpu", **choice)
        corpus = read_corpus(recipe)
        plain, full = Trainer.make(recipe, corpus), Trainer.make(recipe, corpus)
        chars_a_second = bare(plain, 20)
        n_steps = max(10, round(n_seconds * chars_a_second / (full.recipe.bptt * (full.recipe.batch_size or 1))))
        with tempfile.TemporaryDirectory() as folder:
            listed: list[Callback] = [
                *full.callbacks,
                callbacks.JSONLinesLogger(Path(folder) / "metrics.jsonl"),
                callbacks.TensorBoard(Path(folder), full.recipe, full.recipe, corpus.vocab),
                callbacks.Progress(),
                StopAfter(n_steps),
            ]
            for callback in listed:
                callback.on_fit_start(full.state)
            ours(full, listed, n_steps)
            pairs = []
            for i in range(n_rounds):  # the order alternates
                first = ours(full, listed, n_steps) if i % 2 else 0.0
                plain_speed = bare(plain, n_steps)
                pairs.append((plain_speed, first or ours(full, listed, n_steps)))
            for callback in listed:
                callback.on_fit_end(full.state)
        ratios = sorted(b / a for a, b in pairs)
        bare_speed, our_speed = (statistics.median(p[i] for p in pairs) for i in (0, 1))
        low, ratio, high = statistics.quantiles(ratios, n=4)
        print(f"{name:28}{bare_speed:14,.0f}{our_speed:16,.0f}{ratio:8.3f}{f'{low:.3f}-{high:.3f}':>16}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="nietzsche")
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds of each turn")
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    CORPUS = given.corpus
    require_text(CORPUS)
    screen, terminal = pty.openpty()
    threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(screen, 4096), b"")], daemon=True).start()
    with redirect_stderr(os.fdopen(terminal, "w")):
        speed(given.seconds, given.rounds)
