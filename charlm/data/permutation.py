"""Shuffle: the order of an epoch, computed place by place: what it needs grows as the root of what is shuffled.

A place x = L + a R below n <= a b, with digits L < a and R < b, goes through rounds that add to one of the digits a
number that depends on the other:

    L <- (L + F_i(R)) mod a,    then    R <- (R + G_i(L)) mod b

Each round can be undone, so all together permute the a b places. A place that lands at n or beyond goes through them
again until it lands below: that permutes the n places. With a and b next to the root of n, few do. The F_i and G_i are
tables of random numbers, drawn anew for every epoch.

Reference: Black and Rogaway (2002), Ciphers with arbitrary finite domains, CT-RSA ("generalized Feistel" and "cycle
walking"). Shapes: P places.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

N_ROUNDS = 4  # of two additions each

Places = NDArray[np.int64]


@lru_cache(maxsize=4)  # the epoch that trains, what is held out, the validation
def _tables(a: int, b: int, seed: int, epoch: int) -> list[tuple[Places, Places]]:
    """Return F_i, (b,), and G_i, (a,), for each round."""
    bits = np.random.PCG64([seed, epoch + 1])  # its raw numbers are the same in every version of NumPy

    def draw(n: int, below: int) -> Places:
        return (bits.random_raw(n) % below).astype(np.int64)

    return [(draw(b, a), draw(a, b)) for _ in range(N_ROUNDS)]


def permute(places: Places, n: int, seed: int, epoch: int) -> Places:
    """Return which of 0..n-1 stand at some places of an order that depends on n, seed and epoch alone.

    Args:
        places: from 0 to n - 1, int64, (P,).
        n: how many are shuffled.
        seed: at least 0.
        epoch: at least -1.

    Returns:
        the numbers at these places, int64, (P,); all n places together hold each number once.
    """
    a = math.isqrt(max(n, 1) - 1) + 1
    b = -(-max(n, 1) // a)
    numbers = places.copy()
    beyond = np.arange(len(places))
    while len(beyond):
        right, left = np.divmod(numbers[beyond], a)
        for to_left, to_right in _tables(a, b, seed, epoch):
            left = (left + to_left[right]) % a
            right = (right + to_right[left]) % b
        numbers[beyond] = found = left + a * right
        beyond = beyond[found >= n]
    return numbers
