"""Counts tests from the output of cargo and unittest. `scripts/test` runs them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
CARGO_TARGET = re.compile(r"^\s*(?:Running (unittests )?(\S+)(?: \(.*\))?|Doc-tests (\S+))\s*$")
CARGO_RESULT = re.compile(r"^test result: \S+\. (\d+) passed; (\d+) failed; (\d+) ignored;")
PYTHON_RAN = re.compile(r"^Ran (\d+) tests? in ")
PYTHON_RESULT = re.compile(r"^(?:OK|FAILED)(?: \((.*)\))?$")


@dataclass
class Totals:
    """The counts so far, and problems other than failed tests."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, passed: int, failed: int, skipped: int) -> None:
        """Counts one more group of tests."""
        self.passed += passed
        self.failed += failed
        self.skipped += skipped

    def problem(self, text: str) -> None:
        """Records a problem that is not a failed test but still fails the run."""
        self.problems.append(text)


class CargoCounter:
    """Parses cargo's output: which test program runs, and its result line."""

    def __init__(self, totals: Totals):
        self.totals = totals
        self.program: str | None = None
        self.may_be_empty = True
        self.count = 0
        self.failed = 0

    def line(self, line: str) -> None:
        """Takes one line of output."""
        line = COLOUR.sub("", line)
        target = CARGO_TARGET.match(line)
        if target:
            self.expect_result()
            # A crate may have no unit tests or doc tests, but a test program without a test is a mistake.
            self.program = target.group(2) or f"the doc tests of {target.group(3)}"
            self.may_be_empty = bool(target.group(1) or target.group(3))
            return
        result = CARGO_RESULT.match(line)
        if not result:
            return
        passed, failed, skipped = map(int, result.groups())
        self.totals.add(passed, failed, skipped)
        self.count += passed + failed
        self.failed += failed
        if self.program and not self.may_be_empty and passed + failed == 0:
            self.totals.problem(f"{self.program} ran no test")
        self.program = None

    def expect_result(self) -> None:
        """Records a problem if the last program ended without a result, for example after a crash."""
        if self.program:
            self.totals.problem(f"{self.program} ended without a result")
        self.program = None

    def end(self, status: int) -> None:
        """Takes cargo's exit status."""
        self.expect_result()
        if status != 0 and self.failed == 0:
            self.totals.problem(f"cargo test ended with status {status}")
        if self.count == 0:
            self.totals.problem("cargo test ran no test")


class PythonCounter:
    """Parses the output of unittest."""

    def __init__(self, totals: Totals):
        self.totals = totals
        self.ran = 0
        self.is_complete = False

    def line(self, line: str) -> None:
        """Takes one line of output."""
        ran, result = PYTHON_RAN.match(line), PYTHON_RESULT.match(line)
        if ran:
            self.ran = int(ran.group(1))
        elif result and self.ran:
            counts = dict(re.findall(r"(\w+)=(\d+)", result.group(1) or ""))
            failed = int(counts.get("failures", 0)) + int(counts.get("errors", 0))
            skipped = int(counts.get("skipped", 0))
            self.totals.add(max(self.ran - failed - skipped, 0), failed, skipped)
            self.is_complete = True

    def end(self, status: int) -> None:
        """Takes the exit status."""
        if not self.is_complete:
            self.totals.problem(f"the tests of scripts/ ended with status {status} and without a result")
        elif status != 0 and self.totals.failed == 0:
            self.totals.problem(f"the tests of scripts/ ended with status {status}")


def closing_line(totals: Totals) -> str:
    """Returns the summary line; each problem counts as one failure."""
    return f"{totals.passed} passed, {totals.failed + len(totals.problems)} failed, {totals.skipped} skipped"


def has_succeeded(totals: Totals) -> bool:
    """Tells whether tests ran and none failed."""
    return totals.passed > 0 and totals.failed == 0 and not totals.problems
