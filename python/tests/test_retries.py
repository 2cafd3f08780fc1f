"""Retries and event streams, against a server that responds by a script."""

from __future__ import annotations

import asyncio
import json
import unittest
from collections.abc import Callable

from support import Scripted, response

from selvage import ApiError, AsyncClient, BusyError, Client, Job, NotSelvageError, UnreachableError

ID = "01929f3e-0000-7000-8000-000000000000"
FULL = json.dumps({"title": "The queue is full", "status": 429, "code": "queue_full", "detail": "2000 jobs are waiting"})
PROGRESS = json.dumps({"title": "x", "status": 409, "code": "request_in_progress"})


def job(status: str) -> str:
    """Returns a job's JSON."""
    model = {"name": "m", "version": "1"}
    # The name has a character at which `str.splitlines` would split, and JSON does not escape it.
    fields = {"id": ID, "status": status, "model": model, "output": None, "error": None, "queue": None, "cached": False}
    times = {"created_at": "2026-11-24T13:40:00.120Z", "finished_at": None, "metadata": {"name": "a\u2028b"}}
    return json.dumps(fields | times, ensure_ascii=False)


def synchronously(url: str) -> list[Job]:
    """Follows the job with the synchronous client."""
    with Client(url) as client:
        return list(client.follow(ID))


def asynchronously(url: str) -> list[Job]:
    """Follows the job with the asynchronous client."""

    async def followed() -> list[Job]:
        async with AsyncClient(url) as client:
            return [state async for state in client.follow(ID)]

    return asyncio.run(followed())


def events(text: str) -> bytes:
    """Returns a stream of events."""
    return response(200, text, content_type="text/event-stream")


class Retries(unittest.TestCase):
    def script(self, *responses: bytes) -> tuple[Scripted, Client]:
        server = self.enterContext(Scripted(*responses))
        return server, self.enterContext(Client(server.url, attempts=3))

    def test_a_busy_server_gets_the_same_request_again(self) -> None:
        full, progress = response(429, FULL, retry_after="0"), response(409, PROGRESS, retry_after="0")
        server, client = self.script(full, progress, response(202, job("queued")))
        self.assertEqual(client.submit(b"image").id, ID)
        keys = {line for request in server.requests for line in request.splitlines() if line.startswith("idempotency-key:")}
        self.assertEqual((len(server.requests), len(keys)), (3, 1))

    def test_attempts_have_an_end(self) -> None:
        server, client = self.script(*[response(429, FULL, retry_after="0")] * 3)
        with self.assertRaises(BusyError) as full:
            client.predict(b"image")
        self.assertEqual((full.exception.code, full.exception.status, len(server.requests)), ("queue_full", 429, 3))
        self.assertIn("2000 jobs are waiting", str(full.exception))

    def test_a_delay_beyond_the_timeout_is_not_waited_for(self) -> None:
        server, client = self.script(response(429, FULL, retry_after="61"))
        with self.assertRaises(BusyError):
            client.predict(b"image", timeout=60)
        self.assertEqual(len(server.requests), 1)

    def test_what_would_fail_again_is_sent_once(self) -> None:
        for status in (400, 401, 404, 409, 415, 422, 500):
            server, client = self.script(response(status, json.dumps({"title": "x", "status": status, "code": "some"})))
            with self.assertRaises(ApiError):
                client.predict(b"image")
            self.assertEqual(len(server.requests), 1, status)

    def test_a_response_that_is_cut_is_requested_again(self) -> None:
        cut = b"HTTP/1.1 200 x\r\ncontent-length: 100\r\n\r\n{"
        _, client = self.script(cut, b"", response(200, job("queued")))
        self.assertEqual(client.job(ID).status, "queued")
        _, client = self.script(cut, cut, cut)
        with self.assertRaises(UnreachableError):
            client.job(ID)

    def test_another_server_is_distinguished_and_redirects_are_not_followed(self) -> None:
        _, client = self.script(response(200, "<html>"))
        with self.assertRaises(NotSelvageError):
            client.job(ID)
        server, client = self.script(response(308, location="https://elsewhere.example/jobs"))
        with self.assertRaises(NotSelvageError) as redirect:
            client.job(ID)
        self.assertIn("https://elsewhere.example/jobs", str(redirect.exception))
        self.assertEqual(len(server.requests), 1)

    def test_paths_are_below_the_path_of_the_url(self) -> None:
        server, _ = self.script(response(200, job("queued")))
        with Client(server.url + "/selvage/") as client:
            client.job(ID)
        self.assertTrue(server.requests[0].startswith(f"get /selvage/jobs/{ID} "), server.requests)

    def test_a_lost_stream_is_resumed_after_the_last_event(self) -> None:
        for follow in (synchronously, asynchronously):
            self.check_resumed(follow)

    def check_resumed(self, follow: Callable[[str], list[Job]]) -> None:
        first = events(f"retry: 1\nid: queued.0\nevent: status\ndata: {job('queued')}\n\n: comment\n\nid: cut\ndata: {{")
        rest = events(f"id: canceled.0\r\ndata: {job('canceled')}\r\n\r\n")
        server, _ = self.script(first, rest)
        states = follow(server.url)
        self.assertEqual([state.status for state in states], ["queued", "canceled"])
        self.assertEqual(states[0].metadata, {"name": "a\u2028b"})
        self.assertNotIn("last-event-id", server.requests[0])
        self.assertIn("last-event-id: queued.0", server.requests[1])

    def test_polling_replaces_events_that_do_not_come(self) -> None:
        silent = events("retry: 1\n\n")
        for nothing in ([response(200, "<html>", content_type="text/html")], [response(404, "<html>")], [response(204)], [silent] * 3):
            for follow in (synchronously, asynchronously):
                server, _ = self.script(*nothing, response(200, job("canceled")))
                self.assertEqual([state.status for state in follow(server.url)], ["canceled"])
                self.assertEqual(len(server.requests), len(nothing) + 1)
                self.assertIn(f"/jobs/{ID}?wait=30", server.requests[-1])


if __name__ == "__main__":
    unittest.main()
