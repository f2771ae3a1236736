"""Mamba-2: a state space whose step is a matrix, read in pieces as a masked matrix product.

For each of K heads, with the scalars d_t (how long the step is) and a_t (what share is kept), the head's P numbers x_t,
and the vectors B_t and C_t of N numbers, which all heads share:

    d_t = softplus(W_d u_t + b_d),   a_t = exp(-d_t A),   A > 0
    h_t = a_t h_{t-1} + d_t x_t B_t^T          the state, a matrix of P x N
    y_t = h_t C_t + D x_t

u_t is the normed residual stream; x, B and C pass a causal convolution of width 4 and silu; the residual stream gets
W_o norm(y_t * silu(W_g u_t)); the norm takes off the mean, too, unlike the paper's (on a CPU PyTorch's is quicker).

Within a piece the same is a product of matrices with the mask M, and only the state goes from piece to piece:

    Y = (M * (C B^T)) (d x) + (a_1 .. a_t) h_0 C_t,   M_ts = a_{s+1} .. a_t for s <= t, else 0

Reference: Dao and Gu (2024), Transformers are SSMs, arXiv:2405.21060, sections 6 and 7.

Shapes: B batch_size, T characters, E n_embed, H n_hidden, L n_layers, V vocab_size, K n_heads, P numbers a head,
N n_state, I = K * P, Q characters a piece.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.models.layers.blocks import Block, Blocks, CausalConv, MixerState
from charlm.models.recurrent import Recurrent

N_PIECE = 32  # Q


def state_space(x: Tensor, log_keep: Tensor, b: Tensor, c: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Read one piece of the recurrence h_t = a_t h_{t-1} + x_t B_t^T, y_t = h_t C_t.

    Args:
        x: what enters, float, (B, Q, K, P).
        log_keep: ln a, not above 0, float, (B, Q, K).
        b: B, float, (B, Q, N).
        c: C, float, (B, Q, N).
        first: h_0, float, (B, K, P, N).

    Returns:
        y: float, (B, Q, K, P).
        state: h_Q, float, (B, K, P, N).
    """
    n_steps = x.shape[1]
    log_keep = log_keep.transpose(1, 2)  # (B, K, Q)
    # Each ln M_ts is a sum of its own: a difference of two running sums would lose small numbers beside large ones.
    later = torch.ones(n_steps, n_steps, dtype=torch.bool, device=x.device).tril(-1)  # t > s
    log_mask = log_keep.unsqueeze(3).expand(-1, -1, -1, n_steps).masked_fill(~later, 0).cumsum(dim=2)
    mask = log_mask.exp().tril()  # (B, K, Q, Q)
    kept = log_keep.cumsum(dim=2).exp()  # (B, K, Q): share of h_0 that is left
    heads = x.transpose(1, 2)  # (B, K, Q, P)
    within = (mask * (c @ b.transpose(1, 2)).unsqueeze(1)) @ heads
    before = kept.unsqueeze(3) * (c.unsqueeze(1) @ first.transpose(2, 3))
    entered = (heads * mask[:, :, -1].unsqueeze(3)).transpose(2, 3) @ b.unsqueeze(1)  # (B, K, P, N)
    return (within + before).transpose(1, 2), kept[:, :, -1, None, None] * first + entered


class Mamba2Mixer(nn.Module):
    """Projections, convolution, state space, gate, norm.

    Args:
        n_hidden: H; inside it is doubled, rounded up to whole heads.
        n_heads: K.
        n_state: N.
    """

    def __init__(self, n_hidden: int, n_heads: int, n_state: int) -> None:
        super().__init__()
        self.n_heads, self.n_state = n_heads, n_state
        self.n_inner = n_heads * -(-2 * n_hidden // n_heads)  # I
        self.project = nn.Linear(n_hidden, 2 * self.n_inner + 2 * n_state + n_heads, bias=False)
        self.conv = CausalConv(self.n_inner + 2 * n_state)
        # As in the paper's code: A is drawn from 1 to 16, the steps from 0.001 to 0.1, evenly in their logarithm.
        self.log_rate = nn.Parameter(torch.empty(n_heads).uniform_(1, 16).log())
        step = torch.empty(n_heads).uniform_(math.log(1e-3), math.log(1e-1)).exp()
        self.step_bias = nn.Parameter(torch.log(torch.expm1(step)))  # softplus of it is the step
        self.skip = nn.Parameter(torch.ones(n_heads))  # D
        self.norm = nn.LayerNorm(self.n_inner)
        self.out = nn.Linear(self.n_inner, n_hidden, bias=False)

    def forward(self, inputs: Tensor, state: MixerState | None = None) -> tuple[Tensor, MixerState]:
        """Read a batch.

        Args:
            inputs: u, float, (B, T, H).
            state: h_0, float, (B, K, P, N), and the convolution's last inputs, float, (B, 3, I + 2 N); zeros when None.

        Returns:
            outputs: float, (B, T, H).
            state: h_T and the last inputs.
        """
        n_batch, n_steps, _ = inputs.shape
        n_conv = self.n_inner + 2 * self.n_state
        gate, convolved, step = torch.split(self.project(inputs), [self.n_inner, n_conv, self.n_heads], dim=2)
        if state is None:
            head_size = self.n_inner // self.n_heads
            matrix, last = inputs.new_zeros(n_batch, self.n_heads, head_size, self.n_state), None
        else:
            matrix, last = state
        convolved, last = self.conv(convolved, last)
        x, b, c = torch.split(F.silu(convolved), [self.n_inner, self.n_state, self.n_state], dim=2)
        x = torch.unflatten(x, 2, (self.n_heads, -1))  # (B, T, K, P)
        step = F.softplus(step + self.step_bias)  # (B, T, K)
        entering, log_keep = step.unsqueeze(3) * x, -step * self.log_rate.exp()
        outputs = []
        pieces = (torch.split(tensor, N_PIECE, dim=1) for tensor in (entering, log_keep, b, c))
        for x_piece, log_keep_piece, b_piece, c_piece in zip(*pieces, strict=True):
            y, matrix = state_space(x_piece, log_keep_piece, b_piece, c_piece, matrix)
            outputs.append(y)
        y = torch.cat(outputs, dim=1) + self.skip.unsqueeze(1) * x
        return self.out(self.norm(y.flatten(2) * F.silu(gate))), (matrix, last)


class Mamba2(Recurrent):
    """Predict each next character with blocks of Mamba-2, which need no perceptron.

    Args:
        vocab_size: V.
        n_hidden: H.
        n_layers: L.
        n_heads: K, each with a rate of its own.
        n_state: N, numbers kept of each number of a head.
        options: the other options of `Recurrent`.
    """

    def __init__(
        self,
        vocab_size: int,
        n_hidden: int = 128,
        n_layers: int = 3,
        n_heads: int = 4,
        n_state: int = 32,
        **options: Any,
    ) -> None:
        options |= {"n_hidden": n_hidden, "n_layers": n_layers, "n_heads": n_heads, "n_state": n_state}
        super().__init__(vocab_size, **options)

    @staticmethod
    def make_layers(
        n_embed: int, n_hidden: int, n_layers: int, dropout: float, n_heads: int, n_state: int
    ) -> nn.Module:
        """Return the blocks; the state is h, float, (L, B, K, P, N), and the convolutions' last inputs."""

        def make_block() -> Block:
            return Block(Mamba2Mixer(n_hidden, n_heads, n_state), n_hidden)

        return Blocks(make_block, n_embed, n_hidden, n_layers, dropout)
