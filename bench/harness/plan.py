"""The order of a run: rounds interleaved over the systems, so that a slow minute of the machine hits all of them alike."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import measure, models
from .measure import Length, Point
from .procs import Problem
from .systems import Celery, Constant, Embedded, FastApi, Fleet, FleetOfOne, Setup, System

CONNECTIONS = (1, 64, 256)
# Of a system's own peak, for the latency under a load it can bear.
BEARABLE = 0.7
BEARABLE_CONNECTIONS = 64
JOBS_CONNECTIONS = 256
FOLLOWED_JOBS = 50
RAW_BATCHES = (1, 16, 32)
KINDS: dict[str, type[System]] = {
    "embedded": Embedded,
    "fleet": Fleet,
    "fleet-of-one": FleetOfOne,
    "fastapi": FastApi,
    "celery": Celery,
    "constant": Constant,
}
OURS = ("embedded", "fleet")


@dataclass
class Results:
    """What has been measured so far."""

    raw: list[dict] = field(default_factory=list)
    points: list[dict] = field(default_factory=list)
    ready_ms: dict[str, list[float]] = field(default_factory=dict)
    idle_mib: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    peak_mib: dict[str, list[dict[str, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Which systems are measured, how often and for how long."""

    setup: Setup
    systems: list[str]
    rounds: int
    length: Length

    def run(self) -> Results:
        """Measures everything and returns the results; raises Problem at the first wrong answer."""
        results = Results()
        answers = self.setup.scratch / "answers.json"
        measure.raw(self.setup, Length(0.0, 0.2), 1, [1], answers)
        for number in range(1, self.rounds + 1):
            say(f"round {number} of {self.rounds}")
            self.measure_raw(results)
            for name in self.systems:
                self.measure_system(name, answers, number == self.rounds, results)
        return results

    def measure_raw(self, results: Results) -> None:
        """The limits: a thread per core in batches, and one thread with one picture at a time."""
        most = models.max_batch(self.setup.models, self.setup.model)
        for threads, batches in ((self.setup.cores, sorted({min(batch, most) for batch in RAW_BATCHES})), (1, [1])):
            report = measure.raw(self.setup, self.length, threads, batches)
            results.raw.append(report)
            for run in report["runs"]:
                say(f"  raw, {threads} threads, batch {run['batch']}: {run['images_per_second']:,.0f} images/s")

    def measure_system(self, name: str, answers: Path, is_last: bool, results: Results) -> None:
        """Starts a system, puts each load on it, and ends it."""
        system = KINDS[name](self.setup, name)
        if isinstance(system, Constant):
            system.answer_bytes = round(answer_bytes(results.points)) or system.answer_bytes
            answers = self.constant_answers(answers)
        with system:
            results.ready_ms.setdefault(name, []).append(system.ready_ms)
            results.idle_mib.setdefault(name, []).append(system.memory("VmRSS"))
            peak = 0.0
            # A heavy model's backlog would take minutes to its end.
            with_jobs = self.setup.pictures is None and self.setup.model != "heavy"
            for point in loads(name, is_last, with_jobs):
                if point.kind == "jobs":
                    system.step_back()
                if point.rate is not None:
                    point = Point(point.kind, point.connections, rate=point.rate * peak)
                try:
                    measured = measure.load(self.setup, system, point, self.length, answers)
                except Problem as problem:
                    raise Problem(f"{problem}\n{system.last_lines()}") from None
                results.points.append(measured)
                report = measured["report"]
                say(f"  {name}, {described(point)}: {report['requests_per_second']:,.0f}/s, p99 {report['latency_ms']['p99']:.2f} ms")
                if point.kind == "unique" and point.connections == BEARABLE_CONNECTIONS and point.rate is None:
                    peak = report["requests_per_second"]
            results.peak_mib.setdefault(name, []).append(system.memory("VmHWM"))

    def constant_answers(self, answers: Path) -> Path:
        """A file that expects the constant label for the same pictures."""
        constant = self.setup.scratch / "constant.json"
        constant.write_text(json.dumps({digest: label and "constant" for digest, label in json.loads(answers.read_text()).items()}))
        return constant


def loads(name: str, is_last_round: bool, with_jobs: bool) -> Iterator[Point]:
    """The loads for a system. A rate is a share of its peak here.

    Accepted jobs come last, since they leave a backlog; a sample of them is followed to its end in the last round, where there is a store:
    an embedded gateway may accept more than the 50,000 whose records it keeps. They are left out for large pictures: a refusal comes
    before such a body has been read, and ends its connection.
    """
    if name != "constant":
        yield from (Point("unique", connections) for connections in CONNECTIONS)
    yield from (Point("repeated", connections) for connections in CONNECTIONS)
    if name in OURS:
        yield Point("unique", BEARABLE_CONNECTIONS, rate=BEARABLE)
        if with_jobs:
            yield Point("jobs", JOBS_CONNECTIONS, follow=FOLLOWED_JOBS if is_last_round and name != "embedded" else 0)


def answer_bytes(points: list[dict]) -> float:
    """The mean size of Selvage's own answers to repeated pictures so far; 0 if it was not measured."""
    sizes = [point["report"]["body_bytes"] for point in points if point["system"] in OURS and point["kind"] == "repeated"]
    return sum(sizes) / len(sizes) if sizes else 0.0


def described(point: Point) -> str:
    """A load in words."""
    rate = "" if point.rate is None else f" at {point.rate:,.0f}/s"
    return f"{point.kind}, {point.connections} connections{rate}"


def say(text: str) -> None:
    """Tells the person who waits."""
    print(text, file=sys.stderr, flush=True)
