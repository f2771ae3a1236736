"""Threads: all cores beside one, with nothing else to do and beside another process that takes all of a core.

    python benchmarks/threads.py

Seconds of a training step, of reading one text as `charlm eval` does, and of a step of dynamic evaluation, each as a
multiple of those with one thread and nothing else to do. PyTorch's threads wait for one another some hundred times in
a step, awake; where one of them has lost its core to somebody else, all the others wait until it gets that back.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from common import machine

from charlm.evaluation.dynamic import DynamicConfig, dynamic_nll
from charlm.evaluation.metrics import evaluate, nats_per_char
from charlm.models import build

V = 85
SECONDS = 4.0  # each measurement
MODELS = {"gru": {}, "lstm": {"n_hidden": 128}, "rnn": {}, "transformer": {}}  # and options, where not the defaults
BUSY = "while True: pass"


@contextmanager
def beside_another(n: int) -> Iterator[None]:
    """Have `n` other processes, each of which would take all of a core."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True) for _ in range(n)]
    try:
        yield
    finally:
        for other in others:
            other.kill()


def works() -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    ids = torch.randint(1, V, (5000,))
    made: dict[str, Callable[[], object]] = {}
    for name, options in MODELS.items():
        model = build(name, V, **options)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
        chars, targets = torch.randint(V, (2, 32, 64))

        def step(model=model, optimizer=optimizer, chars=chars, targets=targets) -> None:  # type: ignore[no-untyped-def]
            loss = nats_per_char(model(chars)[0], targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        made[f"training, `{name}`"] = step
    gru = build("gru", V, n_hidden=512)
    made["reading, `gru` 512"] = lambda: evaluate(gru, ids, 1024, 4096)
    made["dynamic evaluation, `gru` 512"] = lambda: dynamic_nll(gru, ids, 1024, 1344, DynamicConfig(0.01, 0.001))
    return made


def seconds(work: Callable[[], object]) -> float:
    """Return how long it takes, in the mean over some seconds."""
    work()
    began, n = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        work()
        n += 1
    return (time.perf_counter() - began) / n


if __name__ == "__main__":
    n_cores = len(os.sched_getaffinity(0))
    print(machine(), end="\n\n")
    print(f"| | {n_cores} threads | 1 thread, beside another | {n_cores} threads, beside another |")
    print("| --- | --- | --- | --- |")
    for name, work in works().items():
        took = []
        for n_threads, n_others in ((1, 0), (n_cores, 0), (1, 1), (n_cores, 1)):
            torch.set_num_threads(n_threads)
            with beside_another(n_others):
                took.append(seconds(work))
        print(f"| {name} | " + " | ".join(f"{each / took[0]:.2f}" for each in took[1:]) + " |", flush=True)
