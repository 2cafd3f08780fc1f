"""One measurement: calls `selvage bench` or `selvage-bench` and reads what it prints. A wrong answer ends the run."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

from .procs import Problem
from .systems import Setup, System

# Pictures that repeat: enough that no two connections always send the same one, few enough for every cache.
REPEATED_PICTURES = 100
# How long submitted jobs are waited for.
FOLLOW_SECONDS = 60


@dataclass(frozen=True)
class Point:
    """One kind of load: `unique` or `repeated` pictures to `/predict`, `jobs` for unique pictures to `/jobs`."""

    kind: str
    connections: int
    rate: float | None = None
    follow: int = 0

    def arguments(self) -> list[str]:
        """As options of `selvage bench`."""
        options = ["--concurrency", str(self.connections)]
        if self.kind != "repeated":
            options.append("--unique")
        if self.kind == "jobs":
            options.append("--submit")
        if self.rate is not None:
            options += ["--rate", f"{self.rate:.1f}"]
        return options

    def allowed_errors(self) -> set[str]:
        """Codes that are no fault: jobs are accepted faster than they are computed, so the queue is full in the end."""
        return {"queue_full"} if self.kind == "jobs" else set()


@dataclass(frozen=True)
class Length:
    """How long each point is measured, in seconds."""

    warmup: float
    seconds: float


def load(setup: Setup, system: System, point: Point, length: Length, answers: Path) -> dict:
    """Puts one load on a system and returns the client's report; `answers` has the right labels."""
    files = sorted(path for path in setup.images.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    images = files[:REPEATED_PICTURES] if point.kind == "repeated" else [setup.images]
    command = [setup.programs / "selvage", "bench", system.url, *images, *point.arguments(), "--answers", answers, "--json", "--quiet"]
    command += ["--warmup", str(length.warmup), "--seconds", str(length.seconds)]
    for name, pid in system.watched():
        command += ["--watch", f"{name}={pid}"]
    what = f"{system.name}, {point.kind}, {point.connections} connections"
    (report,) = json.loads(call(command, setup.project, what, fine=(0, 1)))
    wrong = {code: errors["example"] for code, errors in report["errors"].items() if code not in point.allowed_errors()}
    if wrong or not report["requests_per_second"]:
        raise Problem(f"{what}: {wrong or 'no response'}")
    if point.follow:
        follow(system.url, point.follow, what)
    return {"system": system.name, **asdict(point), "report": report}


def write_pictures(programs: Path, project: Path, folder: Path) -> Path:
    """Writes Fashion-MNIST's test images into a folder, and returns it."""
    call([programs / "selvage-bench", "pictures", folder], project, "the pictures")
    return folder


def follow(url: str, count: int, what: str) -> None:
    """Waits for the last jobs that were submitted; raises Problem if one does not succeed."""
    with urllib.request.urlopen(f"{url}/jobs?limit={count}", timeout=30) as response:
        jobs = json.load(response)["items"]
    deadline = time.monotonic() + FOLLOW_SECONDS
    for job in jobs:
        while job["status"] in ("queued", "running"):
            if time.monotonic() > deadline:
                raise Problem(f"{what}: job {job['id']} is not done after {FOLLOW_SECONDS} s")
            with urllib.request.urlopen(f"{url}/jobs/{job['id']}?wait=10", timeout=30) as response:
                job = json.load(response)
        if job["status"] != "succeeded" or not job["output"]["label"]:
            raise Problem(f"{what}: a job ended as {job}")
    if len(jobs) < count:
        raise Problem(f"{what}: {len(jobs)} of {count} jobs are listed")


def raw(setup: Setup, length: Length, threads: int, batches: list[int], answers: Path | None = None) -> dict:
    """Measures ONNX Runtime alone; writes the file of right answers if asked to."""
    command = [setup.programs / "selvage-bench", "raw", "--models", setup.models, "--model", setup.model, "--pictures", setup.images]
    command += ["--threads", str(threads), "--seconds", str(length.seconds)]
    command += [part for batch in batches for part in ("--batch", str(batch))]
    if answers is not None:
        command += ["--answers", answers]
    return json.loads(call(command, setup.project, "raw ONNX Runtime"))


def call(command: list[str | Path], project: Path, what: str, fine: tuple[int, ...] = (0,)) -> str:
    """Runs a program and returns what it prints; raises Problem if it ends with another exit code than those."""
    done = subprocess.run([str(part) for part in command], cwd=project, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode not in fine:
        said = "\n".join(part for part in (done.stdout.strip(), done.stderr.strip()) if part)
        raise Problem(f"{what}: failed with status {done.returncode}\n{said}")
    return done.stdout
