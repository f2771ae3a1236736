"""The embedding as a map: its principal components, and the nearest neighbours of each vector.

Reference: Jolliffe (2002), Principal Component Analysis, 2nd edition.

Shapes: V vocab_size, E n_embed, K components.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_COSINES = 1 << 20  # in memory at once: 8 MiB

Numbers = NDArray[Any]


def principal_components(embed: Numbers, n_components: int = 2) -> tuple[Numbers, Numbers]:
    """Project vectors on the directions in which they differ most.

    The sign of each direction is arbitrary; the largest coordinate is positive here.

    Args:
        embed: one vector a row, float, (V, E).
        n_components: K; the directions beyond min(V, E) have coordinates of 0.

    Returns:
        coordinates: float64, (V, K).
        shares: share of the total variance that each direction has, float64, (K,).
    """
    centred = np.asarray(embed, np.float64) - np.mean(embed, axis=0, dtype=np.float64)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    coordinates = left[:, :n_components] * singular[:n_components]
    largest = np.take_along_axis(coordinates, np.abs(coordinates).argmax(axis=0)[None], axis=0)
    total = (singular**2).sum()
    shares = singular[:n_components] ** 2 / (total if total > 0 else 1)
    n_missing = max(0, n_components - len(singular))
    return np.pad(coordinates * np.where(largest < 0, -1, 1), ((0, 0), (0, n_missing))), np.pad(shares, (0, n_missing))


def neighbours(
    embed: Numbers, n_neighbours: int = 5, n_cosines: int = MAX_COSINES
) -> tuple[NDArray[np.int64], Numbers]:
    """Return the vectors with the largest cosine to each vector, the nearest first.

    Args:
        embed: one vector a row, float, (V, E).
        n_neighbours: N, at most V - 1.
        n_cosines: number of cosines in memory at once, at least V.

    Returns:
        rows: of the neighbours, (V, N).
        cosines: to them, float64, (V, N); 0 for a zero vector.
    """
    vectors = np.asarray(embed, np.float64)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1)
    n_rows, found = max(1, n_cosines // len(unit)), []
    for first in range(0, len(unit), n_rows):
        cosines = unit[first : first + n_rows] @ unit.T
        np.fill_diagonal(cosines[:, first:], -np.inf)
        rows = np.argsort(-cosines, axis=1, kind="stable")[:, :n_neighbours].copy()  # a view would keep all columns
        found.append((rows, np.take_along_axis(cosines, rows, axis=1)))
    all_rows, all_cosines = zip(*found, strict=True)
    return np.concatenate(all_rows), np.concatenate(all_cosines)
