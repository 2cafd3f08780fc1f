"""What the server responds with, read into types; `raw` always has the whole JSON object."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
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
    """The result of a classifier: the best label, and the best `top_k` in `top`."""

    label: str
    index: int
    score: float
    top: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Labels:
    """The result of a multi-label model: the labels that the image has, and the best `top_k` in `top`, whether it has them or not."""

    threshold: float
    labels: tuple[Label, ...]
    top: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Detection:
    """An object: its label, and its left, top, right and bottom edge in pixels of the upright image."""

    label: str
    index: int
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Detections:
    """The result of a detector: the size of the upright image, and the objects, best first."""

    width: int
    height: int
    boxes: tuple[Detection, ...]


@dataclass(frozen=True, slots=True)
class Embedding:
    """The result of a model that gives vectors."""

    embedding: tuple[float, ...]


Result = Output | Labels | Detections | Embedding


def read_labels(raw: Iterable[Mapping[str, Any]]) -> tuple[Label, ...]:
    """Reads the API's labels."""
    return tuple(Label(item["label"], item["index"], item["score"]) for item in raw)


def read_result(raw: Mapping[str, Any]) -> Result:
    """Reads the API's output; servers of earlier versions only classify and do not name the task."""
    task = raw.get("task", "classify")
    match task:
        case "classify":
            return Output(raw["label"], raw["index"], raw["score"], read_labels(raw["top"]))
        case "multilabel":
            return Labels(raw["threshold"], read_labels(raw["labels"]), read_labels(raw["top"]))
        case "detect":
            left_to_bottom = operator.itemgetter(0, 1, 2, 3)
            boxes = (Detection(item["label"], item["index"], item["score"], left_to_bottom(item["box"])) for item in raw["boxes"])
            return Detections(raw["width"], raw["height"], tuple(boxes))
        case "embed":
            return Embedding(tuple(raw["embedding"]))
    raise ValueError(f"task {task!r} is not known: update this package")


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
    output: Result | None
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
            output=output and read_result(output),
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
    def result(self) -> Result:
        """The output; raises JobError if the job ended without one, ValueError if it has not ended."""
        if self.output is not None:
            return self.output
        if self.has_ended:
            raise JobError(self)
        raise ValueError(f"job {self.id} has not ended: wait for it first")

    @property
    def label(self) -> str:
        """The best label; raises as `result` does, and TypeError if the model is no classifier."""
        return self._best.label

    @property
    def score(self) -> float:
        """The score of the best label; raises as `label` does."""
        return self._best.score

    @property
    def _best(self) -> Output:
        if isinstance(self.result, Output):
            return self.result
        raise TypeError(f"{self.model} is no classifier: its result has no best label, see `result`")


@dataclass(frozen=True, slots=True)
class Model:
    """A model that the server has."""

    name: str
    version: str
    default: bool
    description: str
    task: str
    labels: tuple[str, ...]
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Model:
        """Reads the API's object."""
        task = raw.get("task", "classify")
        return cls(raw["name"], raw["version"], raw["default"], raw["description"], task, tuple(raw["labels"]), raw)
