"""Dynamic evaluation: a model that goes on learning from the text that it reads.

The text is read in pieces s_1, s_2, ...; once s_i is predicted, and only then, the weights make one step on it:

    theta_i = theta_{i-1} - rate * grad L(s_i) / (R + eps) + decay * R / mean(R) * (theta_0 - theta_{i-1})

with theta_0 the trained weights, L the mean nats per character, R the root of the mean squared gradient of L over
batches of the training part (a number for each weight), mean(R) that over all weights, decay * R / mean(R) at most
1, and eps a share of mean(R). The plain version ("sgd") has 1 in place of R + eps and of R / mean(R). What counts
has no gradient: it counts what was read, after each 64 characters, or after each 2048th of a longer text.

It is another game than `metrics.evaluate`: every character is predicted once and from those before it, as there, but
by a model that has learned from them. The paper reports 1.08 bits per character on the Hutter Prize text.

Reference: Krause, Kahembwe, Murray, Renals (2018), Dynamic evaluation of neural sequence models, arXiv:1709.07432.

Shapes: N characters of text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from charlm.data.feeds import Stream, Windows
from charlm.errors import UsageError
from charlm.evaluation.metrics import eval_mode, nats_per_char, per_char_nll
from charlm.models.base import CharModel, State, detach
from charlm.models.counting import CountingModel, counting_parts, initial_state, keeping_counts

N_PIECE = 32  # characters predicted between two steps
N_COUNTED, MAX_COUNTS = 64, 2048  # characters predicted, at least, between two counts; how many counts, at most
N_BATCHES = 64  # batches of the training part over which squared gradients are averaged
N_LANES = 8  # pieces in each of these batches
N_TUNE = 30_000  # characters on which rate and decay are chosen: on a short text, haste looks better than it is
EPSILON = 0.1  # eps, of mean(R)
RATES = {"sgd": (0.01, 0.03, 0.1, 0.3), "rms": (2e-5, 5e-5, 1e-4, 2e-4, 4e-4)}  # to choose from
DECAYS = (0.0, 0.001, 0.003, 0.01, 0.03)
RATE, DECAY = {"sgd": 0.03, "rms": 1e-4}, 0.01  # where nothing is chosen


@dataclass(frozen=True, eq=False)
class DynamicConfig:
    """How a model learns from each piece.

    Attributes:
        rate: of the gradient.
        decay: share of the way back to the trained weights.
        rms: R, one tensor a parameter, as `gradient_rms` returns it; None for the plain version.
        n_piece: characters predicted between two steps.

    Raises:
        UsageError: a value out of its range.
    """

    rate: float
    decay: float
    rms: Sequence[Tensor] | None = None
    n_piece: int = N_PIECE

    def __post_init__(self) -> None:
        """Check every value."""
        if not 0 <= self.rate < math.inf:
            raise UsageError(f"rate is {self.rate}; it must be at least 0 and finite")
        if not 0 <= self.decay <= 1:
            raise UsageError(f"decay is {self.decay}; it must be from 0 to 1")
        if self.n_piece < 1:
            raise UsageError(f"piece is {self.n_piece}; it must be at least 1")


@contextmanager
def _with_gradients(model: CharModel) -> Iterator[None]:
    """Take a model into evaluation mode, with gradients, and back; cuDNN has none for recurrent layers there.

    With so small pieces one thread is as quick as two, and beside other work ten times as quick: benchmarks/threads.py.
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
        raise UsageError("this model has neither weights nor counts, so it cannot learn; --dynamic is not for it")
    return parameters


def gradient_rms(
    model: CharModel,
    ids: Tensor,
    n_context: int | None = None,
    n_piece: int = N_PIECE,
    char_classes: Tensor | None = None,
) -> list[Tensor]:
    """Return R, the root of the mean squared gradient over batches from all over a text.

    Args:
        model: on the device of `ids`; nothing of it changes.
        ids: the training part, (N,).
        n_context: characters in a window; None for a model that carries its state.
        n_piece: see `DynamicConfig`.
        char_classes: of the symbols, see `CountingModel.fit_counts`.

    Returns:
        one tensor a parameter, of its shape.

    Raises:
        UsageError: the model has nothing that could learn.
        DataError: the text is too short.
    """
    parameters = _parameters(model)
    if not parameters:
        return []
    learned = model.training_span(ids) if isinstance(model, CountingModel) else ids
    feed = Stream(learned, n_piece, N_LANES) if n_context is None else Windows(learned, n_context, n_piece * N_LANES)
    squares = [torch.zeros_like(parameter) for parameter in parameters]
    n_batches = min(N_BATCHES, len(feed))
    state: State = None
    with _with_gradients(model), keeping_counts(model):
        if isinstance(model, CountingModel):
            model.fit_counts(ids, char_classes)
        for step in range(n_batches):
            chars, targets = (part.to(model.device) for part in feed.batch(0, step))
            if state is None:
                state = initial_state(model, feed.row_offsets(0, step).to(model.device))
            logits, state = model(chars, state, n_context is not None)
            state = detach(state) if n_context is None else None
            loss = nats_per_char(logits, targets)
            gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
            for square, gradient in zip(squares, gradients, strict=True):
                square.addcmul_(gradient, gradient)
        if isinstance(model, CountingModel):
            model.free_training_cache()
    return [(square / n_batches).sqrt() for square in squares]


