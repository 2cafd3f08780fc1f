"""One measurement: calls `selvage-bench` and reads what it prints. A wrong answer ends the run."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from .procs import Problem
from .systems import Setup, System

# Pictures that repeat: enough that no two connections always send the same one, few enough for every cache.
REPEATED_PICTURES = 100


@dataclass(frozen=True)
class Point:
    """One kind of load: `unique` or `repeated` pictures to `/predict`, `jobs` for unique pictures to `/jobs`."""

    kind: str
    connections: int
    rate: float | None = None
    follow: int = 0

    def arguments(self) -> list[str]:
        """As options of `selvage-bench load`."""
        repetition = ["--repeated", str(REPEATED_PICTURES)] if self.kind == "repeated" else ["--unique"]
        options = [*repetition, "--connections", str(self.connections)]
        if self.kind == "jobs":
            # Jobs are accepted faster than they are computed, so that a full queue is the right answer in the end.
            options += ["--path", "/jobs", "--allow-status", "429", "--follow", str(self.follow)]
        if self.rate is not None:
            options += ["--rate", f"{self.rate:.1f}"]
        return options


@dataclass(frozen=True)
class Length:
    """How long each point is measured, in seconds."""

    warmup: float
    seconds: float


def load(setup: Setup, system: System, point: Point, length: Length, right: list[str]) -> dict:
    """Puts one load on a system and returns the client's report; `right` says which answers are right."""
    command = [setup.programs / "selvage-bench", "load", "--url", system.url, *point.arguments(), *right, *pictures(setup)]
    command += ["--warmup", str(length.warmup), "--seconds", str(length.seconds)]
    for name, pid in system.watched():
        command += ["--watch", f"{name}={pid}"]
    report = call(command, setup.project, f"{system.name}, {point.kind}, {point.connections} connections")
    return {"system": system.name, **asdict(point), "report": report}


def raw(setup: Setup, length: Length, threads: int, batches: list[int], answers: Path | None = None) -> dict:
    """Measures ONNX Runtime alone; writes the file of right answers if asked to."""
    command = [setup.programs / "selvage-bench", "raw", "--models", setup.models, "--model", setup.model, *pictures(setup)]
    command += ["--threads", str(threads), "--seconds", str(length.seconds)]
    command += [part for batch in batches for part in ("--batch", str(batch))]
    if answers is not None:
        command += ["--answers", answers]
    return call(command, setup.project, "raw ONNX Runtime")


def pictures(setup: Setup) -> list[str | Path]:
    """Which pictures are sent; the bench's own choice where none were named."""
    return [] if setup.pictures is None else ["--pictures", setup.pictures]


def call(command: list[str | Path], project: Path, what: str) -> dict:
    """Runs a measurement and returns its report; raises Problem if it fails or an answer was wrong."""
    done = subprocess.run([str(part) for part in command], cwd=project, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        said = "\n".join(part for part in (done.stdout.strip(), done.stderr.strip()) if part)
        raise Problem(f"{what}: failed with status {done.returncode}\n{said}")
    return json.loads(done.stdout)
