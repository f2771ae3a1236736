"""A transformer that reads on: attention over a sliding window, the window's keys and values being its state.

With x_t the embedding of the character at step t, every layer does, for all t side by side,

    x_t = x_t + attention(RMSNorm(x_t), and those of the M steps before)      attention.py
    x_t = x_t + W_2 gelu(W_1 RMSNorm(x_t))

and logits_t = W_l RMSNorm(x_t) + b_l.

References: Vaswani et al. (2017), arXiv:1706.03762; a memory carried from piece to piece: Dai et al. (2019),
arXiv:1901.02860; RMSNorm: Zhang and Sennrich (2019), arXiv:1910.07467; the norm before each part, and smaller first
weights where parts are added: Radford et al. (2019), GPT-2.

Shapes: B batch_size, T characters, E n_embed, H = 4 E, L n_layers, N heads, D head_size, M n_memory, P characters
remembered (at most M), V vocab_size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.errors import UsageError
from charlm.models.base import CharModel
from charlm.models.layers.attention import Attention, rope_angles


class Layer(nn.Module):
    """Attention over positions, then a network at each position; either adds to what was there.

    Args:
        n_embed: E.
        n_hidden: H.
        head_size: D.
        window_size: M.
        dropout: share of the numbers to be added that are set to zero, while training.
    """

    def __init__(self, n_embed: int, n_hidden: int, head_size: int, window_size: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(n_embed)
        self.attention = Attention(n_embed, head_size, window_size)
        self.network_norm = nn.RMSNorm(n_embed)
        self.to_hidden = nn.Linear(n_embed, n_hidden, bias=False)
        self.from_hidden = nn.Linear(n_hidden, n_embed, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, past: Tensor | None, rotation: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Read a piece of text; arguments and results are those of `Attention`."""
        gathered, past = self.attention(self.attention_norm(x), past, rotation, mask)
        x = x + self.dropout(gathered)
        hidden = F.gelu(self.to_hidden(self.network_norm(x)))  # (B, T, H)
        return x + self.dropout(self.from_hidden(hidden)), past


class Transformer(CharModel):
    """Predict each next character from a window of what the layers below made of those before it.

    A layer sees `window_size` characters back, so the whole sees `n_layers` times as many.

    Args:
        vocab_size: V.
        n_embed: E, numbers to describe a position, in all layers.
        n_layers: L.
        head_size: D, even, numbers by which a position is looked for; there are E / D heads, rounded up.
        window_size: M, positions before it that each one attends to, beside itself.
        dropout: share of the numbers set to zero in the embedding and in what each part adds, while training.
    """

    default_learning_rate = 4e-3  # after one epoch of Nietzsche 2.53 bits, with 2e-3 2.63; higher was not tried

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
            raise UsageError(f"head_size is {head_size}; it must be even, for numbers are rotated in pairs")
        self.head_size, self.window_size = head_size, window_size
        self.embed = nn.Embedding(vocab_size, n_embed)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            Layer(n_embed, 4 * n_embed, head_size, window_size, dropout) for _ in range(n_layers)
        )
        self.norm = nn.RMSNorm(n_embed)
        self.head = nn.Linear(n_embed, vocab_size)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith(("from_heads.weight", "from_hidden.weight")):
                    parameter.div_(math.sqrt(2 * n_layers))  # so many of them add to one sum

    def features(self, chars: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Read a batch of text, `window_size` characters at a time, so that the mask stays small however long it is.

        Args:
            chars: character indices, long, (B, T).
            state: each layer's keys, not rotated, and values of the last P positions, P being at most M, float,
                (L, 2, B, N, P, D); None before the first.

        Returns:
            features: float, (B, T, E).
            state: as above, P grown by T up to M.
        """
        pieces = []
        for piece in torch.split(chars, self.window_size, dim=1):
            features, state = self._read(piece, state)
            pieces.append(features)
        return torch.cat(pieces, dim=1), state

    def _read(self, chars: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Read at most `window_size` characters; arguments and results are those of `features`."""
        x = self.dropout(self.embed(chars))  # (B, T, E)
        n_steps, n_past = chars.shape[1], 0 if state is None else state.shape[-2]
        rotation = rope_angles(-n_past, n_steps, self.head_size, x)
        mask = None
        if state is not None and n_steps > 1:  # else all that is remembered is in reach
            every = torch.ones(n_steps, n_past + n_steps, dtype=torch.bool, device=x.device)
            mask = every.tril(n_past).triu(n_past - self.window_size)  # column n_past + t is step t itself
        kept = []
        for layer, past in zip(self.layers, [None] * len(self.layers) if state is None else state, strict=True):
            x, past = layer(x, past, rotation, mask)
            kept.append(past)
        return self.norm(x), torch.stack(kept)