def _factors(parameters: Sequence[Tensor], steps: DynamicConfig) -> tuple[list[Tensor], list[Tensor]]:
    """Return, for each parameter, what divides its gradient, and the share of its way back."""
    if steps.rms is None:
        return [torch.ones_like(p) for p in parameters], [torch.full_like(p, steps.decay) for p in parameters]
    mean = sum(r.sum() for r in steps.rms) / sum(r.numel() for r in steps.rms)
    return [r + EPSILON * mean for r in steps.rms], [(steps.decay * r / mean).clamp(max=1.0) for r in steps.rms]


def _read_and_learn(
    model: CharModel, ids: Tensor, first: int, stop: int, steps: DynamicConfig, n_context: int | None, bos_id: int
) -> Iterator[Tensor]:
    """Yield the nats of a piece, then step, over and over; what was learned stays."""
    parameters, parts = _parameters(model), counting_parts(model).values()
    trained = [parameter.detach().clone() for parameter in parameters]
    each, shares = _factors(parameters, steps) if parameters else ([], [])
    here, counted, n_counted = first, first, max(N_COUNTED, (stop - first) // MAX_COUNTS)
    for nats in per_char_nll(model, ids, first, stop, n_context, bos_id=bos_id, n_piece=steps.n_piece):
        yield nats.detach()
        if len(nats) == 0:  # still warming up
            continue
        here += len(nats)
        if parameters:
            gradients = torch.autograd.grad(nats.mean(), parameters, materialize_grads=True)
            with torch.no_grad():
                for theta, begun, gradient, by, share in zip(parameters, trained, gradients, each, shares, strict=True):
                    theta.lerp_(begun, share)
                    theta.addcdiv_(gradient, by, value=-steps.rate)
        if here - counted >= n_counted or here == stop:
            for part in parts:
                part.update_counts(ids[first:here], counted - first)
            counted = here


def adapt(model: CharModel, ids: Tensor, steps: DynamicConfig, n_context: int | None = None, bos_id: int = 0) -> None:
    """Let a model read a text from its beginning and keep what it learns from it.

    Args:
        model: on the device of `ids`; its weights and counts change.
        ids: the text, (N,).
        steps: how it learns.
        n_context: characters in a window; None for a model that carries its state.
        bos_id: the index that stands before the text's first character.

    Raises:
        UsageError: the model has nothing that could learn.
    """
    with _with_gradients(model):
        for _ in _read_and_learn(model, ids, 0, len(ids), steps, n_context, bos_id):
            pass


def dynamic_nll(
    model: CharModel,
    ids: Tensor,
    first: int,
    stop: int,
    steps: DynamicConfig,
    n_context: int | None = None,
    bos_id: int = 0,
) -> Tensor:
    """Predict the characters `codes[first:stop]`, each once, and learn from each piece after it is predicted.

    Args:
        model: on the device of `ids`; it gets its weights and counts back at the end, whatever happens.
        ids: the whole text as indices, (N,).
        first: position of the first character to predict.
        stop: position after the last one.
        steps: how it learns.
        n_context: characters in a window; None for a model that carries its state.
        bos_id: the index that stands before the text's first character.

    Returns:
        -ln p(character), float64, on the CPU, (stop - first,); infinite from where the weights ran away.

    Raises:
        UsageError: the model has nothing that could learn.
    """
    parameters = _parameters(model)
    trained = [parameter.detach().clone() for parameter in parameters]
    nats, here = torch.full((stop - first,), math.inf, dtype=torch.float64), 0
    try:
        with _with_gradients(model), keeping_counts(model):
            for piece in _read_and_learn(model, ids, first, stop, steps, n_context, bos_id):
                if not piece.isfinite().all():
                    break
                nats[here : here + len(piece)] = piece
                here += len(piece)
    finally:
        with torch.no_grad():
            for parameter, weights in zip(parameters, trained, strict=True):
                parameter.copy_(weights)
    return nats
