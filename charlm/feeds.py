"""Feeds: which characters a model sees at which step, and what it must predict.

A batch is a pure function of (text, seed, epoch, step). Nothing is hidden in a generator, so going on in the
middle is a counter, and two runs with one seed read the same batches. The text is one tensor on the device and
batches are indexed there.

Shapes: N characters of text, B batch_size, T characters a sequence.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from charlm.errors import DataError

Batch = tuple[Tensor, Tensor]  # chars (B, T) and targets (B, T) or (B, 1), both long


class Feed(Protocol):
    """What the loop needs to know of a feed.

    Attributes:
        predicts: "all" positions of a sequence have a target, or the "last" alone.
        carries_state: the sequences of a batch go on where those of the batch before ended.
    """

    predicts: str
    carries_state: bool

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        ...

    def batch(self, epoch: int, step: int) -> Batch:
        """Return the batch at a step of an epoch."""
        ...


def shuffled(n: int, seed: int, epoch: int) -> Tensor:
    """Return 0..n-1 in an order that depends on seed and epoch alone, long, (n,)."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**64)
    return torch.randperm(n, generator=generator)


def hold_out(n: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Divide 0..n-1 at random.

    Args:
        n: how many.
        share: of them to be held out.
        seed: of the draw.

    Returns:
        kept, held_out: long, together (n,).
    """
    order = shuffled(n, seed, epoch=-1)
    n_held_out = round(n * share)
    return order[n_held_out:], order[:n_held_out]


class _Rows:
    """Short pieces of the text, in a new order every epoch."""

    carries_state = False

    def __init__(
        self, codes: Tensor, length: int, stride: int, batch_size: int, seed: int, only: Tensor | None
    ) -> None:
        if len(codes) <= length:
            raise DataError(f"the training part has {len(codes)} characters; sequences of {length} need more")
        self._rows = codes.unfold(0, length + 1, stride)  # (n_rows, T + 1), a view
        self._only = torch.arange(len(self._rows)) if only is None else only
        self._batch_size, self._seed = batch_size, seed
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def n_rows(self) -> int:
        """The number of pieces in the text, held-out ones included."""
        return len(self._rows)

    def __len__(self) -> int:
        return -(-len(self._only) // self._batch_size)

    def _pick(self, epoch: int, step: int) -> Tensor:
        """Return the rows of a batch, long, (B, T + 1)."""
        if self._order[0] != epoch:  # kept for the epoch, since it is the same for all its steps
            order = self._only[shuffled(len(self._only), self._seed, epoch)]
            self._order = epoch, order.to(self._rows.device)
        chosen = self._order[1][step * self._batch_size : (step + 1) * self._batch_size]
        return self._rows[chosen].long()


class Windows(_Rows):
    """Overlapping windows; only the character after the window is predicted.

    Args:
        codes: the text as indices, (N,).
        n_context: T, characters in a window.
        batch_size: B; the last batch of an epoch may be smaller.
        seed: of the order.
        stride: characters from one window's start to the next one's.
        only: numbers of the windows to use, long; all when None.

    Raises:
        DataError: the text is shorter than one window.
    """

    predicts = "last"

    def __init__(
        self,
        codes: Tensor,
        n_context: int,
        batch_size: int,
        seed: int = 0,
        stride: int = 1,
        only: Tensor | None = None,
    ) -> None:
        super().__init__(codes, n_context, stride, batch_size, seed, only)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return chars (B, T) and targets (B, 1), long."""
        rows = self._pick(epoch, step)
        return rows[:, :-1], rows[:, -1:]


class Chunks(_Rows):
    """Non-overlapping pieces, shuffled; every position is predicted, the state starts at zero in each.

    The fewer than `bptt` characters after the last whole piece are left out.

    Args:
        codes: the text as indices, (N,).
        bptt: T, characters in a piece.
        batch_size: B; the last batch of an epoch may be smaller.
        seed: of the order.
        only: numbers of the pieces to use, long; all when None.

    Raises:
        DataError: the text is shorter than one piece.
    """

    predicts = "all"

    def __init__(self, codes: Tensor, bptt: int, batch_size: int, seed: int = 0, only: Tensor | None = None) -> None:
        super().__init__(codes, bptt, bptt, batch_size, seed, only)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return chars (B, T) and targets (B, T), long."""
        rows = self._pick(epoch, step)
        return rows[:, :-1], rows[:, 1:]


class Stream:
    """The text in `batch_size` contiguous lanes, read side by side; the state is carried (truncated BPTT).

    The fewer than `batch_size` characters after the last lane are left out; an epoch's last batch is shorter.

    Args:
        codes: the text as indices, (N,).
        bptt: T, characters from one detachment of the state to the next.
        batch_size: B, the number of lanes.

    Raises:
        DataError: the text is too short for that many lanes.
    """

    predicts = "all"
    carries_state = True

    def __init__(self, codes: Tensor, bptt: int, batch_size: int) -> None:
        self._n = (len(codes) - 1) // batch_size  # characters predicted in a lane
        if self._n < 1:
            raise DataError(f"the training part has {len(codes)} characters, too few for {batch_size} lanes")
        self._bptt = bptt
        self._chars = codes[: self._n * batch_size].view(batch_size, self._n)
        self._targets = codes[1 : self._n * batch_size + 1].view(batch_size, self._n)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-self._n // self._bptt)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return chars (B, T) and targets (B, T), long; the same in every epoch."""
        here = slice(step * self._bptt, (step + 1) * self._bptt)
        return self._chars[:, here].long(), self._targets[:, here].long()
