"""The loop that concatenates past and character, not adds them.

With e_t the embedding of the character at step t and h_0 = 0:

    x_t = relu(W_x [h_{t-1}; e_t] + b_x)
    h_t = tanh(W_hh x_t + b_h)
    logits_t = W_hv h_t + b_v

Adding forces the character and the past into the same H numbers; side by side, the first layer weighs them apart.

Shapes: B batch_size, T characters, E n_embed, H n_hidden, V vocab_size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charlm.models.base import CharModel


class Concat(CharModel):
    """Predict each next character from every character before it.

    Args:
        vocab_size: V.
        n_embed: E, numbers to describe a character.
        n_hidden: H, numbers to describe what was read.
    """

    default_feed = "windows"
    default_learning_rate = 1e-3  # at five times that it comes apart

    def __init__(self, vocab_size: int, n_embed: int = 42, n_hidden: int = 256) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, n_embed)
        self.both_to_hidden = nn.Linear(n_hidden + n_embed, n_hidden)
        self.hidden_to_hidden = nn.Linear(n_hidden, n_hidden)
        self.head = nn.Linear(n_hidden, vocab_size)

    def features(self, chars: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read a batch of text.

        Args:
            chars: character indices, long, (B, T).
            state: h_0, float, (B, H); zeros when None.

        Returns:
            features: h_1..h_T, float, (B, T, H).
            state: h_T, float, (B, H).
        """
        embedded = self.embed(chars)  # (B, T, E)
        hidden = embedded.new_zeros(len(chars), self.head.in_features) if state is None else state
        steps = []
        for e in embedded.unbind(dim=1):  # (B, E)
            x = torch.relu(self.both_to_hidden(torch.cat([hidden, e], dim=1)))
            hidden = torch.tanh(self.hidden_to_hidden(x))
            steps.append(hidden)
        return torch.stack(steps, dim=1), hidden
