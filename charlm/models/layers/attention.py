"""Attention over the nearest positions, told apart by rotation.

    q_t, k_t, v_t = W_q x_t + b_q, W_k x_t + b_k, W_v x_t + b_v     split into heads
    a_ts = softmax over s of (R_t q_t) . (R_s k_s) / sqrt(D)        s = t - M .. t; a row for each head
    y_t = W_o (sum over s of a_ts v_s)                              heads side by side again

R_t turns each pair of numbers i = 0 .. D/2 - 1 by the angle t 10000^(-2i/D), so that (R_t q_t) . (R_s k_s) depends on
t - s alone: only distances count, and each piece of a text may count from its own start.

References: Vaswani et al. (2017), arXiv:1706.03762; rotation: Su et al. (2021), arXiv:2104.09864.

Shapes: B batch_size, T characters, E n_embed, N heads, D head_size, M n_memory, P characters remembered (at most M).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rope_angles(first: int, stop: int, head_size: int, like: Tensor) -> Tensor:
    """Return cosine and sine of the angles of the positions from `first` to `stop`.

    Args:
        first: may be negative.
        stop: the position after the last one.
        head_size: D, even.
        like: gives type and device.

    Returns:
        float, (2, stop - first, D / 2).
    """
    positions = torch.arange(first, stop, dtype=like.dtype, device=like.device)
    pairs = torch.arange(0, head_size, 2, dtype=like.dtype, device=like.device)
    angles = positions.unsqueeze(1) * 10_000 ** (-pairs / head_size)
    return torch.stack([angles.cos(), angles.sin()])


def apply_rope(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn queries or keys by their positions' angles.

    Number i makes a pair with number D/2 + i, which is quicker than with its neighbour, and the same to a network.

    Args:
        x: float, (..., T, D).
        rotation: as `rope_angles` returns it, float, (2, T, D / 2).

    Returns:
        of the type and shape of `x`.
    """
    cos, sin = rotation
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).type_as(x)


class Attention(nn.Module):
    """Let each position gather from itself and from the `window_size` before it.

    Args:
        n_embed: E.
        head_size: D, even.
        window_size: M.
    """

    def __init__(self, n_embed: int, head_size: int, window_size: int) -> None:
        super().__init__()
        self.head_size, self.window_size = head_size, window_size
        n_heads = math.ceil(n_embed / head_size)
        self.qkv_proj = nn.Linear(n_embed, 3 * n_heads * head_size)  # W_q, W_k, W_v and their biases
        self.out_proj = nn.Linear(n_heads * head_size, n_embed, bias=False)  # W_o
        self.init_local_attention()

    @torch.no_grad()
    def init_local_attention(self, strength: float = 3.0) -> None:
        """Set the biases so that head h looks mostly h + 1 positions back, whatever stands there.

        With b_k = c in one number of each pair and zero in the other, and b_q = R_-(h+1) b_k, a score has the term
        c^2 (sum over i of cos((t - s - h - 1) 10000^(-2i/D))), which is largest at s = t - h - 1. Without it, most of
        a short training goes into finding out that the nearest characters matter most.

        Args:
            strength: c; at 3 and D = 32 that position starts with some six tenths of the weight.
        """
        queries, keys, values = self.qkv_proj.bias.view(3, -1, self.head_size)  # each (N, D)
        keys[:, : self.head_size // 2] = strength
        keys[:, self.head_size // 2 :] = 0
        queries.copy_(apply_rope(keys, rope_angles(-len(keys), 0, self.head_size, keys).flip(1)))
        values.zero_()

    def forward(self, x: Tensor, past: Tensor | None, rotation: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Read a piece of text.

        Args:
            x: float, (B, T, E).
            past: keys, not rotated, and values of the P positions before, float, (2, B, N, P, D); None for P = 0.
            rotation: of P + T positions, float, (2, P + T, D / 2).
            mask: what each position may attend to, bool, (T, P + T); None for all up to itself.

        Returns:
            gathered: float, (B, T, E).
            past: keys and values of the last M positions, or of all if they are fewer, as above.
        """
        n_steps = x.shape[1]
        heads = self.qkv_proj(x).unflatten(2, (3, -1, self.head_size))  # (B, T, 3, N, D)
        queries, *now = heads.permute(2, 0, 3, 1, 4)  # each (B, N, T, D)
        known = torch.stack(now) if past is None else torch.cat([past, torch.stack(now)], dim=3)  # (2, B, N, P + T, D)
        keys, values = known
        gathered = F.scaled_dot_product_attention(
            apply_rope(queries, rotation[:, -n_steps:]),
            apply_rope(keys, rotation),
            values,
            mask,
            is_causal=past is None,
        )
        return self.out_proj(gathered.transpose(1, 2).flatten(2)), known[..., -self.window_size :, :]
