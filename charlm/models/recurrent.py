"""The frame around stacked recurrent layers: embed, read, predict.

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
    """Predict each next character with recurrent layers; a subclass says which.

    Args:
        vocab_size: V.
        n_embed: E, numbers to describe a character.
        n_hidden: H, numbers to describe what was read, in each layer.
        n_layers: L.
        dropout: share of the numbers set to zero between layers, while training.
        head_dropout: the same before the head.
        tied: the head's last matrix is the embedding itself. Reference: Press and Wolf (2017), arXiv:1608.05859.
            Where E and H differ, a linear layer from H to E comes before it.
        layer_options: what a subclass's layers take beyond these.
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
        # PyTorch warns of dropout between layers where there is no between.
        self.layers = self.make_layers(n_embed, n_hidden, n_layers, dropout if n_layers > 1 else 0.0, **layer_options)
        n_last = n_embed if tied else n_hidden
        decoder = nn.Linear(n_last, vocab_size)
        if tied:
            nn.init.normal_(self.embed.weight, std=n_embed**-0.5)  # N(0, 1) is far too large for logits
            decoder.weight = self.embed.weight
        self.head = nn.Sequential(
            nn.Dropout(head_dropout),
            nn.Linear(n_hidden, n_last) if n_last != n_hidden else nn.Identity(),
            decoder,
        )

    @staticmethod
    def make_layers(*sizes: Any, **layer_options: Any) -> nn.Module:
        """Return layers that read (B, T, E) and a state and give (B, T, H) and a state.

        Args:
            sizes: n_embed, n_hidden, n_layers, dropout.
            layer_options: the rest.
        """
        raise NotImplementedError

    def features(self, chars: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Read a batch of text.

        Args:
            chars: character indices, long, (B, T).
            state: h_0, float, (L, B, H), or the pair (h_0, c_0) for an LSTM; zeros when None.

        Returns:
            features: the last layer's h_1..h_T, float, (B, T, H).
            state: h_T, or (h_T, c_T), as above.
        """
        features, state = self.layers(self.embed(chars), state)
        return features, state
