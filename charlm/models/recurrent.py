"""Base class of recurrent models: embedding, stacked recurrent layers, linear head.

    x_t = embedding of the character at step t
    h_t, state = layers(x_t, state)
    logits_t = W_hv h_t + b_v

Shapes: B batch_size, T characters, E n_embed, H n_hidden, L n_layers, V vocab_size.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from charlm.models.base import CharModel, State


class Recurrent(CharModel):
    """Recurrent language model; a subclass implements `make_layers`.

    Args:
        vocab_size: V.
        n_embed: E, embedding size.
        n_hidden: H, hidden size of each layer.
        n_layers: L.
        dropout: dropout probability between layers.
        head_dropout: dropout probability before the head.
        tied: share the weights of the embedding and the output layer (Press and Wolf, 2017, arXiv:1608.05859).
            If E != H, a linear layer from H to E precedes the output layer.
        layer_options: further options of `make_layers`.
    """

    def __init__(
        self,
        vocab_size: int,
        n_embed: int = 42,
        n_hidden: int = 256,
        n_layers: int = 1,
        dropout: float = 0.0,
        head_dropout: float = 0.0,
        tied: bool = False,
        **layer_options: Any,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, n_embed)
        # PyTorch warns if dropout is set with a single layer.
        self.layers = self.make_layers(n_embed, n_hidden, n_layers, dropout if n_layers > 1 else 0.0, **layer_options)
        n_last = n_embed if tied else n_hidden
        decoder = nn.Linear(n_last, vocab_size)
        if tied:
            nn.init.normal_(self.embed.weight, std=n_embed**-0.5)  # std 1 makes the logits far too large
            decoder.weight = self.embed.weight
        self.head = nn.Sequential(
            nn.Dropout(head_dropout),
            nn.Linear(n_hidden, n_last) if n_last != n_hidden else nn.Identity(),
            decoder,
        )

    @staticmethod
    def make_layers(*sizes: Any, **layer_options: Any) -> nn.Module:
        """Return layers, called as `outputs, state = layers(inputs, state)`: (B, T, E) to (B, T, H).

        Args:
            sizes: n_embed, n_hidden, n_layers, dropout.
            layer_options: options of the subclass.
        """
        raise NotImplementedError

    def features(self, chars: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Run the layers over a batch.

        Args:
            chars: character indices, long, (B, T).
            state: h_0, float, (L, B, H), or (h_0, c_0) for an LSTM; None for zeros.

        Returns:
            features: h_1..h_T of the last layer, float, (B, T, H).
            state: h_T, or (h_T, c_T), shapes as above.
        """
        features, state = self.layers(self.embed(chars), state)
        return features, state
