"""An LSTM with dropout in the five places where a small text needs it.

With M_x, M_h, M_o masks that stay the same over a sequence and M_w a mask over weights, drawn anew for every batch:

    x_t = M_x * embedding of the character at step t       (whole characters are hidden, too)
    h_t, c_t = lstm(x_t, h_{t-1}, c_{t-1}) with M_w * W_hh in the place of W_hh
    between layers M_h * h_t, before the head M_o * h_t

The recurrent weights are dropped before PyTorch's fused kernel (`torch.lstm`) sees them, so nothing of its speed is
lost. Two penalties that belong to the method, on large and on quickly changing activations, are recipe lines for any
model: `ar` and `tar`.

Reference: Merity, Keskar, Socher (2018), Regularizing and optimizing LSTM language models, arXiv:1708.02182; on
characters (2018), arXiv:1803.08240: 1.175 bits per character on the Penn Treebank, 1.232 on enwik8.

Shapes: B batch_size, T characters, E n_embed, H n_hidden, L n_layers, V vocab_size.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.models.base import State
from charlm.models.layers.dropout import CharDropout, LockedDropout
from charlm.models.recurrent import Recurrent


class WeightDropLSTM(nn.Module):
    """Layers of `nn.LSTM` with dropout on W_hh, and locked dropout between them.

    Args:
        n_embed: E.
        n_hidden: H, in each layer.
        n_layers: L.
        dropout: locked, between layers.
        weight_dropout: share of W_hh set to zero.
    """

    def __init__(self, n_embed: int, n_hidden: int, n_layers: int, dropout: float, weight_dropout: float) -> None:
        super().__init__()
        sizes = [n_embed] + [n_hidden] * (n_layers - 1)
        self.layers = nn.ModuleList(nn.LSTM(n, n_hidden, batch_first=True) for n in sizes)
        self.dropout = LockedDropout(dropout)
        self.n_hidden, self.weight_dropout = n_hidden, weight_dropout

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Read (B, T, E); the state is the pair (h, c), each (L, B, H)."""
        zeros = x.new_zeros(len(self.layers), x.shape[0], self.n_hidden)
        before = (zeros, zeros) if state is None else state
        after = []
        for i in range(len(self.layers)):
            x, h, c = self.read_layer(i, self.dropout(x) if i > 0 else x, before[0][i], before[1][i])
            after.append((h, c))
        return x, tuple(torch.stack(part) for part in zip(*after, strict=True))

    def weights(self, i: int) -> list[Tensor]:
        """Return layer i's W_ih, W_hh after dropout, b_ih, b_hh."""
        layer = self.layers[i]
        assert isinstance(layer, nn.LSTM)
        w_ih, w_hh, b_ih, b_hh = layer.all_weights[0]
        return [w_ih, F.dropout(w_hh, self.weight_dropout, self.training), b_ih, b_hh]

    def read_layer(self, i: int, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run layer i over x, (B, T, E or H), from h and c, (B, H); return its output, (B, T, H), and new h and c."""
        # After the weights: with biases, 1 layer, no dropout, training or not, one direction, batch first.
        state, flags = [h.unsqueeze(0), c.unsqueeze(0)], (True, 1, 0.0, self.training, False, True)
        output, h, c = torch.lstm(x, state, self.weights(i), *flags)
        return output, h[0], c[0]


class AWDLSTM(Recurrent):
    """Predict each next character with a weight-dropped LSTM.

    Args:
        vocab_size: V.
        weight_dropout: share of W_hh set to zero, the same for a whole sequence.
        input_dropout: locked, on the embedding.
        char_dropout: share of the vocabulary that is hidden.
        options: the options of `Recurrent`; its dropouts are locked here.
    """

    def __init__(
        self,
        vocab_size: int,
        weight_dropout: float = 0.3,
        input_dropout: float = 0.0,
        char_dropout: float = 0.0,
        n_layers: int = 2,
        dropout: float = 0.3,
        head_dropout: float = 0.3,
        **options: Any,
    ) -> None:
        options |= {"n_layers": n_layers, "dropout": dropout, "weight_dropout": weight_dropout}
        super().__init__(vocab_size, head_dropout=head_dropout, **options)
        assert isinstance(self.head, nn.Sequential)
        self.head[0] = LockedDropout(head_dropout)
        self.char_dropout = CharDropout(char_dropout)
        self.input_dropout = LockedDropout(input_dropout)

    @staticmethod
    def make_layers(*sizes: Any, **layer_options: Any) -> nn.Module:
        """Return weight-dropped layers."""
        return WeightDropLSTM(*sizes, **layer_options)

    def features(self, chars: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Read a batch of text.

        Args:
            chars: character indices, long, (B, T).
            state: the pair (h_0, c_0), each float, (L, B, H); zeros when None.

        Returns:
            features: the last layer's h_1..h_T, float, (B, T, H).
            state: (h_T, c_T), as above.
        """
        embedded = self.char_dropout(self.embed(chars), chars, self.embed.num_embeddings)
        features, state = self.layers(self.input_dropout(embedded), state)
        return features, state
