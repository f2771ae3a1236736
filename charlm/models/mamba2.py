"""Mamba-2 (Dao & Gu 2024): selective state space model with scalar decay and matrix state.

For each of K heads, with step size d_t and decay a_t (scalars), input x_t of size P, and input and output vectors B_t
and C_t of size N, shared by all heads:

    d_t = softplus(W_d u_t + b_d),   a_t = exp(-d_t A),   A > 0
    h_t = a_t h_{t-1} + d_t x_t B_t^T          state, (P, N)
    y_t = h_t C_t + D x_t

u_t is the normalised residual stream. A causal convolution of width 4 and SiLU are applied to x, B and C. The block
adds W_o norm(y_t * silu(W_g u_t)) to the residual stream. The norm is LayerNorm; the paper uses RMSNorm, which is
slower in PyTorch on a CPU.

Within a chunk of Q steps, the recurrence is a matrix product with a mask M; the state passes from chunk to chunk:

    Y = (M * (C B^T)) (d x) + (a_1 .. a_t) h_0 C_t,   M_ts = a_{s+1} .. a_t for s <= t, else 0

Reference: Dao and Gu (2024), Transformers are SSMs, arXiv:2405.21060, sections 6 and 7.

Shapes: B batch_size, T characters, E n_embed, H n_hidden, L n_layers, V vocab_size, K n_heads, P head size, N n_state,
I = K * P inner size, Q steps of a chunk.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.models.layers.blocks import Block, Blocks, CausalConv, MixerState
from charlm.models.recurrent import Recurrent

CHUNK_SIZE = 32  # Q


def state_space(x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, initial_state: Tensor) -> tuple[Tensor, Tensor]:
    """Compute one chunk of h_t = a_t h_{t-1} + x_t B_t^T, y_t = h_t C_t.

    Args:
        x: float, (B, Q, K, P).
        log_decay: ln a_t, at most 0, float, (B, Q, K).
        b: B_t, float, (B, Q, N).
        c: C_t, float, (B, Q, N).
        initial_state: h_0, float, (B, K, P, N).

    Returns:
        y: float, (B, Q, K, P).
        state: h_Q, float, (B, K, P, N).
    """
    n_steps = x.shape[1]
    log_decay = log_decay.transpose(1, 2)  # (B, K, Q)
    # Each ln M_ts is summed separately: the difference of two cumulative sums would cancel.
    later = torch.ones(n_steps, n_steps, dtype=torch.bool, device=x.device).tril(-1)  # t > s
    log_mask = log_decay.unsqueeze(3).expand(-1, -1, -1, n_steps).masked_fill(~later, 0).cumsum(dim=2)
    mask = log_mask.exp().tril()  # (B, K, Q, Q)
    total_decay = log_decay.cumsum(dim=2).exp()  # a_1 .. a_t, (B, K, Q)
    heads = x.transpose(1, 2)  # (B, K, Q, P)
    from_inputs = (mask * (c @ b.transpose(1, 2)).unsqueeze(1)) @ heads
    from_state = total_decay.unsqueeze(3) * (c.unsqueeze(1) @ initial_state.transpose(2, 3))
    added = (heads * mask[:, :, -1].unsqueeze(3)).transpose(2, 3) @ b.unsqueeze(1)  # (B, K, P, N)
    return (from_inputs + from_state).transpose(1, 2), total_decay[:, :, -1, None, None] * initial_state + added


class Mamba2Mixer(nn.Module):
    """Projections, causal convolution, state space model, gate, norm.

    Args:
        n_hidden: H; I is 2 H, rounded up to a multiple of K.
        n_heads: K.
        n_state: N.
    """

    def __init__(self, n_hidden: int, n_heads: int, n_state: int) -> None:
        super().__init__()
        self.n_heads, self.n_state = n_heads, n_state
        self.n_inner = n_heads * -(-2 * n_hidden // n_heads)  # I
        self.project = nn.Linear(n_hidden, 2 * self.n_inner + 2 * n_state + n_heads, bias=False)
        self.conv = CausalConv(self.n_inner + 2 * n_state)
        # As in the paper's code: A is uniform in [1, 16], the step size log-uniform in [0.001, 0.1].
        self.log_rate = nn.Parameter(torch.empty(n_heads).uniform_(1, 16).log())
        step = torch.empty(n_heads).uniform_(math.log(1e-3), math.log(1e-1)).exp()
        self.step_bias = nn.Parameter(torch.log(torch.expm1(step)))  # inverse softplus
        self.skip = nn.Parameter(torch.ones(n_heads))  # D
        self.norm = nn.LayerNorm(self.n_inner)
        self.out = nn.Linear(self.n_inner, n_hidden, bias=False)

    def forward(self, inputs: Tensor, state: MixerState | None = None) -> tuple[Tensor, MixerState]:
        """Process a batch.

        Args:
            inputs: u, float, (B, T, H).
            state: h_0, float, (B, K, P, N), and the last inputs of the convolution, float, (B, 3, I + 2 N); None for
                zeros.

        Returns:
            outputs: float, (B, T, H).
            state: h_T and the last inputs of the convolution.
        """
        n_batch, n_steps, _ = inputs.shape
        n_conv = self.n_inner + 2 * self.n_state
        gate, convolved, step = torch.split(self.project(inputs), [self.n_inner, n_conv, self.n_heads], dim=2)
        if state is None:
            head_size = self.n_inner // self.n_heads
            hidden, conv_state = inputs.new_zeros(n_batch, self.n_heads, head_size, self.n_state), None
        else:
            hidden, conv_state = state
        convolved, conv_state = self.conv(convolved, conv_state)
        x, b, c = torch.split(F.silu(convolved), [self.n_inner, self.n_state, self.n_state], dim=2)
        x = torch.unflatten(x, 2, (self.n_heads, -1))  # (B, T, K, P)
        step = F.softplus(step + self.step_bias)  # (B, T, K)
        scaled, log_decay = step.unsqueeze(3) * x, -step * self.log_rate.exp()
        outputs = []
        chunks = (torch.split(part, CHUNK_SIZE, dim=1) for part in (scaled, log_decay, b, c))
        for x_chunk, log_decay_chunk, b_chunk, c_chunk in zip(*chunks, strict=True):
            y, hidden = state_space(x_chunk, log_decay_chunk, b_chunk, c_chunk, hidden)
            outputs.append(y)
        y = torch.cat(outputs, dim=1) + self.skip.unsqueeze(1) * x
        return self.out(self.norm(y.flatten(2) * F.silu(gate))), (hidden, conv_state)


class Mamba2(Recurrent):
    """Language model with blocks of Mamba-2, without MLP.

    Args:
        vocab_size: V.
        n_hidden: H.
        n_layers: L.
        n_heads: K.
        n_state: N, state size.
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
        """Return the blocks; the state is h, (L, B, K, P, N), and the last inputs of the convolutions."""

        def make_block() -> Block:
            return Block(Mamba2Mixer(n_hidden, n_heads, n_state), n_hidden)

        return Blocks(make_block, n_embed, n_hidden, n_layers, dropout)
