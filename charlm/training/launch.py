"""How processes that were started together find one another, and what they leave for those in their place.

`torchrun` tells each of its processes by environment variables who it is and where the first machine is.
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

from charlm.training.distributed import all_reduce_max, local_rank

_RUN, _PORT = "charlm/run", "charlm/port"  # in the store of `torchrun`


def under_torchrun() -> bool:
    """Return whether this is one of several processes that were started together, as `torchrun` does."""
    told = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    return told and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that were started together; CPU tensors travel by gloo, those of CUDA by NCCL."""
    if not under_torchrun() or dist.is_initialized():
        yield
        return
    has_cuda = torch.cuda.is_available()
    if has_cuda and local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(local_rank())
    # An optimiser imports this. Imported once the group is there, it keeps that from being destroyed; and a thread of a
    # group that lets go of a tensor while Python shuts down ends the process with SIGABRT (seen with torch 2.13).
    import_module("torch._dynamo")
    place = {"rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"]), "store": _rendezvous_store()}
    dist.init_process_group("cpu:gloo,cuda:nccl" if has_cuda else "gloo", **place)
    yield
    all_reduce_max(0)  # the first one's store must not go before the others have
    dist.destroy_process_group()  # not after an error: who else has failed may never come to this place


def _rendezvous_store() -> Any:
    """Return a store that the first process has just opened.

    The store of `torchrun` lives on when processes are started again, and with it all that those before left there
    for one another; whoever took that for news would wait for a process that is gone. So it holds no more than where
    to find the new store, and an old one is known by nobody answering.
    """
    shared = _launch_store()
    if shared is None:  # not by `torchrun`: nothing is started again
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
    """Return the store of `torchrun`, which outlives the processes; None where there is none."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    return _open_store(int(os.environ["MASTER_PORT"]))


def _open_store(port: int, is_host: bool = False) -> Any:
    """Connect to the store at a port of the first machine, or open one there, at any port for 0."""
    return dist.TCPStore(os.environ["MASTER_ADDR"], port, is_master=is_host, wait_for_workers=False)  # type: ignore[attr-defined]


def publish_run(run: str) -> None:
    """Leave the name of the run for processes that `torchrun` starts in the place of these."""
    if (shared := _launch_store()) is not None:
        shared.set(_RUN, run)


def restored_run() -> str | None:
    """Return what was left by processes that failed and in whose place these were started; None for the first."""
    shared = _launch_store()
    return str(shared.get(_RUN), "utf-8") if shared is not None and shared.check([_RUN]) else None
