"""Permutation: a pseudo-random order of 0..n-1, computed position by position in memory of O(sqrt(n)).

A position x = L + a R < n <= a b, with digits L < a and R < b, passes through rounds that add to one digit a number
that depends on the other:

    L <- (L + F_i(R)) mod a,    then    R <- (R + G_i(L)) mod b

Each round is invertible, so together they permute 0..ab-1. A result of n or above passes through them again
until it is below n (cycle walking); this permutes 0..n-1. With a and b near sqrt(n) this is rare. The F_i and
G_i are tables of random numbers, drawn anew for each epoch.

Reference: Black and Rogaway (2002), Ciphers with arbitrary finite domains, CT-RSA ("generalized Feistel" and "cycle
walking"). Shapes: P positions.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

N_ROUNDS = 4  # of two additions each

Positions = NDArray[np.int64]


@lru_cache(maxsize=4)  # the current epoch, the held-out subset, validation
def _tables(a: int, b: int, seed: int, epoch: int) -> list[tuple[Positions, Positions]]:
    """Return F_i, (b,), and G_i, (a,), for each round."""
    bits = np.random.PCG64([seed, epoch + 1])  # its raw output is the same in every version of NumPy

    def draw(n: int, below: int) -> Positions:
        return (bits.random_raw(n) % below).astype(np.int64)

    return [(draw(b, a), draw(a, b)) for _ in range(N_ROUNDS)]


def permute(positions: Positions, n: int, seed: int, epoch: int) -> Positions:
    """Return the elements at some positions of the permutation of 0..n-1 given by n, seed and epoch.

    Args:
        positions: from 0 to n - 1, int64, (P,).
        n: length of the permutation.
        seed: at least 0.
        epoch: at least -1.

    Returns:
        elements at these positions, int64, (P,).
    """
    a = math.isqrt(max(n, 1) - 1) + 1
    b = -(-max(n, 1) // a)
    elements = positions.copy()
    outside = np.arange(len(positions))  # indices of results that are not below n yet
    while len(outside):
        right, left = np.divmod(elements[outside], a)
        for to_left, to_right in _tables(a, b, seed, epoch):
            left = (left + to_left[right]) % a
            right = (right + to_right[left]) % b
        elements[outside] = found = left + a * right
        outside = outside[found >= n]
    return elements
