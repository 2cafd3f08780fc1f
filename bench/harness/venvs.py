"""Python environments of the baselines and of Locust, below `.venv-bench/`, made once for each list of requirements."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from .procs import Problem

FOLDER = ".venv-bench"
STAMP = "requirements.sha256"


def environment(project: Path, name: str, requirements: Path) -> Path:
    """Returns the folder of programs of an environment with these requirements, installing them if they changed."""
    folder = project / FOLDER / name
    folder.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    with open(folder.parent / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / STAMP
        if not (stamp.exists() and stamp.read_text() == digest):
            print(f"bench: installing {requirements.relative_to(project)}", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            run([sys.executable, "-m", "venv", str(folder)], "the environment could not be made (python3-venv in Debian)")
            pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-input"]
            run([*pip, "--requirement", str(requirements)], "pip could not install the requirements")
            stamp.write_text(digest)
    return folder / "bin"


def run(command: list[str], complaint: str) -> None:
    """Runs a command to its end; raises Problem with the complaint if it fails."""
    if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode != 0:
        raise Problem(f"{complaint}; its own message is above")
