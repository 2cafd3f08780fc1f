"""Tests of `scripts/check-language`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "check-language"


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the script."""
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], check=False, capture_output=True, text=True)


class CheckLanguage(unittest.TestCase):
    """Finds words to replace, and none in the project."""

    def test_a_planted_word_is_found_with_its_line_and_advice(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["git", "init", "--quiet", folder], check=True)
            Path(folder, "page.md").write_text("A priority queue.\nA lane.\nnew Promise(\n")
            subprocess.run(["git", "add", "page.md"], cwd=folder, check=True)
            done = check(folder)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, "page.md:2: `lane`: write priority queue, or priority\n")

    def test_the_project_has_none(self):
        done = check()
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
