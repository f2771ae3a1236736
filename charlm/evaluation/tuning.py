"""Picking the rate and the decay of dynamic evaluation, by what they cost on text that is no test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from tqdm import tqdm

from charlm.evaluation.dynamic import DynamicConfig

Pair = tuple[float, float]  # a rate and a decay


def coordinate_search(
    nats: Callable[[DynamicConfig], float], steps: DynamicConfig, rates: Sequence[float], decays: Sequence[float]
) -> DynamicConfig:
    """Pick the rate, then the decay, and both again until they stay: of the next values a better one, while there is.

    Args:
        nats: what characters cost that are no test; the last `dynamic.N_TUNE` of the validation part are enough.
        steps: where to begin; its rate and decay are among those to choose from.
        rates: to choose from, rising.
        decays: to choose from, rising.

    Returns:
        `steps` with what was picked.
    """
    here: Pair = steps.rate, steps.decay
    before = None
    with tqdm(desc="picking rate and decay", unit=" tries", leave=False, disable=None, dynamic_ncols=True) as bar:

        @cache
        def tried(pair: Pair) -> float:
            bar.update()
            return nats(replace(steps, rate=pair[0], decay=pair[1]))

        while here != before:
            before = here
            here = _climbed([(rate, here[1]) for rate in rates], here, tried)
            here = _climbed([(here[0], decay) for decay in decays], here, tried)
    return replace(steps, rate=here[0], decay=here[1])


def _climbed(pairs: Sequence[Pair], here: Pair, cost: Callable[[Pair], float]) -> Pair:
    """Return the pair that is reached by going to the cheaper neighbour, as long as one is cheaper."""
    place = pairs.index(here)
    best = min(pairs[max(0, place - 1) : place + 2], key=lambda near: (cost(near), near != here))
    return here if best == here else _climbed(pairs, best, cost)
