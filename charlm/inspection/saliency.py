"""Saliency: how much each earlier character mattered for one prediction, by two measures.

    left out      log2 p(w | c_1 .. c_T) - log2 p(w | c_1 .. c_T with index 0 in place of c_t), for any model
    integrated    sum over the embedding of the gradients of the logit of w, integrated on the straight line from the
    gradients     embedding of index 0 to that of c_t, times their difference; for models with gradients

Integrated gradients add up to the logit of w minus that of a context of zeros only (completeness).

References: Sundararajan, Taly, Yan (2017), Axiomatic attribution for deep networks, arXiv:1703.01365; Li, Monroe,
Jurafsky (2016), Understanding neural networks through representation erasure, arXiv:1612.08220.

Shapes: T characters of a context, V vocab_size, E n_embed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlm.errors import UsageError
from charlm.evaluation.protocol import eval_mode
from charlm.models import CharModel
from charlm.models.counting import CountingModel

N_STEPS = 64  # of the integral
Numbers = NDArray[np.float64]


def left_out(model: CharModel, context: Tensor, target: int) -> Numbers:
    """Return the bits that a prediction loses when each character is left out, float64, (T,).

    Args:
        model: any.
        context: indices of the text so far, long, (T,), on the model's device.
        target: index of the predicted character w.
    """
    n = len(context)
    variants = context.repeat(n + 1, 1)  # row t without character t, the last row complete
    variants[torch.arange(n), torch.arange(n)] = 0
    with eval_mode(model):
        logits, _ = model(variants, only_last=True)
        log_probs = logits[:, -1].double().log_softmax(dim=-1)[:, target] / math.log(2)
    result: Numbers = (log_probs[-1] - log_probs[:-1]).cpu().numpy()
    return result


def integrated_gradients(
    model: CharModel, context: Tensor, target: int, n_steps: int = N_STEPS
) -> tuple[Numbers, float]:
    """Return integrated gradients by captum, and the difference of logits to which they add up.

    Args:
        model: with an embedding, and without counts.
        context: see `left_out`.
        target: see `left_out`.
        n_steps: of the integral, by Gauss-Legendre quadrature.

    Returns:
        attributions: float64, (T,).
        difference: logit of w minus that of a context of zeros.

    Raises:
        UsageError: the model counts, so that its prediction is no differentiable function of the embedding.
        ImportError: captum is not installed.
    """
    if isinstance(model, CountingModel):
        raise UsageError(f"{model.name}: integrated gradients need a model without counts; use left_out")
    from captum.attr import LayerIntegratedGradients

    def logit(chars: Tensor) -> Tensor:
        logits: Tensor = model(chars, only_last=True)[0]
        return logits[:, -1, target]

    chars = context.unsqueeze(0)
    zeros = torch.zeros_like(chars)
    with eval_mode(model, gradients=True), torch.backends.cudnn.flags(enabled=False):
        method: Any = LayerIntegratedGradients(logit, model.embed)
        attributions = method.attribute(chars, zeros, n_steps=n_steps)  # (1, T, E)
        difference = (logit(chars) - logit(zeros)).item()
    result: Numbers = attributions[0].sum(dim=-1).double().detach().cpu().numpy()
    return result, difference


def rank_correlation(a: Numbers, b: Numbers) -> float:
    """Return Spearman's rank correlation of two vectors; ties keep their order."""
    ranks = [np.argsort(np.argsort(each, kind="stable"), kind="stable") for each in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])
