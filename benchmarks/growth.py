"""Speed over hidden size, batch size, bptt and text length, as a plot.

    python benchmarks/growth.py docs/speed.png

Each point is the median of a few training steps (forward, loss, backward, Adam) from a feed, or of a few hundred
sampled characters. The defaults of the other axes are 256 hidden units, batch size 64, bptt 64 and a text of a million
characters.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
from matplotlib.figure import Figure

from charlm.data.feeds import Stream
from charlm.evaluation.metrics import nats_per_char
from charlm.generation.sampler import SamplingParams, generate_ids, uniform_stream
from charlm.generation.torch_stepper import make_stepper
from charlm.models import build
from charlm.models.base import detach

V = 85
CELLS = ("rnn", "gru", "lstm")
DEFAULTS = {"hidden units": 256, "batch": 64, "bptt": 64, "characters of text": 1_000_000}
AXES = {
    "hidden units": [64, 128, 256, 512, 1024],
    "batch": [8, 16, 32, 64, 128, 256],
    "bptt": [8, 16, 32, 64, 128, 256],
    "characters of text": [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000],
}


def median_seconds(work: Callable[[], object], n_seconds: float = 0.6) -> float:
    """Return the median seconds of a call, measured for `n_seconds` and at least three calls."""
    work()
    took: list[float] = []
    while len(took) < 3 or sum(took) < n_seconds:
        since = time.perf_counter()
        work()
        took.append(time.perf_counter() - since)
    return statistics.median(took)


def training_speed(cell: str, sizes: dict[str, int]) -> float:
    """Return characters/s of training."""
    torch.manual_seed(0)
    model = build(cell, V, n_hidden=sizes["hidden units"])
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    ids = torch.randint(V, (sizes["characters of text"],), dtype=torch.uint8)
    feed, state, step = Stream(ids, sizes["bptt"], sizes["batch"]), None, 0

    def work() -> None:
        nonlocal state, step
        chars, targets = feed.batch(0, step % max(1, len(feed) - 1))  # the last one is shorter
        logits, state = model(chars, detach(state))
        optimizer.zero_grad(set_to_none=True)
        nats_per_char(logits, targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        step += 1

    return sizes["batch"] * sizes["bptt"] / median_seconds(work)


def sampling_speed(cell: str, n_hidden: int) -> float:
    """Return characters/s of sampling one text."""
    stepper = make_stepper(build(cell, V, n_hidden=n_hidden))
    indices = generate_ids(stepper, [1], uniform_stream(0), SamplingParams())
    return 200 / median_seconds(lambda: list(islice(indices, 200)))


def main(path: Path) -> None:
    """Measure, print and draw."""
    figure = Figure(figsize=(17, 3.6), layout="constrained")
    panels = figure.subplots(1, 5, sharey=True)
    for panel, (axis, values) in zip(panels, AXES.items(), strict=False):
        for cell in CELLS:
            speeds = [training_speed(cell, DEFAULTS | {axis: value}) for value in values]
            points = ", ".join(f"{value:,}: {speed:,.0f}" for value, speed in zip(values, speeds, strict=True))
            print(f"training {cell} over {axis}: {points}", flush=True)
            panel.plot(values, speeds, "o-", label=cell)
        panel.set(xscale="log", yscale="log", xlabel=axis)
    for cell in CELLS:
        speeds = [sampling_speed(cell, n) for n in AXES["hidden units"]]
        print(f"sampling {cell}: {', '.join(f'{s:,.0f}' for s in speeds)}")
        panels[4].plot(AXES["hidden units"], speeds, "o-", label=cell)
    panels[4].set(xscale="log", xlabel="hidden units, sampling one text")
    panels[0].set_ylabel("characters/s")
    panels[0].legend()
    for panel in panels:
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "speed.png"))
