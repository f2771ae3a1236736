"""Scan: the linear recurrence h_t = a_t * h_{t-1} + b_t over all steps, with a hand-written gradient.

The recurrence is associative. With the steps split into C chunks:

    e_c, p_c   for all chunks in parallel: last h of the chunk from h = 0, and product of its a
    s_c        h before chunk c: s_{c+1} = p_c * s_c + e_c
    h_t        for all chunks in parallel: recurrence from s_c

so about 3 sqrt(T) sequential steps replace T. For a in [0, 1] there is no division, no logarithm and no overflow, so
gates at 0 and at 1 are exact. (Sums of logarithms, as in Feng et al. (2024), require b > 0 and take ten times as long.)
A CPU is fastest with one chunk, whose steps stay in its cache; on a GPU the number of sequential steps matters. The
gradient is the same recurrence backwards:

    G_t = dL/dh_t + a_{t+1} * G_{t+1};   dL/da_t = G_t * h_{t-1};   dL/db_t = G_t

References: Blelloch (1990), Prefix sums and their applications; Martin and Cundy (2018), arXiv:1709.04057.

Shapes: B batch_size, T characters, H hidden size, C chunks, S steps of a chunk.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def scan(a: Tensor, b: Tensor, initial_state: Tensor, n_chunks: int | None = None) -> Tensor:
    """Return h_1..h_T of h_t = a_t * h_{t-1} + b_t.

    Args:
        a: float, (B, T, H).
        b: float, (B, T, H).
        initial_state: h_0, float, (B, H).
        n_chunks: C, a divisor of T; None for the fastest on the device.

    Returns:
        h, float32 or float64, (B, T, H). bfloat16 is too inexact for sums over many steps.
    """
    if n_chunks is None:
        n_chunks = 1 if a.device.type == "cpu" else n_gpu_chunks(a.shape[1])
    dtype = torch.promote_types(a.dtype, torch.float32)
    arguments = a.to(dtype), b.to(dtype), initial_state.to(dtype), n_chunks
    hidden: Tensor = _Scan.apply(*arguments)  # type: ignore[no-untyped-call]
    return hidden


def n_gpu_chunks(n_steps: int) -> int:
    """Return the number of chunks used on a GPU: the largest divisor of `n_steps` up to its square root."""
    return next(c for c in range(math.isqrt(n_steps), 0, -1) if n_steps % c == 0)


class _Scan(torch.autograd.Function):
    """The recurrence with its gradient, so that autograd does not record every step."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, initial_state: Tensor, n_chunks: int) -> Tensor:
        hidden = _recur(a, b, initial_state, n_chunks)
        ctx.save_for_backward(a, initial_state, hidden)
        ctx.n_chunks = n_chunks
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        a, initial_state, hidden = ctx.saved_tensors
        next_a = F.pad(a[:, 1:], (0, 0, 0, 1))
        total = _recur(next_a, grad, torch.zeros_like(initial_state), ctx.n_chunks, direction=-1)  # G, (B, T, H)
        previous = torch.cat([initial_state.unsqueeze(1), hidden[:, :-1]], dim=1)
        return total * previous, total, total[:, 0] * a[:, 0], None


def _recur(a: Tensor, b: Tensor, initial_state: Tensor, n_chunks: int, direction: int = 1) -> Tensor:
    """Return all h, (B, T, H), from a and b, (B, T, H), and h_0, (B, H); direction -1 runs from the last step."""
    a_steps, b_steps = (torch.unflatten(x, 1, (n_chunks, -1)).unbind(2)[::direction] for x in (a, b))  # S of (B, C, H)
    starts = [initial_state]
    if n_chunks > 1:
        product, end = a_steps[0], b_steps[0]
        for a_step, b_step in zip(a_steps[1:], b_steps[1:], strict=True):
            product, end = product * a_step, torch.addcmul(b_step, a_step, end)
        chunks = zip(product.unbind(1)[::direction], end.unbind(1)[::direction], strict=True)
        for p, e in list(chunks)[:-1]:  # each (B, H)
            starts.append(torch.addcmul(e, p, starts[-1]))
    hidden = torch.stack(starts[::direction], dim=1)  # (B, C, H)
    steps = []
    for a_step, b_step in zip(a_steps, b_steps, strict=True):
        hidden = torch.addcmul(b_step, a_step, hidden)
        steps.append(hidden)
    return torch.stack(steps[::direction], dim=2).flatten(1, 2)
