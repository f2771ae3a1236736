"""Many texts, written by several processes: each writes some of them on a core of its own.

In one process only the products of matrices take more than one core; what is done number by number, and the draws, take
one. Texts that have nothing to do with one another can be shared out: each process has its own reader and its own
seeds, and sends what it writes. A text depends on its seed alone, however many processes there are, as far as float32
goes.

The processes are started anew (no fork, which does not go with threads) and end with the one that started them. What
they send to it are pickles, as multiprocessing has it; no file is read so.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from charlm.errors import CharlmError
from charlm.generation.sampler import columns

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

MakeTexts = Callable[[Sequence[int]], list[Iterator[str]]]

N_BLOCK = 16  # pieces of a text that are sent together
N_TEXTS, N_CHARS = 16, 1 << 17  # fewer for a process are not worth its start
MOST_BYTES = 1 << 30  # of weights, in all processes together
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def n_workers(n_texts: int, length: int, n_bytes: int) -> int:
    """Return how many processes are to write.

    Args:
        n_texts: B.
        length: T, characters of a text.
        n_bytes: of weights, which each process has.
    """
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = os.environ.get(THREADS[0], "")
    n_cores = min(n_cores, int(told)) if told.isdecimal() else n_cores
    return max(1, min(n_cores, n_texts // N_TEXTS, n_texts * length // N_CHARS, MOST_BYTES // max(n_bytes, 1)))


def written(make_texts: MakeTexts, seeds: Sequence[int], n_pieces: int, world_size: int) -> Iterator[Iterator[str]]:
    """Yield the texts of some seeds; other processes write them.

    Args:
        make_texts: from seeds to the texts, each piece by piece; it is pickled.
        seeds: one for each text.
        n_pieces: of a text, at most.
        world_size: how many.

    Yields:
        the pieces of each text, some of them joined.

    Raises:
        CharlmError: what one of them raises, or it ended too early.
    """
    yield from columns(_blocks(make_texts, seeds, n_pieces, world_size), len(seeds))


def _blocks(make_texts: MakeTexts, seeds: Sequence[int], n_pieces: int, world_size: int) -> Iterator[list[str]]:
    import multiprocessing  # which one text does without

    context = multiprocessing.get_context("spawn")
    world_size = min(world_size, len(seeds))
    cuts = [i * len(seeds) // world_size for i in range(world_size + 1)]
    connections, workers = [], []
    try:
        for first, stop in zip(cuts, cuts[1:], strict=False):
            receiver, sender = context.Pipe(duplex=False)
            worker = context.Process(target=_work, args=(sender, make_texts, seeds[first:stop], n_pieces), daemon=True)
            with _one_thread(), _out_of_reach():
                worker.start()
            sender.close()  # so that the end of the process is the end of what it sends
            connections.append(receiver)
            workers.append(worker)
        for _ in range(0, n_pieces, N_BLOCK):
            yield [piece for connection in connections for piece in _received(connection)]
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let what is started multiply matrices with one thread; libraries read that when they are loaded."""
    before = os.environ.copy()
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name in THREADS:
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _out_of_reach() -> Iterator[None]:
    """Let what is started not be interrupted by Ctrl-C, which ends the process that started it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _received(connection: Connection) -> list[str]:
    try:
        pieces: list[str] | CharlmError = connection.recv()
    except EOFError:
        raise CharlmError("a process that wrote some of the texts has ended; write fewer at once, --num") from None
    if isinstance(pieces, CharlmError):
        raise pieces
    return pieces


def _work(sender: Connection, make_texts: MakeTexts, seeds: Sequence[int], n_pieces: int) -> None:
    """Write some of the texts and send them, some pieces of each at a time."""
    try:
        texts = make_texts(seeds)
        for _ in range(0, n_pieces, N_BLOCK):
            sender.send(["".join(islice(text, N_BLOCK)) for text in texts])
    except CharlmError as error:
        sender.send(error)
    except (BrokenPipeError, KeyboardInterrupt):  # nobody reads on
        pass
