"""The evaluation protocol by which models are compared.

Every character of a part is predicted exactly once, from the characters before it. The result does not depend on
batch size or random numbers.

Shapes: N characters of text, B batch_size, T characters, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from charlm.data.feeds import Feed
from charlm.evaluation.metrics import EvalResult
from charlm.messages import no_bars
from charlm.models.base import CharModel, detach
from charlm.models.counting import initial_state

WARMUP_CHARS = 1024  # characters read before the first one that is scored
LANE_CHUNK = 128  # characters of each lane in one forward pass
SINGLE_STREAM_CHUNK = 1024  # the same with one lane; longer, since a cache model sorts its history in every call
WINDOWS_CHUNK = 2048  # windows in one forward pass; long windows are fewer, for at most `WINDOWS_CHARS` characters
WINDOWS_CHARS = 1 << 20


@dataclass(frozen=True, eq=False)
class TextRange:
    """The characters `ids[first:stop]` of a text, which are to be predicted.

    Attributes:
        ids: the whole text as indices, (N,); only the chunk being read is copied to the model's device.
        first: position of the first character to predict.
        stop: position after the last one.
        bos_id: index that stands before the text's first character.
    """

    ids: Tensor
    first: int
    stop: int
    bos_id: int = 0

    @property
    def n_chars(self) -> int:
        """Number of characters to predict."""
        return self.stop - self.first


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
    text: TextRange,
    n_context: int | None = None,
    n_lanes: int = 1,
    max_chars: int | None = None,
    warmup_chars: int = WARMUP_CHARS,
    chunk_len: int | None = None,
) -> EvalResult:
    """Predict each character of a range once.

    A window model reads the `n_context` characters before each character. Any other model starts `warmup_chars`
    characters before the range and carries its state to the end. With several lanes, the range is cut into equal parts
    that are read as one batch, each with its own warm-up: faster, and nearly the same number. The protocol has one
    lane; validation during training has more.

    Args:
        model: its mode (train or eval) is restored.
        text: the characters to predict.
        n_context: characters in a window; None for a model that carries its state.
        n_lanes: number of parallel lanes; window models ignore it.
        max_chars: predict about this many characters only, the first ones of each lane; None for all.
        warmup_chars: characters read before the range without scoring them.
        chunk_len: characters of a lane (or windows) in one forward pass; None takes the default.

    Raises:
        ValueError: the range is empty.
    """
    if text.n_chars < 1:
        raise ValueError(f"nothing to predict: first is {text.first}, stop is {text.stop}")
    with eval_mode(model):
        chunks = scored_logits(model, text, n_context, n_lanes, max_chars, warmup_chars, chunk_len)
        return EvalResult.of_predictions(chunks)


def per_char_nll(
    model: CharModel, text: TextRange, n_context: int | None = None, chunk_len: int | None = None
) -> Iterator[Tensor]:
    """Yield the negative log-likelihood of each character of a range, chunk by chunk, in the order of the text.

    The caller sets the model's mode and enables or disables gradients, which end at the start of a chunk. The weights
    may change between chunks. The arguments are those of `evaluate`.

    Yields:
        -ln p(character) of one chunk, nats, float, (characters,); empty for a chunk of the warm-up.
    """
    for logits, targets in scored_logits(model, text, n_context, chunk_len=chunk_len):
        yield F.cross_entropy(logits, targets, reduction="none")


def scored_logits(
    model: CharModel,
    text: TextRange,
    n_context: int | None = None,
    n_lanes: int = 1,
    max_chars: int | None = None,
    warmup_chars: int = WARMUP_CHARS,
    chunk_len: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the predictions of a range, chunk by chunk; see `per_char_nll` for the mode, `evaluate` for the arguments.

    Yields:
        logits: of one chunk, float, (characters, V).
        targets: long, (characters,).
    """
    n_read = text.n_chars if max_chars is None else min(max_chars, text.n_chars)
    if n_context is not None:
        chunk_len = chunk_len or min(WINDOWS_CHUNK, max(1, WINDOWS_CHARS // n_context))
        yield from _windowed_logits(model, text, n_read, n_context, chunk_len)
    else:
        chunk_len = chunk_len or (SINGLE_STREAM_CHUNK if n_lanes == 1 else LANE_CHUNK)
        yield from _stateful_logits(model, text, -(-n_read // n_lanes), n_lanes, warmup_chars, chunk_len)


def _windowed_logits(
    model: CharModel, text: TextRange, n_read: int, n_context: int, chunk_len: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Read the first `n_read` characters of a range as windows."""
    stop = text.first + n_read
    for begin in _progress_bar(range(text.first, stop, chunk_len)):
        end = min(begin + chunk_len, stop)
        read_from = max(0, begin - n_context)
        chars = text.ids[read_from:end].to(model.device).long()
        padded = F.pad(chars, (n_context - (begin - read_from), 0), value=text.bos_id)
        logits, _ = model(padded[:-1].unfold(0, n_context, 1), only_last=True)  # one window a target
        yield logits[:, -1], padded[n_context:]


def _stateful_logits(
    model: CharModel, text: TextRange, n_read: int, n_lanes: int, warmup_chars: int, chunk_len: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Read the first `n_read` characters of each lane of a range."""
    ids, length = text.ids, -(-text.n_chars // n_lanes)
    n_warm = min(warmup_chars, text.first) if n_lanes == 1 else warmup_chars
    lane_first = text.first + length * torch.arange(n_lanes, device=ids.device).unsqueeze(1)  # (B, 1)
    lane_stop = (lane_first + length).clamp(max=text.stop)
    state = None
    for offset in _progress_bar(range(-n_warm, n_read, chunk_len)):
        steps = torch.arange(offset, min(offset + chunk_len, n_read), device=ids.device)
        positions = lane_first + steps  # (B, T)
        inside = positions.clamp(0, len(ids) - 1)
        before = torch.where(inside > 0, ids[(inside - 1).clamp(min=0)].long(), text.bos_id)
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
        return EvalResult.of_predictions((logits.flatten(0, 1), targets.flatten()) for logits, targets in chunks)


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
    bar: Iterable[int] = tqdm(steps, desc="scoring", delay=2, leave=False, disable=no_bars(), dynamic_ncols=True)
    return bar
