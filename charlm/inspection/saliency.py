"""Saliency: how much each earlier character mattered for one prediction, by two measures.

    left out      log2 p(w | c_1 .. c_T) - log2 p(w | c_1 .. c_T with index 0 in place of c_t), for any model
    integrated    gradients of the logit of w with respect to the embedding of c_t, integrated on the straight line
    gradients     from the zero vector to that embedding, times the embedding; for models with gradients

The model has read the text before c_1, and that state stays as it is. Integrated gradients add up to the logit of w
minus that with zero vectors in place of the embeddings of all T characters (completeness). With the embedding of index
0, which is not trained, as the baseline, or with T far above 50, the integrand varies too fast for a few hundred steps.
So it does near the zero vector for models that normalise the embedding (`transformer`).

References: Sundararajan, Taly, Yan (2017), Axiomatic attribution for deep networks, arXiv:1703.01365; Li, Monroe,
Jurafsky (2016), Understanding neural networks through representation erasure, arXiv:1612.08220.

Shapes: P characters before the context, T characters of the context, V vocab_size, E n_embed, S steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from charlm.errors import UsageError
from charlm.evaluation.protocol import eval_mode
from charlm.models import CharModel
from charlm.models.base import State
from charlm.models.counting import counting_parts

N_STEPS, MAX_STEPS = 64, 512  # S, of the integral
TOLERANCE = 0.01  # of completeness, as a share of the difference of logits
Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Context:
    """The characters before a prediction.

    Attributes:
        before: read first, never left out, long, (P,).
        chars: those whose importance is measured, long, (T,).
        target: index of the predicted character w.
    """

    before: Tensor
    chars: Tensor
    target: int


def left_out(model: CharModel, context: Context) -> Numbers:
    """Return the bits that a prediction loses when each character is left out, float64, (T,).

    Args:
        model: any.
        context: on the model's device.
    """
    n = len(context.chars)
    variants = context.chars.repeat(n + 1, 1)  # row t without character t, the last row complete
    variants[torch.arange(n), torch.arange(n)] = 0
    with eval_mode(model):
        chars = torch.cat([context.before.expand(n + 1, -1), variants], dim=1)
        logits, _ = model(chars, only_last=True)
        log_probs = logits[:, -1].double().log_softmax(dim=-1)[:, context.target] / math.log(2)
    result: Numbers = (log_probs[-1] - log_probs[:-1]).cpu().numpy()
    return result


def integrated_gradients(
    model: CharModel, context: Context, tolerance: float = TOLERANCE, max_steps: int = MAX_STEPS
) -> tuple[Numbers, float]:
    """Return integrated gradients by captum, and the difference of logits to which they add up.

    Args:
        model: with an embedding, and without counts.
        context: on the model's device.
        tolerance: S is doubled, from 64, until completeness holds up to this share of the difference.
        max_steps: S at most; the quadrature is that of Gauss and Legendre.

    Returns:
        attributions: float64, (T,).
        difference: logit of w minus that with zero vectors for all T characters.

    Raises:
        UsageError: the model counts, so that its prediction is no differentiable function of the embedding.
        ImportError: captum is not installed.
    """
    if counting_parts(model):
        raise UsageError(f"{model.name} counts n-grams; integrated gradients need a model without counts")
    from captum.attr import IntegratedGradients

    with eval_mode(model, gradients=True), torch.backends.cudnn.flags(enabled=False):
        with torch.no_grad():
            one, two = (
                model.features(context.before.expand(n, -1))[1] if len(context.before) else None for n in (1, 2)
            )

        def logit(embedded: Tensor) -> Tensor:  # (S, T, E) to (S,)
            n, length, _ = embedded.shape
            chars = torch.arange(n * length, device=embedded.device).view(n, length)
            table = {"embed.weight": embedded.flatten(0, 1)}  # row i is the embedding of "character" i
            logits, _ = functional_call(model, table, (chars, _repeated(one, two, n), True), tie_weights=False)
            result: Tensor = logits[:, -1, context.target]
            return result

        embedded = model.embed(context.chars).detach().unsqueeze(0)
        start = torch.zeros_like(embedded)
        method: Any = IntegratedGradients(logit)
        with torch.no_grad():
            difference = (logit(embedded) - logit(start)).item()
        n_steps = N_STEPS
        while True:
            attributions = method.attribute(embedded, start, n_steps=n_steps)  # (1, T, E)
            result: Numbers = attributions[0].sum(dim=-1).double().detach().cpu().numpy()
            if abs(result.sum() - difference) <= tolerance * abs(difference) or n_steps >= max_steps:
                return result, difference
            n_steps *= 2


def _repeated(one: State, two: State, n: int) -> State:
    """Return the state of n equal texts, given that of one and of two; they tell which dimension counts texts."""
    if isinstance(one, Tensor):
        grown = [dim for dim in range(one.ndim) if one.shape[dim] != two.shape[dim]]
        return one.repeat_interleave(n, grown[0]) if grown else one
    return None if one is None else tuple(_repeated(*pair, n) for pair in zip(one, two, strict=True))


def rank_correlation(a: Numbers, b: Numbers) -> float:
    """Return Spearman's rank correlation of two vectors; ties keep their order."""
    ranks = [np.argsort(np.argsort(each, kind="stable"), kind="stable") for each in (a, b)]
    n = len(a)
    return 1 - 6 * float(((ranks[0] - ranks[1]) ** 2).sum()) / (n * (n * n - 1))
