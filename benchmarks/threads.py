"""Threads: all cores against one, on an idle machine and with another process that occupies one core.

    python benchmarks/threads.py

Seconds of a training step, of evaluating one text as `charlm eval` does, and of a step of dynamic evaluation, each as a
multiple of those with one thread on an idle machine. PyTorch's threads wait for each other in busy loops, hundreds of
times a step; if one of them loses its core to another process, all others wait for it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from common import machine

from charlm.evaluation.dynamic import DynamicConfig, dynamic_nll
from charlm.evaluation.metrics import nats_per_char
from charlm.evaluation.protocol import TextRange, evaluate
from charlm.models import build

V = 85
MODELS = {"gru": {}, "lstm": {"n_hidden": 128}, "rnn": {}, "transformer": {}}  # options that differ from the defaults
BUSY = "while True: pass"


@contextmanager
def busy_processes(n: int) -> Iterator[None]:
    """Run `n` other processes, each of which occupies one core."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True) for _ in range(n)]
    try:
        yield
    finally:
        for other in others:
            other.kill()


def works() -> dict[str, Callable[[], object]]:
    """Return the functions to be measured, by name."""
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
    made["evaluating one text, `gru` 512"] = lambda: evaluate(gru, TextRange(ids, 1024, 4096))
    made["dynamic evaluation, `gru` 512"] = lambda: dynamic_nll(
        gru, TextRange(ids, 1024, 1344), DynamicConfig(0.01, 0.001)
    )
    return made


def seconds(work: Callable[[], object], n_seconds: float) -> float:
    """Return the mean seconds of a call, measured for `n_seconds`."""
    work()
    began, n = time.perf_counter(), 0
    while time.perf_counter() - began < n_seconds:
        work()
        n += 1
    return (time.perf_counter() - began) / n


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of each measurement")
    n_seconds = parser.parse_args().seconds
    n_cores = len(os.sched_getaffinity(0))
    print(machine(), end="\n\n")
    print(f"| | {n_cores} threads | 1 thread, other process running | {n_cores} threads, other process running |")
    print("| --- | --- | --- | --- |")
    for name, work in works().items():
        took = []
        for n_threads, n_others in ((1, 0), (n_cores, 0), (1, 1), (n_cores, 1)):
            torch.set_num_threads(n_threads)
            with busy_processes(n_others):
                took.append(seconds(work, n_seconds))
        print(f"| {name} | " + " | ".join(f"{each / took[0]:.2f}" for each in took[1:]) + " |", flush=True)
