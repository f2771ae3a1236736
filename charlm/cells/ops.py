"""Operations of the cells whose names differ between numpy and torch, or that are fused in torch.

Array: `numpy.ndarray` or `torch.Tensor`; `xp` is the module that it belongs to.
"""

from __future__ import annotations

from typing import Any

Array = Any


def is_torch(xp: Any) -> bool:
    """Return whether `xp` is torch; `hasattr(numpy, "addmm")` would take longer than a tanh."""
    return xp.__name__ == "torch"  # type: ignore[no-any-return]


def affine(xp: Any, x: Array, weight: Array, bias: Array) -> Array:
    """Return x W + b, float, (..., N).

    Args:
        xp: numpy or torch.
        x: float, (..., K); a tensor is (B, K).
        weight: W, float, (K, N).
        bias: b, float, (N,) or (..., N).
    """
    return xp.addmm(bias, x, weight) if is_torch(xp) else xp.dot(x, weight) + bias


def sigmoid(xp: Any, x: Array) -> Array:
    """Return 1 / (1 + exp(-x)).

    In numpy, exp overflows to infinity below x = -88 in float32; the result 0 is right, and the caller silences the
    warning with `numpy.errstate(over="ignore")`, once for many steps.
    """
    return xp.sigmoid(x) if is_torch(xp) else xp.reciprocal(1 + xp.exp(-x))


def relu(xp: Any, x: Array) -> Array:
    """Return max(x, 0)."""
    return xp.relu(x) if is_torch(xp) else xp.maximum(x, 0)


def split(xp: Any, x: Array, n: int) -> tuple[Array, Array]:
    """Return the first n numbers of the last axis, and the rest."""
    if is_torch(xp):  # its gradient is one concatenation; two slices would need two paddings
        return xp.split(x, [n, x.shape[-1] - n], dim=-1)  # type: ignore[no-any-return]
    return x[..., :n], x[..., n:]
