"""The contract of every model.

Shapes: B batch_size, T characters, V vocab_size, E n_embed, H n_hidden, L n_layers.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

State = Any  # a tensor, a tuple of tensors, or None


def detach(state: State) -> State:
    """Cut a state off from the steps that made it, so that gradients stop there."""
    if isinstance(state, Tensor):
        return state.detach()
    return None if state is None else tuple(detach(part) for part in state)


def to_device(state: State, device: torch.device) -> State:
    """Return a state, or any list or tuple of tensors, on a device; what is no tensor stays as it is."""
    if isinstance(state, Tensor):
        return state.to(device)
    return type(state)(to_device(part, device) for part in state) if isinstance(state, (list, tuple)) else state


class CharModel(nn.Module):
    """Turn characters into the logits of the character that follows each.

    A model is called as `logits, state = model(chars, state)`. State goes in and comes out and is never kept, so
    a model is not tied to a batch size and nothing leaks from one text into another. Loss, softmax and units are
    not a model's business. The constructor's signature is the schema of its options.

    A subclass defines `features` and sets `head`.

    Attributes:
        n_context: the number of characters that a model with a fixed window needs; None for a model that reads any
            number and carries a state.
        default_feed: the feed that suits it.
        default_learning_rate: a peak learning rate that suits it, with Adam and the default batch.
        uses_gradients: False for a model that only counts, and has no parameters.
        name: key of the architecture in `MODELS`; set by `build`.
        config: the constructor's options, defaults included; set by `build`.
        embed: one row a character.
        head: features (B, T, H) to logits (B, T, V).
    """

    n_context: int | None = None
    default_feed = "stream"
    default_learning_rate = 5e-3
    uses_gradients = True
    name = ""
    config: dict[str, Any]
    embed: nn.Embedding
    head: nn.Module

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(chain(self.parameters(), self.buffers())).device

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.embed.num_embeddings

    @property
    def n_parameters(self) -> int:
        """How many numbers were learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    def features(self, chars: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Read a batch of text.

        Args:
            chars: character indices, long, (B, T).
            state: what an earlier call returned, to go on from there; None starts afresh.

        Returns:
            features: what is known after each character, float, (B, T, H); (B, 1, H) with a fixed window.
            state: from which the next batch goes on.
        """
        raise NotImplementedError

    def forward(self, chars: Tensor, state: State = None, only_last: bool = False) -> tuple[Tensor, State]:
        """Predict the character after each one.

        Args:
            chars: character indices, long, (B, T).
            state: what an earlier call returned; None starts afresh.
            only_last: give the logits of the last position alone, and pay for no other.

        Returns:
            logits: float, (B, T, V), or (B, 1, V).
            state: from which the next batch goes on.
        """
        features, state = self.features(chars, state)
        if only_last:
            features = features[:, -1:]
        return self.head(features), state
