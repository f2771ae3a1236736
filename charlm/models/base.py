"""The interface of all models: characters and a state in, logits and a state out.

Shapes: B batch_size, T characters, V vocab_size, E n_embed, H n_hidden, L n_layers.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

State = Any  # a tensor, a tuple of tensors, or None


def documentation(model: type) -> str:
    """Return the docstring of a model's file, else that of its class, else its name."""
    file = sys.modules.get(model.__module__)
    return inspect.cleandoc((file and file.__doc__) or model.__doc__ or model.__name__)


def detach(state: State) -> State:
    """Detach a state from the graph (truncated backpropagation through time)."""
    if isinstance(state, Tensor):
        return state.detach()
    return None if state is None else tuple(detach(part) for part in state)


def to_device(state: State, device: torch.device) -> State:
    """Move the tensors of a state, or of any nested list or tuple, to a device."""
    if isinstance(state, Tensor):
        return state.to(device)
    return type(state)(to_device(part, device) for part in state) if isinstance(state, (list, tuple)) else state


class CharModel(nn.Module):
    """Character-level language model: logits of the next character at every position.

    Called as `logits, state = model(chars, state)`. The state is an argument and a result and is never stored in the
    module, so a model is independent of the batch size. Loss and softmax are computed by the caller. The signature of
    the constructor defines the options of the architecture.

    A subclass implements `features` and sets `embed` and `head`.

    Attributes:
        n_context: window length in characters of a model with a fixed window; None for a model with a state.
        default_feed: name of the default feed.
        default_learning_rate: default peak learning rate for Adam.
        uses_gradients: False for a model without parameters, which only counts.
        n_after_symbols: by the name of a weight, entries after those of symbols on an axis; see storage/transfer.py.
        name: key of the architecture in `MODELS`; set by `build`.
        config: all constructor options, defaults included; set by `build`.
        embed: embedding, (V, E).
        head: features (B, T, H) to logits (B, T, V).
    """

    n_context: int | None = None
    default_feed = "stream"
    default_learning_rate = 5e-3
    uses_gradients = True
    n_after_symbols: Mapping[str, int] = MappingProxyType({})
    name = ""
    config: dict[str, Any]
    embed: nn.Embedding
    head: nn.Module

    @property
    def device(self) -> torch.device:
        """Device of the parameters and buffers."""
        return next(chain(self.parameters(), self.buffers())).device

    @property
    def vocab_size(self) -> int:
        """V, the number of indices, including 0 for unknown characters."""
        return self.embed.num_embeddings

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def features(self, chars: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Compute the input of the head.

        Args:
            chars: character indices, long, (B, T).
            state: state returned by the previous call; None is the initial state.

        Returns:
            features: float, (B, T, H), or (B, 1, H) for a model with a fixed window.
            state: state after the last character.
        """
        raise NotImplementedError

    def forward(self, chars: Tensor, state: State = None, only_last: bool = False) -> tuple[Tensor, State]:
        """Predict the next character at every position.

        Args:
            chars: character indices, long, (B, T).
            state: state returned by the previous call; None is the initial state.
            only_last: compute the logits of the last position only.

        Returns:
            logits: float, (B, T, V); (B, 1, V) for a model with a fixed window or with `only_last`.
            state: state after the last character.
        """
        features, state = self.features(chars, state)
        if only_last:
            features = features[:, -1:]
        return self.head(features), state
