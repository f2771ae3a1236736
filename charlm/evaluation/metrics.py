"""Cross-entropy, its units, and the evaluation protocol by which models are compared.

    score = -1/N * sum over i of ln p(c_i | c_1 .. c_{i-1})      nats per character; divided by ln 2: bits per character

Every character of a part is predicted exactly once, from the characters before it. The result does not depend on
batch size or random numbers.

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

WARMUP_CHARS = 1024  # characters read before the first one that is scored
LANE_CHUNK = 128  # characters of each lane in one forward pass
SINGLE_STREAM_CHUNK = 1024  # the same with one lane; longer, since a cache model sorts its history in every call
WINDOWS_CHUNK = 2048  # windows in one forward pass


@dataclass(frozen=True)
class EvalResult:
    """Negative log-likelihood of a text.

    Attributes:
        nats: sum over all characters of -ln p(character).
        n_chars: number of characters.
        n_correct: number of characters to which the model gave the highest probability; None if not counted.
    """

    nats: float
    n_chars: int
    n_correct: int | None = None

    @property
    def nats_per_char(self) -> float:
        """Mean nats per character."""
        return self.nats / self.n_chars

    @property
    def bits_per_char(self) -> float:
        """Mean bits per character."""
        return nats_to_bits(self.nats_per_char)

    @property
    def accuracy(self) -> float | None:
        """Next-character accuracy, from 0 to 1; None if not counted."""
        return None if self.n_correct is None else self.n_correct / self.n_chars


def nats_to_bits(nats: float) -> float:
    """Convert nats to bits."""
    return nats / math.log(2)


def nats_per_char(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy.

    Args:
        logits: float, (B, T, V).
        targets: long, (B, T).
        label_smoothing: probability spread uniformly over all symbols. Reference: Szegedy et al. (2016),
            arXiv:1512.00567, section 7.

    Returns:
        nats per character, float, ().
    """
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=label_smoothing)


@contextmanager
def eval_mode(model: CharModel, gradients: bool = False) -> Iterator[None]:
    """Switch a model to evaluation mode, by default without gradients; restore its mode on exit."""
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad() if gradients else torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def evaluate(
    model: CharModel,
    ids: Tensor,
    first: int,
    stop: int,
    n_context: int | None = None,
    n_lanes: int = 1,
    bos_id: int = 0,
    warmup_chars: int = WARMUP_CHARS,
    chunk_len: int | None = None,
    max_chars: int | None = None,
) -> EvalResult:
    """Predict each of the characters `ids[first:stop]` once.

    A window model reads the `n_context` characters before each character. Any other model starts `warmup_chars`
    characters before `first` and carries its state to the end. With several lanes, the range is cut into equal parts
    that are read as one batch, each with its own warm-up: faster, and nearly the same number. The protocol has one
    lane; validation during training has more.

    Args:
        model: its mode (train or eval) is restored.
        ids: the whole text as indices, (N,); only the chunk being read is copied to the model's device.
        first: position of the first character to predict.
        stop: position after the last one.
        n_context: characters in a window; None for a model that carries its state.
        n_lanes: number of parallel lanes; window models ignore it.
        bos_id: index that stands before the text's first character.
        warmup_chars: characters read before `first` without scoring them.
        chunk_len: characters of a lane (or windows) in one forward pass; None takes the default.
        max_chars: predict about this many characters only, the first ones of each lane; None for all.
    """
    if stop <= first:
        raise ValueError(f"nothing to predict: first is {first}, stop is {stop}")
    with eval_mode(model):
        chunks = scored_logits(model, ids, first, stop, n_context, n_lanes, bos_id, warmup_chars, chunk_len, max_chars)
        return _add_up(chunks)


def per_char_nll(
    model: CharModel,
    ids: Tensor,
    first: int,
    stop: int,
    n_context: int | None = None,
    n_lanes: int = 1,
    bos_id: int = 0,
    warmup_chars: int = WARMUP_CHARS,
    chunk_len: int | None = None,
) -> Iterator[Tensor]:
    """Yield the negative log-likelihood of the characters `ids[first:stop]`, chunk by chunk.

    The caller sets the model's mode and enables or disables gradients, which end at the start of a chunk. The weights
    may change between chunks. With one lane, chunks are in the order of the text. The arguments are those of
    `evaluate`.

    Yields:
        -ln p(character) of one chunk, nats, float, (characters,); empty for a chunk of the warm-up.
    """
    for logits, targets in scored_logits(model, ids, first, stop, n_context, n_lanes, bos_id, warmup_chars, chunk_len):
        yield F.cross_entropy(logits, targets, reduction="none")


