"""Gradient flow: the norm of d loss_t / d state_{t-k} by lag k and by layer.

In a plain RNN it shrinks (or grows) exponentially with the lag, so that training learns nothing from distant
characters; the gates of GRU and LSTM keep it from vanishing.

References: Bengio, Simard, Frasconi (1994), Learning long-term dependencies with gradient descent is difficult, IEEE
Transactions on Neural Networks 5(2); Pascanu, Mikolov, Bengio (2013), arXiv:1211.5063.

Shapes: K lags, L n_layers, H n_hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from charlm.errors import UsageError
from charlm.evaluation.protocol import TextRange, eval_mode
from charlm.models import CharModel
from charlm.models.base import State

LAGS = (1, 2, 4, 8, 16, 32, 64)
N_PLACES = 32  # predictions over which norms are averaged
WARMUP_CHARS = 64  # read before the first lag


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """Norms of the gradient.

    Attributes:
        lags: k, in characters.
        norms: mean norm of d loss_t / d state_{t-k} in nats, float64, (K, L); a single column if the
            tensors of the state have no common dimension of layers.
    """

    lags: Sequence[int]
    norms: NDArray[np.float64]


def gradient_flow(
    model: CharModel, text: TextRange, lags: Sequence[int] = LAGS, n_places: int = N_PLACES
) -> GradientFlow:
    """Measure gradient flow at positions spread evenly over a text.

    Args:
        model: one that carries a state of floating-point tensors.
        text: the characters to predict.
        lags: k.
        n_places: number of predictions.

    Raises:
        UsageError: the model has no such state, or the text is too short.
    """
    if not model.uses_gradients:
        raise UsageError(f"{model.name} counts n-grams; it has no gradients")
    longest = max(lags) + WARMUP_CHARS
    if text.n_chars <= longest + n_places:
        raise UsageError(f"gradient flow needs more than {longest + n_places} characters, got {text.n_chars}")
    positions = np.linspace(text.first + longest, text.stop - 1, n_places).astype(int)
    with eval_mode(model, gradients=True), torch.backends.cudnn.flags(enabled=False):
        rows = [_norms(model, text.ids, int(position), lags) for position in positions]
    return GradientFlow(tuple(lags), np.array(rows).mean(axis=0))


def _norms(model: CharModel, ids: Tensor, position: int, lags: Sequence[int]) -> list[list[float]]:
    """Return the norms of the gradient of the loss at `position`, (K, L), from one forward and one backward pass.

    The text is read in chunks that end at the states of the lags.
    """
    distances = sorted(lags, reverse=True)
    first = position - distances[0] - WARMUP_CHARS
    chars = ids[first : position + 1].to(model.device).long().unsqueeze(0)
    with torch.no_grad():
        _, state = model.features(chars[:, :WARMUP_CHARS])
    states: list[list[Tensor]] = []
    for distance, following in zip(distances, [*distances[1:], 0], strict=True):
        leaves: list[Tensor] = []
        state = _marked(state, leaves)
        if not leaves:
            raise UsageError(f"{model.name}: gradient flow needs a model that carries a state with gradients")
        states.append(leaves)
        chunk = chars[:, position - distance - first : position - following - first]
        if following:
            _, state = model.features(chunk, state)
    logits, _ = model(chunk, state, only_last=True)
    loss = F.cross_entropy(logits[:, -1], chars[0, -1:])
    flat = [leaf for leaves in states for leaf in leaves]
    gradients = iter(torch.autograd.grad(loss, flat, allow_unused=True, materialize_grads=True))
    found = {}
    for distance, leaves in zip(distances, states, strict=True):
        n_layers = leaves[0].shape[0] if all(leaf.shape[0] == leaves[0].shape[0] for leaf in leaves) else 1
        squares = torch.stack([next(gradients).reshape(n_layers, -1).square().sum(dim=1) for _ in leaves]).sum(dim=0)
        found[distance] = squares.sqrt().tolist()
    return [found[lag] for lag in lags]


def _marked(state: State, leaves: list[Tensor]) -> State:
    """Return a state in which each floating-point tensor is a node of the graph, and append these to `leaves`."""
    if isinstance(state, Tensor):
        if not state.is_floating_point():
            return state
        leaves.append(state.clone() if state.requires_grad else state.clone().requires_grad_())
        return leaves[-1]
    return None if state is None else tuple(_marked(part, leaves) for part in state)
