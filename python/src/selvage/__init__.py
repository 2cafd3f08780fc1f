"""Client of Selvage, an HTTP server for ONNX image classifiers. The package also contains the server: `selvage serve`."""

from ._api import Image, PredictOptions, SubmitOptions
from ._async_client import AsyncClient
from ._client import Client
from ._errors import (
    ApiError,
    AuthenticationError,
    BusyError,
    JobError,
    NotSelvageError,
    NotSentError,
    SelvageError,
    UnreachableError,
    WaitTimeoutError,
    WebhookError,
)
from ._jobs import Job, Label, Model, Output, Queue, Status
from ._many import Prediction, Progress
from .webhooks import WebhookMessage, verify_webhook

__all__ = [
    "ApiError",
    "AsyncClient",
    "AuthenticationError",
    "BusyError",
    "Client",
    "Image",
    "Job",
    "JobError",
    "Label",
    "Model",
    "NotSelvageError",
    "NotSentError",
    "Output",
    "PredictOptions",
    "Prediction",
    "Progress",
    "Queue",
    "SelvageError",
    "Status",
    "SubmitOptions",
    "UnreachableError",
    "WaitTimeoutError",
    "WebhookError",
    "WebhookMessage",
    "verify_webhook",
]
