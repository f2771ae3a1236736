"""Pre-norm residual blocks around a sequence mixer, and a causal depthwise convolution.

    x = x + mixer(norm(x))
    x = x + W_2 relu(W_1 norm(x))       optional MLP

References: residual connection: He et al. (2015), arXiv:1512.03385; pre-norm: Xiong et al. (2020), arXiv:2002.04745.

Shapes: B batch_size, T characters, E n_embed, H n_hidden, L n_layers, C channels, W width of the convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MixerState = tuple[Tensor, ...]  # state of one layer; each tensor is (B, ...)


class CausalConv(nn.Module):
    """Causal depthwise convolution over time.

        y_t = b + sum over k of w_k * x_{t-k}

    Args:
        n_channels: C.
        width: W.
    """

    def __init__(self, n_channels: int, width: int = 4) -> None:
        super().__init__()
        bound = width**-0.5  # as in nn.Conv1d
        self.weight = nn.Parameter(torch.empty(width, n_channels).uniform_(-bound, bound))  # oldest step first
        self.bias = nn.Parameter(torch.empty(n_channels).uniform_(-bound, bound))

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Convolve a batch.

        Args:
            inputs: x, float, (B, T, C).
            state: the W - 1 inputs before these, float, (B, W - 1, C); None for zeros.

        Returns:
            outputs: y, float, (B, T, C).
            state: the last W - 1 inputs.
        """
        n_steps, n_before = inputs.shape[1], len(self.weight) - 1
        if state is None:
            state = inputs.new_zeros(len(inputs), n_before, inputs.shape[2])
        inputs = torch.cat([state, inputs], dim=1)
        outputs = self.bias
        for k, weight in enumerate(self.weight):  # faster on a CPU than conv1d, which requires a transposition
            outputs = outputs + weight * inputs[:, k : k + n_steps]
        return outputs, inputs[:, n_steps:]


class Block(nn.Module):
    """Pre-norm mixer and optional MLP, each with a residual connection.

    Args:
        mixer: called as `outputs, state = mixer(inputs, state)`, inputs and outputs (B, T, H).
        n_hidden: H.
        n_inner: hidden size of the MLP; 0 for no MLP.
    """

    def __init__(self, mixer: nn.Module, n_hidden: int, n_inner: int = 0) -> None:
        super().__init__()
        self.norm, self.mixer = nn.LayerNorm(n_hidden), mixer
        self.mlp = None
        if n_inner:
            self.mlp = nn.Sequential(
                nn.LayerNorm(n_hidden), nn.Linear(n_hidden, n_inner), nn.ReLU(), nn.Linear(n_inner, n_hidden)
            )

    def forward(self, inputs: Tensor, state: MixerState | None = None) -> tuple[Tensor, MixerState]:
        """Return outputs, float, (B, T, H), and the mixer's new state, from inputs, float, (B, T, H), and its state."""
        outputs, state = self.mixer(self.norm(inputs), state)
        outputs = inputs + outputs
        if self.mlp is not None:
            outputs = outputs + self.mlp(outputs)
        return outputs, state


class Blocks(nn.Module):
    """Stack of blocks with an input projection and a final norm.

    Args:
        make_block: returns a new block; called once a layer.
        n_embed: E.
        n_hidden: H.
        n_layers: L.
        dropout: dropout probability between blocks.
    """

    def __init__(
        self, make_block: Callable[[], Block], n_embed: int, n_hidden: int, n_layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.embed_to_hidden = nn.Linear(n_embed, n_hidden)
        self.blocks = nn.ModuleList(make_block() for _ in range(n_layers))
        self.norm = nn.LayerNorm(n_hidden)
        self.dropout = dropout

    def forward(self, inputs: Tensor, state: Sequence[Tensor] | None = None) -> tuple[Tensor, MixerState]:
        """Process a batch.

        Args:
            inputs: float, (B, T, E).
            state: tensors of the mixer's state, stacked over layers, each (L, B, ...); None for the initial state.

        Returns:
            features: float, (B, T, H).
            state: as above, after step T.
        """
        hidden = self.embed_to_hidden(inputs)
        finals = []
        for layer, block in enumerate(self.blocks):
            if layer > 0:
                hidden = F.dropout(hidden, self.dropout, self.training)
            hidden, final = block(hidden, None if state is None else tuple(part[layer] for part in state))
            finals.append(final)
        return self.norm(hidden), tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
