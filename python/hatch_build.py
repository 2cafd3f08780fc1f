"""Puts the programs, the models and the scripts of the local fleet into the wheel, and names its platform.

The programs come from the folder in SELVAGE_PROGRAMS; `scripts/wheel` sets it.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROJECT = Path(__file__).resolve().parent.parent
BUNDLE = "selvage/_bundle"
PROGRAMS = ("selvage", "selvage-gateway", "selvage-worker")
# The same layout as in the project, so that the scripts find what they need.
FILES = (
    "deploy/*.conf",
    "models/*/model.onnx",
    "models/*/model.toml",
    "models/*/README.md",
    "models/*/samples/*",
    "scripts/fleet",
    "scripts/services",
    "scripts/private_services/*.py",
)
# PyPI's ONNX Runtime needs this version, so a lower one would be of no use.
LEAST_GLIBC = (2, 28)
# What every manylinux system has (PEP 600); other libraries would have to be in the wheel.
SYSTEM_LIBRARIES = re.compile(r"(ld-linux|libc|libdl|libgcc_s|libm|libpthread|librt)\b.*\.so\.")


class BundleHook(BuildHookInterface[Any]):
    """Adds the files to the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects the wheel's files."""
        programs = [Path(os.environ["SELVAGE_PROGRAMS"], name) for name in PROGRAMS]
        included = {str(path): f"{BUNDLE}/bin/{path.name}" for path in programs}
        for pattern in FILES:
            included |= {str(path): f"{BUNDLE}/{path.relative_to(PROJECT)}" for path in PROJECT.glob(pattern)}
        build_data["force_include"] |= included
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag(programs)}"


def platform_tag(programs: list[Path]) -> str:
    """Returns the tag of the oldest systems on which all programs run: those with the newest glibc version that one of them needs."""
    dynamic = "".join(
        subprocess.run(["readelf", "--wide", "--dynamic", "--version-info", path], check=True, capture_output=True, text=True).stdout
        for path in programs
    )
    needed = set(re.findall(r"\(NEEDED\)\s+Shared library: \[(.+)\]", dynamic))
    foreign = {name for name in needed if not SYSTEM_LIBRARIES.match(name)}
    if foreign:
        raise RuntimeError(f"the programs need {', '.join(sorted(foreign))}, which manylinux systems need not have")
    versions = [(int(major), int(minor)) for major, minor in re.findall(r"\bGLIBC_(\d+)\.(\d+)", dynamic)]
    major, minor = max(LEAST_GLIBC, *versions)
    return f"manylinux_{major}_{minor}_{platform.machine()}"
