"""The operations of the API, as steps that both clients run. No I/O here, except that `read_image` reads files."""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

import httpx

from ._calls import Call, Steps, read, respond
from ._errors import BusyError, JobError, NotSelvageError, SelvageError, UnreachableError, WaitTimeoutError
from ._events import Following
from ._jobs import Job, Model, Status

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = 300.0
DEFAULT_ATTEMPTS = 5
# Proxies close connections that are silent for a minute.
LONGEST_POLL = 30.0
# Least time between the beginnings of two polls, whatever the server does.
BETWEEN_POLLS = 1.0
# Longest time for a call without a timeout of its own, all attempts included.
LOOK_SECONDS = 60.0
LARGEST_PAGE = 100
IMAGE_TYPE = "application/octet-stream"

Image = str | os.PathLike[str] | bytes | BinaryIO
"""A path, the bytes of an image file, or an open binary file."""


class PredictOptions(TypedDict, total=False):
    """Options of a prediction."""

    model: str
    """The model, instead of the server's default."""
    version: str
    """The model's version; another one is an error."""
    top_k: int
    """How many labels the result lists, 3 unless set."""
    metadata: Mapping[str, Any]
    """Your own data of up to 1 KiB, returned with the job."""
    cache: bool
    """Whether the server may use a cached result; true unless set."""
    timeout: float
    """How long to wait for the end of the job, in seconds, instead of the client's timeout."""


class SubmitOptions(TypedDict, total=False):
    """Options of a submission; as for a prediction, but nothing is waited for."""

    model: str
    version: str
    top_k: int
    metadata: Mapping[str, Any]
    cache: bool
    webhook: str | Mapping[str, Any]
    """A URL, or the API's object with `url` and `events`."""
    idempotency_key: str
    """Repeated submissions with one key are one job; a random key unless set."""


@dataclass(slots=True)
class Listing:
    """How far a list of jobs has been read."""

    status: Status | None
    left: int | None
    cursor: str | None = None
    is_complete: bool = False

    def params(self) -> dict[str, str]:
        """Returns the parameters of the next page."""
        size = LARGEST_PAGE if self.left is None else min(self.left, LARGEST_PAGE)
        given = {"status": self.status, "limit": str(size), "cursor": self.cursor}
        return {name: value for name, value in given.items() if value is not None}

    def take(self, page: Any) -> list[Job]:
        """Takes a page; returns its jobs."""
        jobs = [Job.read(item) for item in page["items"]][: self.left]
        self.cursor = page["next_cursor"]
        if self.left is not None:
            self.left -= len(jobs)
        self.is_complete = self.cursor is None or self.left == 0
        return jobs


