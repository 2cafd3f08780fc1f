"""The machine and the versions a run was measured with, in words."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path


def facts(project: Path) -> dict[str, str]:
    """What a reader needs to judge the figures; nothing that names the machine."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory_kib = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": cpu.group(1) if cpu else platform.machine(),
        "memory_gib": f"{int(memory_kib.group(1)) / 2**20:.0f}" if memory_kib else "unknown",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rustc": said(["rustc", "--version"]),
        "redis": said(["redis-server", "--version"]),
        "rabbitmq": said(["dpkg-query", "--show", "--showformat=${Version}", "rabbitmq-server"]),
        "commit": said(["git", "-C", str(project), "rev-parse", "--short=12", "HEAD"]),
        "changed_files": str(len(said(["git", "-C", str(project), "status", "--porcelain", "--untracked-files=no"]).splitlines())),
    }


def said(command: list[str]) -> str:
    """What a program prints, or that it did not answer."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"
