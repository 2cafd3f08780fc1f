"""One call of the API: sent, repeated while that makes sense, and its response read. No I/O here: both clients run these steps.

A step that is a `Call` is answered with httpx's response or error; a step that is a number is a pause in seconds.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from ._errors import BusyError, NotSelvageError, SelvageError, UnreachableError, WaitTimeoutError, api_error

T = TypeVar("T")

# The same figures as in the command-line client, `cli/src/client/retry.rs`.
FIRST_DELAY, LONGEST_DELAY, JITTER = 0.2, 10.0, 0.1
CONNECT_SECONDS = 10.0
# Longest silence before a response, beyond the wait that the server was asked for.
RESPONSE_SECONDS = 60.0
# How long after the deadline a response may still arrive: the server was asked to respond by then.
GRACE_SECONDS = 5.0
LEAST_SECONDS = 0.1
# The server sends a comment every 15 s on a stream.
STREAM_SILENCE_SECONDS = 45.0
PASSING_STATUSES = (429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that may be sent several times with the effect of one."""

    method: str
    path: str
    deadline: float
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    wait: float = 0.0
    """How long the server is asked to wait before it responds, in seconds."""
    stream: bool = False
    """Whether the response is an event stream, whose body is read later."""
    any_status: bool = False
    """Whether a response of any status is what was asked for."""

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """Returns the request, with its time limits."""
        silence = STREAM_SILENCE_SECONDS if self.stream else self.wait + RESPONSE_SECONDS
        left = max(self.deadline - time.monotonic(), LEAST_SECONDS) + (0.0 if self.stream else GRACE_SECONDS)
        # A part of a second is a second: without a wait, the server would do something else.
        params = {**self.params, "wait": str(math.ceil(self.wait))} if self.wait else self.params
        return http.build_request(
            self.method,
            self.path,
            params=params,
            headers=self.headers,
            content=self.content or None,
            timeout=httpx.Timeout(min(silence, left), connect=CONNECT_SECONDS),
        )


Answer = httpx.Response | httpx.RequestError | None
Steps = Generator[Call | float, Answer, T]


def respond(call: Call, url: str, attempts: int) -> Steps[httpx.Response]:
    """Sends the call up to `attempts` times; returns the good response or raises the last attempt's error."""
    for attempt in range(1, attempts + 1):
        answer = yield call
        error, may_pass, delay = judge(answer, call, url)
        if error is None:
            assert isinstance(answer, httpx.Response)
            return answer
        delay = min(FIRST_DELAY * 2 ** min(attempt - 1, 16), LONGEST_DELAY) if delay is None else delay
        delay *= 1 + random.uniform(0, JITTER)
        if not may_pass or attempt == attempts or time.monotonic() + delay > call.deadline:
            raise error
        yield delay
    raise AssertionError("there is at least one attempt")


def judge(answer: Answer, call: Call, url: str) -> tuple[SelvageError | None, bool, float | None]:
    """Returns the error in an answer, whether another attempt may succeed, and the server's `Retry-After`."""
    if not isinstance(answer, httpx.Response):
        if time.monotonic() > call.deadline:
            return WaitTimeoutError(), False, None
        return UnreachableError(url, str(answer) or type(answer).__name__), True, None
    if answer.is_success or call.any_status:
        return None, False, None
    try:
        error: SelvageError = api_error(answer.status_code, answer.json())
    except (ValueError, KeyError, TypeError):
        error = NotSelvageError(url, answer.status_code, answer.headers.get("location"))
    after = answer.headers.get("retry-after", "")
    return error, answer.status_code in PASSING_STATUSES or isinstance(error, BusyError), float(after) if after.isdecimal() else None


def read(call: Call, url: str, attempts: int, parse: Callable[[Any], T]) -> Steps[T]:
    """Sends the call and parses the JSON of its response."""
    response = yield from respond(call, url, attempts)
    try:
        return parse(response.json())
    except (ValueError, KeyError, TypeError):
        raise NotSelvageError(url, response.status_code) from None
