"""Feeds: inputs and targets of each training step.

A batch is a pure function of (text, seed, epoch, step). There is no generator state, so resuming needs only a counter,
and two runs with the same seed read the same batches. The text is one tensor, on the device of the training or, if it
is too large, in a memory-mapped file. Batches are on the device of the text.

Shapes: N characters of text, B batch_size, T sequence length, P positions.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from charlm.data.permutation import Positions, permute
from charlm.data.vocab import Ids
from charlm.errors import DataError

Batch = tuple[Tensor, Tensor]  # chars (B, T) and targets (B, T) or (B, 1), both long


class Feed(Protocol):
    """Batches of a text.

    Attributes:
        predicts: positions of a sequence that have a target: "all" or only the "last".
        carries_state: each sequence continues the one in the same row of the previous batch.
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
        """Return the positions in the text at which the rows of a batch begin, long, (B,)."""
        ...


def to_device_if_fits(ids: Ids, device: torch.device) -> Tensor:
    """Return ids as a tensor on a device; on the CPU if they exceed a quarter of a GPU's free memory.

    Args:
        ids: (N,).
        device: device of the training.
    """
    with warnings.catch_warnings():  # a mapped file is read-only; the text is never written to
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        text = torch.from_numpy(ids)
    if device.type == "cuda" and text.nbytes > torch.cuda.mem_get_info(device)[0] // 4:
        return text
    return text.to(device)


@dataclass(frozen=True)
class RandomSubset:
    """A random subset of 0..n-1: the elements at positions `first` to `stop` of a permutation."""

    n: int
    seed: int
    first: int
    stop: int

    def __len__(self) -> int:
        """Return the size of the subset."""
        return self.stop - self.first

    def elements(self, positions: Positions) -> Positions:
        """Return the elements at positions 0 to `len(self) - 1` of the subset, int64, (P,)."""
        return permute(self.first + positions, self.n, self.seed, epoch=-1)


def random_split(n: int, held_out: float, seed: int) -> tuple[RandomSubset, RandomSubset]:
    """Split 0..n-1 at random into a training subset and a held-out subset.

    Args:
        n: number of elements.
        held_out: fraction of the elements to hold out.
        seed: seed of the permutation.
    """
    n_held_out = round(n * held_out)
    return RandomSubset(n, seed, n_held_out, n), RandomSubset(n, seed, 0, n_held_out)


class _Rows:
    """Base class of feeds of equally long sequences, shuffled anew every epoch."""

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
        """Number of sequences in the text, including held-out ones."""
        return len(self._rows)

    @property
    def _n_used(self) -> int:
        return self.n_rows if self._subset is None else len(self._subset)

    def __len__(self) -> int:
        return -(-self._n_used // self._batch_size)

    def _row_indices(self, epoch: int, step: int) -> Tensor:
        """Return the indices of the sequences in a batch, int64, (B,)."""
        first = step * self._batch_size
        positions = np.arange(first, min(first + self._batch_size, self._n_used))
        rows = permute(positions, self._n_used, self._seed, epoch)
        indices = torch.from_numpy(rows if self._subset is None else self._subset.elements(rows))
        if self._rows.device.type == "cuda":  # a copy from pinned memory is asynchronous
            indices = indices.pin_memory()
        return indices.to(self._rows.device, non_blocking=True)

    def _batch_rows(self, epoch: int, step: int) -> Tensor:
        """Return the sequences in a batch, long, (B, T + 1)."""
        return self._rows[self._row_indices(epoch, step)].long()

    def row_offsets(self, epoch: int, step: int) -> Tensor:
        """Return the positions in the text at which the rows of a batch begin, long, (B,)."""
        return self._row_indices(epoch, step) * self._stride


class Windows(_Rows):
    """Overlapping windows; only the character after each window is predicted.

    Args:
        ids: text, (N,).
        n_context: T, characters in a window.
        batch_size: B; the last batch of an epoch may be smaller.
        seed: seed of the order.
        stride: characters between the starts of neighbouring windows.
        subset: windows to use; None for all.

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
        rows = self._batch_rows(epoch, step)
        return rows[:, :-1], rows[:, -1:]


class Chunks(_Rows):
    """Non-overlapping chunks in random order; every position is predicted, each chunk starts from the zero state.

    The remainder of the text, fewer than `bptt` characters, is left out.

    Args:
        ids: text, (N,).
        bptt: T, characters in a chunk.
        batch_size: B; the last batch of an epoch may be smaller.
        seed: seed of the order.
        subset: chunks to use; None for all.

    Raises:
        DataError: the text is shorter than one chunk.
    """

    predicts = "all"

    def __init__(
        self, ids: Tensor, bptt: int, batch_size: int, seed: int = 0, subset: RandomSubset | None = None
    ) -> None:
        super().__init__(ids, bptt, bptt, batch_size, seed, subset)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return chars (B, T) and targets (B, T), long."""
        rows = self._batch_rows(epoch, step)
        return rows[:, :-1], rows[:, 1:]


class Stream:
    """The text in B contiguous lanes, read in parallel; the state is carried over (truncated BPTT).

    The remainder of the text, fewer than `batch_size` characters, is left out; the last batch of an epoch is shorter.

    Args:
        ids: text, (N,).
        bptt: T, characters between two detachments of the state.
        batch_size: B, number of lanes.

    Raises:
        DataError: the text is too short for that many lanes.
    """

    predicts = "all"
    carries_state = True

    def __init__(self, ids: Tensor, bptt: int, batch_size: int) -> None:
        self._n = (len(ids) - 1) // batch_size  # targets in a lane
        if self._n < 1:
            raise DataError(f"the training part has {len(ids)} characters, too few for {batch_size} lanes")
        self._bptt = bptt
        self._chars = ids[: self._n * batch_size].view(batch_size, self._n)
        self._targets = ids[1 : self._n * batch_size + 1].view(batch_size, self._n)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-self._n // self._bptt)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return chars (B, T) and targets (B, T), long; independent of the epoch."""
        here = slice(step * self._bptt, (step + 1) * self._bptt)
        return self._chars[:, here].long(), self._targets[:, here].long()

    def row_offsets(self, epoch: int, step: int) -> Tensor:
        """Return the positions in the text at which the rows of a batch begin, long, (B,)."""
        return torch.arange(len(self._chars), device=self._chars.device) * self._n + step * self._bptt
