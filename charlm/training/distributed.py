"""Many processes, one training: what each of them does alone, and what they tell one another.

`torchrun` starts the same program several times. Each process has the whole text and the whole model, takes its own
rows of every batch, and adds its gradient to those of the others; so all of them take the same step, and the result is
that of one process up to rounding. What a process decides must be decided alike by all, or they would wait for one
another for ever: by numbers that all have (`all_reduce_max`, `run_on_rank0`), never by an own clock or signal.

`torch.nn.parallel.DistributedDataParallel` would do the adding, too. It asks that every process has a row in every
step and every parameter a gradient, which the end of an epoch and a model of one's own need not give. What it is good
for, sending the first gradients while the last are computed, gains little here: read backward through time, the
gradient of a recurrent layer is complete only at the first character.

Objects that the processes send one another travel as pickles, as torch.distributed has it; no file is read so. In a
single process each function does nothing, or what it says for one.

Shapes: B rows of a batch, T characters.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from charlm.errors import UsageError
from charlm.models.base import to_device

Value = TypeVar("Value")

TIMEOUT = timedelta(days=30)  # that others wait while the first evaluates


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main_process() -> bool:
    """Return whether this is the process that writes, prints and evaluates."""
    return rank() == 0


def local_rank() -> int:
    """Return the number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", rank()))


def rank_device(device: torch.device) -> torch.device:
    """Return this process's own device of a kind.

    Raises:
        UsageError: there are not as many, or it is of a kind on which processes cannot work together.
    """
    if world_size() == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise UsageError(f"several processes cannot add up gradients on {device.type}; take --device cpu")
    if local_rank() >= (n := torch.cuda.device_count()):
        raise UsageError(
            f"each process needs its own GPU and there are {n}; take torchrun --nproc-per-node {n}, or --device cpu"
        )
    return torch.device("cuda", local_rank())


def seed_rank(seed: int) -> None:
    """Seed torch's generators so that processes draw different dropout; the first goes on as a single one does."""
    if not is_main_process():
        torch.manual_seed((seed * 1_000_003 + rank()) % 2**64)


def broadcast_weights(model: nn.Module) -> None:
    """Give all processes the first one's weights: other processors may have drawn them with another rounding."""
    if world_size() > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)


def shard_bounds(n: int) -> tuple[int, int]:
    """Return the first of this process's rows out of `n`, and the one after its last."""
    return rank() * n // world_size(), (rank() + 1) * n // world_size()


def micro_batches(batch: Sequence[Tensor], n: int) -> list[tuple[Tensor, ...]]:
    """Return this process's rows of a batch.

    Args:
        batch: of all processes, each (B, T).
        n: pieces in which they are to be read, one after another.

    Returns:
        at most so many pieces of the batch, none where this process has no row.
    """
    if world_size() > 1:
        first, stop = shard_bounds(len(batch[0]))
        if first == stop:
            return []
        batch = [part[first:stop] for part in batch]
    if n == 1:
        return [tuple(batch)]
    return list(zip(*(part.chunk(n) for part in batch), strict=True))


def all_reduce_gradients(parameters: Iterable[nn.Parameter], loss: Tensor) -> None:
    """Add gradients and loss over the processes, in place; a parameter without a gradient counts as zero.

    Args:
        parameters: the same on all processes.
        loss: nats, ().
    """
    if world_size() == 1:
        return
    learned = [p for p in parameters if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), loss.view(1)])
    dist.all_reduce(flat)
    loss.copy_(flat[-1])
    for p, gradient in zip(learned, torch.split(flat[:-1], [p.numel() for p in learned]), strict=True):
        p.grad = gradient.view_as(p)


def all_reduce_max(*values: float) -> list[float]:
    """Return the largest of each value over the processes; nobody goes on before all have come here."""
    if world_size() == 1:
        return list(values)
    shared = torch.tensor(values, dtype=torch.float64)  # on the CPU: a GPU need not wait
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    found: list[float] = shared.tolist()
    return found


def run_on_rank0(make: Callable[[], Value]) -> Value:
    """Return, or raise, on all processes what a function returns or raises on the first; the others wait for it."""
    if world_size() == 1:
        return make()
    waiting = dist.new_group(backend="gloo", timeout=TIMEOUT)
    sent: list[Any] = [None, None]
    if is_main_process():
        try:
            sent[0] = make()
        except Exception as error:
            sent[1] = error
    dist.broadcast_object_list(sent, src=0, group=waiting)
    dist.destroy_process_group(waiting)
    if sent[1] is not None:
        raise sent[1]
    found: Value = sent[0]
    return found


@contextmanager
def rank0_first() -> Iterator[None]:
    """Let the first process of each machine do something, then the others: it may leave a file for them."""
    if local_rank() > 0:
        all_reduce_max(0)
    yield
    if local_rank() == 0:
        all_reduce_max(0)


def gather(value: Value) -> list[Value]:
    """Return on the first process a value of each, its tensors on the CPU; elsewhere the own one alone."""
    if world_size() == 1:
        return [value]
    value = to_device(value, torch.device("cpu"))
    everyone: list[Any] | None = [None] * world_size() if is_main_process() else None
    dist.gather_object(value, everyone, dst=0)
    return everyone or [value]
