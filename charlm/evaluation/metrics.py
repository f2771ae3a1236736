"""The loss, its units, and the one evaluation by which models are compared.

Every character of a part is predicted exactly once, from characters before it, and the result is total nats over
number of characters: no random batches, no mean of batch means.

Shapes: N characters of text, B batch_size, T characters, V vocab_size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from charlm.data.feeds import Feed
from charlm.models.base import CharModel, detach
from charlm.models.counting import initial_state

N_WARM = 1024  # characters read before the first one that counts
N_PIECE = 128  # characters of a lane read in one call
N_ALONE = 1024  # the same of a single lane: what was read of late is sorted in every call
N_WINDOWS = 2048  # windows read in one call


@dataclass(frozen=True)
class EvalResult:
    """How well a text was predicted.

    Attributes:
        nats: the sum over all characters of -ln p(character).
        n_chars: the number of characters.
    """

    nats: float
    n_chars: int

    @property
    def nats_per_char(self) -> float:
        """Mean nats per character."""
        return self.nats / self.n_chars

    @property
    def bits_per_char(self) -> float:
        """Mean bits per character."""
        return nats_to_bits(self.nats_per_char)


def nats_to_bits(nats: float) -> float:
    """Turn nats into bits."""
    return nats / math.log(2)


def nats_per_char(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy.

    Args:
        logits: float, (B, T, V).
        targets: long, (B, T).
        label_smoothing: share of the target's probability that is spread over all symbols. Reference: Szegedy et al.
            (2016), arXiv:1512.00567, section 7.

    Returns:
        nats per character, float, ().
    """
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=label_smoothing)


def evaluate(
    model: CharModel,
    ids: Tensor,
    first: int,
    stop: int,
    n_context: int | None = None,
    n_lanes: int = 1,
    bos_id: int = 0,
) -> EvalResult:
    """Predict the characters `codes[first:stop]`, each once.

    A model with a window sees the `n_context` characters before each. Any other reads on from `N_WARM` characters
    before `first` and carries its state to the end. With more lanes that range is cut into as many, read side by
    side, each warmed up in the same way: quicker, and nearly the same number (for the curve while training).

    Args:
        model: its mode (train or eval) is kept.
        ids: the whole text as indices, (N,); only a piece at a time is taken from it.
        first: position of the first character to predict.
        stop: position after the last one.
        n_context: characters in a window; None for a model that carries its state.
        n_lanes: 1 is the protocol.
        bos_id: the index that stands before the text's first character.

    Returns:
        nats and number of characters.
    """
    if stop <= first:
        raise ValueError(f"nothing to predict between {first} and {stop}")
    with eval_mode(model):
        nats = sum(piece.sum().item() for piece in per_char_nll(model, ids, first, stop, n_context, n_lanes, bos_id))
    return EvalResult(nats, stop - first)


@contextmanager
def eval_mode(model: CharModel, gradients: bool = False) -> Iterator[None]:
    """Put a model into evaluation mode, without dropout and without gradients (or with), and back."""
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad() if gradients else torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def _shown(steps: range) -> Iterable[int]:
    """Return the steps under a progress bar on stderr, if it is a terminal and they take more than two seconds."""
    bar: Iterable[int] = tqdm(steps, desc="scoring", delay=2, leave=False, disable=None, dynamic_ncols=True)
    return bar


def per_char_nll(
    model: CharModel,
    ids: Tensor,
    first: int,
    stop: int,
    n_context: int | None = None,
    n_lanes: int = 1,
    bos_id: int = 0,
    n_piece: int | None = None,
) -> Iterator[Tensor]:
    """Yield the nats of the characters `codes[first:stop]`, each once: what `evaluate` adds up.

    The caller chooses the model's mode and whether gradients are kept; they reach back to the beginning of a piece.
    What is done to the weights between two pieces counts from the next one on.

    Args:
        model: see `evaluate`, as for all that is not here.
        ids: (N,).
        first: position.
        stop: position.
        n_context: characters in a window.
        n_lanes: with 1, the characters come in the order of the text.
        bos_id: index before the text.
        n_piece: characters of a lane in a piece; None takes what is quick.

    Yields:
        -ln p(character) of one piece, float, (characters,); empty for a piece of the warming up.
    """
    if n_context is None:
        n_piece = n_piece or (N_ALONE if n_lanes == 1 else N_PIECE)
        yield from _carried_nats(model, ids, first, stop, n_lanes, bos_id, n_piece)
    else:
        yield from _windowed_nats(model, ids, first, stop, n_context, bos_id, n_piece or N_WINDOWS)


def _windowed_nats(
    model: CharModel, ids: Tensor, first: int, stop: int, n_context: int, bos_id: int, n_piece: int
) -> Iterator[Tensor]:
    for here in _shown(range(first, stop, n_piece)):
        there = min(here + n_piece, stop)
        begin = max(0, here - n_context)
        read = ids[begin:there].to(model.device).long()
        padded = F.pad(read, (n_context - (here - begin), 0), value=bos_id)
        logits, _ = model(padded[:-1].unfold(0, n_context, 1), only_last=True)  # the last row ends before there - 1
        yield F.cross_entropy(logits[:, -1], padded[n_context:], reduction="none")


def _carried_nats(
    model: CharModel, ids: Tensor, first: int, stop: int, n_lanes: int, bos_id: int, n_piece: int
) -> Iterator[Tensor]:
    length = -(-(stop - first) // n_lanes)
    n_warm = min(N_WARM, first) if n_lanes == 1 else N_WARM
    lane_first = first + length * torch.arange(n_lanes, device=ids.device).unsqueeze(1)  # (B, 1)
    lane_stop = (lane_first + length).clamp(max=stop)
    state = None
    for offset in _shown(range(-n_warm, length, n_piece)):
        steps = torch.arange(offset, min(offset + n_piece, length), device=ids.device)
        positions = lane_first + steps  # (B, T)
        inside = positions.clamp(0, len(ids) - 1)
        before = torch.where(inside > 0, ids[(inside - 1).clamp(min=0)].long(), bos_id)
        logits, state = model(before.to(model.device), detach(state))
        counts = ((positions >= lane_first) & (positions < lane_stop)).to(model.device)
        targets = ids[inside].to(model.device).long()
        yield F.cross_entropy(logits[counts], targets[counts], reduction="none")


def evaluate_feed(model: CharModel, feed: Feed) -> EvalResult:
    """Predict what one epoch of a feed asks for, with the state at zero wherever the feed says so.

    For the lesson's own protocols, which hold out windows instead of a part of the text.

    Args:
        model: its mode is kept.
        feed: whose targets count; of the training text, if a part of the model counted that.

    Returns:
        nats and number of characters.
    """
    total, n, state = 0.0, 0, None
    with eval_mode(model):
        for step in _shown(range(len(feed))):
            chars, targets = (part.to(model.device) for part in feed.batch(0, step))
            if state is None:
                state = initial_state(model, feed.row_offsets(0, step).to(model.device))
            logits, state = model(chars, state, feed.predicts == "last")
            state = state if feed.carries_state else None
            total += nats_per_char(logits, targets).item() * targets.numel()
            n += targets.numel()
    return EvalResult(total, n)
