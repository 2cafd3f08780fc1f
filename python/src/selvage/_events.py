"""Server-sent events of a job, and how to resume their stream. No I/O here."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx

from ._jobs import Job

# When to resume a lost stream, unless the server says otherwise.
RESUME_SECONDS = 2.0
# Streams that are lost in a row without an event, before polling replaces them.
MOST_LOST = 3


class Following:
    """What is known of a job's events from one stream to the next."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.pause = RESUME_SECONDS
        self.lost = 0
        self.rest = b""

    def headers(self) -> dict[str, str]:
        """Returns what to send to resume the stream."""
        accepted = {"accept": "text/event-stream"}
        return accepted if self.last_id is None else accepted | {"last-event-id": self.last_id}

    def accept(self, response: httpx.Response) -> bool:
        """Begins a stream; tells whether the response is one. A 204 is not: the last stream had the end of the job."""
        self.rest = b""
        self.lost += 1
        return response.status_code == httpx.codes.OK and response.headers.get("content-type", "").startswith("text/event-stream")

    def may_resume(self) -> bool:
        """Tells whether another stream is worth an attempt."""
        return self.lost < MOST_LOST

    def feed(self, chunk: bytes) -> Iterator[Job]:
        """Takes a part of the stream; yields the job of each event that is complete."""
        # Not by `str.splitlines`, which also splits at characters that JSON may contain.
        *events, self.rest = (self.rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        for event in events:
            data = []
            for line in event.decode().split("\n"):
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if name == "id":
                    self.last_id = value
                elif name == "retry" and value.isdecimal():
                    self.pause = int(value) / 1000
                elif name == "data":
                    data.append(value)
            try:
                job = Job.read(json.loads("\n".join(data)))
            except (ValueError, KeyError, TypeError):
                continue  # an event about the stream itself
            self.lost = 0
            yield job
