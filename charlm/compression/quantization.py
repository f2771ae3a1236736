"""Quantisation of probabilities to 24-bit integers for the range coder.

    f_i = 1 + floor(p_i (2^24 - V)),    the remainder up to 2^24 is added to the most probable symbol

Each symbol has f_i >= 1, so each can be coded, in at most 24 bits. `constriction` computes with floating-point numbers,
scales them to the sum 2^24 - V and adds 1 to each. The input f_i - 1 has exactly this sum, so the scale is 1, every
partial sum is an exact integer, and the coder's integers are f_i on any machine.

Shapes: ... any, V symbols.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from charlm.errors import CharlmError

BITS = 24
Floats = NDArray[np.float64]


def softmax(logits: NDArray[np.floating]) -> Floats:
    """Return the probabilities of logits, float64, (..., V)."""
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=-1, keepdims=True)
    np.exp(exact, out=exact)
    exact /= exact.sum(axis=-1, keepdims=True)
    return exact


def quantized(probs: Floats) -> Floats:
    """Return f_i - 1, integers as float64, (..., V), with the sum 2^24 - V.

    Args:
        probs: at least 0, with the sum 1 up to rounding, float64, (..., V).

    Raises:
        CharlmError: the probabilities are not finite.
    """
    free = (1 << BITS) - probs.shape[-1]
    floors: Floats = np.floor(probs * free)
    rows = floors.reshape(-1, probs.shape[-1])
    rest = free - rows.sum(axis=1)
    if not np.isfinite(rest).all():
        raise CharlmError("the model's probabilities are not finite; train it again with a lower --learning-rate")
    rows[np.arange(len(rows)), rows.argmax(axis=1)] += rest
    return floors


def cost_in_bits(weights: Floats, symbol: int) -> float:
    """Return the cost of a symbol, -log2(f / 2^24).

    Args:
        weights: of `quantized`, (V,).
        symbol: index.
    """
    return float(BITS - np.log2(weights[symbol] + 1))
