"""Starts and ends processes on Linux so that none is left over. It does not depend on brokers and stores.

Three safeguards: a process dies with its parent (parent-death signal), the keeper adopts orphans (subreaper), and at the end every
process with the instance's mark in its environment is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None, use_errno=True)
POLL_SECONDS = 0.02
STATE_FIELD = 0  # of /proc/PID/stat, counted after the command's name


def spawn(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen:
    """Starts a process in its own session; the kernel kills it when this process ends, for whatever reason."""
    parent = os.getpid()
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(signal.SIGKILL, parent),
        )


def die_with_parent(how: signal.Signals, parent: int) -> None:
    """In a new child, requests this signal for the end of the parent; exits if the parent has already ended."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    LIBC.prctl(PR_SET_PDEATHSIG, int(how), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose own parent ends."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(own: list[subprocess.Popen]) -> None:
    """Reaps adopted processes that have ended; leaves those in `own` to their Popen."""
    known = {process.pid for process in own}
    for _ in range(1_000):
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in known:
            return
        os.waitpid(ended.si_pid, os.WNOHANG)


def is_paused(pid: int) -> bool:
    """Tells whether the process is stopped by a signal."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[STATE_FIELD] == "T"


def marked(assignment: str) -> list[int]:
    """Returns the running processes that have this `NAME=value` in their environment."""
    wanted = assignment.encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            carries = wanted in (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # the process has ended or belongs to another user
            continue
        if carries:
            found.append(int(folder.name))
    return found


def kill_marked(assignment: str, seconds: float) -> list[int]:
    """Kills all processes that have the assignment; returns those that still exist after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        left = marked(assignment)
        for pid in left:
            send(pid, signal.SIGKILL)
        reap_orphans([])
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(POLL_SECONDS)


def send(pid: int, how: signal.Signals) -> None:
    """Sends a signal; ignores a process that has already ended."""
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        pass
