"""The linear recurrence, h_t = a_t * h_{t-1} + b_t, for all steps of a text in one call.

Its steps do no more than multiply and add, so they can be regrouped. With the text cut into pieces:

    e, p   of each piece, all pieces side by side: its last h if h before it were 0, and the product of its a
    s_c    what stands before piece c: s_{c+1} = p_c * s_c + e_c
    h_t    of each piece from its s_c, again all pieces side by side

so that T steps in a row become about 3 sqrt(T). For a in [0, 1] nothing here divides, takes a logarithm or grows beyond
what the plain loop holds, so gates at 0 and at 1 are as exact as any other; the paper's sums of logarithms take only
b > 0 and ten times as long. On a CPU a row of short steps, which stay in its cache, is the quickest form; on a GPU the
number of steps counts. The gradient is the same recurrence from the end to the start:

    G_t = dL/dh_t + a_{t+1} * G_{t+1};   dL/da_t = G_t * h_{t-1};   dL/db_t = G_t

Reference: Blelloch (1990), Prefix sums and their applications; Martin and Cundy (2018), arXiv:1709.04057.

Shapes: B batch_size, T characters, H numbers a character, C pieces, S steps a piece.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def scan(a: Tensor, b: Tensor, first: Tensor, n_pieces: int | None = None) -> Tensor:
    """Return h_1..h_T of h_t = a_t * h_{t-1} + b_t.

    Args:
        a: float, (B, T, H).
        b: float, (B, T, H).
        first: h_0, float, (B, H).
        n_pieces: C, a divisor of T; None takes what is quick on the device.

    Returns:
        h, (B, T, H); in float32 at least, since bfloat16 would lose what many steps add up.
    """
    if n_pieces is None:
        n_pieces = 1 if a.device.type == "cpu" else cut(a.shape[1])
    dtype = torch.promote_types(a.dtype, torch.float32)
    hidden: Tensor = _Scan.apply(a.to(dtype), b.to(dtype), first.to(dtype), n_pieces)  # type: ignore[no-untyped-call]
    return hidden


def cut(n_steps: int) -> int:
    """Return into how many pieces a GPU reads so many steps: the largest divisor up to the square root."""
    return next(c for c in range(math.isqrt(n_steps), 0, -1) if n_steps % c == 0)


class _Scan(torch.autograd.Function):
    """The recurrence with its gradient written out, so that autograd need not record every step."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, first: Tensor, n_pieces: int) -> Tensor:
        hidden = _recur(a, b, first, n_pieces)
        ctx.save_for_backward(a, first, hidden)
        ctx.n_pieces = n_pieces
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        a, first, hidden = ctx.saved_tensors
        a_of_next = F.pad(a[:, 1:], (0, 0, 0, 1))
        total = _recur(a_of_next, grad, torch.zeros_like(first), ctx.n_pieces, direction=-1)  # (B, T, H)
        before = torch.cat([first.unsqueeze(1), hidden[:, :-1]], dim=1)
        return total * before, total, total[:, 0] * a[:, 0], None


def _recur(a: Tensor, b: Tensor, start: Tensor, n_pieces: int, direction: int = 1) -> Tensor:
    """Return all h, (B, T, H), from a, b (B, T, H) and a start (B, H); direction -1 goes from the end to the first."""
    a_steps, b_steps = (torch.unflatten(x, 1, (n_pieces, -1)).unbind(2)[::direction] for x in (a, b))  # S of (B, C, H)
    starts = [start]
    if n_pieces > 1:
        product, end = a_steps[0], b_steps[0]
        for a_step, b_step in zip(a_steps[1:], b_steps[1:], strict=True):
            product, end = product * a_step, torch.addcmul(b_step, a_step, end)
        pieces = zip(product.unbind(1)[::direction], end.unbind(1)[::direction], strict=True)
        for p, e in list(pieces)[:-1]:  # each (B, H)
            starts.append(torch.addcmul(e, p, starts[-1]))
    hidden = torch.stack(starts[::direction], dim=1)  # (B, C, H)
    steps = []
    for a_step, b_step in zip(a_steps, b_steps, strict=True):
        hidden = torch.addcmul(b_step, a_step, hidden)
        steps.append(hidden)
    return torch.stack(steps[::direction], dim=2).flatten(1, 2)
