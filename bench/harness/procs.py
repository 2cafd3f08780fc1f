"""Programs of a run: started, found in /proc, and ended by their ids. It knows nothing of what they are."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from private_services.processes import die_with_parent

STOP_SECONDS = 20.0
POLL_SECONDS = 0.005
TCP_LISTENING = "0A"  # linux/include/net/tcp_states.h


class Problem(Exception):
    """Something the user has to know; the text is the whole message."""


class Program:
    """One running program in a process group of its own, with its output in a file."""

    def __init__(self, name: str, command: list[str | Path], log: Path, settings: dict[str, str], cwd: Path):
        self.name = name
        self.log = log
        parent = os.getpid()
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                env=settings,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(signal.SIGTERM, parent),
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def tree(self) -> list[int]:
        """Its own id and those of its descendants."""
        parents = parent_ids()
        found = [self.pid]
        for pid in found:
            found.extend(child for child, parent in parents.items() if parent == pid)
        return found

    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Returns once the condition holds; raises Problem, with its last output, if it ends or the time passes first."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None:
                raise Problem(f"{self.name} ended with status {self.process.returncode} before {what}\n{self.last_lines()}")
            if time.monotonic() > deadline:
                raise Problem(f"{self.name}: {what} did not happen within {seconds:.0f} s\n{self.last_lines()}")
            time.sleep(POLL_SECONDS)

    def last_lines(self) -> str:
        """The end of its output, for error messages."""
        return "\n".join(f"    {line}" for line in self.output().splitlines()[-20:])

    def stop(self) -> None:
        """Asks it to end, waits, and kills whatever of its group is left."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def parent_ids() -> dict[int, int]:
    """The parent of every running process."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # ended meanwhile
                continue
            parents[int(folder.name)] = int(fields[1])
    return parents


def opened(file: Path) -> str:
    """What a process has open there; nothing where it has closed it meanwhile."""
    try:
        return os.readlink(file)
    except OSError:
        return ""


def listening_on(port: int) -> int:
    """The process that listens on a TCP port of this machine; raises Problem if no process of the benchmark does."""
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == TCP_LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            files = list((folder / "fd").iterdir())
        except OSError:  # ended meanwhile, or another user's
            continue
        if any(opened(file) in sockets for file in files):
            return int(folder.name)
    raise Problem(f"no process of this user listens on port {port}")


def memory_mib(pids: list[int], field: str) -> float:
    """Memory of processes together, by a field of /proc/PID/status: VmRSS now, VmHWM at its highest."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:  # ended meanwhile
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
    return total / 1024


def free_port() -> int:
    """A TCP port of loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
