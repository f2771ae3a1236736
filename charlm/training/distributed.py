"""Data-parallel training: the collective operations, and each process's share of the work.

`torchrun` starts the same program several times. Each process has the whole text and the whole model, reads its own
rows of every batch, and averages its gradients with the others'. So all processes take the same step, and the result
is that of one process up to rounding. Every decision (stop, save) must be the same on all processes, or they would wait
for one another for ever: it depends on values that all have (`all_reduce_max`, `run_on_rank0`), never on one process's
clock or signal.

`torch.nn.parallel.DistributedDataParallel` requires a row for every process in every step and a gradient for every
parameter; the end of an epoch and a user's model need not give either. Its advantage, sending the first gradients while
the last ones are computed, is small here: with backpropagation through time, the gradient of a recurrent layer is
complete only at the first character.

Objects travel between processes as pickles, as in torch.distributed; no file is read in this way. In a single process
each function does nothing, or what its docstring says for one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from charlm.errors import UsageError
from charlm.models.base import to_device

Value = TypeVar("Value")

TIMEOUT = timedelta(days=30)  # for processes that wait while the main process evaluates


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main_process() -> bool:
    """Return whether this process has rank 0: it writes, prints and evaluates."""
    return rank() == 0


def local_rank() -> int:
    """Return the number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", rank()))


def rank_device(device: torch.device) -> torch.device:
    """Return the device of this process.

    Args:
        device: type of device.

    Raises:
        UsageError: there are fewer devices than processes, or gradients cannot be averaged on this type of device.
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
    """Seed torch's generators so that each process draws its own dropout; rank 0 draws that of a single process."""
    if not is_main_process():
        torch.manual_seed((seed * 1_000_003 + rank()) % 2**64)


def broadcast_weights(model: nn.Module) -> None:
    """Copy the weights of rank 0 to all processes: another CPU may have initialised them with other rounding."""
    if world_size() > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)


def shard_bounds(n: int) -> tuple[int, int]:
    """Return the first of this process's rows out of `n`, and the one after its last."""
    return rank() * n // world_size(), (rank() + 1) * n // world_size()


def all_reduce_gradients(parameters: Iterable[nn.Parameter], loss: Tensor, weight: float) -> Tensor:
    """Replace gradients by their weighted mean over the processes; a missing gradient counts as zero.

    Args:
        parameters: the same on all processes.
        loss: this process's mean loss, ().
        weight: fraction of the batch that this process read; the weights of all processes add up to 1.

    Returns:
        the weighted mean of the losses, ().
    """
    if world_size() == 1:
        return loss
    trained = [p for p in parameters if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), loss.view(1)]).mul_(weight)
    dist.all_reduce(flat)
    for p, gradient in zip(trained, torch.split(flat[:-1], [p.numel() for p in trained]), strict=True):
        p.grad = gradient.view_as(p)
    return flat[-1]


def all_reduce_max(*values: float) -> list[float]:
    """Return the maximum of each value over the processes; every process waits here for all others."""
    if world_size() == 1:
        return list(values)
    shared = torch.tensor(values, dtype=torch.float64)  # on the CPU, so that a GPU need not wait
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    maxima: list[float] = shared.tolist()
    return maxima


def run_on_rank0(make: Callable[[], Value]) -> Value:
    """Call a function on rank 0; return its result, or raise its exception, on all processes."""
    if world_size() == 1:
        return make()
    group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    sent: list[Any] = [None, None]
    if is_main_process():
        try:
            sent[0] = make()
        except Exception as error:
            sent[1] = error
    dist.broadcast_object_list(sent, src=0, group=group)
    dist.destroy_process_group(group)
    if sent[1] is not None:
        raise sent[1]
    result: Value = sent[0]
    return result


@contextmanager
def rank0_first() -> Iterator[None]:
    """Run a block in the first process of each machine, then in the others: it may leave a file for them."""
    if local_rank() > 0:
        all_reduce_max(0)
    yield
    if local_rank() == 0:
        all_reduce_max(0)


def gather(value: Value) -> list[Value]:
    """Return the values of all processes on rank 0, tensors on the CPU; on other ranks only their own value."""
    if world_size() == 1:
        return [value]
    value = to_device(value, torch.device("cpu"))
    values: list[Any] | None = [None] * world_size() if is_main_process() else None
    dist.gather_object(value, values, dst=0)
    return values or [value]
