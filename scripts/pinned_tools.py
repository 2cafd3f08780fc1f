"""The tools of `check-tools`, for tests: their folder, and YAML, which Python's own library does not read."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "check-tools"
# The first run downloads them.
DEADLINE_SECONDS = 1_000
TO_JSON = "import json, sys, yaml; json.dump([one for one in yaml.safe_load_all(sys.stdin) if one], sys.stdout)"


@functools.cache
def folder() -> Path:
    """The folder of the programs; installs them if they are missing."""
    done = subprocess.run([SCRIPT], capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return Path(done.stdout.strip())


def documents(text: str) -> list[dict]:
    """The documents of a YAML text, without empty ones."""
    command = [folder() / "python", "-c", TO_JSON]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)
