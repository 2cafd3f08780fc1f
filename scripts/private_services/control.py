"""Implements the commands: start and end a keeper, send it requests, and wait until a service serves or has ended.

The keeper owns the service processes; nothing here starts or signals them.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from . import probe
from .folder import Folder
from .keeper import FAILURE_FILE, LOCK_FILE, SOCKET_FILE

POLL_SECONDS = 0.02
ANSWER_SECONDS = 15.0
KEEPER_SECONDS = 420.0
SERVICE_SECONDS = 120.0
END_SECONDS = 60.0
RESTART_TRIES = 3


class Problem(Exception):
    """An error for the user; the text is the whole message."""


def start_keeper(program: Path, path: Path, lifeline: int | None, ephemeral: bool) -> Folder:
    """Starts a keeper for the folder and returns when both services serve."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, str(program), "keep", str(path)]
    if lifeline is not None:
        command += ["--lifeline", str(lifeline)]
    if ephemeral:
        command.append("--ephemeral")
    log_file = os.open(path / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with open(log_file, "ab") as log:
        keeper = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=() if lifeline is None else (lifeline,),
        )
    try:
        return wait_for_keeper(keeper, path)
    except BaseException:
        keeper.terminate()
        raise


def wait_for_keeper(keeper: subprocess.Popen, path: Path) -> Folder:
    """Returns when the keeper reports that both services serve."""
    deadline = time.monotonic() + KEEPER_SECONDS
    while time.monotonic() < deadline:
        if keeper.poll() is not None:
            raise Problem(f"the services did not start: {failure(path)}")
        status = ask_if_there(path, {"do": "status"})
        if status is not None and status["ready"]:
            return Folder.load(path)
        time.sleep(POLL_SECONDS)
    raise Problem(f"the services did not start within {KEEPER_SECONDS:.0f} s")


def failure(path: Path) -> str:
    """Returns why a keeper ended, from its failure file or its log."""
    for name in (FAILURE_FILE, "keeper.log"):
        text = (path / name).read_text(errors="replace").strip() if (path / name).exists() else ""
        if text:
            return text
    return "the keeper ended without a message"


def ask(path: Path, request: dict) -> dict:
    """Sends a request to the folder's keeper and returns its answer."""
    # Through an open folder, because the path of a socket has at most 108 bytes.
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(f"/proc/self/fd/{folder}/{SOCKET_FILE}")
            connection.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(connection.makefile("rb").readline())
    finally:
        os.close(folder)


def ask_if_there(path: Path, request: dict) -> dict | None:
    """Like `ask`, but returns None if no keeper answers."""
    try:
        return ask(path, request)
    except (OSError, ValueError):
        return None


def is_kept(path: Path) -> bool:
    """Tells whether a keeper runs in the folder; a running keeper holds the lock."""
    try:
        with open(path / LOCK_FILE) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def end_keeper(path: Path, fast: bool) -> None:
    """Ends both services and their keeper, and returns when all processes are gone."""
    ask_if_there(path, {"do": "end", "fast": fast})
    wait_for(lambda: not is_kept(path), END_SECONDS, "the services did not end")


def control(path: Path, service: str, action: str) -> None:
    """Performs one action on one service and returns when it has taken effect."""
    status = ask_if_there(path, {"do": action, "service": service})
    if status is None:
        raise Problem(f"no services run in {path}: run `start` first")
    pid = status[service]["pid"]
    if action == "start":
        wait_until_serving(path, service)
    elif action in ("stop", "kill"):
        wait_for(lambda: now(path, service)["pid"] is None, SERVICE_SECONDS, f"the {service} did not end")
    elif pid is None:
        raise Problem(f"cannot {action} the {service}: it is not running")
    else:
        is_paused = action == "pause"
        wait_for(lambda: now(path, service)["paused"] == is_paused, SERVICE_SECONDS, f"the {service} did not {action}")


def now(path: Path, service: str) -> dict:
    """Returns the process id of a service, None if it is not running, and whether it is paused."""
    return ask(path, {"do": "status"})[service]


def wait_until_serving(path: Path, service: str) -> None:
    """Waits until a started service serves on its port; restarts one that ends, up to RESTART_TRIES attempts."""
    state = Folder.load(path).state
    serves = {
        "broker": lambda: probe.amqp_speaks(state.amqp_port),
        "redis": lambda: probe.redis_speaks(state.redis_port, state.redis_password),
    }[service]
    tries = 1
    deadline = time.monotonic() + SERVICE_SECONDS
    while time.monotonic() < deadline:
        answered = serves()
        is_running = now(path, service)["pid"] is not None
        if answered and is_running:
            return
        if not is_running:
            if tries == RESTART_TRIES:
                raise Problem(f"the {service} ended {tries} times during its start; see its log in {path}/log")
            tries += 1
            ask(path, {"do": "start", "service": service})
        time.sleep(POLL_SECONDS)
    raise Problem(f"the {service} did not serve within {SERVICE_SECONDS:.0f} s")


def wait_for(condition, seconds: float, complaint: str) -> None:
    """Returns when the condition holds; raises Problem with the complaint if it does not hold in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Problem(f"{complaint} within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)
