"""Mixtures: several models predict together, each with a weight.

    p(character) = w_1 p_1(character) + ... + w_K p_K(character),      w_k >= 0,  sum of w_k = 1

The weights are those under which a text that no model was trained on is most probable. Expectation-maximisation
finds them: the share that model k has in each character's probability, averaged over the text, is its next weight.

Reference: Jelinek and Mercer (1980), Interpolated estimation of Markov source parameters from sparse data; the
algorithm: Dempster, Laird, Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm.

Shapes: K models, N characters of text, B batch_size, T characters, V vocab_size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from charlm.errors import UsageError
from charlm.evaluation.metrics import eval_mode, per_char_nll
from charlm.generation.language_model import LanguageModel
from charlm.models.base import CharModel, State

N_ROUNDS = 1000  # at most, of expectation-maximisation
CLOSE = 1e-6  # a round that moves no weight by more is the last one


class _Sliding(CharModel):
    """A window model that reads a text of any length: its state is the last characters read."""

    def __init__(self, model: CharModel, n_context: int, bos_id: int) -> None:
        super().__init__()
        self.model, self._n_context, self._bos_id = model, n_context, bos_id

    def forward(self, chars: Tensor, state: State = None, only_last: bool = False) -> tuple[Tensor, State]:
        past = chars.new_full((len(chars), self._n_context), self._bos_id) if state is None else state
        text = torch.cat([past, chars], dim=1)  # (B, n_context + T)
        windows = text.unfold(1, self._n_context, 1)[:, 1:]  # (B, T, n_context): row t ends with chars[t]
        windows = windows[:, -1:] if only_last else windows
        logits, _ = self.model(windows.flatten(0, 1), only_last=True)  # (B * T, 1, V)
        return logits.view(*windows.shape[:2], -1), text[:, -self._n_context :]


class Mixture(CharModel):
    """Predict with the weighted mean of the probabilities of several models that carry a state.

    Args:
        models: of one vocabulary.
        weights: one a model, at least 0, together 1.
    """

    def __init__(self, models: Sequence[CharModel], weights: Sequence[float]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.weights = list(weights)

    def forward(self, chars: Tensor, state: State = None, only_last: bool = False) -> tuple[Tensor, State]:
        """Predict the character after each one.

        Args:
            chars: character indices, long, (B, T).
            state: one a model; None starts all of them afresh.
            only_last: give the logits of the last position alone.

        Returns:
            logits: the logarithms of the mixed probabilities, float, (B, T, V), or (B, 1, V).
            state: from which the next batch goes on.
        """
        states = [None] * len(self.models) if state is None else state
        results = [model(chars, s, only_last) for model, s in zip(self.models, states, strict=True)]
        log_probs = torch.stack([torch.log_softmax(logits, dim=-1) for logits, _ in results])  # (K, B, T, V)
        log_weights = log_probs.new_tensor(self.weights).log().view(-1, 1, 1, 1)
        return torch.logsumexp(log_weights + log_probs, dim=0), tuple(s for _, s in results)


def check_alike(models: Sequence[LanguageModel]) -> None:
    """Make sure that models read a text in the same way.

    Raises:
        UsageError: they do not.
    """
    first = models[0]
    for i, model in enumerate(models[1:], start=2):
        for what, differs in (
            ("reads bytes or characters, other than", model.metadata.is_bytes != first.metadata.is_bytes),
            ("reads lower case or not, other than", _lower(model) != _lower(first)),
            ("has another vocabulary than", model.vocab != first.vocab),
        ):
            if differs:
                raise UsageError(f"model {i} {what} the first one; only models that read a text alike can be mixed")


def _lower(model: LanguageModel) -> bool:
    return bool(model.metadata.recipe.get("lower"))


def mix(models: Sequence[LanguageModel], weights: Sequence[float]) -> LanguageModel:
    """Return a mixture that writes and scores as any other model; only its parts can be saved.

    Args:
        models: of one vocabulary.
        weights: one a model, at least 0; they are made to sum to 1.

    Raises:
        UsageError: models or weights that cannot be mixed.
    """
    check_alike(models)
    weights = normalized(weights, len(models))
    parts = [
        model.model
        if model.metadata.n_context is None
        else _Sliding(model.model, model.metadata.n_context, model.vocab.bos_id)
        for model in models
    ]
    metadata = replace(models[0].metadata, model="mixture", options={}, n_context=None)
    return LanguageModel(Mixture(parts, weights), metadata)


def normalized(weights: Sequence[float], n_models: int) -> list[float]:
    """Return weights that sum to 1.

    Raises:
        UsageError: not one for each model, one below 0, or none above it.
    """
    total = sum(weights)
    if len(weights) != n_models:
        raise UsageError(f"weights: {len(weights)} given for {n_models} models; give one for each")
    if not (all(weight >= 0 for weight in weights) and 0 < total < math.inf):
        raise UsageError(f"the weights are {', '.join(map(str, weights))}; none may be below 0, and one must be above")
    return [weight / total for weight in weights]


def each_nats(models: Sequence[LanguageModel], ids: Tensor, first: int, stop: int) -> Tensor:
    """Predict the characters `codes[first:stop]` with each model by itself.

    Args:
        models: of one vocabulary, on the device of `ids`.
        ids: the whole text as indices, (N,).
        first: position of the first character to predict.
        stop: position after the last one.

    Returns:
        -ln p_k(character), float64, on the CPU, (K, stop - first).
    """
    rows = []
    for model in models:
        with eval_mode(model.model):
            pieces = per_char_nll(model.model, ids, first, stop, model.metadata.n_context, bos_id=model.vocab.bos_id)
            rows.append(torch.cat([piece.to("cpu", torch.float64) for piece in pieces]))
    return torch.stack(rows)


def mixed_nats(nats: Tensor, weights: Sequence[float]) -> Tensor:
    """Return what the mixture needs for each character.

    Args:
        nats: of each model for each character, float64, (K, N).
        weights: one a model, together 1.

    Returns:
        -ln sum over k of w_k p_k(character), float64, (N,).
    """
    return -torch.logsumexp(nats.new_tensor(weights).log().unsqueeze(1) - nats, dim=0)


def fit_weights(nats: Tensor) -> list[float]:
    """Return the weights under which a text is most probable, by expectation-maximisation from equal ones.

    Args:
        nats: of each model for each character of the text, float64, (K, N).

    Returns:
        one weight a model, together 1.
    """
    weights = nats.new_full((len(nats),), 1 / len(nats))
    for _ in range(N_ROUNDS):
        shares = torch.softmax(weights.log().unsqueeze(1) - nats, dim=0)  # (K, N)
        before, weights = weights, shares.mean(dim=1)
        if (weights - before).abs().max() < CLOSE:
            break
    return normalized(weights.tolist(), len(nats))
