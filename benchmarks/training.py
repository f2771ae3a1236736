"""Training steps: Python loops against PyTorch's layers, and both against the matrix rate of the processor.

    python benchmarks/training.py

Forward, loss, backward and Adam on the same characters. Models alternate within one process, and ratios are of the same
round, because other load slows all of them in that round. The matrix rate is that of a product of two 1024 x 1024
matrices in the same rounds; a step needs 6 operations per weight and character (2 forward, 4 backward).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from common import machine

from charlm.evaluation.metrics import nats_per_char
from charlm.models import build

V = 85
SHAPES = [(64, 64), (512, 8), (64, 8)]
MODELS = {  # name: (architecture, options, name of the model to compare with)
    "rnn 256": ("rnn", {}, None),
    "rnn-scratch 256": ("rnn-scratch", {}, "rnn 256"),
    "loop 256": ("loop", {}, "rnn 256"),
    "gru 256": ("gru", {}, None),
    "gru-scratch 256": ("gru-scratch", {}, "gru 256"),
    "lstm 256": ("lstm", {}, None),
    "lstm-scratch 256": ("lstm-scratch", {}, "lstm 256"),
    "lstm 2 x 512": ("lstm", {"n_hidden": 512, "n_layers": 2}, None),
    "awd-lstm 2 x 512": ("awd-lstm", {"n_hidden": 512}, "lstm 2 x 512"),
}


def trainer(name: str, options: dict[str, int], batch_size: int, bptt: int) -> tuple[Callable[[], None], int]:
    """Return a function that trains one step, and the number of matrix weights used per character."""
    torch.manual_seed(0)
    model = build(name, V, **options)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    chars, targets = torch.randint(V, (2, batch_size, bptt))
    n_weights = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and "embed." not in name)

    def step() -> None:
        logits, _ = model(chars)
        loss = nats_per_char(logits, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step, n_weights


def seconds(work: Callable[[], object], n: int) -> float:
    """Return the mean seconds of a call over `n` calls."""
    since = time.perf_counter()
    for _ in range(n):
        work()
    return (time.perf_counter() - since) / n


def spread(values: list[float]) -> str:
    """Return median and interquartile range."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def measure(batch_size: int, bptt: int, n_rounds: int) -> None:
    """Print the table of one shape."""
    made = {name: trainer(model, options, batch_size, bptt) for name, (model, options, _) in MODELS.items()}
    a, b = torch.randn(2, 1024, 1024)
    took: dict[str, list[float]] = {name: [] for name in made}
    rates = []
    for i in range(n_rounds + 1):
        rate = 2 * 1024**3 / seconds(lambda: a @ b, 5)
        for name, (step, _) in made.items():
            took[name].append(seconds(step, 2))
        rates.append(rate)
        if i == 0:  # the first round warms up
            rates.clear()
            for times in took.values():
                times.clear()
    n_chars = batch_size * bptt
    print(f"\n{batch_size} x {bptt}; matrix rate {statistics.median(rates) / 1e9:.0f} GFLOP/s")
    print(f"{'model':18}{'characters/s':>14}{'of the matrix rate':>22}{'ratio to the layer':>22}")
    for name, (_, n_weights) in made.items():
        shares = [6 * n_weights * n_chars / t / rate for t, rate in zip(took[name], rates, strict=True)]
        peer = MODELS[name][2]
        ratios = [theirs / ours for theirs, ours in zip(took[peer], took[name], strict=True)] if peer else []
        speed = n_chars / statistics.median(took[name])
        print(f"{name:18}{speed:14,.0f}{spread(shares):>22}{spread(ratios) if ratios else '':>22}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    print(machine())
    for shape in SHAPES:
        measure(*shape, given.rounds)
