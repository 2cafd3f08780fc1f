"""The process that owns one pair of instances from start to end, controlled over a socket in the folder.

It starts and signals processes and replies immediately; its clients (`control.py`) wait until a service serves or has ended. The
exception is the first start: there the keeper itself waits, and picks new ports if another program takes one first.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from . import probe, processes
from .binaries import Binaries
from .folder import MARK, STATE_FILE, Folder

SOCKET_FILE, LOCK_FILE, FAILURE_FILE = "control", "lock", "failure"
SERVICES = ("broker", "redis")
FIRST_START_TRIES = 3
# Generous, because a build may use every core. A broker that fails exits, and the keeper notices immediately.
FIRST_START_SECONDS = 120.0
GRACEFUL_SECONDS = 20.0
KILL_SECONDS = 10.0
EPMD_SECONDS = 5.0
TURN_SECONDS = 0.02
IDLE_SECONDS = 0.5
LOG_TAIL_LINES = 30
LARGEST_REQUEST = 4096


class Ended(Exception):
    """The keeper must end; `fast` means that its data is no longer needed."""

    def __init__(self, fast: bool):
        super().__init__("asked to end")
        self.fast = fast


class Failed(Exception):
    """The services could not be started; the text says why."""


class Keeper:
    """Owns the processes of one folder. With `ephemeral`, it deletes the folder at the end."""

    def __init__(self, path: Path, binaries: Binaries, lifeline: int | None, ephemeral: bool):
        self.path = path
        self.binaries = binaries
        self.ephemeral = ephemeral
        self.lifeline = lifeline
        self.lean = True
        self.is_ready = False
        self.running: dict[str, subprocess.Popen] = {}
        self.folder: Folder | None = None
        self.selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Starts the services, serves requests until it must end, and stops everything; returns the exit status."""
        lock = open(self.path / LOCK_FILE, "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("services: another keeper runs in this folder", file=sys.stderr)
            return 1
        processes.adopt_orphans()
        self.listen()
        fast, status = self.ephemeral, 0
        try:
            self.first_start()
            self.is_ready = True
            while True:
                self.turn(IDLE_SECONDS)
        except Ended as end:
            fast = fast or end.fast
        except Failed as failure:
            (self.path / FAILURE_FILE).write_text(str(failure))
            fast, status = True, 1
        finally:
            self.end(fast)
        if self.ephemeral and status == 0:
            shutil.rmtree(self.path, ignore_errors=True)
        return status

    def listen(self) -> None:
        """Opens control socket, lifeline and signals. The socket's name is relative, because its path has at most 108 bytes."""
        os.chdir(self.path)
        for name in (SOCKET_FILE, FAILURE_FILE):
            Path(name).unlink(missing_ok=True)
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.server.bind(SOCKET_FILE)
        self.server.listen(16)
        self.selector.register(self.server, selectors.EVENT_READ, self.answer)
        if self.lifeline is not None:
            self.selector.register(self.lifeline, selectors.EVENT_READ, self.caller_is_gone)
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        self.selector.register(wake_read, selectors.EVENT_READ, self.signalled)

    def caller_is_gone(self) -> None:
        """Ends the keeper, because the process at the other end of the lifeline is gone."""
        raise Ended(fast=True)

    def signalled(self) -> None:
        """Ends the keeper on a signal and keeps the data."""
        raise Ended(fast=False)

    def turn(self, seconds: float) -> None:
        """Handles pending events, waits at most `seconds` for them, and reaps ended processes."""
        for key, _ in self.selector.select(seconds):
            key.data()
        for process in self.running.values():
            process.poll()
        processes.reap_orphans(list(self.running.values()))

    def answer(self) -> None:
        """Reads one request, a JSON object on one line, and replies with another."""
        connection, _ = self.server.accept()
        with connection:
            connection.settimeout(1.0)
            try:
                line = connection.makefile("rb").readline(LARGEST_REQUEST)
                request = json.loads(line)
                reply = self.obey(request)
                connection.sendall(json.dumps(reply).encode() + b"\n")
            except (OSError, ValueError) as problem:
                print(f"services: invalid request: {problem}", file=sys.stderr)
                return
        if request.get("do") == "end":
            raise Ended(fast=bool(request.get("fast")))

    def obey(self, request: dict) -> dict:
        """Executes a request and returns the resulting status."""
        action, service = request.get("do"), request.get("service")
        if service in SERVICES and self.folder is not None:
            if action == "start":
                self.start(service)
            elif action in ("stop", "kill", "pause", "resume"):
                self.signal_service(service, action)
        return {"ready": self.is_ready, **{name: self.status(name) for name in SERVICES}}

    def status(self, service: str) -> dict:
        """Returns a service's process id (None if it is not running) and whether it is paused."""
        process = self.running.get(service)
        if process is None or process.poll() is not None:
            return {"pid": None, "paused": False}
        return {"pid": process.pid, "paused": processes.is_paused(process.pid)}

    def signal_service(self, service: str, action: str) -> None:
        """Signals a service's process if it is running. Resumes it before a stop, because a paused process cannot react."""
        pid = self.status(service)["pid"]
        if pid is None:
            return
        if action == "stop":
            processes.send(pid, signal.SIGCONT)
        how = {"stop": signal.SIGTERM, "kill": signal.SIGKILL, "pause": signal.SIGSTOP, "resume": signal.SIGCONT}
        processes.send(pid, how[action])

    def start(self, service: str) -> None:
        """Starts a service unless it is running."""
        if self.status(service)["pid"] is not None:
            return
        logs = self.path / "log"
        if service == "redis":
            command = [str(self.binaries.redis_server), str(self.path / "redis.conf")]
            self.running["redis"] = processes.spawn(command, self.folder.program_environment(), logs / "redis.log")
            return
        environment = self.folder.broker_environment(self.binaries, self.lean)
        self.start_epmd(environment)
        command = [os.path.join(environment["RABBITMQ_SCRIPTS_DIR"], "rabbitmq-server")]
        self.running["broker"] = processes.spawn(command, environment, logs / "broker.log")

    def start_epmd(self, environment: dict[str, str]) -> None:
        """Starts Erlang's port mapper as our own process; otherwise the broker starts one that outlives it."""
        if self.binaries.epmd is None or self.status("epmd")["pid"] is not None:
            return
        command = [str(self.binaries.epmd), "-port", environment["ERL_EPMD_PORT"], "-address", environment["ERL_EPMD_ADDRESS"]]
        self.running["epmd"] = processes.spawn(command, environment, self.path / "log" / "epmd.log")
        deadline = time.monotonic() + EPMD_SECONDS
        while not self.epmd_listens() and self.status("epmd")["pid"] is not None and time.monotonic() < deadline:
            time.sleep(processes.POLL_SECONDS)

    def epmd_listens(self) -> bool:
        """Tells whether the port mapper accepts connections."""
        try:
            socket.create_connection(("127.0.0.1", self.folder.state.epmd_port), timeout=1.0).close()
        except OSError:
            return False
        return True

    def first_start(self) -> None:
        """Starts everything and waits until it serves. A new folder gets new ports if a start fails; raises Failed."""
        is_new = not (self.path / STATE_FILE).exists()
        for attempt in range(1, FIRST_START_TRIES + 1):
            # Only the first attempt leaves out plugins, so that a broker that needs them still starts.
            self.lean = attempt == 1
            self.folder = Folder.create(self.path) if is_new else Folder.load(self.path)
            for service in SERVICES:
                self.start(service)
            reason = self.wait_until_ready()
            if reason is None:
                return
            print(f"services: attempt {attempt} of {FIRST_START_TRIES}: {reason}", file=sys.stderr, flush=True)
            self.end(fast=True)
            if is_new:
                shutil.rmtree(self.path / "broker", ignore_errors=True)
                shutil.rmtree(self.path / "redis", ignore_errors=True)
        raise Failed(reason)

    def wait_until_ready(self) -> str | None:
        """Waits until both services serve; returns the reason if they do not."""
        state = self.folder.state
        asks = {
            "broker": lambda: probe.amqp_speaks(state.amqp_port),
            "redis": lambda: probe.redis_speaks(state.redis_port, state.redis_password),
        }
        deadline = time.monotonic() + FIRST_START_SECONDS
        while asks:
            self.turn(TURN_SECONDS)
            for service in list(asks):
                # Check the process after the probe: another program's server may answer on a port that we did not get.
                serves = asks[service]()
                if self.status(service)["pid"] is None:
                    return f"the {service} ended during its start:\n{self.log_tail(service)}"
                if serves:
                    del asks[service]
            if asks and time.monotonic() > deadline:
                return f"the {' and the '.join(asks)} did not serve within {FIRST_START_SECONDS:.0f} s"
        return None

    def log_tail(self, service: str) -> str:
        """Returns the end of the service's log, with its passwords masked."""
        text = (self.path / "log" / f"{service}.log").read_text(errors="replace")
        for secret in (self.folder.state.amqp_password, self.folder.state.redis_password):
            text = text.replace(secret, "***")
        return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])

    def end(self, fast: bool) -> None:
        """Ends every process of this pair: with SIGTERM first unless `fast`, then with SIGKILL."""
        if not fast:
            for service in SERVICES:
                self.signal_service(service, "stop")
            deadline = time.monotonic() + GRACEFUL_SECONDS
            while any(self.status(service)["pid"] for service in SERVICES) and time.monotonic() < deadline:
                time.sleep(processes.POLL_SECONDS)
        for process in self.running.values():
            process.kill()
            process.wait()
        self.running.clear()
        if self.folder is not None:
            left = processes.kill_marked(f"{MARK}={self.folder.state.mark}", KILL_SECONDS)
            if left:
                print(f"services: could not kill these processes: {left}", file=sys.stderr)
