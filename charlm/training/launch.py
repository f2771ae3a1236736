"""Rendezvous of the processes that `torchrun` starts; the run folder for processes that it restarts.

`torchrun` gives each process its rank and the address of the first machine in environment variables.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
import torch.distributed as dist

from charlm.errors import UsageError
from charlm.training.distributed import all_reduce_max, local_rank

_RUN, _PORT = "charlm/run", "charlm/port"  # keys in the store of `torchrun`


def under_torchrun() -> bool:
    """Return whether this is one of several processes that `torchrun` or a similar launcher started.

    Raises:
        UsageError: one of the launcher's variables is no number, or this is none of the processes.
    """
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return False
    size = _number("WORLD_SIZE", 1, 1 << 31)
    _number("MASTER_PORT", 0, 65535)
    _number("RANK", 0, size - 1)
    if "LOCAL_RANK" in os.environ:
        _number("LOCAL_RANK", 0, size - 1)
    return size > 1


def _number(name: str, least: int, most: int) -> int:
    """Return the number in an environment variable.

    Raises:
        UsageError: it is none, or out of bounds.
    """
    text = os.environ[name]
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and least <= int(text) <= most):
        raise UsageError(
            f"environment variable {name} is {text[:40]!r}, not a number from {least} to {most}; "
            "start with torchrun, or unset it"
        )
    return int(text)


@contextmanager
def process_group() -> Iterator[None]:
    """Open the process group: gloo for CPU tensors, NCCL for CUDA tensors. No-op for a single process."""
    if not under_torchrun() or dist.is_initialized():
        yield
        return
    has_cuda = torch.cuda.is_available()
    if has_cuda and local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(local_rank())
    # Optimisers import torch._dynamo. Imported after the group was opened, it keeps a reference that prevents the group
    # from being destroyed; a group thread that frees a tensor while Python shuts down raises SIGABRT (torch 2.13).
    import_module("torch._dynamo")
    ranks = {"rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"]), "store": _rendezvous_store()}
    dist.init_process_group("cpu:gloo,cuda:nccl" if has_cuda else "gloo", **ranks)
    yield
    all_reduce_max(0)  # rank 0 holds the store and must be the last to leave
    dist.destroy_process_group()  # not after an error: it would wait for processes that failed, too


def _rendezvous_store() -> Any:
    """Return a store that rank 0 has just opened.

    torchrun's store outlives a restart and still holds keys of dead workers; waiting on one would hang. So it holds
    only the port of a fresh store, and a port that refuses connections is stale.
    """
    shared = _launch_store()
    if shared is None:  # another launcher, without restarts
        return _open_store(int(os.environ["MASTER_PORT"]), os.environ["RANK"] == "0")
    if os.environ["RANK"] == "0":
        own = _open_store(0, True)
        shared.set(_PORT, str(own.port))
        return own
    while True:
        port = int(shared.get(_PORT))
        try:
            socket.create_connection((os.environ["MASTER_ADDR"], port), 5).close()
            return _open_store(port)
        except (OSError, dist.DistError):
            time.sleep(0.1)


def _launch_store() -> Any:
    """Return the store of `torchrun`, which outlives the processes; None with another launcher."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    return _open_store(int(os.environ["MASTER_PORT"]))


def _open_store(port: int, is_host: bool = False) -> Any:
    """Connect to a store on the first machine, or open one there; port 0 takes any free port."""
    return dist.TCPStore(os.environ["MASTER_ADDR"], port, is_master=is_host, wait_for_workers=False)  # type: ignore[attr-defined]


def publish_run(run: str) -> None:
    """Store the folder of the run for processes that `torchrun` restarts."""
    if (shared := _launch_store()) is not None:
        shared.set(_RUN, run)


def restored_run() -> str | None:
    """Return the folder of the run that failed processes had published; None at the first start."""
    shared = _launch_store()
    return str(shared.get(_RUN), "utf-8") if shared is not None and shared.check([_RUN]) else None
