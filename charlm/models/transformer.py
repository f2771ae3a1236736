"""A transformer that reads on: attention over a sliding window, the window's keys and values being its state.

With x_t the embedding of the character at step t, every layer does, for all t side by side,

    q_t, k_t, v_t = W_q n_t + b_q, W_k n_t + b_k, W_v n_t + b_v    n_t = RMSNorm(x_t); split into heads
    a_ts = softmax over s of (R_t q_t) . (R_s k_s) / sqrt(D)       s = t - M .. t; one row a head
    x_t = x_t + W_o (sum over s of a_ts v_s)                       heads side by side again
    x_t = x_t + W_2 gelu(W_1 RMSNorm(x_t))

and logits_t = W_l RMSNorm(x_t) + b_l. R_t turns each pair of numbers i = 0 .. D/2 - 1 by the angle t 10000^(-2i/D),
so that (R_t q_t) . (R_s k_s) depends on t - s alone: only distances count, and each piece of a text may count from its
own start.

References: Vaswani et al. (2017), arXiv:1706.03762; rotary positions: Su et al. (2021), arXiv:2104.09864; a memory
carried from piece to piece: Dai et al. (2019), arXiv:1901.02860; RMSNorm: Zhang and Sennrich (2019), arXiv:1910.07467;
the norm before each part, and smaller first weights where parts are added: Radford et al. (2019), GPT-2.

Shapes: B batch_size, T characters, E n_embed, H n_hidden, L n_layers, N heads, D head_size, M n_memory, P characters
remembered (at most M), V vocab_size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.errors import UsageError
from charlm.models.base import CharModel


def rotations(first: int, stop: int, head_size: int, like: Tensor) -> Tensor:
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


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn queries or keys by their positions' angles.

    Number i makes a pair with number D/2 + i, which is quicker than with its neighbour, and the same to a network.

    Args:
        x: float, (..., T, D).
        rotation: as `rotations` returns it, float, (2, T, D / 2).

    Returns:
        of the type and shape of `x`.
    """
    cos, sin = rotation
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).type_as(x)


class Attention(nn.Module):
    """Let each position gather from itself and from the `n_memory` before it.

    Args:
        n_embed: E.
        head_size: D, even.
        n_memory: M.
    """

    def __init__(self, n_embed: int, head_size: int, n_memory: int) -> None:
        super().__init__()
        self.head_size, self.n_memory = head_size, n_memory
        n_heads = math.ceil(n_embed / head_size)
        self.to_heads = nn.Linear(n_embed, 3 * n_heads * head_size)  # W_q, W_k, W_v and their biases
        self.from_heads = nn.Linear(n_heads * head_size, n_embed, bias=False)  # W_o
        self.look_back()

    @torch.no_grad()
    def look_back(self, strength: float = 3.0) -> None:
        """Set the biases so that head h looks mostly h + 1 positions back, whatever stands there.

        With b_k = c in one number of each pair and zero in the other, and b_q = R_-(h+1) b_k, a score has the term
        c^2 (sum over i of cos((t - s - h - 1) 10000^(-2i/D))), which is largest at s = t - h - 1. Without it, most of
        a short training goes into finding out that the nearest characters matter most.

        Args:
            strength: c; at 3 and D = 32 that position starts with some six tenths of the weight.
        """
        queries, keys, values = self.to_heads.bias.view(3, -1, self.head_size)  # each (N, D)
        keys[:, : self.head_size // 2] = strength
        keys[:, self.head_size // 2 :] = 0
        queries.copy_(rotate(keys, rotations(-len(keys), 0, self.head_size, keys).flip(1)))
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
        heads = self.to_heads(x).unflatten(2, (3, -1, self.head_size))  # (B, T, 3, N, D)
        queries, *now = heads.permute(2, 0, 3, 1, 4)  # each (B, N, T, D)
        known = torch.stack(now) if past is None else torch.cat([past, torch.stack(now)], dim=3)  # (2, B, N, P + T, D)
        keys, values = known
        gathered = F.scaled_dot_product_attention(
            rotate(queries, rotation[:, -n_steps:]), rotate(keys, rotation), values, mask, is_causal=past is None
        )
        return self.from_heads(gathered.transpose(1, 2).flatten(2)), known[..., -self.n_memory :, :]


class Layer(nn.Module):
    """Attention over positions, then a network at each position; either adds to what was there.

    Args:
        n_embed: E.
        n_hidden: H.
        head_size: D.
        n_memory: M.
        dropout: share of the numbers to be added that are set to zero, while training.
    """

    def __init__(self, n_embed: int, n_hidden: int, head_size: int, n_memory: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(n_embed)
        self.attention = Attention(n_embed, head_size, n_memory)
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

    A layer sees `n_memory` characters back, so the whole sees `n_layers` times as many.

    Args:
        vocab_size: V.
        n_embed: E, numbers to describe a position, in all layers.
        n_hidden: H, numbers inside the network at each position.
        n_layers: L.
        head_size: D, even, numbers by which a position is looked for; there are E / D heads, rounded up.
        n_memory: M, positions before it that each one attends to, beside itself.
        dropout: share of the numbers set to zero in the embedding and in what each part adds, while training.
    """

    default_learning_rate = 2e-3

    def __init__(
        self,
        vocab_size: int,
        n_embed: int = 128,
        n_hidden: int = 512,
        n_layers: int = 4,
        head_size: int = 32,
        n_memory: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if head_size % 2:
            raise UsageError(f"head_size is {head_size}; it must be even, for numbers are rotated in pairs")
        self.head_size, self.n_memory = head_size, n_memory
        self.embed = nn.Embedding(vocab_size, n_embed)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(n_embed, n_hidden, head_size, n_memory, dropout) for _ in range(n_layers))
        self.norm = nn.RMSNorm(n_embed)
        self.head = nn.Linear(n_embed, vocab_size)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith(("from_heads.weight", "from_hidden.weight")):
                    parameter.div_(math.sqrt(2 * n_layers))  # so many of them add to one sum

    def features(self, chars: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Read a batch of text, `n_memory` characters at a time, so that the mask stays small however long it is.

        Args:
            chars: character indices, long, (B, T).
            state: each layer's keys, not rotated, and values of the last P positions, P being at most M, float,
                (L, 2, B, N, P, D); None before the first.

        Returns:
            features: float, (B, T, E).
            state: as above, P grown by T up to M.
        """
        pieces = []
        for piece in torch.split(chars, self.n_memory, dim=1):
            features, state = self._read(piece, state)
            pieces.append(features)
        return torch.cat(pieces, dim=1), state

    def _read(self, chars: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Read at most `n_memory` characters; arguments and results are those of `features`."""
        x = self.dropout(self.embed(chars))  # (B, T, E)
        n_steps, n_past = chars.shape[1], 0 if state is None else state.shape[-2]
        rotation = rotations(-n_past, n_steps, self.head_size, x)
        mask = None
        if state is not None and n_steps > 1:  # else all that is remembered is in reach
            every = torch.ones(n_steps, n_past + n_steps, dtype=torch.bool, device=x.device)
            mask = every.tril(n_past).triu(n_past - self.n_memory)  # column n_past + t is step t itself
        kept = []
        for layer, past in zip(self.layers, [None] * len(self.layers) if state is None else state, strict=True):
            x, past = layer(x, past, rotation, mask)
            kept.append(past)
        return self.norm(x), torch.stack(kept)
