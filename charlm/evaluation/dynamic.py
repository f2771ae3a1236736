"""Dynamic evaluation (Krause et al. 2018): gradient steps on the text that has been read.

The text is read in segments s_1, s_2, ... Each segment is predicted first; then the weights take one step on it:

    theta_i = theta_{i-1} - rate * grad L(s_i) / (R + eps) + decay * R / mean(R) * (theta_0 - theta_{i-1})

theta_0: trained weights. L: mean nats per character. R: root mean squared gradient of L over batches of the training
part, elementwise. mean(R): mean over all weights. decay * R / mean(R) is clipped to 1. eps is a fraction of mean(R).
For the method "sgd", R + eps and R / mean(R) are 1. N-gram counts have no gradient; the characters read since the last
update are added to them.

The result is not comparable with static evaluation (`protocol.evaluate`): each character is predicted once and from the
characters before it, but by a model whose weights were updated on them.

Reference: Krause, Kahembwe, Murray, Renals (2018), Dynamic evaluation of neural sequence models, arXiv:1709.07432.

Shapes: N characters of text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from charlm.data.feeds import Stream, Windows
from charlm.errors import CharlmError, UsageError
from charlm.evaluation.metrics import nats_per_char
from charlm.evaluation.protocol import TextRange, eval_mode, evaluate, feed_logits, scored_logits
from charlm.models.base import CharModel
from charlm.models.counting import counting_parts, fit_counts, free_training_cache, keeping_counts, training_span
from charlm.options.ranges import checked_number

SEGMENT_LEN = 32
MIN_COUNT_INTERVAL = 64  # minimum number of characters between two updates of n-gram counts
MAX_COUNT_UPDATES = 2048  # per evaluation; the interval grows with the text
RMS_BATCHES = 64  # batches of the training part over which squared gradients are averaged
RMS_LANES = 8  # segments in each of these batches
EPSILON = 0.1  # eps as a fraction of mean(R)
DEFAULT_RATE = {"sgd": 0.03, "rms": 1e-4}
DEFAULT_DECAY = 0.01


@dataclass(frozen=True, eq=False)
class DynamicConfig:
    """Options of dynamic evaluation.

    Attributes:
        rate: learning rate.
        decay: decay towards the trained weights at each step, from 0 to 1.
        rms: R, one tensor a parameter, as `gradient_rms` returns it; None for the method "sgd".
        segment_len: characters between two steps.

    Raises:
        UsageError: a value out of its range.
    """

    rate: float
    decay: float
    rms: Sequence[Tensor] | None = None
    segment_len: int = SEGMENT_LEN

    def __post_init__(self) -> None:
        """Check every value, and convert it to int or float."""
        for name in ("rate", "decay", "segment_len"):
            object.__setattr__(self, name, checked_number(name, getattr(self, name)))  # the class is frozen


@contextmanager
def _with_gradients(model: CharModel) -> Iterator[None]:
    """Switch a model to evaluation mode with gradients, in one thread; restore both on exit.

    cuDNN has no backward pass for recurrent layers in evaluation mode. Segments are so short that one thread is as
    fast as two, and ten times as fast on a machine with other load (benchmarks/threads.py).
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with eval_mode(model, gradients=True), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.set_num_threads(n_threads)


def _parameters(model: CharModel) -> list[Tensor]:
    parameters: list[Tensor] = list(model.parameters())
    if not parameters and not counting_parts(model):
        raise UsageError("dynamic evaluation needs a model with weights or counts; this one has neither")
    return parameters


def gradient_rms(
    model: CharModel,
    ids: Tensor,
    n_context: int | None = None,
    segment_len: int = SEGMENT_LEN,
    char_classes: Tensor | None = None,
    lower: Tensor | None = None,
    n_lanes: int = RMS_LANES,
) -> list[Tensor]:
    """Return R, the root mean squared gradient over batches of a text.

    Args:
        model: on the device of `ids`; its weights, counts and mode are restored.
        ids: the training part, (N,).
        n_context: characters in a window; None for a model that carries its state.
        segment_len: see `DynamicConfig`.
        char_classes: class of each symbol, see `CountingModel.fit_counts`.
        lower: index of the lower-case form of each symbol.
        n_lanes: segments in a batch.

    Returns:
        one tensor a parameter, of its shape; empty for a model without parameters.

    Raises:
        UsageError: the model has neither weights nor counts.
        DataError: the text is too short.
    """
    parameters = _parameters(model)
    if not parameters:
        return []
    span = training_span(model, ids)
    feed = Stream(span, segment_len, n_lanes) if n_context is None else Windows(span, n_context, segment_len * n_lanes)
    n_batches = min(RMS_BATCHES, len(feed))
    squares = [torch.zeros_like(parameter) for parameter in parameters]
    with _with_gradients(model), keeping_counts(model):
        fit_counts(model, ids, char_classes, lower)
        for logits, targets in feed_logits(model, feed, n_batches):
            loss = nats_per_char(logits, targets)
            gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
            for square, gradient in zip(squares, gradients, strict=True):
                square.addcmul_(gradient, gradient)
        free_training_cache(model)
    return [(square / n_batches).sqrt() for square in squares]


