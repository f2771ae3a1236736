"""Schedules: the learning rate as a function of the share of the training that is done.

Each function maps `progress`, from 0 to 1, to a factor for the peak learning rate. One-cycle also moves the momentum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

Factor = Callable[[float], float]


def constant(progress: float) -> float:
    """Stay at the peak."""
    return 1.0


def steps(progress: float, drops: Sequence[float], factor: float = 0.1) -> float:
    """Multiply by `factor` at each of the shares in `drops`."""
    return factor ** sum(progress >= drop for drop in drops)


def cosine(progress: float, floor: float = 0.0) -> float:
    """Fall along half a cosine from 1 to `floor`.

    Reference: Loshchilov and Hutter (2017), arXiv:1608.03983, equation 5.
    """
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def restarts(progress: float, n_cycles: int, multiply: float = 2.0, floor: float = 0.0) -> float:
    """Fall along a cosine again and again, each cycle `multiply` times as long as the one before.

    Reference: Loshchilov and Hutter (2017), arXiv:1608.03983, with T_mult = `multiply`.
    """
    lengths = [multiply**i for i in range(n_cycles)]
    left = min(progress, 1.0) * sum(lengths)
    for length in lengths[:-1]:
        if left < length:
            return cosine(left / length, floor)
        left -= length
    return cosine(left / lengths[-1], floor)


def one_cycle(progress: float, rise: float = 0.25, begin: float = 0.04, floor: float = 0.0001) -> float:
    """Rise along a cosine from `begin` to 1 during the share `rise`, then fall along one to `floor`.

    Reference: Smith and Topin (2017), arXiv:1708.07120, with cosines for lines.
    """
    if progress < rise:
        return begin + (1 - begin) * (1 - cosine(progress / rise))
    return cosine((progress - rise) / (1 - rise), floor)


def one_cycle_momentum(progress: float, low: float = 0.85, high: float = 0.95, rise: float = 0.25) -> float:
    """Return the momentum that goes with `one_cycle`: low where the learning rate is high."""
    return high - (high - low) * one_cycle(progress, rise, begin=0.0, floor=0.0)


def with_lead(factor: Factor, warmup: float, hold: float) -> Factor:
    """Put a linear warm-up and a time at the peak before a schedule.

    Args:
        factor: the schedule, which gets what is left of the training.
        warmup: share of the training during which the factor rises in a line to 1.
        hold: share during which it then stays there.
    """

    def led(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        if progress < warmup + hold or warmup + hold >= 1:
            return 1.0
        return factor((progress - warmup - hold) / (1 - warmup - hold))

    return led if warmup + hold > 0 else factor


SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "steps": steps,
    "cosine": cosine,
    "restarts": restarts,
    "one-cycle": one_cycle,
}


def make_schedule(
    name: str,
    n_epochs: float,
    warmup_epochs: float = 0.0,
    hold_epochs: float = 0.0,
    drop_epochs: Sequence[float] = (),
    n_cycles: int = 4,
) -> Factor:
    """Return a schedule by name, with lengths in epochs of a training of `n_epochs`.

    Args:
        name: a key of `SCHEDULES`.
        n_epochs: length of the whole training.
        warmup_epochs: linear warm-up before the schedule.
        hold_epochs: epochs at the peak, after the warm-up and before the schedule.
        drop_epochs: where "steps" divides the learning rate by 10.
        n_cycles: how many cycles "restarts" has.
    """
    lead = (warmup_epochs + hold_epochs) / n_epochs
    factor: Factor = SCHEDULES[name]
    if name == "steps":
        drops = [(epoch / n_epochs - lead) / (1 - lead) for epoch in drop_epochs if lead < 1]
        factor = partial(steps, drops=drops)
    elif name == "restarts":
        factor = partial(restarts, n_cycles=n_cycles)
    return with_lead(factor, warmup_epochs / n_epochs, hold_epochs / n_epochs)
