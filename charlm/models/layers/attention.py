"""Sliding-window attention with rotary position embeddings (RoPE).

    q_t, k_t, v_t = W_q x_t + b_q, W_k x_t + b_k, W_v x_t + b_v     split into N heads
    a_ts = softmax over s of (R_t q_t) . (R_s k_s) / sqrt(D)        s = t - M .. t; for each head
    y_t = W_o (sum over s of a_ts v_s)                              heads concatenated

R_t rotates pair i = 0 .. D/2 - 1 of a query or key by the angle t 10000^(-2i/D). (R_t q_t) . (R_s k_s) depends on t - s
only, so positions may be counted from any origin.

References: Vaswani et al. (2017), arXiv:1706.03762; RoPE: Su et al. (2021), arXiv:2104.09864.

Shapes: B batch_size, T characters, E n_embed, N heads, D head_size, M window_size, P cached positions (at most M).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rope_angles(start: int, stop: int, head_size: int, like: Tensor) -> Tensor:
    """Return cosine and sine of the angles of positions start .. stop - 1.

    Args:
        start: first position; may be negative.
        stop: last position + 1.
        head_size: D, even.
        like: tensor with the dtype and device of the result.

    Returns:
        float, (2, stop - start, D / 2).
    """
    positions = torch.arange(start, stop, dtype=like.dtype, device=like.device)
    pairs = torch.arange(0, head_size, 2, dtype=like.dtype, device=like.device)
    angles = positions.unsqueeze(1) * 10_000 ** (-pairs / head_size)
    return torch.stack([angles.cos(), angles.sin()])


def apply_rope(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate queries or keys by the angles of their positions.

    Pair i is elements i and D/2 + i, which is faster than adjacent elements and equivalent for a trained model.

    Args:
        x: float, (..., T, D).
        angles: result of `rope_angles`, float, (2, T, D / 2).

    Returns:
        rotated `x`, of the same dtype and shape.
    """
    cos, sin = angles
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).type_as(x)


class Attention(nn.Module):
    """Multi-head attention of each position to itself and the `window_size` positions before it.

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
        """Initialise the biases so that head h attends mostly to the position h + 1 steps back.

        With b_k = c in the first and 0 in the second element of each pair, and b_q = R_-(h+1) b_k, a score has the term
        c^2 (sum over i of cos((t - s - h - 1) 10000^(-2i/D))), which is largest at s = t - h - 1. Without this
        initialisation, a short training is spent mostly on learning to attend to the nearest characters.

        Args:
            strength: c. With c = 3 and D = 32, that position has about 0.6 of the initial attention weight.
        """
        queries, keys, values = self.qkv_proj.bias.view(3, -1, self.head_size)  # each (N, D)
        keys[:, : self.head_size // 2] = strength
        keys[:, self.head_size // 2 :] = 0
        queries.copy_(apply_rope(keys, rope_angles(-len(keys), 0, self.head_size, keys).flip(1)))
        values.zero_()

    def forward(self, x: Tensor, cache: Tensor | None, angles: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Process a segment.

        Args:
            x: float, (B, T, E).
            cache: keys (before rotation) and values of the P positions before, float, (2, B, N, P, D); None for P = 0.
            angles: result of `rope_angles` for the P + T positions, float, (2, P + T, D / 2).
            mask: True where a position may attend, bool, (T, P + T); None for all positions up to itself.

        Returns:
            outputs: float, (B, T, E).
            cache: keys and values of the last min(P + T, M) positions, as above.
        """
        n_steps = x.shape[1]
        heads = self.qkv_proj(x).unflatten(2, (3, -1, self.head_size))  # (B, T, 3, N, D)
        queries, *new = heads.permute(2, 0, 3, 1, 4)  # each (B, N, T, D)
        cached = torch.stack(new) if cache is None else torch.cat([cache, torch.stack(new)], dim=3)  # (2, B, N, P+T, D)
        keys, values = cached
        attended = F.scaled_dot_product_attention(
            apply_rope(queries, angles[:, -n_steps:]),
            apply_rope(keys, angles),
            values,
            mask,
            is_causal=cache is None,
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2)), cached[..., -self.window_size :, :]
