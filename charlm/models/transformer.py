"""Transformer with sliding-window attention and rotary position embeddings.

x_t is the embedding of the character at step t. Every block computes, for all t in parallel,

    x_t = x_t + attention(RMSNorm(x_{t-M}), ..., RMSNorm(x_t))      layers/attention.py
    x_t = x_t + W_2 gelu(W_1 RMSNorm(x_t))

and logits_t = W_l RMSNorm(x_t) + b_l. The state is the key-value cache of the window.

References: Vaswani et al. (2017), arXiv:1706.03762; cache carried from segment to segment: Dai et al. (2019),
Transformer-XL, arXiv:1901.02860; RMSNorm: Zhang and Sennrich (2019), arXiv:1910.07467; pre-norm and scaled
initialisation of residual projections: Radford et al. (2019), GPT-2.

Shapes: B batch_size, T characters, E n_embed, H = 4 E, L n_layers, N heads, D head_size, M window_size, P cached
positions (at most M), V vocab_size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.errors import UsageError
from charlm.models.base import CharModel
from charlm.models.layers.attention import Attention, rope_angles


class TransformerBlock(nn.Module):
    """Pre-norm block: attention and MLP, each with a residual connection.

    Args:
        n_embed: E.
        n_hidden: H.
        head_size: D.
        window_size: M.
        dropout: dropout probability of both outputs.
    """

    def __init__(self, n_embed: int, n_hidden: int, head_size: int, window_size: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(n_embed)
        self.attention = Attention(n_embed, head_size, window_size)
        self.network_norm = nn.RMSNorm(n_embed)
        self.to_hidden = nn.Linear(n_embed, n_hidden, bias=False)
        self.from_hidden = nn.Linear(n_hidden, n_embed, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: Tensor | None, angles: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Process a segment; arguments and results as in `Attention.forward`."""
        attended, cache = self.attention(self.attention_norm(x), cache, angles, mask)
        x = x + self.dropout(attended)
        hidden = F.gelu(self.to_hidden(self.network_norm(x)))  # (B, T, H)
        return x + self.dropout(self.from_hidden(hidden)), cache


class Transformer(CharModel):
    """Language model with sliding-window attention.

    A layer attends to `window_size` characters back, so the receptive field is `n_layers * window_size` characters.

    Args:
        vocab_size: V.
        n_embed: E, embedding size, the same in all layers.
        n_layers: L.
        head_size: D, even; there are E / D heads, rounded up.
        window_size: M, number of earlier positions to which a position attends, in addition to itself.
        dropout: dropout probability of the embedding, the attention outputs and the MLP outputs.
    """

    default_learning_rate = 4e-3  # 1 epoch of Nietzsche: 2.53 bits; 2e-3: 2.63; higher rates were not tried

    def __init__(
        self,
        vocab_size: int,
        n_embed: int = 128,
        n_layers: int = 4,
        head_size: int = 32,
        window_size: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if head_size % 2:
            raise UsageError(f"head_size is {head_size}; it must be even (rotary position embedding)")
        self.head_size, self.window_size = head_size, window_size
        self.embed = nn.Embedding(vocab_size, n_embed)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            TransformerBlock(n_embed, 4 * n_embed, head_size, window_size, dropout) for _ in range(n_layers)
        )
        self.norm = nn.RMSNorm(n_embed)
        self.head = nn.Linear(n_embed, vocab_size)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith(("out_proj.weight", "from_hidden.weight")):
                    parameter.div_(math.sqrt(2 * n_layers))  # number of terms in the residual sum

    def features(self, chars: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Process a batch in segments of at most `window_size` characters, which bounds the size of the mask.

        Args:
            chars: character indices, long, (B, T).
            state: keys (before rotation) and values of the last P positions of each layer, float,
                (L, 2, B, N, P, D); None for an empty cache.

        Returns:
            features: float, (B, T, E).
            state: as above, with min(P + T, M) positions.
        """
        segments = []
        for segment in torch.split(chars, self.window_size, dim=1):
            features, state = self._forward_segment(segment, state)
            segments.append(features)
        return torch.cat(segments, dim=1), state

    def _forward_segment(self, chars: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Process at most `window_size` characters; arguments and results as in `features`."""
        x = self.dropout(self.embed(chars))  # (B, T, E)
        n_steps, n_cached = chars.shape[1], 0 if state is None else state.shape[-2]
        angles = rope_angles(-n_cached, n_steps, self.head_size, x)
        mask = None
        if state is not None and n_steps > 1:  # a single step attends to the whole cache
            ones = torch.ones(n_steps, n_cached + n_steps, dtype=torch.bool, device=x.device)
            mask = ones.tril(n_cached).triu(n_cached - self.window_size)  # column n_cached + t is step t
        caches = []
        for layer, cache in zip(self.layers, [None] * len(self.layers) if state is None else state, strict=True):
            x, cache = layer(x, cache, angles, mask)
            caches.append(cache)
        return self.norm(x), torch.stack(caches)
