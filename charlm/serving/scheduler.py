"""Scheduler: one thread a model, which advances all requests of the model by turns.

A request is a `Job` with one task for each of its texts. A task is a generator that yields after every short piece of
work: a character of a text, a chunk of a prompt. A turn takes one piece of each task and one step of the batch, so a
long request delays others by one piece at a time. Results are passed to the event loop some 25 times a second.

Reference: Yu et al. (2022), "Orca": iteration-level scheduling (continuous batching).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Protocol

PUBLISH_SECONDS = 0.04
Task = Iterator[None]


class Job:
    """A request in progress.

    Args:
        seconds: time limit.
        on_close: called once, in the event loop, when the request has ended.

    Attributes:
        outbox: results not published yet; used by the scheduler's thread only.
        is_urgent: publish at once, as for the first and the last result.
        is_over: the job has ended; its tasks are dropped.
    """

    def __init__(self, seconds: float, on_close: Callable[[], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._on_close: Callable[[], None] | None = on_close
        self.deadline = time.monotonic() + seconds
        self.outbox: list[Any] = []
        self.published_at = 0.0
        self.is_urgent, self.is_over = True, False

    def emit(self, result: Any) -> None:
        """Add a result."""
        self.outbox.append(result)

    def fail(self, error: BaseException) -> None:
        """End the job with an error."""
        self.emit(error)
        self.is_urgent = self.is_over = True

    def take(self, now: float) -> list[Any]:
        """Return the results to publish now."""
        if not self.outbox or not (self.is_urgent or now - self.published_at > PUBLISH_SECONDS):
            return []
        taken, self.outbox = self.outbox, []
        self.published_at, self.is_urgent = now, False
        return taken

    def deliver(self, results: Sequence[Any]) -> None:
        """Queue results for `results`; called in the event loop."""
        self._queue.put_nowait(results)

    def close(self) -> None:
        """End the job and release its reservation; called in the event loop."""
        self.is_over = True
        if self._on_close is not None:
            self._on_close()
            self._on_close = None

    async def results(self) -> AsyncIterator[list[Any]]:
        """Yield lists of results, one list every 40 milliseconds or so; the reader stops after the last result.

        Raises:
            TimeoutError: the time limit was exceeded.
            ConnectionAbortedError: the server is stopping.
            Exception: any error of a task or of the batch.
        """
        while True:
            results = await self._queue.get()
            if isinstance(results[-1], BaseException):
                raise results[-1]
            yield results


class Batch(Protocol):
    """Texts that advance together; see `charlm.serving.batch.LaneBatch`."""

    def __len__(self) -> int:
        """Return the number of texts."""

    def step(self) -> None:
        """Advance each text by one character."""

    def clear(self) -> None:
        """Remove all texts."""


class Scheduler:
    """The thread that runs the tasks and the batch of one model.

    Args:
        name: of the thread.
        batch: of the model.
    """

    def __init__(self, name: str, batch: Batch) -> None:
        self.batch = batch
        self._tasks: list[tuple[Job, Task]] = []
        self._jobs: set[Job] = set()
        self._inbox: list[tuple[Job, Sequence[Task]]] = []
        self._changed = threading.Condition()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its present turn; jobs in progress fail."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join()

    def submit(self, job: Job, tasks: Sequence[Task]) -> None:
        """Add a request."""
        with self._changed:
            self._inbox.append((job, tasks))
            self._changed.notify()

    def _run(self) -> None:
        while self._receive():
            self._tasks = [(job, task) for job, task in self._tasks if _advance(job, task)]
            try:
                self.batch.step()
            except Exception as error:  # the state of a whole group may be invalid
                for job in self._jobs:
                    job.fail(error)
                self.batch.clear()
            self._publish()

    def _receive(self) -> bool:
        """Take new requests, and wait for one if there is no work; return False when the thread must end."""
        with self._changed:
            while not (self._inbox or self._tasks or len(self.batch) or self._is_stopping):
                self._changed.wait()
            inbox, self._inbox = self._inbox, []
        for job, tasks in inbox:
            self._jobs.add(job)
            self._tasks += [(job, task) for task in tasks]
        if self._is_stopping:
            for job in self._jobs:
                job.fail(ConnectionAbortedError("the server is stopping"))
            self._publish()
        return not self._is_stopping

    def _publish(self) -> None:
        now = time.monotonic()
        ready: dict[asyncio.AbstractEventLoop, list[tuple[Job, list[Any]]]] = {}
        for job in list(self._jobs):
            if results := job.take(now):
                ready.setdefault(job.loop, []).append((job, results))
            if job.is_over:
                self._jobs.discard(job)
        for loop, pairs in ready.items():
            loop.call_soon_threadsafe(_deliver, pairs)


def _deliver(pairs: Sequence[tuple[Job, list[Any]]]) -> None:
    for job, results in pairs:
        job.deliver(results)


def _advance(job: Job, task: Task) -> bool:
    """Do the next piece of a task; return whether the task may continue."""
    if is_expired(job):
        return False
    try:
        next(task)
    except StopIteration:
        return False
    except Exception as error:
        job.fail(error)
        return False
    return True


def is_expired(job: Job) -> bool:
    """Return whether a job has ended; end it if its time limit is exceeded."""
    if not job.is_over and time.monotonic() > job.deadline:
        job.fail(TimeoutError())
    return job.is_over
