"""Coordinate search for the learning rate and the decay of dynamic evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from tqdm import tqdm

from charlm.evaluation.dynamic import DynamicConfig
from charlm.messages import no_bars

RATE_GRID = {"sgd": (0.01, 0.03, 0.1, 0.3), "rms": (2e-5, 5e-5, 1e-4, 2e-4, 4e-4)}
DECAY_GRID = (0.0, 0.001, 0.003, 0.01, 0.03)
SEARCH_CHARS = 30_000  # characters to search on; on fewer, learning rates that are too high look better

Point = tuple[float, float]  # rate, decay


def coordinate_search(
    nats: Callable[[DynamicConfig], float], start: DynamicConfig, rates: Sequence[float], decays: Sequence[float]
) -> DynamicConfig:
    """Minimise over the rate, then over the decay, and repeat until neither changes.

    Each minimisation moves to a neighbouring grid value as long as that lowers the loss.

    Args:
        nats: loss of a configuration, on text that is not for testing.
        start: where the search starts; its rate and decay are grid values.
        rates: grid of learning rates, rising.
        decays: grid of decays, rising.

    Returns:
        `start` with the rate and the decay that were found.
    """
    point: Point = start.rate, start.decay
    before = None
    with tqdm(desc="choosing rate, decay", unit=" trials", leave=False, disable=no_bars(), dynamic_ncols=True) as bar:

        @cache
        def loss(point: Point) -> float:
            bar.update()
            return nats(replace(start, rate=point[0], decay=point[1]))

        while point != before:
            before = point
            point = _descend([(rate, point[1]) for rate in rates], point, loss)
            point = _descend([(point[0], decay) for decay in decays], point, loss)
    return replace(start, rate=point[0], decay=point[1])


def _descend(line: Sequence[Point], point: Point, loss: Callable[[Point], float]) -> Point:
    """Move along a line of grid points to the lower neighbour until no neighbour is lower."""
    i = line.index(point)
    best = min(line[max(0, i - 1) : i + 2], key=lambda near: (loss(near), near != point))
    return point if best == point else _descend(line, best, loss)