def _step_sizes(parameters: Sequence[Tensor], config: DynamicConfig) -> tuple[list[Tensor], list[Tensor]]:
    """Return, for each parameter, the divisor of its gradient and its decay."""
    if config.rms is None:
        return [torch.ones_like(p) for p in parameters], [torch.full_like(p, config.decay) for p in parameters]
    mean = sum(r.sum() for r in config.rms) / sum(r.numel() for r in config.rms)
    return [r + EPSILON * mean for r in config.rms], [(config.decay * r / mean).clamp(max=1.0) for r in config.rms]


def diverged(config: DynamicConfig) -> CharlmError:
    """Return the error of weights that diverged."""
    return CharlmError(f"the weights diverged at --rate {config.rate:g}; use a lower --rate")


def count_interval(n_chars: int) -> int:
    """Return the number of characters, at least, between two updates of n-gram counts on a text of `n_chars`."""
    return max(MIN_COUNT_INTERVAL, n_chars // MAX_COUNT_UPDATES)


def read_and_adapt(
    model: CharModel, text: TextRange, config: DynamicConfig, n_context: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits, (characters, V), and targets of each segment, then update the model on it.

    The updates stay, unless the caller reads inside `restored`. The arguments are those of `dynamic_nll`.
    """
    parameters, ngrams = _parameters(model), counting_parts(model).values()
    trained = [parameter.detach().clone() for parameter in parameters]
    divisors, decays = _step_sizes(parameters, config) if parameters else ([], [])
    position, counted = text.first, text.first
    interval = count_interval(text.n_chars)
    for logits, targets in scored_logits(model, text, n_context, chunk_len=config.segment_len):
        yield logits.detach(), targets
        if len(targets) == 0:  # warm-up
            continue
        position += len(targets)
        if parameters:
            loss = F.cross_entropy(logits, targets)
            gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
            with torch.no_grad():
                for theta, theta_0, gradient, divisor, decay in zip(
                    parameters, trained, gradients, divisors, decays, strict=True
                ):
                    theta.lerp_(theta_0, decay)
                    theta.addcdiv_(gradient, divisor, value=-config.rate)
        if position - counted >= interval or position == text.stop:
            for ngram in ngrams:
                ngram.update_counts(text.ids[text.first : position], counted - text.first)
            counted = position


@contextmanager
def restored(model: CharModel) -> Iterator[None]:
    """Enable gradients in one thread; restore weights, counts and mode of a model on exit."""
    parameters = _parameters(model)
    trained = [parameter.detach().clone() for parameter in parameters]
    try:
        with _with_gradients(model), keeping_counts(model):
            yield
    finally:
        with torch.no_grad():
            for parameter, weights in zip(parameters, trained, strict=True):
                parameter.copy_(weights)


def adapt(model: CharModel, text: TextRange, config: DynamicConfig, n_context: int | None = None) -> None:
    """Update a model on a text, segment by segment, and keep the updates.

    Args:
        model: its weights and counts change.
        text: the characters to learn from.
        config: options of dynamic evaluation.
        n_context: characters in a window; None for a model that carries its state.

    Raises:
        CharlmError: the weights diverged.
        UsageError: the model has neither weights nor counts.
    """
    with _with_gradients(model):
        for _ in read_and_adapt(model, text, config, n_context):
            pass
    end = replace(text, first=max(text.first, text.stop - config.segment_len))
    if end.n_chars and not math.isfinite(evaluate(model, end, n_context).nats):
        raise diverged(config)


def dynamic_nll(model: CharModel, text: TextRange, config: DynamicConfig, n_context: int | None = None) -> Tensor:
    """Predict each character of a range once, and update the model after each segment.

    Args:
        model: its weights and counts are restored on exit.
        text: the characters to predict.
        config: options of dynamic evaluation.
        n_context: characters in a window; None for a model that carries its state.

    Returns:
        -ln p(character), float64, on the CPU, (characters,); infinite from the segment where the weights diverged.

    Raises:
        UsageError: the model has neither weights nor counts.
    """
    nats, n_done = torch.full((text.n_chars,), math.inf, dtype=torch.float64), 0
    with restored(model):
        for logits, targets in read_and_adapt(model, text, config, n_context):
            segment = F.cross_entropy(logits, targets, reduction="none")
            if not segment.isfinite().all():
                break
            nats[n_done : n_done + len(segment)] = segment
            n_done += len(segment)
    return nats
