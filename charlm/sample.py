"""Sampling: a generator of characters.

Shapes: T characters, V vocab_size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from charlm.errors import CharlmError, UsageError
from charlm.models.base import CharModel


def next_probs(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Tensor:
    """Turn logits into the probabilities to draw from. Index 0, which is no symbol, gets none.

    Args:
        logits: float, (V,).
        temperature: divides the logits; 0 puts all on the most probable.
        top_k: keep the k most probable. Reference: Fan et al. (2018), arXiv:1805.04833.
        top_p: keep the fewest that together have this probability. Reference: Holtzman et al. (2020),
            arXiv:1904.09751.
        min_p: keep those at least this share as probable as the most probable. Reference: Nguyen et al. (2024),
            arXiv:2407.01082.

    Raises:
        CharlmError: a logit is not finite.

    Returns:
        probabilities, float64, on the CPU, (V,).
    """
    logits = logits.detach().to("cpu", torch.float64).clone()
    if not logits.isfinite().all():
        raise CharlmError("the model's output is not a number; train it again, with a lower --learning-rate")
    logits[0] = -math.inf
    if temperature == 0:
        return torch.zeros_like(logits).scatter(0, logits.argmax(), 1.0)
    probs = torch.softmax((logits - logits.max()) / temperature, dim=0)
    ranked, order = probs.sort(descending=True, stable=True)
    keep = torch.ones_like(ranked, dtype=torch.bool)
    if top_k is not None:
        keep[top_k:] = False
    if top_p is not None:
        keep &= ranked.cumsum(0) - ranked < top_p
    if min_p is not None:
        keep &= ranked >= min_p * ranked[0]
    probs = probs.scatter(0, order, ranked * keep)
    return probs / probs.sum()


def generate(
    model: CharModel,
    prime: Sequence[int],
    n_context: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int | None = None,
) -> Iterator[int]:
    """Yield one character index after another, without end.

    A model that carries a state reads each character once; one with a window slides it. The draw is on the CPU by a
    generator of its own.

    Args:
        model: its mode is set to evaluation.
        prime: what was written so far, at least one character, shorter than a window only if the caller wants so.
        n_context: characters in a window; None for a model that carries its state.
        temperature: see `next_probs`.
        top_k: see `next_probs`.
        top_p: see `next_probs`.
        min_p: see `next_probs`.
        seed: of the draw; None takes a fresh one.

    Raises:
        UsageError: an option out of its range.
    """
    if not 0 <= temperature < math.inf:
        raise UsageError(f"temperature is {temperature}; it must be 0 (greedy) or more, and finite")
    if seed is not None and not 0 <= seed < 2**64:
        raise UsageError(f"seed is {seed}; it must be at least 0 and below 2**64")
    if top_k is not None and top_k < 1:
        raise UsageError(f"top-k is {top_k}; it must be at least 1")
    for name, share in (("top-p", top_p), ("min-p", min_p)):
        if share is not None and not 0 < share <= 1:
            raise UsageError(f"{name} is {share}; it must be above 0 and at most 1")
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    read = list(prime) if n_context is None else list(prime)[-n_context:]
    return _draws(model, read, n_context, generator, temperature, top_k, top_p, min_p)


def _draws(
    model: CharModel,
    read: list[int],
    n_context: int | None,
    generator: torch.Generator,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
) -> Iterator[int]:
    device = model.device
    model.eval()
    state = None
    while True:
        with torch.inference_mode():
            logits, state = model(torch.tensor([read], device=device), state, only_last=True)
            probs = next_probs(logits[0, -1], temperature, top_k, top_p, min_p)
            index = int(torch.multinomial(probs, 1, generator=generator))
        yield index
        if n_context is None:
            read = [index]
        else:
            read, state = [*read[1 - n_context :], index] if n_context > 1 else [index], None
