"""What is measured: how each system is started, when it is ready, and which processes it consists of.

Each is a context manager; leaving it ends its processes. How much load it gets is not decided here.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

from . import procs, venvs
from .procs import Problem, Program

READY_SECONDS = 60.0
LOWEST_PRIORITY = 19
# What of the caller's environment would change what is measured.
OWN_SETTINGS = ("SELVAGE_", "BASELINE_", "RUST_LOG")


@dataclass(frozen=True)
class Setup:
    """What all systems share: folders, the model, and the services' addresses where there are some."""

    project: Path
    programs: Path
    scratch: Path
    models: Path
    model: str
    cores: int
    images: Path | None = None
    pictures: Path | None = None
    amqp_url: str | None = None
    redis_url: str | None = None


@dataclass
class System:
    """One system under load."""

    setup: Setup
    name: str = ""
    url: str = ""
    programs: list[tuple[str, Program]] = field(default_factory=list)
    ready_ms: float = 0.0
    stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> System:
        try:
            self.start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *exception) -> None:
        self.stack.close()

    def start(self) -> None:
        """Starts everything and returns when it is ready."""
        raise NotImplementedError

    def run(self, name: str, command: list[str | Path], **settings: str) -> Program:
        """Starts one program with these settings and none of the caller's; `name` is its name in the CPU figures."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(OWN_SETTINGS)}
        log = self.setup.scratch / f"{self.name}-{name}-{len(self.programs)}-{secrets.token_hex(3)}.log"
        program = Program(f"{self.name}: {name}", command, log, {**kept, **settings}, self.setup.project)
        self.programs.append((name, program))
        self.stack.callback(program.stop)
        return program

    def watched(self) -> list[tuple[str, int]]:
        """Names and ids of the processes whose time is recorded."""
        return [(name, pid) for name, program in self.programs for pid in program.tree()]

    def step_back(self) -> None:
        """Lets what computes jobs have only the time that is left over by what accepts them, where those are processes of their own."""

    def memory(self, status_field: str) -> dict[str, float]:
        """Memory by name, in MiB."""
        names = dict.fromkeys(name for name, _ in self.watched())
        return {name: procs.memory_mib([pid for n, pid in self.watched() if n == name], status_field) for name in names}

    def last_lines(self) -> str:
        """The end of what each program printed, for error messages."""
        return "\n".join(f"{program.name} printed:\n{program.last_lines()}" for _, program in self.programs)

    def listen(self) -> str:
        """Chooses the address to listen on."""
        address = f"127.0.0.1:{procs.free_port()}"
        self.url = f"http://{address}"
        return address


class Embedded(System):
    """The gateway alone, with as many sessions as cores."""

    def start(self) -> None:
        began = time.monotonic()
        gateway = start_gateway(self, SELVAGE_SESSIONS=str(self.setup.cores))
        gateway.wait_for(lambda: answers(f"{self.url}/readyz"), "it is ready", READY_SECONDS)
        self.ready_ms = (time.monotonic() - began) * 1e3


class Fleet(System):
    """A gateway and two workers on RabbitMQ and Redis; the cores' sessions are spread over the workers."""

    workers = 2

    def sessions(self) -> int:
        """Sessions of each worker."""
        return max(1, self.setup.cores // self.workers)

    def start(self) -> None:
        settings = {
            "SELVAGE_AMQP_URL": address(self.setup.amqp_url),
            "SELVAGE_REDIS_URL": address(self.setup.redis_url),
            "SELVAGE_PREFIX": f"bench-{secrets.token_hex(4)}",
        }
        began = time.monotonic()
        gateway = start_gateway(self, **settings)
        for _ in range(self.workers):
            worker = [self.setup.programs / "selvage-worker"]
            common = gateway_settings(self.setup)
            self.run("worker", worker, **common, **settings, SELVAGE_OPS_LISTEN="127.0.0.1:0", SELVAGE_SESSIONS=str(self.sessions()))
        gateway.wait_for(self.is_ready, "all workers are there", READY_SECONDS)
        self.ready_ms = (time.monotonic() - began) * 1e3

    def is_ready(self) -> bool:
        """Tells whether the gateway serves and knows every worker."""
        if not answers(f"{self.url}/readyz"):
            return False
        with urllib.request.urlopen(f"{self.url}/models/{self.setup.model}", timeout=5) as answer:
            return len(json.load(answer)["workers"]) >= self.workers

    def step_back(self) -> None:
        for name, pid in super().watched():
            if name == "worker":
                for thread in os.listdir(f"/proc/{pid}/task"):
                    os.setpriority(os.PRIO_PROCESS, int(thread), LOWEST_PRIORITY)
                # Where sessions share the processors first, and their processes then, the session's counts: sched(7).
                session = Path(f"/proc/{pid}/autogroup")
                if session.exists():
                    session.write_text(str(LOWEST_PRIORITY))

    def watched(self) -> list[tuple[str, int]]:
        return [*super().watched(), *service_processes(self.setup)]


class FleetOfOne(Fleet):
    """The same fleet with one of its two workers: what the second one adds is to be seen."""

    workers = 1

    def sessions(self) -> int:
        return max(1, self.setup.cores // Fleet.workers)


class Constant(System):
    """The bare axum handler; `answer_bytes` is set to the size of Selvage's own answers once they are known."""

    answer_bytes = 700

    def start(self) -> None:
        command = [self.setup.programs / "selvage-bench", "constant", "--listen", self.listen()]
        program = self.run("server", [*command, "--answer-bytes", str(self.answer_bytes)])
        program.wait_for(lambda: self.url.removeprefix("http://") in program.output(), "it listens", READY_SECONDS)


class FastApi(System):
    """FastAPI on uvicorn, a process per core."""

    folder = "fastapi"

    def start(self) -> None:
        start_uvicorn(self, "server", self.setup.cores)


class Celery(System):
    """FastAPI in front of Celery workers on the same RabbitMQ and Redis, a worker process per core."""

    folder = "celery"

    def start(self) -> None:
        setup = self.setup
        settings = {
            "BASELINE_AMQP_URL": address(setup.amqp_url),
            "BASELINE_REDIS_URL": address(setup.redis_url),
            "BASELINE_QUEUE": f"bench-{secrets.token_hex(4)}",
        }
        programs = baseline_programs(self)
        command = [programs / "celery", "--workdir", baseline_folder(self), "-A", "tasks", "worker", "-O", "fair"]
        command += ["--concurrency", str(setup.cores), "--loglevel", "info"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        worker = self.run("worker", command, BASELINE_MODEL=str(setup.models / setup.model), **settings)
        is_loaded = lambda: worker.output().count("baseline: model loaded") >= setup.cores and " ready." in worker.output()
        worker.wait_for(is_loaded, "its processes have loaded the model", READY_SECONDS)
        start_uvicorn(self, "front", 1, **settings)

    def watched(self) -> list[tuple[str, int]]:
        return [*super().watched(), *service_processes(self.setup)]


def gateway_settings(setup: Setup) -> dict[str, str]:
    """Settings of gateways and workers alike."""
    library = os.environ.get("ORT_DYLIB_PATH") or str(setup.project / ".onnxruntime" / "libonnxruntime.so")
    return {"SELVAGE_MODELS": str(setup.models), "SELVAGE_LOG": "warn", "ORT_DYLIB_PATH": library}


def start_gateway(system: System, **settings: str) -> Program:
    """Starts a gateway on a free port."""
    gateway = [system.setup.programs / "selvage-gateway"]
    return system.run("gateway", gateway, **gateway_settings(system.setup), **settings, SELVAGE_LISTEN=system.listen())


def start_uvicorn(system: FastApi | Celery, name: str, processes: int, **settings: str) -> None:
    """Starts a baseline's FastAPI service and waits until each of its processes has loaded what it needs."""
    setup = system.setup
    host, _, port = system.listen().partition(":")
    command = [baseline_programs(system) / "uvicorn", "--app-dir", baseline_folder(system), "app:app", "--host", host]
    command += ["--port", port, "--workers", str(processes), "--no-access-log"]
    server = system.run(name, command, BASELINE_MODEL=str(setup.models / setup.model), **settings)
    is_started = lambda: server.output().count("Application startup complete") >= processes
    server.wait_for(is_started, "its processes are ready", READY_SECONDS)


def baseline_folder(system: FastApi | Celery) -> Path:
    """The folder of a baseline's code."""
    return system.setup.project / "bench" / "baselines" / system.folder


def baseline_programs(system: FastApi | Celery) -> Path:
    """The folder of a baseline's installed programs."""
    return venvs.environment(system.setup.project, system.folder, baseline_folder(system) / "requirements.txt")


def service_processes(setup: Setup) -> list[tuple[str, int]]:
    """RabbitMQ's and Redis' processes, found by the ports they listen on."""
    urls = {"broker": address(setup.amqp_url), "redis": address(setup.redis_url)}
    return [(name, procs.listening_on(urlsplit(url).port)) for name, url in urls.items()]


def address(url: str | None) -> str:
    """A service's address; raises Problem where the services were not started."""
    if url is None:
        raise Problem("this system needs RabbitMQ and Redis, which bench/run starts by itself by default")
    return url


def answers(url: str) -> bool:
    """Tells whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (URLError, OSError):
        return False
