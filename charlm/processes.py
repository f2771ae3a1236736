"""Many processes, one training: what each of them does alone, and what they tell one another.

`torchrun` starts the same program several times. Each process has the whole text and the whole model, takes its own
rows of every batch, and adds its gradient to those of the others; so all of them take the same step, and the result is
that of one process up to rounding. What a process decides must be decided alike by all, or they would wait for one
another for ever: by numbers that all have (`largest`, `from_first`) and never by a clock or a signal of its own.

`torch.nn.parallel.DistributedDataParallel` would do the adding, too. It asks that every process has a row in every
step and every parameter a gradient, which the end of an epoch and a model of one's own need not give. What it is good
for, sending the first gradients while the last are computed, gains little here: read backward through time, the
gradient of a recurrent layer is complete only at the first character.

In a single process each function does nothing, or what it says for one.

Shapes: B rows of a batch, T characters.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from charlm.errors import UsageError
from charlm.metrics import evaluating
from charlm.models.base import CharModel, State, to_device

Value = TypeVar("Value")

PATIENCE = timedelta(days=30)  # that others wait while the first evaluates
_RUN, _PORT = "charlm/run", "charlm/port"  # in the store of `torchrun`


def launched() -> bool:
    """Return whether this is one of several processes that were started together, as `torchrun` does."""
    told = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    return told and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that were started together; CPU tensors travel by gloo, those of CUDA by NCCL."""
    if not launched() or dist.is_initialized():
        yield
        return
    has_cuda = torch.cuda.is_available()
    if has_cuda and _local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(_local_rank())
    place = {"rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"]), "store": _meeting_point()}
    dist.init_process_group("cpu:gloo,cuda:nccl" if has_cuda else "gloo", **place)
    yield
    largest(0)  # the first one's store must not go before the others have
    dist.destroy_process_group()  # not after an error: who else has failed may never come to this place


def _meeting_point() -> dist.Store:
    """Return a store that the first process has just opened.

    The store of `torchrun` lives on when processes are started again, and with it all that those before left there
    for one another; whoever took that for news would wait for a process that is gone. So it holds no more than where
    to find the new store, and an old one is known by nobody answering.
    """
    host, shared = os.environ["MASTER_ADDR"], _launch_store()
    if shared is None:  # not by `torchrun`: nothing is started again
        return dist.TCPStore(host, int(os.environ["MASTER_PORT"]), is_master=os.environ["RANK"] == "0")
    if os.environ["RANK"] == "0":
        own = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)
        shared.set(_PORT, str(own.port))
        return own
    while True:
        port = int(shared.get(_PORT))
        try:
            socket.create_connection((host, port), 5).close()
            return dist.TCPStore(host, port, is_master=False)
        except (OSError, dist.DistError):
            time.sleep(0.1)


def _launch_store() -> dist.TCPStore | None:
    """Return the store of `torchrun`, which outlives the processes."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    return dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def n_processes() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Return whether this is the process that writes, prints and evaluates."""
    return rank() == 0


def _local_rank() -> int:
    """Return the number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", rank()))


def own_device(device: torch.device) -> torch.device:
    """Return this process's own device of a kind.

    Raises:
        UsageError: there are not as many.
    """
    if n_processes() == 1 or device.type == "cpu":
        return device
    n = torch.cuda.device_count() if device.type == "cuda" else 1
    if _local_rank() >= n:
        raise UsageError(
            f"a process needs a {device.type} device of its own and there are {n}; "
            f"take torchrun --nproc-per-node {n}, or --device cpu"
        )
    if device.type != "cuda":
        raise UsageError(f"several processes cannot share gradients on {device.type}; take --device cpu")
    return torch.device("cuda", _local_rank())


def own_seed(seed: int) -> None:
    """Seed torch's generators so that processes draw different dropout; the first goes on as a single one does."""
    if not is_first():
        torch.manual_seed((seed * 1_000_003 + rank()) % 2**64)


def alike(model: nn.Module) -> None:
    """Give all processes the first one's weights: other processors may have drawn them with another rounding."""
    if n_processes() > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)


def _own(n: int) -> tuple[int, int]:
    """Return the first of this process's rows out of `n`, and the one after its last."""
    return rank() * n // n_processes(), (rank() + 1) * n // n_processes()


def pieces(batch: Sequence[Tensor], n: int) -> list[tuple[Tensor, ...]]:
    """Return this process's rows of a batch.

    Args:
        batch: of all processes, each (B, T).
        n: pieces in which they are to be read, one after another.

    Returns:
        at most so many pieces of the batch, none where this process has no row.
    """
    first, stop = _own(len(batch[0]))
    if first == stop:
        return []
    return list(zip(*(part[first:stop].chunk(n) for part in batch), strict=True))


