"""What can go wrong: every error is a `SelvageError` with a `code`, the server's or one of the client's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._jobs import Job


class SelvageError(Exception):
    """An error of the server or of the client."""

    code: str
    """A stable word: the code of the server's problem, or one of the client's own."""
    job_id: str | None = None
    """The job that continues on the server, if the error ended only the wait for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ApiError(SelvageError):
    """The server rejected a request; `problem` is its problem object (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.title = str(problem["title"])
        self.detail = str(problem.get("detail", ""))
        self.request_id: str | None = problem.get("request_id")
        code = str(problem["code"])
        super().__init__(code, f"{': '.join(filter(None, (self.title, self.detail)))} ({status} {code})")


class AuthenticationError(ApiError):
    """The server rejected the API key, or needs one (401, 403)."""


class BusyError(ApiError):
    """The server has no room or is temporarily unavailable (429, 503, 409 `request_in_progress`), after all attempts."""


class JobError(SelvageError):
    """A job ended without a result. `code` is that of its problem, otherwise its status: `canceled` or `expired`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        problem = job.error or {}
        reason = ": ".join(str(problem[name]) for name in ("title", "detail") if problem.get(name))
        code = str(problem.get("code", job.status))
        super().__init__(code, f"Job {job.id} has {job.status}: {reason} ({code})" if reason else f"Job {job.id} is {job.status}")


class UnreachableError(SelvageError):
    """No server responds at the URL, after all attempts (`unreachable`)."""

    def __init__(self, url: str, cause: str) -> None:
        super().__init__("unreachable", f"No server responds at {url}: {cause}. Start one, or set its URL, also with SELVAGE_URL")


class NotSelvageError(SelvageError):
    """The server that responds is not Selvage (`not_selvage`)."""

    def __init__(self, url: str, status: int, location: str | None = None) -> None:
        hint = f" and points to {location}" if location else ""
        super().__init__("not_selvage", f"{url} responds with {status}{hint}, but not as Selvage does. Check the URL")
        self.status = status


class WaitTimeoutError(SelvageError, TimeoutError):
    """The timeout passed before the job ended (`timed_out`)."""

    def __init__(self, job_id: str | None = None) -> None:
        super().__init__("timed_out", "The timeout passed before the job ended")
        self.job_id = job_id


class NotSentError(SelvageError):
    """An image of many was not sent, because the server cannot be reached or rejects the key (`not_sent`)."""

    def __init__(self) -> None:
        super().__init__("not_sent", "Not sent, because an image before it could not be")


class WebhookError(SelvageError):
    """A webhook message that must not be trusted (`invalid_webhook`)."""

    def __init__(self, message: str) -> None:
        super().__init__("invalid_webhook", message)


def api_error(status: int, problem: Mapping[str, Any]) -> ApiError:
    """Returns the error for a problem object."""
    if status in (401, 403):
        return AuthenticationError(status, problem)
    if status in (429, 503) or problem["code"] == "request_in_progress":
        return BusyError(status, problem)
    return ApiError(status, problem)
