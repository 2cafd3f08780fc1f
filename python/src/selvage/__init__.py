"""Client of Selvage, an HTTP server for ONNX image models. The package also contains the server: `selvage serve`."""

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
from ._jobs import Detection, Detections, Embedding, Job, Label, Labels, Model, Output, Queue, Result, Status
from ._many import Prediction, Progress
from .webhooks import WebhookMessage, verify_webhook

__all__ = [
    "ApiError",
    "AsyncClient",
    "AuthenticationError",
    "BusyError",
    "Client",
    "Detection",
    "Detections",
    "Embedding",
    "Image",
    "Job",
    "JobError",
    "Label",
    "Labels",
    "Model",
    "NotSelvageError",
    "NotSentError",
    "Output",
    "PredictOptions",
    "Prediction",
    "Progress",
    "Queue",
    "Result",
    "SelvageError",
    "Status",
    "SubmitOptions",
    "UnreachableError",
    "WaitTimeoutError",
    "WebhookError",
    "WebhookMessage",
    "verify_webhook",
]
