"""Feeds: which characters a model sees at which step, and what it must predict.

A batch is a pure function of (text, seed, epoch, step). Nothing is hidden in a generator, so going on in the
middle is a counter, and two runs with one seed read the same batches. The text is one tensor, and batches are where
it is: on the device, or, if it is too large for that, in a memory-mapped file.

Shapes: N characters of text, B batch_size, T characters a sequence.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from charlm.data.permutation import Places, permute
from charlm.data.vocab import Ids
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

    def row_offsets(self, epoch: int, step: int) -> Tensor:
        """Return where in the text the rows of that batch begin, long, (B,)."""
        ...


def to_device_if_fits(ids: Ids, device: torch.device) -> Tensor:
    """Return a text as a tensor on a device; in memory as it is, if it would take more than a quarter of what is free.

    Args:
        ids: indices, (N,).
        device: where they will be needed.
    """
    with warnings.catch_warnings():  # a mapped file is read-only, and so are we
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        text = torch.from_numpy(ids)
    if device.type == "cuda" and text.nbytes > torch.cuda.mem_get_info(device)[0] // 4:
        return text
    return text.to(device)


@dataclass(frozen=True)
class RandomSubset:
    """Some of 0..n-1, drawn at random: those at the places from `first` to `stop` of a shuffled order."""

    n: int
    seed: int
    first: int
    stop: int

    def __len__(self) -> int:
        """Return how many are drawn."""
        return self.stop - self.first

    def numbers(self, places: Places) -> Places:
        """Return those at some places from 0 to `len(self) - 1`, int64, (P,)."""
        return permute(self.first + places, self.n, self.seed, epoch=-1)


def random_split(n: int, share: float, seed: int) -> tuple[RandomSubset, RandomSubset]:
    """Divide 0..n-1 at random.

    Args:
        n: how many.
        share: of them to be held out.
        seed: of the draw.

    Returns:
        kept, held_out: together 0..n-1.
    """
    n_held_out = round(n * share)
    return RandomSubset(n, seed, n_held_out, n), RandomSubset(n, seed, 0, n_held_out)


class _Rows:
    """Short pieces of the text, in a new order every epoch."""

    carries_state = False

    def __init__(
        self, ids: Tensor, length: int, stride: int, batch_size: int, seed: int, subset: RandomSubset | None
    ) -> None:
        if len(ids) <= length:
            raise DataError(f"the training part has {len(ids)} characters; sequences of {length} need more")
        self._rows = ids.unfold(0, length + 1, stride)  # (n_rows, T + 1), a view
        self._subset = subset
        self._stride, self._batch_size, self._seed = stride, batch_size, seed

    @property
    def n_rows(self) -> int:
        """The number of pieces in the text, held-out ones included."""
        return len(self._rows)

    @property
    def _n_used(self) -> int:
        return self.n_rows if self._subset is None else len(self._subset)

    def __len__(self) -> int:
        return -(-self._n_used // self._batch_size)

    def _chosen(self, epoch: int, step: int) -> Tensor:
        """Return the numbers of the pieces in a batch, int64, (B,)."""
        first = step * self._batch_size
        places = np.arange(first, min(first + self._batch_size, self._n_used))
        chosen = permute(places, self._n_used, self._seed, epoch)
        if self._subset is not None:
            chosen = self._subset.numbers(chosen)
        numbers = torch.from_numpy(chosen)
        if self._rows.device.type == "cuda":  # from pinned memory, so that nobody waits for the copy
            numbers = numbers.pin_memory()
        return numbers.to(self._rows.device, non_blocking=True)

    def _pick(self, epoch: int, step: int) -> Tensor:
        """Return the rows of a batch, long, (B, T + 1)."""
        return self._rows[self._chosen(epoch, step)].long()

    def row_offsets(self, epoch: int, step: int) -> Tensor:
        """Return where in the text the rows of a batch begin, long, (B,)."""
        return self._chosen(epoch, step) * self._stride


class Windows(_Rows):
    """Overlapping windows; only the character after the window is predicted.

    Args:
        ids: the text as indices, (N,).
        n_context: T, characters in a window.
        batch_size: B; the last batch of an epoch may be smaller.
        seed: of the order.
        stride: characters from one window's start to the next one's.
        subset: the windows to use; all when None.

    Raises:
        DataError: the text is shorter than one window.
    """

    predicts = "last"

    def __init__(
        self,
        ids: Tensor,
        n_context: int,
        batch_size: int,
        seed: int = 0,
        stride: int = 1,
        subset: RandomSubset | None = None,
    ) -> None:
        super().__init__(ids, n_context, stride, batch_size, seed, subset)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return chars (B, T) and targets (B, 1), long."""
        rows = self._pick(epoch, step)
        return rows[:, :-1], rows[:, -1:]


class Chunks(_Rows):
    """Non-overlapping pieces, shuffled; every position is predicted, the state starts at zero in each.

    The fewer than `bptt` characters after the last whole piece are left out.

    Args:
        ids: the text as indices, (N,).
        bptt: T, characters in a piece.
        batch_size: B; the last batch of an epoch may be smaller.
        seed: of the order.
        subset: the pieces to use; all when None.

    Raises:
        DataError: the text is shorter than one piece.
    """

    predicts = "all"

    def __init__(
        self, ids: Tensor, bptt: int, batch_size: int, seed: int = 0, subset: RandomSubset | None = None
    ) -> None:
        super().__init__(ids, bptt, bptt, batch_size, seed, subset)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return chars (B, T) and targets (B, T), long."""
        rows = self._pick(epoch, step)
        return rows[:, :-1], rows[:, 1:]


class Stream:
    """The text in `batch_size` contiguous lanes, read side by side; the state is carried (truncated BPTT).

    The fewer than `batch_size` characters after the last lane are left out; an epoch's last batch is shorter.

    Args:
        ids: the text as indices, (N,).
        bptt: T, characters from one detachment of the state to the next.
        batch_size: B, the number of lanes.

    Raises:
        DataError: the text is too short for that many lanes.
    """

    predicts = "all"
    carries_state = True

    def __init__(self, ids: Tensor, bptt: int, batch_size: int) -> None:
        self._n = (len(ids) - 1) // batch_size  # characters predicted in a lane
        if self._n < 1:
            raise DataError(f"the training part has {len(ids)} characters, too few for {batch_size} lanes")
        self._bptt = bptt
        self._chars = ids[: self._n * batch_size].view(batch_size, self._n)
        self._targets = ids[1 : self._n * batch_size + 1].view(batch_size, self._n)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-self._n // self._bptt)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return chars (B, T) and targets (B, T), long; the same in every epoch."""
        here = slice(step * self._bptt, (step + 1) * self._bptt)
        return self._chars[:, here].long(), self._targets[:, here].long()

    def row_offsets(self, epoch: int, step: int) -> Tensor:
        """Return where in the text the rows of a batch begin, long, (B,)."""
        return torch.arange(len(self._chars), device=self._chars.device) * self._n + step * self._bptt
