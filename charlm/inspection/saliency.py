"""Saliency: how much each earlier character mattered for one prediction, by two measures.

    left out      log2 p(w | c_1 .. c_T) - log2 p(w | c_1 .. c_T with index 0 in place of c_t), for any model
    integrated    gradients of the logit of w with respect to the embedding of c_t, integrated on the straight line
    gradients     from the zero vector to that embedding, times the embedding; for models with gradients

The model has read the text before c_1, and that state stays as it is. Integrated gradients add up to the logit of w
minus that with zero vectors in place of the embeddings of all T characters (completeness). With the embedding of index
0, which is not trained, as the baseline, or with T far above 50, the integrand varies too fast for a few hundred steps.
A model that normalises the embedding first (`transformer`) is left out: its logit jumps at the zero vector, since the
normalised embedding hardly depends on the length of the vector. This part of the difference says nothing of importance.

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

N_STEPS, MAX_STEPS = 64, 1024  # S, of the integral
TOLERANCE = 0.01  # of completeness, as a share of the difference of logits
ROUNDING = 1e-4  # logits; a smaller error is that of float32
NEAR_BASELINE = (1e-4, 1e-3)  # shares of the line on which a smooth logit hardly changes
JUMP = 0.05  # change of the logit there, in logits and as a share of the difference, that is no smooth one
BATCH_CHARS = 2048  # characters of one forward pass, which bounds memory
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


def left_out(model: CharModel, context: Context, batch_chars: int = BATCH_CHARS) -> Numbers:
    """Return the bits that a prediction loses when each character is left out, float64, (T,).

    Args:
        model: any.
        context: on the model's device.
        batch_chars: characters of one forward pass at most, but one text at least.
    """
    n = len(context.chars)
    variants = context.chars.repeat(n + 1, 1)  # row t without character t, the last row complete
    variants[torch.arange(n), torch.arange(n)] = 0
    parts = []
    with eval_mode(model):
        for rows in torch.split(variants, max(1, batch_chars // (len(context.before) + n))):
            logits, _ = model(torch.cat([context.before.expand(len(rows), -1), rows], dim=1), only_last=True)
            parts.append(logits[:, -1].double().log_softmax(dim=-1)[:, context.target] / math.log(2))
        log_probs = torch.cat(parts)
    result: Numbers = (log_probs[-1] - log_probs[:-1]).cpu().numpy()
    return result


def integrated_gradients(
    model: CharModel, context: Context, tolerance: float = TOLERANCE, max_steps: int = MAX_STEPS
) -> tuple[Numbers, float]:
    """Return integrated gradients by captum, and the difference of logits to which they add up.

    Args:
        model: with an embedding, and without counts.
        context: on the model's device.
        tolerance: S is doubled, from 64, until completeness holds up to this share of the difference (`is_complete`).
        max_steps: S at most; the quadrature is that of Gauss and Legendre.

    Returns:
        attributions: float64, (T,).
        difference: logit of w minus that with zero vectors for all T characters.

    Raises:
        UsageError: the model counts, so that its prediction is no differentiable function of the embedding, or its
            logit jumps at the zero vector.
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
            shares = torch.tensor([0, *NEAR_BASELINE, 1], dtype=embedded.dtype, device=embedded.device)
            changes = (logit(shares[:, None, None] * embedded)).double()
            *near, difference = (changes[1:] - changes[0]).tolist()
        if max(map(abs, near)) > JUMP * max(1, abs(difference)):
            raise UsageError(f"{model.name}: the logit jumps at the zero vector, the baseline of integrated gradients")
        n_steps, n_rows = N_STEPS, max(1, BATCH_CHARS // len(context.chars))
        while True:
            attributions = method.attribute(embedded, start, n_steps=n_steps, internal_batch_size=n_rows)  # (1, T, E)
            result: Numbers = attributions[0].sum(dim=-1).double().detach().cpu().numpy()
            if is_complete(result, difference, tolerance) or n_steps >= max_steps:
                return result, difference
            n_steps *= 2


def is_complete(attributions: Numbers, difference: float, tolerance: float = TOLERANCE) -> bool:
    """Return whether integrated gradients add up to the difference of logits, up to a share of it or `ROUNDING`."""
    return bool(abs(attributions.sum() - difference) <= max(tolerance * abs(difference), ROUNDING))


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
