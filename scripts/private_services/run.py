"""Runs one command beside private services and ends them with it. Handles signals and exit statuses."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import control, processes

# How long a command may take to end after a signal; a fleet drains its jobs in this time.
GRACE_SECONDS = 60.0
ENDING_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
SI_USER_AND_BELOW = 0  # siginfo.h: codes up to 0 are sent by a process, those above by the kernel, as for Ctrl-C


def run_with_services(program: Path, command: list[str], as_settings: bool) -> int:
    """Starts services, runs the command with their addresses in its environment, and returns its status."""
    if shutil.which(command[0]) is None:
        print(f"services: program not found: {command[0]}", file=sys.stderr)
        return 127
    path = Path(tempfile.mkdtemp(prefix="selvage-services-"))
    # The keeper ends when the write end closes; the kernel closes it even after a SIGKILL.
    lifeline_read, lifeline_write = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, exit_on_signal)
    try:
        folder = control.start_keeper(program, path, lifeline_read, ephemeral=True)
        os.close(lifeline_read)
        return run_command(command, {**os.environ, **folder.exports(as_settings)})
    finally:
        os.close(lifeline_write)
        control.wait_for(lambda: not control.is_kept(path), control.END_SECONDS, "the services did not end")
        shutil.rmtree(path, ignore_errors=True)


def exit_on_signal(number: int, _frame) -> None:
    """Turns a signal that arrives before the command runs into an exit that still cleans up."""
    sys.exit(128 + number)


def run_command(command: list[str], environment: dict[str, str]) -> int:
    """Runs the command, forwards ending signals to it, and returns its status as a shell does."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    parent = os.getpid()
    child = subprocess.Popen(command, env=environment, preexec_fn=lambda: processes.die_with_parent(signal.SIGTERM, parent))
    deadline = None
    while child.poll() is None:
        left = 3600.0 if deadline is None else max(deadline - time.monotonic(), 0.0)
        info = signal.sigtimedwait(ENDING_SIGNALS | {signal.SIGCHLD}, left)
        if info is None:
            if deadline is not None:
                child.kill()
        elif info.si_signo in ENDING_SIGNALS:
            deadline = deadline or time.monotonic() + GRACE_SECONDS
            # The terminal has already sent Ctrl-C to the command; a second signal could cut its drain short.
            if info.si_code <= SI_USER_AND_BELOW:
                child.send_signal(info.si_signo)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode
