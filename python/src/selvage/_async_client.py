"""The asynchronous client."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sized
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar, Unpack, cast

import httpx

from ._api import (
    DEFAULT_ATTEMPTS,
    DEFAULT_TIMEOUT,
    Api,
    Image,
    Listing,
    PredictOptions,
    SubmitOptions,
    id_of,
    is_lasting,
    read_image,
)
from ._calls import Answer, Call, Steps
from ._errors import JobError, NotSentError, SelvageError, WaitTimeoutError
from ._events import Following
from ._jobs import Job, Model, Status
from ._many import DEFAULT_CONCURRENCY, Prediction, Progress, reporter

T = TypeVar("T")


class AsyncClient:
    """An asynchronous client of one server; the methods are those of `Client`."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        attempts: int = DEFAULT_ATTEMPTS,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """As for `Client`."""
        self._api = Api(url, api_key, timeout, attempts, verify)
        self._http = httpx.AsyncClient(**self._api.http_options())

    async def predict(self, image: Image, **options: Unpack[PredictOptions]) -> Job:
        """Classifies an image; returns its job when it has ended with a result. Canceling the task abandons the job."""
        return await self._run(self._api.predict(await asyncio.to_thread(read_image, image), options))

    async def predict_many(
        self,
        images: Iterable[Image],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        progress: bool | Progress = False,
        **options: Unpack[PredictOptions],
    ) -> AsyncGenerator[Prediction]:
        """Classifies images, `concurrency` at a time; yields what became of each, in their order."""
        report, total = reporter(progress), len(images) if isinstance(images, Sized) else None
        pending, done, rejected = iter(images), 0, asyncio.Event()
        tasks: deque[asyncio.Task[Prediction]] = deque()
        try:
            while True:
                for image in islice(pending, concurrency - len(tasks)):
                    tasks.append(asyncio.create_task(self._one(image, options, rejected)))
                if not tasks:
                    return
                prediction = await tasks[0]
                tasks.popleft()
                done += 1
                report(done, total)
                yield prediction
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def submit(self, image: Image, **options: Unpack[SubmitOptions]) -> Job:
        """Submits an asynchronous job; returns it without waiting for its end."""
        return await self._run(self._api.submit(await asyncio.to_thread(read_image, image), options))

    async def job(self, job: Job | str) -> Job:
        """Returns a job as it is now."""
        return await self._run(self._api.current(id_of(job)))

    async def wait(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """Returns the job when it has ended, with or without a result."""
        return await self._run(self._api.wait(id_of(job), self._api.deadline(timeout)))

    async def follow(self, job: Job | str, *, timeout: float | None = None) -> AsyncGenerator[Job]:
        """Yields the job now and after each change, until it has ended."""
        job_id, deadline, following = id_of(job), self._api.deadline(timeout), Following()
        while following.may_resume() and time.monotonic() < deadline:
            response = await self._run(self._api.events(job_id, following, deadline))
            if response is None:
                break
            try:
                if not following.accept(response):
                    break
                async for chunk in response.aiter_bytes():
                    for state in following.feed(chunk):
                        yield state
                        if state.has_ended:
                            return
                    if time.monotonic() > deadline:
                        raise WaitTimeoutError(job_id)
            except httpx.RequestError:
                pass  # resumed below
            finally:
                await response.aclose()
            await asyncio.sleep(min(following.pause, max(deadline - time.monotonic(), 0.0)))
        yield await self._run(self._api.wait(job_id, deadline))

    async def cancel(self, job: Job | str) -> Job:
        """Cancels a job; a running one is asked to stop."""
        return await self._run(self._api.cancel(id_of(job)))

    async def jobs(self, *, status: Status | None = None, limit: int | None = None) -> AsyncGenerator[Job]:
        """Yields your jobs, newest first."""
        listing = Listing(status, limit)
        while not listing.is_complete:
            for job in await self._run(self._api.page(listing)):
                yield job

    async def models(self) -> list[Model]:
        """Returns the server's models."""
        return await self._run(self._api.models())

    async def ready(self) -> bool:
        """Tells whether the server is ready."""
        return await self._run(self._api.ready())

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def _one(self, image: Image, options: PredictOptions, rejected: asyncio.Event) -> Prediction:
        """Classifies one of many images; errors that the next image would have, too, set `rejected`."""
        try:
            if rejected.is_set():
                raise NotSentError
            return Prediction(image, await self.predict(image, **options), None)
        except (SelvageError, OSError) as error:
            if is_lasting(error):
                rejected.set()
            return Prediction(image, error.job if isinstance(error, JobError) else None, error)

    async def _run(self, steps: Steps[T]) -> T:
        answer: Answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return cast(T, end.value)
            if isinstance(step, Call):
                answer = await self._send(step)
            else:
                await asyncio.sleep(step)

    async def _send(self, call: Call) -> Answer:
        try:
            response = await self._http.send(call.request(self._http), stream=call.stream)
            if call.stream and not response.is_success:
                await response.aread()
        except httpx.RequestError as error:
            return error
        return response
