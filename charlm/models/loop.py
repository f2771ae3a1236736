"""For-loop RNN (fast.ai 2018, lesson 6): input and hidden state are added, then one linear layer.

With e_t the embedding of the character at step t and h_0 = 0:

    x_t = relu(W_eh e_t + b_e)
    h_t = tanh(W_hh (h_{t-1} + x_t) + b_h)
    logits_t = W_hv h_t + b_v

x_t does not depend on h, so one call computes it for all steps; `loop_cell` computes h_t.

Shapes: B batch_size, T characters, E n_embed, H n_hidden, V vocab_size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charlm.cells import loop_cell
from charlm.models.base import CharModel
from charlm.models.layers.init import init_recurrent


class Loop(CharModel):
    """For-loop RNN.

    Args:
        vocab_size: V.
        n_embed: E, embedding size.
        n_hidden: H, hidden size.
        init: "uniform", "identity" or "orthogonal"; the last two apply to W_hh and set b_h to zero.
    """

    default_feed = "windows"

    def __init__(self, vocab_size: int, n_embed: int = 42, n_hidden: int = 256, init: str = "uniform") -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, n_embed)
        self.embed_to_hidden = nn.Linear(n_embed, n_hidden)
        self.hidden_to_hidden = nn.Linear(n_hidden, n_hidden)
        self.head = nn.Linear(n_hidden, vocab_size)
        init_recurrent(self.hidden_to_hidden, init)

    def features(self, chars: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read a batch of text.

        Args:
            chars: character indices, long, (B, T).
            state: h_0, float, (B, H); zeros when None.

        Returns:
            features: h_1..h_T, float, (B, T, H).
            state: h_T, float, (B, H).
        """
        inputs = torch.relu(self.embed_to_hidden(self.embed(chars)))  # (B, T, H)
        hidden = torch.zeros_like(inputs[:, 0]) if state is None else state
        weight, bias = self.hidden_to_hidden.weight.t(), self.hidden_to_hidden.bias
        steps = []
        for x in inputs.unbind(dim=1):  # (B, H)
            hidden = loop_cell(torch, x, hidden, weight, bias)
            steps.append(hidden)
        return torch.stack(steps, dim=1), hidden