def scored_logits(
    model: CharModel,
    ids: Tensor,
    first: int,
    stop: int,
    n_context: int | None = None,
    n_lanes: int = 1,
    bos_id: int = 0,
    warmup_chars: int = WARMUP_CHARS,
    chunk_len: int | None = None,
    max_chars: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the predictions of the characters `ids[first:stop]`, chunk by chunk; see `per_char_nll`.

    Yields:
        logits: of one chunk, float, (characters, V).
        targets: long, (characters,).
    """
    if n_context is not None:
        stop = stop if max_chars is None else min(stop, first + max_chars)
        yield from _windowed_logits(model, ids, first, stop, n_context, bos_id, chunk_len or WINDOWS_CHUNK)
    else:
        chunk_len = chunk_len or (SINGLE_STREAM_CHUNK if n_lanes == 1 else LANE_CHUNK)
        n_read = None if max_chars is None else -(-max_chars // n_lanes)
        yield from _stateful_logits(model, ids, first, stop, n_lanes, bos_id, warmup_chars, chunk_len, n_read)


def _windowed_logits(
    model: CharModel, ids: Tensor, first: int, stop: int, n_context: int, bos_id: int, chunk_len: int
) -> Iterator[tuple[Tensor, Tensor]]:
    for begin in _progress_bar(range(first, stop, chunk_len)):
        end = min(begin + chunk_len, stop)
        read_from = max(0, begin - n_context)
        chars = ids[read_from:end].to(model.device).long()
        padded = F.pad(chars, (n_context - (begin - read_from), 0), value=bos_id)
        logits, _ = model(padded[:-1].unfold(0, n_context, 1), only_last=True)  # one window a target
        yield logits[:, -1], padded[n_context:]


def _stateful_logits(
    model: CharModel,
    ids: Tensor,
    first: int,
    stop: int,
    n_lanes: int,
    bos_id: int,
    warmup_chars: int,
    chunk_len: int,
    n_read: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    length = -(-(stop - first) // n_lanes)
    n_read = length if n_read is None else min(n_read, length)  # characters of each lane that are scored
    n_warm = min(warmup_chars, first) if n_lanes == 1 else warmup_chars
    lane_first = first + length * torch.arange(n_lanes, device=ids.device).unsqueeze(1)  # (B, 1)
    lane_stop = (lane_first + length).clamp(max=stop)
    state = None
    for offset in _progress_bar(range(-n_warm, n_read, chunk_len)):
        steps = torch.arange(offset, min(offset + chunk_len, n_read), device=ids.device)
        positions = lane_first + steps  # (B, T)
        inside = positions.clamp(0, len(ids) - 1)
        before = torch.where(inside > 0, ids[(inside - 1).clamp(min=0)].long(), bos_id)
        logits, state = model(before.to(model.device), detach(state))
        scored = ((positions >= lane_first) & (positions < lane_stop)).to(model.device)
        targets = ids[inside].to(model.device).long()
        yield logits[scored], targets[scored]


def evaluate_feed(model: CharModel, feed: Feed) -> EvalResult:
    """Predict all targets of one epoch of a feed.

    This is the evaluation of the lesson's own protocols, which hold out windows instead of a part of the text.

    Args:
        model: its mode is restored.
        feed: a feed of the training text, if the model has counts of that text.
    """
    with eval_mode(model):
        chunks = feed_logits(model, feed, len(feed))
        return _add_up((logits.flatten(0, 1), targets.flatten()) for logits, targets in chunks)


def _add_up(chunks: Iterable[tuple[Tensor, Tensor]]) -> EvalResult:
    """Return the result of predictions: logits, float, (characters, V), and targets, long, (characters,)."""
    nats, n_chars, n_correct = 0.0, 0, 0
    for logits, targets in chunks:
        nats += F.cross_entropy(logits, targets, reduction="none").sum().item()
        n_correct += int((logits.argmax(-1) == targets).sum())
        n_chars += len(targets)
    return EvalResult(nats, n_chars, n_correct)


def feed_logits(model: CharModel, feed: Feed, n_batches: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits and targets of a feed's first batches, with or without carried state, as the feed requires.

    Args:
        model: the caller sets its mode, and enables or disables gradients.
        feed: a feed of the training text, if the model has counts of that text.
        n_batches: number of batches, at most `len(feed)`.

    Yields:
        logits: float, (B, T, V), or (B, 1, V).
        targets: long, (B, T), or (B, 1).
    """
    state = None
    for step in _progress_bar(range(n_batches)):
        chars, targets = (part.to(model.device) for part in feed.batch(0, step))
        if state is None:
            state = initial_state(model, feed, 0, step)
        logits, state = model(chars, state, feed.predicts == "last")
        state = detach(state) if feed.carries_state else None
        yield logits, targets


def _progress_bar(steps: range) -> Iterable[int]:
    """Return the steps with a progress bar on stderr, shown after two seconds and only on a terminal."""
    bar: Iterable[int] = tqdm(steps, desc="scoring", delay=2, leave=False, disable=None, dynamic_ncols=True)
    return bar
