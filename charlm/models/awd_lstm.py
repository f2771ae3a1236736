"""AWD-LSTM (Merity et al. 2018): LSTM with weight dropout and locked dropout.

M_x, M_h, M_o are dropout masks that stay constant over a sequence; M_w is a mask over weights, drawn once a batch:

    x_t = M_x * embedding of the character at step t       (char_dropout also drops whole characters)
    h_t, c_t = lstm(x_t, h_{t-1}, c_{t-1}) with M_w * W_hh instead of W_hh
    input of the next layer: M_h * h_t; input of the head: M_o * h_t

The weights are dropped before the call of PyTorch's fused kernel, `torch.lstm`. The method's penalties on large and on
changing activations are recipe options of every model: `ar` and `tar`.

References: Merity, Keskar, Socher (2018), Regularizing and optimizing LSTM language models, arXiv:1708.02182; for
characters: (2018), arXiv:1803.08240 (1.175 bits per character on the Penn Treebank, 1.232 on enwik8).

Shapes: B batch_size, T characters, E n_embed, H n_hidden, L n_layers, V vocab_size.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.models.base import State
from charlm.models.layers.dropout import CharDropout, LockedDropout
from charlm.models.recurrent import Recurrent

# On a GPU; a weight that is dropped anew in each batch cannot lie beside the others in memory.
warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk", UserWarning)


class WeightDropLSTM(nn.Module):
    """Stacked `nn.LSTM` layers with dropout on W_hh and locked dropout between layers.

    Args:
        n_embed: E.
        n_hidden: H of each layer.
        n_layers: L.
        dropout: locked dropout probability between layers.
        weight_dropout: dropout probability of W_hh.
    """

    def __init__(self, n_embed: int, n_hidden: int, n_layers: int, dropout: float, weight_dropout: float) -> None:
        super().__init__()
        sizes = [n_embed] + [n_hidden] * (n_layers - 1)
        self.layers = nn.ModuleList(nn.LSTM(n, n_hidden, batch_first=True) for n in sizes)
        self.dropout = LockedDropout(dropout)
        self.n_hidden, self.weight_dropout = n_hidden, weight_dropout

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Run all layers over inputs, (B, T, E); the state is (h, c), each (L, B, H), None for zeros."""
        zeros = x.new_zeros(len(self.layers), x.shape[0], self.n_hidden)
        h_0, c_0 = (zeros, zeros) if state is None else state
        finals = []
        for i in range(len(self.layers)):
            x, h, c = self.run_layer(i, self.dropout(x) if i > 0 else x, h_0[i], c_0[i])
            finals.append((h, c))
        return x, tuple(torch.stack(part) for part in zip(*finals, strict=True))

    def weights(self, i: int) -> list[Tensor]:
        """Return W_ih, W_hh (after dropout), b_ih and b_hh of layer i."""
        layer = self.layers[i]
        assert isinstance(layer, nn.LSTM)
        w_ih, w_hh, b_ih, b_hh = layer.all_weights[0]
        return [w_ih, F.dropout(w_hh, self.weight_dropout, self.training), b_ih, b_hh]

    def run_layer(self, i: int, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run layer i over x, (B, T, E or H), from h and c, (B, H); return outputs, (B, T, H), and final h and c."""
        # has_biases, num_layers, dropout, train, bidirectional, batch_first
        state, flags = [h.unsqueeze(0), c.unsqueeze(0)], (True, 1, 0.0, self.training, False, True)
        output, h, c = torch.lstm(x, state, self.weights(i), *flags)
        return output, h[0], c[0]


class AWDLSTM(Recurrent):
    """Language model with a weight-dropped LSTM.

    Args:
        vocab_size: V.
        weight_dropout: dropout probability of W_hh; one mask a batch.
        input_dropout: locked dropout probability of the embedding.
        char_dropout: probability that a character of the vocabulary is dropped.
        n_layers: L.
        dropout: locked dropout probability between layers.
        head_dropout: locked dropout probability before the head.
        options: the other options of `Recurrent`.
    """

    make_layers: Any = WeightDropLSTM

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

    def features(self, chars: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Run the layers over a batch; see `Recurrent.features`."""
        embedded = self.char_dropout(self.embed(chars), chars, self.embed.num_embeddings)
        features, state = self.layers(self.input_dropout(embedded), state)
        return features, state