@dataclass(frozen=True, slots=True)
class Api:
    """The operations on one server. Each has a deadline in the time of `time.monotonic`."""

    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    timeout: float = DEFAULT_TIMEOUT
    attempts: int = DEFAULT_ATTEMPTS
    verify: ssl.SSLContext | bool = True

    @property
    def base_url(self) -> str:
        """The server's URL; without a scheme, it is HTTP."""
        url = self.url or os.environ.get("SELVAGE_URL") or DEFAULT_URL
        return (url if "://" in url else f"http://{url}").rstrip("/")

    def http_options(self) -> dict[str, Any]:
        """Returns the arguments of httpx's clients. They do not follow redirects, so only this server sees the key."""
        key = self.api_key or os.environ.get("SELVAGE_API_KEY", "").strip()
        headers = {"user-agent": "selvage-python"} | ({"authorization": f"Bearer {key}"} if key else {})
        return {"base_url": self.base_url, "headers": headers, "verify": self.verify}

    def deadline(self, timeout: float | None = None) -> float:
        """Returns the end of a wait that begins now."""
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def predict(self, image: bytes, options: PredictOptions) -> Steps[Job]:
        """Returns the job when it has ended with a result; raises JobError if it ends without one."""
        deadline = self.deadline(options.get("timeout"))
        params, headers = parameters(options)
        wait = min(max(deadline - time.monotonic(), 0.0), LONGEST_POLL)
        job = yield from self.job(Call("POST", "/predict", deadline, params, headers, image, wait))
        if not job.has_ended:
            job = yield from self.wait(job.id, deadline)
        if job.output is None:
            raise JobError(job)
        return job

    def submit(self, image: bytes, options: SubmitOptions) -> Steps[Job]:
        """Submits an asynchronous job; its key makes all attempts one job."""
        params, headers = parameters(options)
        headers["idempotency-key"] = options.get("idempotency_key") or str(uuid.uuid4())
        content = image
        webhook = options.get("webhook")
        if webhook is not None:  # the API takes it in JSON only
            target = {"url": webhook} if isinstance(webhook, str) else dict(webhook)
            content = json.dumps({"image": base64.b64encode(image).decode(), "webhook": target}).encode()
            headers["content-type"] = "application/json"
        return (yield from self.job(Call("POST", "/jobs", self.deadline(), params, headers, content)))

    def wait(self, job_id: str, deadline: float) -> Steps[Job]:
        """Polls until the job has ended."""
        try:
            while True:
                begun = time.monotonic()
                if begun >= deadline:
                    raise WaitTimeoutError
                job = yield from self.job(Call("GET", f"/jobs/{job_id}", deadline, wait=min(deadline - begun, LONGEST_POLL)))
                if job.has_ended:
                    return job
                yield max(min(begun + BETWEEN_POLLS, deadline) - time.monotonic(), 0.0)
        except (UnreachableError, NotSelvageError, BusyError, WaitTimeoutError) as error:
            error.job_id = job_id
            raise

    def events(self, job_id: str, following: Following, deadline: float) -> Steps[httpx.Response | None]:
        """Opens the job's event stream; None if there is none, for example behind a proxy that does not let it pass."""
        call = Call("GET", f"/jobs/{job_id}/events", deadline, headers=following.headers(), stream=True)
        try:
            return (yield from respond(call, self.base_url, self.attempts))
        except NotSelvageError:
            return None

    def current(self, job_id: str) -> Steps[Job]:
        """Returns the job as it is now."""
        return self.job(Call("GET", f"/jobs/{job_id}", self.look()))

    def cancel(self, job_id: str) -> Steps[Job]:
        """Cancels the job."""
        return self.job(Call("POST", f"/jobs/{job_id}/cancel", self.look()))

    def page(self, listing: Listing) -> Steps[list[Job]]:
        """Returns the next jobs of a list; there may be none although the list is not complete."""
        return read(Call("GET", "/jobs", self.look(), listing.params()), self.base_url, self.attempts, listing.take)

    def models(self) -> Steps[list[Model]]:
        """Returns the server's models."""
        call = Call("GET", "/models", self.look())
        return read(call, self.base_url, self.attempts, lambda body: [Model.read(model) for model in body["models"]])

    def ready(self) -> Steps[bool]:
        """Tells whether the server is ready."""
        call = Call("GET", "/readyz", self.look(), any_status=True)
        return (yield from respond(call, self.base_url, self.attempts)).is_success

    def job(self, call: Call) -> Steps[Job]:
        """Sends a call whose response is a job."""
        return read(call, self.base_url, self.attempts, Job.read)

    def look(self) -> float:
        """Returns the deadline of a call that waits for no job."""
        return self.deadline(LOOK_SECONDS)


def parameters(options: PredictOptions | SubmitOptions) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the query and the headers for the options of an image."""
    metadata, top_k = options.get("metadata"), options.get("top_k")
    given = {
        "model": options.get("model"),
        "version": options.get("version"),
        "top_k": None if top_k is None else str(top_k),
        "metadata": None if metadata is None else json.dumps(metadata, separators=(",", ":")),
    }
    headers = {"content-type": IMAGE_TYPE} | ({} if options.get("cache", True) else {"cache-control": "no-cache"})
    return {name: value for name, value in given.items() if value is not None}, headers


def read_image(image: Image) -> bytes:
    """Returns the bytes of an image."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, (str, os.PathLike)):
        return Path(image).read_bytes()
    return image.read()


def id_of(job: Job | str) -> str:
    """Returns a job's id."""
    return job.id if isinstance(job, Job) else str(uuid.UUID(job))


def is_lasting(error: Exception) -> bool:
    """Tells whether the next image would fail in the same way."""
    return isinstance(error, SelvageError) and (
        isinstance(error, (UnreachableError, NotSelvageError)) or getattr(error, "status", None) in (401, 403)
    )
