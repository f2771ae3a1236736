"""For-loop RNN with concatenation (fast.ai 2018, lesson 6): embedding and hidden state have separate weights.

With e_t the embedding of the character at step t and h_0 = 0:

    x_t = relu(W_x [h_{t-1}; e_t] + b_x)
    h_t = tanh(W_hh x_t + b_h)
    logits_t = W_hv h_t + b_v

The columns of W_x for e_t do not depend on h, so one call computes their product for all steps; `concat_cell` computes
the rest.

Shapes: B batch_size, T characters, E n_embed, H n_hidden, V vocab_size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.cells import concat_cell
from charlm.models.base import CharModel


class Concat(CharModel):
    """For-loop RNN with concatenation.

    Args:
        vocab_size: V.
        n_embed: E, embedding size.
        n_hidden: H, hidden size.
    """

    default_feed = "windows"
    default_learning_rate = 1e-3  # diverges at 5e-3

    def __init__(self, vocab_size: int, n_embed: int = 42, n_hidden: int = 256) -> None:
        super().__init__()
        self.n_hidden = n_hidden
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
        from_hidden, from_embed = self.both_to_hidden.weight.tensor_split([self.n_hidden], dim=1)  # (H, H), (H, E)
        inputs = F.linear(self.embed(chars), from_embed, self.both_to_hidden.bias)  # (B, T, H)
        hidden = torch.zeros_like(inputs[:, 0]) if state is None else state
        weights = from_hidden.t(), self.hidden_to_hidden.weight.t(), self.hidden_to_hidden.bias
        steps = []
        for gates_in in inputs.unbind(dim=1):  # (B, H)
            hidden = concat_cell(torch, gates_in, hidden, *weights)
            steps.append(hidden)
        return torch.stack(steps, dim=1), hidden
