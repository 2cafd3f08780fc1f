"""What the server responds with, read into types; `raw` always has the whole JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ._errors import JobError

Status = Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]


@dataclass(frozen=True, slots=True)
class Label:
    """A label with its score."""

    label: str
    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Output:
    """The result of a job: the best label, and the best `top_k` in `top`."""

    label: str
    index: int
    score: float
    top: tuple[Label, ...]

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Output:
        """Reads the API's object."""
        top = tuple(Label(item["label"], item["index"], item["score"]) for item in raw["top"])
        return cls(raw["label"], raw["index"], raw["score"], top)


@dataclass(frozen=True, slots=True)
class Queue:
    """Estimates for a queued job."""

    position: int
    eta_ms: int


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the server last described it."""

    id: str
    status: Status
    model: str
    version: str
    output: Output | None
    error: Mapping[str, Any] | None
    """The problem object of a failed job."""
    queue: Queue | None
    cached: bool
    created_at: datetime
    finished_at: datetime | None
    metadata: Mapping[str, Any]
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Job:
        """Reads the API's object; raises KeyError, TypeError or ValueError if it is none."""
        output, queue, finished = raw["output"], raw["queue"], raw["finished_at"]
        return cls(
            id=raw["id"],
            status=raw["status"],
            model=raw["model"]["name"],
            version=raw["model"]["version"],
            output=output and Output.read(output),
            error=raw["error"],
            queue=queue and Queue(queue["position"], queue["eta_ms"]),
            cached=raw["cached"],
            created_at=datetime.fromisoformat(raw["created_at"]),
            finished_at=finished and datetime.fromisoformat(finished),
            metadata=raw["metadata"],
            raw=raw,
        )

    @property
    def has_ended(self) -> bool:
        """Whether the job has ended, with or without a result."""
        return self.status not in ("queued", "running")

    @property
    def result(self) -> Output:
        """The output; raises JobError if the job ended without one, ValueError if it has not ended."""
        if self.output is not None:
            return self.output
        if self.has_ended:
            raise JobError(self)
        raise ValueError(f"job {self.id} has not ended: wait for it first")

    @property
    def label(self) -> str:
        """The best label; raises as `result` does."""
        return self.result.label

    @property
    def score(self) -> float:
        """The score of the best label; raises as `result` does."""
        return self.result.score


@dataclass(frozen=True, slots=True)
class Model:
    """A model that the server has."""

    name: str
    version: str
    default: bool
    description: str
    labels: tuple[str, ...]
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Model:
        """Reads the API's object."""
        return cls(raw["name"], raw["version"], raw["default"], raw["description"], tuple(raw["labels"]), raw)
