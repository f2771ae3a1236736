"""Mixture: weighted mean of the probabilities of several models.

    p(character) = w_1 p_1(character) + ... + w_K p_K(character),      w_k >= 0,  sum of w_k = 1

The weights maximise the likelihood of a text that no model was trained on, by expectation-maximisation: the next w_k is
the mean over the text of w_k p_k(character) / p(character).

References: Jelinek and Mercer (1980), Interpolated estimation of Markov source parameters from sparse data; Dempster,
Laird, Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm.

Shapes: K models, N characters of text, B batch_size, T characters, V vocab_size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real

import torch
from torch import Tensor, nn

from charlm.errors import UsageError, shown
from charlm.evaluation.protocol import TextRange, eval_mode, per_char_nll
from charlm.generation.language_model import LanguageModel
from charlm.models.base import CharModel, State
from charlm.models.counting import HasCacheModel

MAX_ITERATIONS = 1000  # of expectation-maximisation
TOLERANCE = 1e-6  # converged when no weight changes by more


class _SlidingWindow(CharModel):
    """A model with a fixed window as a model with a state: the last `n_context` characters."""

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
    """Weighted mean of the probabilities of models that carry a state.

    Args:
        models: with the same vocabulary.
        weights: one per model, at least 0, with the sum 1.
    """

    def __init__(self, models: Sequence[CharModel], weights: Sequence[float]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.weights = list(weights)

    def forward(self, chars: Tensor, state: State = None, only_last: bool = False) -> tuple[Tensor, State]:
        """Predict the character after each one.

        Args:
            chars: character indices, long, (B, T).
            state: one per model; None is the initial state.
            only_last: return the logits of the last position only.

        Returns:
            logits: log-probabilities of the mixture, float, (B, T, V), or (B, 1, V).
            state: after the last character.
        """
        states = [None] * len(self.models) if state is None else state
        results = [model(chars, s, only_last) for model, s in zip(self.models, states, strict=True)]
        log_probs = torch.stack([torch.log_softmax(logits, dim=-1) for logits, _ in results])  # (K, B, T, V)
        log_weights = log_probs.new_tensor(self.weights).log().view(-1, 1, 1, 1)
        return torch.logsumexp(log_weights + log_probs, dim=0), tuple(s for _, s in results)

    def freeze_cache(self, state: State, n_texts: int) -> State:
        """Return a state after which the cache models of all models count no further characters."""
        states = [None] * len(self.models) if state is None else state
        return tuple(
            model.freeze_cache(s, n_texts) if isinstance(model, HasCacheModel) else s
            for model, s in zip(self.models, states, strict=True)
        )


def check_compatible(models: Sequence[LanguageModel]) -> None:
    """Check that models encode a text in the same way.

    Raises:
        UsageError: they do not, or there is none.
    """
    if not isinstance(models, (list, tuple)) or not models or not all(isinstance(m, LanguageModel) for m in models):
        raise UsageError("models must be a list of language models, at least one")
    first = models[0]
    for i, model in enumerate(models[1:], start=2):
        for what, differs in (
            ("bytes or characters", model.metadata.is_bytes != first.metadata.is_bytes),
            ("lower case", model.metadata.is_lower != first.metadata.is_lower),
            ("vocabulary", model.vocab != first.vocab),
        ):
            if differs:
                raise UsageError(
                    f"models 1 and {i} differ in: {what}; a mixture needs models that encode a text in the same way"
                )


def mix(models: Sequence[LanguageModel], weights: Sequence[float]) -> LanguageModel:
    """Return a mixture as a language model. It cannot be saved; its parts can.

    Args:
        models: with the same vocabulary.
        weights: one per model, at least 0; they are normalized.

    Raises:
        UsageError: incompatible models or invalid weights.
    """
    check_compatible(models)
    weights = normalized(weights, len(models))
    parts = [
        model.model
        if model.metadata.n_context is None
        else _SlidingWindow(model.model, model.metadata.n_context, model.vocab.bos_id)
        for model in models
    ]
    metadata = replace(models[0].metadata, model="mixture", options={}, n_context=None)
    return LanguageModel(Mixture(parts, weights), metadata)


def normalized(weights: Sequence[float], n_models: int) -> list[float]:
    """Return weights divided by their sum.

    Raises:
        UsageError: not one weight per model, a weight below 0, or none above 0.
    """
    if not isinstance(weights, (list, tuple)) or not all(isinstance(weight, Real) for weight in weights):
        raise UsageError(f"weights must be a list of numbers, got {shown(weights)}")
    total = sum(weights)
    if len(weights) != n_models:
        raise UsageError(f"weights must be one per model: got {len(weights)} for {n_models} models")
    if not (all(weight >= 0 for weight in weights) and 0 < total < math.inf):
        raise UsageError(f"weights must be at least 0, and one above 0: got {', '.join(map(str, weights))}")
    return [weight / total for weight in weights]


def per_model_nats(models: Sequence[LanguageModel], text: TextRange) -> Tensor:
    """Predict the characters of a range with each model separately.

    Args:
        models: with the same vocabulary.
        text: the characters to predict.

    Returns:
        -ln p_k(character), float64, on the CPU, (K, characters).
    """
    rows = []
    for model in models:
        with eval_mode(model.model):
            chunks = per_char_nll(model.model, text, model.metadata.n_context)
            rows.append(torch.cat([chunk.to("cpu", torch.float64) for chunk in chunks]))
    return torch.stack(rows)


def mixture_nats(nats: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the loss of the mixture for each character.

    Args:
        nats: loss of each model for each character, float64, (K, N).
        weights: one per model, with the sum 1.

    Returns:
        -ln sum over k of w_k p_k(character), float64, (N,).
    """
    return -torch.logsumexp(nats.new_tensor(weights).log().unsqueeze(1) - nats, dim=0)


def fit_weights(nats: Tensor) -> list[float]:
    """Return the weights of maximum likelihood, by expectation-maximisation from equal weights.

    Args:
        nats: loss of each model for each character of the text, float64, (K, N).

    Returns:
        one weight per model, with the sum 1.
    """
    weights = nats.new_full((len(nats),), 1 / len(nats))
    for _ in range(MAX_ITERATIONS):
        shares = torch.softmax(weights.log().unsqueeze(1) - nats, dim=0)  # (K, N)
        before, weights = weights, shares.mean(dim=1)
        if (weights - before).abs().max() < TOLERANCE:
            break
    return normalized(weights.tolist(), len(nats))