def add_up(parameters: Iterable[nn.Parameter], loss: Tensor) -> None:
    """Add gradients and loss over the processes, in place; a parameter without a gradient counts as zero.

    Args:
        parameters: the same on all processes.
        loss: nats, ().
    """
    if n_processes() == 1:
        return
    learned = [p for p in parameters if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), loss.view(1)])
    dist.all_reduce(flat)
    loss.copy_(flat[-1])
    for p, gradient in zip(learned, flat[:-1].split([p.numel() for p in learned]), strict=True):
        p.grad = gradient.view_as(p)


def largest(*values: float) -> list[float]:
    """Return the largest of each value over the processes; nobody goes on before all have come here."""
    if n_processes() == 1:
        return list(values)
    shared = torch.tensor(values, dtype=torch.float64)  # on the CPU: a GPU need not wait
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return shared.tolist()  # type: ignore[no-any-return]


def from_first(make: Callable[[], Value]) -> Value:
    """Return, or raise, on all processes what a function returns or raises on the first; the others wait for it."""
    if n_processes() == 1:
        return make()
    waiting = dist.new_group(backend="gloo", timeout=PATIENCE)
    sent: list[Any] = [None, None]
    if is_first():
        try:
            sent[0] = make()
        except Exception as error:
            sent[1] = error
    dist.broadcast_object_list(sent, src=0, group=waiting)
    dist.destroy_process_group(waiting)
    if sent[1] is not None:
        raise sent[1]
    return sent[0]  # type: ignore[no-any-return]


@contextmanager
def in_turn() -> Iterator[None]:
    """Let the first process of each machine do something, then the others: it may leave a file for them."""
    if _local_rank() > 0:
        largest(0)
    yield
    if _local_rank() == 0:
        largest(0)


def gather(value: Value) -> list[Value]:
    """Return on the first process a value of each, its tensors on the CPU; elsewhere the own one alone."""
    if n_processes() == 1:
        return [value]
    value = to_device(value, torch.device("cpu"))
    everyone: list[Any] | None = [None] * n_processes() if is_first() else None
    dist.gather_object(value, everyone, dst=0)
    return everyone or [value]


def own_states(states: list[State], model: CharModel, n_pieces: int) -> list[State]:
    """Return this process's part of the states of a whole batch, whatever number of processes left them.

    Args:
        states: of all pieces of all processes, in the order of the rows; None for a piece that was not read.
        model: whose states they are.
        n_pieces: in which a process reads its rows, then and now.

    Returns:
        a state for each piece of this process.
    """
    if len(states) == n_pieces * n_processes():
        return states[rank() * n_pieces : (rank() + 1) * n_pieces]
    read = [state for state in states if state is not None]
    own = _deal(read, _batch_axes(model), n_pieces) if read else []
    return own + [None] * (n_pieces - len(own))


def _batch_axes(model: CharModel) -> Any:
    """Return, in the place of each tensor of a state, which of its axes is B; None where none is."""

    def axes(one: State, two: State) -> Any:
        if isinstance(one, tuple):
            return tuple(axes(*parts) for parts in zip(one, two, strict=True))
        if not isinstance(one, Tensor):
            return None
        return next((i for i in range(one.dim()) if one.shape[i] != two.shape[i]), None)

    with evaluating(model):
        return axes(*(model(torch.zeros(n, 2, dtype=torch.long, device=model.device))[1] for n in (1, 2)))


def _deal(states: list[State], axes: Any, n_pieces: int) -> list[State]:
    """Join states along their batch axes and return this process's rows of them, in pieces."""
    if isinstance(axes, tuple):
        parts = [_deal([state[i] for state in states], axis, n_pieces) for i, axis in enumerate(axes)]
        return list(zip(*parts, strict=False))
    if axes is None:
        return states[:1] * n_pieces
    whole = torch.cat(states, axes)
    first, stop = _own(whole.shape[axes])
    return [piece.contiguous() for piece in whole.narrow(axes, first, stop - first).chunk(n_pieces, axes)]


def remember(run: str) -> None:
    """Leave the name of the run for processes that `torchrun` starts in the place of these."""
    if (shared := _launch_store()) is not None:
        shared.set(_RUN, run)


def recall() -> str | None:
    """Return what was left by processes that failed and in whose place these were started; None for the first."""
    shared = _launch_store()
    return shared.get(_RUN).decode() if shared is not None and shared.check([_RUN]) else None
