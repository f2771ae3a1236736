"""Learning rate schedules: progress of the training, from 0 to 1, to a factor of the peak learning rate.

One-cycle has a schedule of the momentum, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

Factor = Callable[[float], float]


def constant(progress: float) -> float:
    """Constant learning rate."""
    return 1.0


def steps(progress: float, drops: Sequence[float], factor: float = 0.1) -> float:
    """Step decay: multiply by `factor` at each progress in `drops`."""
    return factor ** sum(progress >= drop for drop in drops)


def cosine(progress: float, floor: float = 0.0) -> float:
    """Cosine annealing from 1 to `floor`.

    Reference: Loshchilov and Hutter (2017), arXiv:1608.03983, equation 5.
    """
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def restarts(progress: float, n_cycles: int, multiply: float = 2.0, floor: float = 0.0) -> float:
    """Cosine annealing with warm restarts (SGDR), each cycle `multiply` times as long as the previous one.

    Reference: Loshchilov and Hutter (2017), arXiv:1608.03983, with T_mult = `multiply`.
    """
    lengths = [multiply**i for i in range(n_cycles)]
    position = min(progress, 1.0) * sum(lengths)
    for length in lengths[:-1]:
        if position < length:
            return cosine(position / length, floor)
        position -= length
    return cosine(position / lengths[-1], floor)


def one_cycle(progress: float, rise: float = 0.25, begin: float = 0.04, floor: float = 0.0001) -> float:
    """One-cycle policy: rise from `begin` to 1 until progress `rise`, then fall to `floor`, both along a cosine.

    Reference: Smith and Topin (2017), arXiv:1708.07120, with cosines instead of straight lines.
    """
    if progress < rise:
        return begin + (1 - begin) * (1 - cosine(progress / rise))
    return cosine((progress - rise) / (1 - rise), floor)


def one_cycle_momentum(progress: float, low: float = 0.85, high: float = 0.95, rise: float = 0.25) -> float:
    """Return the momentum of the one-cycle policy: low where the learning rate is high."""
    return high - (high - low) * one_cycle(progress, rise, begin=0.0, floor=0.0)


def with_lead(factor: Factor, warmup: float, hold: float) -> Factor:
    """Prepend a linear warm-up and a hold at the peak to a schedule.

    Args:
        factor: schedule of the rest of the training.
        warmup: fraction of the training in which the factor rises linearly to 1.
        hold: fraction of the training in which it then stays there.
    """

    def with_warmup(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        if progress < warmup + hold or warmup + hold >= 1:
            return 1.0
        return factor((progress - warmup - hold) / (1 - warmup - hold))

    return with_warmup if warmup + hold > 0 else factor


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
    """Return a schedule by name.

    Args:
        name: a key of `SCHEDULES`.
        n_epochs: epochs of the whole training.
        warmup_epochs: linear warm-up before the schedule.
        hold_epochs: epochs at the peak between warm-up and schedule.
        drop_epochs: epochs after which "steps" divides the learning rate by 10.
        n_cycles: cycles of "restarts".
    """
    lead = (warmup_epochs + hold_epochs) / n_epochs
    factor: Factor = SCHEDULES[name]
    if name == "steps":
        drops = [(epoch / n_epochs - lead) / (1 - lead) for epoch in drop_epochs if lead < 1]
        factor = partial(steps, drops=drops)
    elif name == "restarts":
        factor = partial(restarts, n_cycles=n_cycles)
    return with_lead(factor, warmup_epochs / n_epochs, hold_epochs / n_epochs)
