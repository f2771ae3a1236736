"""Two 95 % intervals for the difference of two entries, in bits per character.

Of these trained models: another text of the same kind, the same weights. Block bootstrap (Carlstein 1986; Künsch
1989): blocks of the text are drawn with replacement, the same blocks for both models, so that they are compared on the
same characters. Bits of neighbouring characters are correlated (a hard word costs several characters, a hard passage
several words); blocks of `BLOCK_CHARS` are longer than these correlations (docs/protocol.md has the measurement).

Of the architectures: another text and other seeds. The variance of the mean over n seeds is added,

    variance = variance of the block bootstrap + s^2 / n,    s^2: variance of the differences, seed by seed

and the interval is Student's, with n - 1 degrees of freedom.

Shapes: N characters, K blocks, E entries, R resamples.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.experiments.bench.entry import is_ngram
from charlm.storage.runs import DIVERGED

BLOCK_CHARS = 500
N_RESAMPLES = 10_000
LEVEL = 0.95
Array = NDArray[np.float64]


def block_sums(bits: Array, block_chars: int = BLOCK_CHARS) -> Array:
    """Return the sums of bits, (N,), over consecutive blocks, (K,); the last block may be shorter."""
    sums: Array = np.add.reduceat(bits, np.arange(0, len(bits), block_chars))
    return sums


def block_lengths(n_chars: int, block_chars: int = BLOCK_CHARS) -> Array:
    """Return the number of characters of each block, float64, (K,)."""
    return block_sums(np.ones(n_chars), block_chars)


def without_rest(blocks: Array) -> Array:
    """Return sums or lengths of blocks, (K, ...), with the last block added to the one before.

    The mean over a short last block may be far from all others, and a resample of a short text may consist of it alone.
    """
    return np.concatenate([blocks[:-2], blocks[-2:].sum(axis=0, keepdims=True)])


def resampled_means(sums: Array, lengths: Array, n_resamples: int = N_RESAMPLES) -> Array:
    """Return mean bits per character of resampled texts, (R, E); all entries get the same blocks.

    Args:
        sums: bits of each block under each entry, (K, E).
        lengths: characters of each block, (K,).
        n_resamples: R.
    """
    n_blocks = len(lengths)
    drawn = np.random.default_rng(0).multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), n_resamples)  # (R, K)
    means: Array = (drawn @ sums) / (drawn @ lengths)[:, None]
    return means


@cache
def student_quantile(degrees: int) -> float:
    """Return t for which Student's distribution has the probability `LEVEL` between -t and t.

    With t = sqrt(n) tan(a), its density in the angle a is proportional to cos(a)^(n - 1).
    """
    angles = np.linspace(0, math.pi / 2, 200_001)
    density = np.cos(angles) ** (degrees - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(degrees) * math.tan(float(np.interp(LEVEL * mass[-1], mass, angles)))


def compare_pairs(rows: Sequence[Mapping[str, Any]], n_chars: int) -> list[dict[str, Any]]:
    """Return the difference of each pair of entries, the better one first, with its intervals.

    Args:
        rows: rows of `run_benchmark`; those without `block_bits` take no part, nor does an entry of which a training
            diverged.
        n_chars: characters that were scored.

    Returns:
        `first`, `second`: entries; `difference`: bits of the second minus those of the first; `trained_models` and
        `architectures`: lower and upper end of the intervals, the second None where a network has one seed only;
        `is_different`: the interval of the architectures, else that of the trained models, does not contain 0.
    """
    by_entry: dict[str, list[Mapping[str, Any]]] = {}
    diverged = {row["entry"] for row in rows if row.get("outcome") == DIVERGED}
    for row in sorted(rows, key=lambda row: row.get("seed", 0)):
        if "block_bits" in row and row["entry"] not in diverged:
            by_entry.setdefault(row["entry"], []).append(row)
    if len(by_entry) < 2:
        return []
    seeds = {entry: [sum(row["block_bits"]) / n_chars for row in group] for entry, group in by_entry.items()}
    ranked = sorted(by_entry, key=lambda entry: statistics.mean(seeds[entry]))
    sums = np.stack([np.mean([row["block_bits"] for row in by_entry[entry]], axis=0) for entry in ranked], axis=1)
    lengths = block_lengths(n_chars)
    if len(lengths) > 1 and lengths[-1] < BLOCK_CHARS / 2:
        sums, lengths = without_rest(sums), without_rest(lengths)
    means = resampled_means(sums, lengths)
    found = []
    for i, first in enumerate(ranked):
        for j, second in enumerate(ranked[i + 1 :], i + 1):
            differences = means[:, j] - means[:, i]
            mean = statistics.mean(seeds[second]) - statistics.mean(seeds[first])
            tail = (1 - LEVEL) / 2
            trained = np.quantile(differences, [tail, 1 - tail]).tolist()
            varying = [seeds[entry] for entry in (first, second) if not is_ngram(by_entry[entry][0]["model"])]
            architectures = _architectures(mean, float(differences.var()), varying, trained)
            low, high = architectures or trained
            found.append(
                {
                    "first": first,
                    "second": second,
                    "difference": mean,
                    "trained_models": trained,
                    "architectures": architectures,
                    "is_different": not low <= 0 <= high,
                }
            )
    return found


def _architectures(
    mean: float, text_variance: float, seeds: Sequence[Sequence[float]], trained: list[float]
) -> list[float] | None:
    """Return the interval of the architectures.

    Args:
        mean: difference.
        text_variance: variance of the block bootstrap.
        seeds: bits of each seed, of those of the two entries that depend on a seed.
        trained: the interval of the trained models, which is that of two entries that do not.
    """
    if not seeds:
        return trained
    n = min(map(len, seeds))
    if n < 2:
        return None
    signs = (-1.0, 1.0) if len(seeds) == 2 else (1.0,)
    by_seed = [sum(sign * bits[k] for sign, bits in zip(signs, seeds, strict=True)) for k in range(n)]
    half = student_quantile(n - 1) * math.sqrt(text_variance + statistics.variance(by_seed) / n)
    return [mean - half, mean + half]
