"""Tests of `scripts/fleet` with the programs of the debug build. `tests/` tests the fleet itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import unittest
import urllib.request
from pathlib import Path

from private_services import control, ports

PROJECT = Path(__file__).resolve().parent.parent
SCRIPT = PROJECT / "scripts" / "fleet"
PROGRAMS = PROJECT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug"
PICTURE = PROJECT / "models" / "fashion-mnist" / "samples" / "9-ankle-boot.png"
DEADLINE_SECONDS = 180.0


class Started:
    """A running fleet and its output."""

    def __init__(self, port: int):
        self.lines: list[str] = []
        command = [SCRIPT, "--programs", PROGRAMS, "--listen", f"127.0.0.1:{port}", "--workers", "2"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        """Collects each printed line until the output ends."""
        for line in self.process.stdout:
            self.lines.append(line)

    def wait_for(self, pattern: str) -> re.Match:
        """Waits for a line that matches."""
        found: list[re.Match] = []

        def seen() -> bool:
            found.extend(filter(None, (re.search(pattern, line) for line in list(self.lines))))
            return bool(found) or self.process.poll() is not None

        control.wait_for(seen, DEADLINE_SECONDS, f"no line with {pattern!r}")
        if not found:
            raise AssertionError("the fleet ended:\n" + "".join(self.lines))
        return found[0]

    def end(self) -> None:
        """Ends the fleet if it still runs."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(DEADLINE_SECONDS)
        self.reader.join(DEADLINE_SECONDS)
        self.process.stdout.close()


class Fleet(unittest.TestCase):
    def test_it_answers_outlives_a_worker_and_ends_whole(self):
        port = ports.free_ports(1)[0]
        fleet = Started(port)
        self.addCleanup(fleet.end)
        ready = fleet.wait_for(r"^Ready: gateway (\d+), workers (\d+) (\d+)\.")
        gateway, victim, other = map(int, ready.groups())
        before = fleet.lines[: next(at for at, line in enumerate(fleet.lines) if line.startswith("Ready:"))]
        self.assertTrue(any("consuming all queues" in line for line in before), "ready before a worker consumes")

        os.kill(victim, signal.SIGKILL)
        fleet.wait_for(rf"worker {victim} ended with status -9, 1 left")
        request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", PICTURE.read_bytes(), {"Content-Type": "image/png"})
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
            self.assertEqual(json.load(answer)["output"]["label"], "Ankle boot")

        fleet.process.send_signal(signal.SIGINT)
        self.assertEqual(fleet.process.wait(DEADLINE_SECONDS), 0)
        for pid in (gateway, other):
            self.assertFalse(Path(f"/proc/{pid}").exists())
        self.assertTrue(ports.is_free(port))

    def test_missing_programs_are_named_before_anything_starts(self):
        answer = subprocess.run([SCRIPT, "--programs", "/nowhere"], capture_output=True, text=True, timeout=DEADLINE_SECONDS)
        self.assertEqual((answer.returncode, answer.stdout), (1, ""))
        self.assertIn("no selvage-gateway and no selvage-worker", answer.stderr)


if __name__ == "__main__":
    unittest.main()
