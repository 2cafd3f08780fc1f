"""Verifies webhook messages, which are signed as in the Standard Webhooks specification."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ._errors import WebhookError
from ._jobs import Job

# How far the time of a message may be from now: older messages may be replays.
TOLERANCE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """A message with a right signature."""

    id: str
    """The same for every attempt to deliver the message."""
    type: str
    """`job.succeeded`, `job.failed`, `job.canceled` or `job.expired`."""
    timestamp: datetime
    job: Job


def verify_webhook(
    secret: str | Iterable[str], headers: Mapping[str, str], body: bytes, *, tolerance: float = TOLERANCE_SECONDS
) -> WebhookMessage:
    """Returns the message if one of its signatures is by one of the secrets (`whsec_…`); raises WebhookError otherwise.

    `body` must be the bytes as received: a JSON library may write them differently. `headers` may have names in any case.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        number, sent_at, signatures = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
        age = abs(time.time() - int(sent_at))
    except (KeyError, ValueError):
        raise WebhookError("The message has no webhook-id, webhook-timestamp and webhook-signature") from None
    if age > tolerance:
        raise WebhookError(f"The message was signed {age:.0f} s away from this machine's time, more than {tolerance:.0f} s")
    signed = f"{number}.{sent_at}.".encode() + body
    wanted = {sign(one, signed) for one in ([secret] if isinstance(secret, str) else secret)}
    if not any(hmac.compare_digest(signature.encode(), right) for signature in signatures.split() for right in wanted):
        raise WebhookError("No signature of the message is by the secret")
    message = json.loads(body)
    return WebhookMessage(number, message["type"], datetime.fromisoformat(message["timestamp"]), Job.read(message["data"]))


def sign(secret: str, signed: bytes) -> bytes:
    """Returns the signature of the bytes, version 1."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("a webhook secret is `whsec_` and base64") from None
    return b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
