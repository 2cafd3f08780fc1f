"""The clients against a real gateway, embedded and in a fleet."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import tempfile
import threading
import unittest
from collections.abc import Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import support

from selvage import (
    ApiError,
    AsyncClient,
    AuthenticationError,
    Client,
    Image,
    Job,
    JobError,
    NotSentError,
    Output,
    UnreachableError,
    WaitTimeoutError,
    WebhookError,
    WebhookMessage,
    verify_webhook,
)
from selvage._many import reporter

BOOT = support.BOOT.read_bytes()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class OnServer(unittest.TestCase):
    """Tests that share one server."""

    server: AbstractContextManager[str]
    url: str

    @classmethod
    def start(cls) -> AbstractContextManager[str]:
        raise NotImplementedError

    @classmethod
    def setUpClass(cls) -> None:
        cls.url = cls.enterClassContext(cls.start())

    def setUp(self) -> None:
        self.client = self.enterContext(Client(self.url))


class Tests:
    """What holds in both modes."""

    class InBothModes(OnServer):
        def test_an_image_may_be_a_path_bytes_or_a_file(self) -> None:
            content = support.renewed(BOOT)
            for image in (str(support.BOOT), support.BOOT, content, io.BytesIO(content)):
                job = self.client.predict(image)
                self.assertEqual((job.status, job.label, job.model), ("succeeded", "Ankle boot", "fashion-mnist"))
                self.assertGreater(job.score, 0.9)

        def test_options_reach_the_server(self) -> None:
            job = self.client.predict(support.BOOT, model="clothing", top_k=5, metadata={"shelf": "é"}, cache=False)
            assert isinstance(job.result, Output)
            self.assertEqual((job.model, len(job.result.top), job.metadata), ("clothing", 5, {"shelf": "é"}))
            self.assertFalse(job.cached)
            with self.assertRaises(ApiError) as wrong:
                self.client.predict(support.BOOT, top_k=0)
            self.assertEqual((wrong.exception.code, wrong.exception.status), ("invalid_option", 422))
            with self.assertRaises(ApiError) as unknown:
                self.client.predict(support.BOOT, model="absent")
            self.assertEqual(unknown.exception.code, "model_not_found")

        def test_a_bad_image_has_its_code_whether_the_gateway_or_a_worker_finds_it(self) -> None:
            with self.assertRaises(ApiError) as rejected:
                self.client.predict(b"no image at all")
            self.assertEqual(rejected.exception.code, "unsupported_media_type")
            with self.assertRaises((ApiError, JobError)) as cut:
                self.client.predict(BOOT[:200])
            self.assertEqual(cut.exception.code, "invalid_image")
            submitted = self.client.submit(BOOT[:200])
            ended = self.client.wait(submitted)
            self.assertEqual(ended.status, "failed")
            with self.assertRaises(JobError) as failed:
                _ = ended.label
            self.assertEqual((failed.exception.code, failed.exception.job), ("invalid_image", ended))

        def test_many_images_keep_their_order_and_a_bad_one_fails_alone(self) -> None:
            boots = [support.renewed(BOOT) for _ in range(9)]
            images: list[Image] = [*boots[:4], b"bad", Path("/nowhere/a.png"), *boots[4:]]
            steps: list[tuple[int, int | None]] = []
            results = list(self.client.predict_many(images, concurrency=3, progress=lambda done, total: steps.append((done, total))))
            self.assertEqual([result.image for result in results], images)
            self.assertEqual(steps, [(done, len(images)) for done in range(1, len(images) + 1)])
            failed = {at: type(result.error) for at, result in enumerate(results) if result.error}
            self.assertEqual(failed, {4: ApiError, 5: FileNotFoundError})
            self.assertEqual({result.label for result in results if not result.error}, {"Ankle boot"})
            with self.assertRaises(ApiError):
                _ = results[4].label

        def test_a_job_is_submitted_followed_waited_for_and_listed(self) -> None:
            submitted = self.client.submit(support.renewed(BOOT), metadata={"n": 1})
            states = list(self.client.follow(submitted))
            self.assertEqual((states[-1].status, states[-1].label), ("succeeded", "Ankle boot"))
            self.assertTrue(all(not state.has_ended for state in states[:-1]))
            self.assertEqual(self.client.wait(submitted.id), states[-1])
            self.assertEqual(self.client.job(submitted).metadata, {"n": 1})
            listed = list(self.client.jobs(status="succeeded", limit=3))
            self.assertIn(submitted.id, [job.id for job in listed])
            self.assertEqual([job.id for job in self.client.jobs(limit=1)], [listed[0].id])
            with self.assertRaises(ApiError) as late:
                self.client.cancel(submitted)
            self.assertEqual(late.exception.code, "job_finished")

        def test_all_pages_of_a_list_are_read(self) -> None:
            submitted = {self.client.submit(support.renewed(BOOT)).id for _ in range(103)}
            self.assertLessEqual(submitted, {job.id for job in self.client.jobs()})

        def test_a_key_makes_repeated_submissions_one_job(self) -> None:
            image = support.renewed(BOOT)
            key = hashlib.sha256(image).hexdigest()
            first, second = (self.client.submit(image, idempotency_key=key) for _ in range(2))
            self.assertEqual(first.id, second.id)
            self.assertNotEqual(self.client.submit(image).id, first.id)
            with self.assertRaises(ApiError) as other:
                self.client.submit(support.renewed(BOOT), idempotency_key=key)
            self.assertEqual(other.exception.code, "idempotency_mismatch")

        def test_an_unknown_job_is_reported(self) -> None:
            for call in (self.client.job, self.client.wait, self.client.cancel, lambda job: list(self.client.follow(job))):
                with self.assertRaises(ApiError) as unknown:
                    call("01929f3e-0000-7000-8000-000000000000")
                self.assertIn(unknown.exception.code, ("job_not_found", "job_expired"))
            with self.assertRaises(ValueError):
                self.client.job("../models")

        def test_models_and_readiness(self) -> None:
            models = {model.name: model for model in self.client.models()}
            self.assertEqual(set(models), {"clothing", "fashion-mnist"})
            self.assertTrue(models["fashion-mnist"].default)
            self.assertIn("Ankle boot", models["fashion-mnist"].labels)
            self.assertTrue(self.client.ready())

        def test_the_asynchronous_client_does_the_same(self) -> None:
            async def all_of_it() -> None:
                async with AsyncClient(self.url) as client:
                    images = [support.renewed(BOOT) for _ in range(5)]
                    self.assertEqual((await client.predict(images[0])).label, "Ankle boot")
                    results = [result async for result in client.predict_many(images, concurrency=2)]
                    self.assertEqual([(result.image, result.label) for result in results], [(image, "Ankle boot") for image in images])
                    submitted = await client.submit(support.renewed(BOOT))
                    states = [state async for state in client.follow(submitted)]
                    self.assertEqual(states[-1].status, "succeeded")
                    self.assertEqual(await client.wait(submitted), await client.job(submitted))
                    self.assertIn(submitted.id, [job.id async for job in client.jobs(limit=5)])
                    with self.assertRaises(ApiError):
                        await client.cancel(submitted)
                    self.assertEqual(len(await client.models()), 2)
                    self.assertTrue(await client.ready())

            asyncio.run(all_of_it())


class Embedded(Tests.InBothModes):
    @classmethod
    def start(cls) -> AbstractContextManager[str]:
        return support.gateway()


class Fleet(Tests.InBothModes):
    @classmethod
    def start(cls) -> AbstractContextManager[str]:
        return support.fleet()


def endless_image() -> bytes:
    """Returns an image that no cache and no other job has."""
    return support.renewed(support.bright_png())


class Endless(OnServer):
    """On a model that never ends on a bright image."""

    @classmethod
    def start(cls) -> AbstractContextManager[str]:
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (folder / "endless").symlink_to(support.VARIANTS / "endless")
        return support.gateway(SELVAGE_MODELS=str(folder), SELVAGE_SESSIONS="1", SELVAGE_DRAIN_TIMEOUT="1")

    def test_a_timeout_names_the_job_that_continues(self) -> None:
        with self.assertRaises(WaitTimeoutError) as late:
            self.client.predict(endless_image(), timeout=1)
        self.assertIsInstance(late.exception, TimeoutError)
        job_id = late.exception.job_id
        assert job_id is not None
        self.assertFalse(self.client.job(job_id).has_ended)
        with self.assertRaises(WaitTimeoutError):
            self.client.wait(job_id, timeout=0.1)
        states = self.client.follow(job_id, timeout=1)
        self.assertFalse(next(states).has_ended)
        with self.assertRaises(WaitTimeoutError) as late:
            list(states)
        self.assertEqual(late.exception.job_id, job_id)

    def test_a_queued_job_is_canceled(self) -> None:
        first = self.client.submit(endless_image())
        support.eventually(lambda: self.client.job(first).status == "running", "the first job runs")
        queued = self.client.submit(endless_image())
        self.assertEqual(self.client.cancel(queued).status, "canceled")
        self.assertEqual(self.client.wait(queued).status, "canceled")
        with self.assertRaises(JobError) as canceled:
            _ = self.client.job(queued).result
        self.assertEqual(canceled.exception.code, "canceled")

    def test_leaving_the_loop_abandons_the_requests_in_progress(self) -> None:
        def images() -> Iterator[bytes]:
            yield b"bad"
            while True:
                yield endless_image()

        def abandoned() -> float:
            lines = support.get(f"{self.url}/metrics")[1].splitlines()
            return sum(float(line.split()[-1]) for line in lines if line.startswith("selvage_gateway_jobs_abandoned_total"))

        def in_flight() -> int:
            return int(json.loads(support.get(f"{self.url}/stats")[1])["jobs"]["in_flight"])

        abandoned_before, in_flight_before = abandoned(), in_flight()
        for prediction in self.client.predict_many(images(), concurrency=3):
            self.assertIsNotNone(prediction.error)
            support.eventually(lambda: in_flight() > in_flight_before, "a request is in progress")
            break
        support.eventually(lambda: abandoned() > abandoned_before, "a job is abandoned")


class Keys(OnServer):
    @classmethod
    def start(cls) -> AbstractContextManager[str]:
        return support.gateway(SELVAGE_API_KEYS=str(support.PROJECT / "tests" / "fixtures" / "api-keys"))

    def test_a_rejected_key_is_not_shown_to_the_server_again(self) -> None:
        results = list(self.client.predict_many([support.BOOT] * 5, concurrency=2))
        self.assertIsInstance(results[0].error, AuthenticationError)
        self.assertIsInstance(results[4].error, NotSentError)
        with self.assertRaises(AuthenticationError) as rejected:
            self.client.predict(support.BOOT)
        self.assertEqual((rejected.exception.code, rejected.exception.status), ("unauthenticated", 401))

    def test_a_key_is_sent_and_never_shown(self) -> None:
        client = self.enterContext(Client(self.url, api_key="selvage_test-key-of-ann"))
        self.assertEqual(client.predict(support.BOOT).label, "Ankle boot")
        self.assertNotIn("test-key", repr(client._api))


class Unreachable(unittest.TestCase):
    def test_a_server_that_is_not_there_is_named(self) -> None:
        with Client(f"127.0.0.1:{support.free_port()}", attempts=2) as client:
            with self.assertRaises(UnreachableError) as absent:
                client.predict(support.BOOT)
            self.assertIn("http://127.0.0.1", str(absent.exception))
            *_, last = client.predict_many([support.BOOT] * 4, concurrency=1)
            self.assertIsInstance(last.error, NotSentError)


class Webhooks(unittest.TestCase):
    def test_a_gateways_message_is_verified(self) -> None:
        received: list[tuple[dict[str, str], bytes]] = []

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append((dict(self.headers), self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        receiver = HTTPServer(("127.0.0.1", 0), Receiver)
        self.addCleanup(receiver.server_close)
        thread = threading.Thread(target=receiver.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(receiver.shutdown)
        settings = {"SELVAGE_WEBHOOK_SECRET": SECRET, "SELVAGE_WEBHOOK_ALLOW_PRIVATE": "true"}
        with support.gateway(**settings) as url, Client(url) as client:
            webhook = f"http://127.0.0.1:{receiver.server_port}/"
            job = client.submit(support.BOOT, webhook=webhook, metadata={"n": 1})
            support.eventually(lambda: bool(received), "no webhook")
        headers, body = received[0]
        message = verify_webhook(SECRET, headers, body)
        self.assertIsInstance(message, WebhookMessage)
        self.assertEqual((message.type, message.job.id, message.job.label), ("job.succeeded", job.id, "Ankle boot"))
        self.assertEqual(message.job.metadata, {"n": 1})
        self.assertEqual(verify_webhook(["whsec_b2xkIHNlY3JldA==", SECRET], headers, body), message)

        wrong: list[tuple[str, dict[str, str], bytes]] = [
            ("whsec_b2xkIHNlY3JldA==", headers, body),
            (SECRET, headers, body.replace(b"Ankle boot", b"Sandal")),
            (SECRET, {name: value for name, value in headers.items() if name.lower() != "webhook-signature"}, body),
            (SECRET, headers | {"webhook-id": "other"}, body),
        ]
        for secret, given, content in wrong:
            with self.assertRaises(WebhookError) as untrusted:
                verify_webhook(secret, given, content)
            self.assertEqual(untrusted.exception.code, "invalid_webhook")
        with self.assertRaises(WebhookError):
            verify_webhook(SECRET, headers, body, tolerance=-1)
        with self.assertRaises(ValueError):
            verify_webhook("whsec_no base64", headers, body)


class Bar(unittest.TestCase):
    def test_a_bar_is_drawn_on_terminals_only(self) -> None:
        for is_terminal, drawn in ((True, f"\r[{'#' * 15}{'.' * 15}] 1 of 2\r[{'#' * 30}] 2 of 2\n"), (False, "")):
            stream = io.StringIO()
            with mock.patch.object(stream, "isatty", return_value=is_terminal), contextlib.redirect_stderr(stream):
                report = reporter(True)
                report(1, 2)
                report(2, 2)
            self.assertEqual(stream.getvalue(), drawn)


class Reading(unittest.TestCase):
    def test_fields_that_come_later_are_no_error(self) -> None:
        raw = json.loads(QUEUED) | {"new": 1}
        job = Job.read(raw)
        assert job.queue is not None
        self.assertEqual((job.status, job.queue.position, job.queue.eta_ms, job.raw["new"]), ("queued", 12, 240, 1))
        with self.assertRaises(ValueError):
            _ = job.label


QUEUED = """{"id": "7", "status": "queued", "model": {"name": "m", "version": "1"}, "output": null, "error": null, "cached": false,
 "queue": {"position": 12, "eta_ms": 240}, "created_at": "2026-11-24T13:40:00.120Z", "finished_at": null, "metadata": {}}"""

if __name__ == "__main__":
    unittest.main()
