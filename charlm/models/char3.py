"""Feed-forward network over three characters (fast.ai 2018, lesson 6).

With e_1, e_2, e_3 the embeddings of three characters and h_0 = 0:

    x_i = relu(W_eh e_i + b_e)
    h_i = tanh(W_hh (h_{i-1} + x_i) + b_h)      i = 1, 2, 3
    logits = W_hv h_3 + b_v

All three characters share the weight matrices, so this is `loop` unrolled over three steps.

Shapes: B batch_size, E n_embed, H n_hidden, V vocab_size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charlm.models.base import CharModel


class Char3(CharModel):
    """Feed-forward network over three characters.

    Args:
        vocab_size: V.
        n_embed: E, embedding size.
        n_hidden: H, hidden size.
    """

    n_context = 3
    default_feed = "windows"

    def __init__(self, vocab_size: int, n_embed: int = 42, n_hidden: int = 256) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, n_embed)
        self.embed_to_hidden = nn.Linear(n_embed, n_hidden)
        self.hidden_to_hidden = nn.Linear(n_hidden, n_hidden)
        self.head = nn.Linear(n_hidden, vocab_size)

    def features(self, chars: Tensor, state: None = None) -> tuple[Tensor, None]:
        """Read three characters.

        Args:
            chars: character indices, long, (B, 3).
            state: None; a fixed window has no state.

        Returns:
            features: h_3, float, (B, 1, H).
            state: None.
        """
        x1 = torch.relu(self.embed_to_hidden(self.embed(chars[:, 0])))  # (B, H)
        x2 = torch.relu(self.embed_to_hidden(self.embed(chars[:, 1])))
        x3 = torch.relu(self.embed_to_hidden(self.embed(chars[:, 2])))

        hidden = torch.tanh(self.hidden_to_hidden(x1))
        hidden = torch.tanh(self.hidden_to_hidden(hidden + x2))
        hidden = torch.tanh(self.hidden_to_hidden(hidden + x3))
        return hidden.unsqueeze(1), None  # (B, 1, H)
