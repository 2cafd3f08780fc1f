"""The synchronous client."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Sized
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar, Unpack, cast

import httpx

from ._api import DEFAULT_ATTEMPTS, DEFAULT_TIMEOUT, Api, Image, Listing, PredictOptions, SubmitOptions, id_of, read_image
from ._async_client import AsyncClient
from ._calls import Answer, Call, Steps
from ._errors import WaitTimeoutError
from ._events import Following
from ._jobs import Job, Model, Status
from ._many import DEFAULT_CONCURRENCY, Prediction, Progress, iterate, reporter

T = TypeVar("T")


class Client:
    """A client of one server. Threads may share it. Every method raises a SelvageError if it cannot return what it should."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        attempts: int = DEFAULT_ATTEMPTS,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """Makes a client; it connects with its first call.

        `url` and `api_key` are those of SELVAGE_URL and SELVAGE_API_KEY unless set, `url` otherwise http://127.0.0.1:8000. `timeout` is
        how long to wait for the end of a job, in seconds. `attempts` is how often a call is sent while the server cannot be reached or
        has no room. `verify` is httpx's: an SSL context for certificates of your own.
        """
        self._api = Api(url, api_key, timeout, attempts, verify)
        self._http = httpx.Client(**self._api.http_options())

    def predict(self, image: Image, **options: Unpack[PredictOptions]) -> Job:
        """Classifies an image; returns its job when it has ended with a result. Raises JobError if it ends without one."""
        return self._run(self._api.predict(read_image(image), options))

    def predict_many(
        self,
        images: Iterable[Image],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        progress: bool | Progress = False,
        **options: Unpack[PredictOptions],
    ) -> Iterator[Prediction]:
        """Classifies images, `concurrency` at a time; yields what became of each, in their order.

        A bad image does not affect the others. If the server cannot be reached or rejects the key, the remaining images are not sent.
        `images` is read as needed, in another thread. `progress` is a function, or True for a bar on a terminal. If you leave the loop,
        requests in progress are canceled.
        """
        report, total = reporter(progress), len(images) if isinstance(images, Sized) else None
        api = self._api

        async def start() -> AsyncGenerator[Prediction]:
            async with (
                AsyncClient(api.url, api_key=api.api_key, timeout=api.timeout, attempts=api.attempts, verify=api.verify) as client,
                aclosing(client.predict_many(images, concurrency=concurrency, **options)) as predictions,
            ):
                async for prediction in predictions:
                    yield prediction

        for done, prediction in enumerate(iterate(start, concurrency), 1):
            report(done, total)
            yield prediction

    def submit(self, image: Image, **options: Unpack[SubmitOptions]) -> Job:
        """Submits an asynchronous job; returns it without waiting for its end."""
        return self._run(self._api.submit(read_image(image), options))

    def job(self, job: Job | str) -> Job:
        """Returns a job as it is now."""
        return self._run(self._api.current(id_of(job)))

    def wait(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """Returns the job when it has ended, with or without a result."""
        return self._run(self._api.wait(id_of(job), self._api.deadline(timeout)))

    def follow(self, job: Job | str, *, timeout: float | None = None) -> Iterator[Job]:
        """Yields the job now and after each change, until it has ended."""
        job_id, deadline, following = id_of(job), self._api.deadline(timeout), Following()
        while following.may_resume() and time.monotonic() < deadline:
            response = self._run(self._api.events(job_id, following, deadline))
            if response is None:
                break
            try:
                if not following.accept(response):
                    break
                for chunk in response.iter_bytes():
                    for state in following.feed(chunk):
                        yield state
                        if state.has_ended:
                            return
                    if time.monotonic() > deadline:
                        raise WaitTimeoutError(job_id)
            except httpx.RequestError:
                pass  # resumed below
            finally:
                response.close()
            time.sleep(min(following.pause, max(deadline - time.monotonic(), 0.0)))
        yield self._run(self._api.wait(job_id, deadline))

    def cancel(self, job: Job | str) -> Job:
        """Cancels a job; a running one is asked to stop."""
        return self._run(self._api.cancel(id_of(job)))

    def jobs(self, *, status: Status | None = None, limit: int | None = None) -> Iterator[Job]:
        """Yields your jobs, newest first."""
        listing = Listing(status, limit)
        while not listing.is_complete:
            yield from self._run(self._api.page(listing))

    def models(self) -> list[Model]:
        """Returns the server's models."""
        return self._run(self._api.models())

    def ready(self) -> bool:
        """Tells whether the server is ready."""
        return self._run(self._api.ready())

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        answer: Answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return cast(T, end.value)
            if isinstance(step, Call):
                answer = self._send(step)
            else:
                time.sleep(step)

    def _send(self, call: Call) -> Answer:
        try:
            response = self._http.send(call.request(self._http), stream=call.stream)
            if call.stream and not response.is_success:
                response.read()
        except httpx.RequestError as error:
            return error
        return response
