"""Many images: their results in order, progress, and asynchronous iteration for synchronous callers."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TypeVar

from ._api import Image
from ._jobs import Job

T = TypeVar("T")

DEFAULT_CONCURRENCY = 4
BAR_WIDTH = 30

Progress = Callable[[int, int | None], None]
"""Called after each image with how many are done, and how many there are if that is known."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What became of one of many images: a job with a result, or an error."""

    image: Image
    job: Job | None
    error: Exception | None

    @property
    def label(self) -> str:
        """The best label; raises the error if there is one."""
        return self.ended_job.label

    @property
    def score(self) -> float:
        """The score of the best label; raises the error if there is one."""
        return self.ended_job.score

    @property
    def ended_job(self) -> Job:
        """The job; raises the error if there is one."""
        if self.error is not None:
            raise self.error
        assert self.job is not None
        return self.job


def reporter(progress: bool | Progress) -> Progress:
    """Returns the function to call; `True` draws a bar if standard error is a terminal."""
    if callable(progress):
        return progress
    return draw_bar if progress and sys.stderr.isatty() else lambda _done, _total: None


def draw_bar(done: int, total: int | None) -> None:
    """Draws a bar on standard error; ends its line after the last image."""
    if total is None:
        print(f"\r{done} images", end="", file=sys.stderr, flush=True)
    else:
        filled = BAR_WIDTH * done // max(total, 1)
        line = f"\r[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {done} of {total}"
        print(line, end="\n" if done == total else "", file=sys.stderr, flush=True)


def iterate(start: Callable[[], AsyncGenerator[T]], ahead: int) -> Iterator[T]:
    """Runs an asynchronous iteration in a thread of its own, at most `ahead` results before the caller.

    The thread's tasks are canceled and awaited when the caller ends the iteration, also by an exception such as KeyboardInterrupt.
    """
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    permits = asyncio.Semaphore(ahead)
    running: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = queue.SimpleQueue()

    async def produce() -> None:
        task = asyncio.current_task()
        assert task is not None
        running.put((asyncio.get_running_loop(), task))
        end: BaseException | None = None
        try:
            async with aclosing(start()) as started:
                async for result in started:
                    results.put((result, None))
                    await permits.acquire()
        except BaseException as error:
            end = error
        results.put((None, end or StopAsyncIteration()))

    thread = threading.Thread(target=lambda: asyncio.run(produce()), name="selvage", daemon=True)
    thread.start()
    loop, task = running.get()
    try:
        while True:
            result, error = results.get()
            if isinstance(error, StopAsyncIteration):
                return
            if error is not None:
                raise error
            assert result is not None
            yield result
            loop.call_soon_threadsafe(permits.release)
    finally:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
