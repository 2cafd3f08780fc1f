"""Finds the server programs of RabbitMQ and Redis, and installs Debian's packages if it may.

Only finding and installing programs belongs here; `folder.py` and `keeper.py` start them.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("rabbitmq-server", "redis-server")
# Service programs are often outside an ordinary user's PATH.
SYSTEM_PATHS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin")
POLICY_FILE = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Written for the time of one install by scripts/services: start no service.\nexit 101\n"
INSTALL_LOCK = Path("/run/lock/selvage-services-install")
INSTALL_TRIES = 5


class Missing(Exception):
    """A program is missing and could not be installed; the text says what to do."""


@dataclass(frozen=True)
class Binaries:
    """Paths of the programs: RabbitMQ's inner `sbin` folder, Redis, and Erlang's port mapper if it was found."""

    rabbitmq_sbin: Path
    redis_server: Path
    epmd: Path | None


def find_or_install() -> Binaries:
    """Returns the programs; installs Debian's packages first if some are missing; raises Missing."""
    found = find()
    if found is not None:
        return found
    install()
    found = find()
    if found is None:
        raise Missing(f"{' and '.join(PACKAGES)} were installed, but their programs are still missing")
    return found


def find() -> Binaries | None:
    """Returns the programs if all of them are installed."""
    sbin, redis = rabbitmq_sbin(), which("redis-server")
    if sbin is None or redis is None or which("erl") is None:
        return None
    return Binaries(sbin, Path(redis), epmd())


def which(name: str) -> str | None:
    """Looks up a program on the PATH and in the system's folders."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_PATHS)))


def rabbitmq_sbin() -> Path | None:
    """Returns the folder with RabbitMQ's own scripts.

    Debian's `rabbitmq-server` on the PATH is a wrapper that switches to the user and folders of the system instance; the scripts
    it calls have `rabbitmq-env` beside them. In an upstream archive, the program on the PATH is already one of these scripts.
    """
    candidates = []
    on_path = which("rabbitmq-server")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    candidates += [Path(p) for p in sorted(glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"), reverse=True)]
    for folder in candidates:
        if all((folder / name).exists() for name in ("rabbitmq-env", "rabbitmq-server", "rabbitmqctl")):
            return (folder / "rabbitmq-env").resolve().parent  # the wrapper's folder may hold links to them
    return None


def epmd() -> Path | None:
    """Returns Erlang's port mapper, which some distributions do not put on the PATH."""
    on_path = which("epmd")
    if on_path:
        return Path(on_path)
    erl = which("erl")
    root = Path(erl).resolve().parent.parent if erl else None
    inside = sorted(root.glob("erts-*/bin/epmd")) if root else []
    return inside[-1] if inside else None


def install() -> None:
    """Installs Debian's packages without starting their services; raises Missing if it cannot or may not."""
    apt = shutil.which("apt-get")
    wanted = " and ".join(PACKAGES)
    if apt is None:
        raise Missing(f"RabbitMQ or Redis is missing: put rabbitmq-server, erl and redis-server on the PATH (packages {wanted} in Debian)")
    if os.geteuid() != 0:
        raise Missing(f"RabbitMQ or Redis is missing: run `apt-get install --no-install-recommends {' '.join(PACKAGES)}` as root")
    print(f"services: installing {wanted} with apt-get", file=sys.stderr, flush=True)
    INSTALL_LOCK.parent.mkdir(parents=True, exist_ok=True)
    with open(INSTALL_LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if find() is not None:  # another run has just installed them
            return
        with no_service_starts():
            run_apt([apt, "-q", "update"])
            run_apt([apt, "-q", "install", "-y", "--no-install-recommends", *PACKAGES])


def run_apt(command: list[str]) -> None:
    """Runs apt-get with its output on stderr, and retries while another process holds its locks."""
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    command = [command[0], "-o", "DPkg::Lock::Timeout=300", *command[1:]]
    for attempt in range(1, INSTALL_TRIES + 1):
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        if done.returncode == 0:
            return
        if attempt < INSTALL_TRIES:
            time.sleep(attempt)
    raise Missing(f"`{' '.join(command)}` failed with status {done.returncode}: install {' and '.join(PACKAGES)} manually")


@contextlib.contextmanager
def no_service_starts():
    """Keeps package scripts from starting services while the block runs, with Debian's policy-rc.d.

    An existing policy is the administrator's and stays; one that an interrupted run of this script left is removed.
    """
    if not POLICY_FILE.exists():
        POLICY_FILE.write_text(POLICY_TEXT)
        POLICY_FILE.chmod(0o755)
    try:
        yield
    finally:
        if POLICY_FILE.read_text(errors="replace") == POLICY_TEXT:
            POLICY_FILE.unlink()
