"""Tests of `scripts/site`, and that the site has every page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import pinned_tools

SCRIPT = Path(__file__).resolve().parent / "site"
DOCS = SCRIPT.parent.parent / "docs"
BUILD_SECONDS = 300


class Site(unittest.TestCase):
    def setUp(self):
        self.top = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="selvage-test-")))
        (self.top / "scripts").mkdir()
        (self.top / "docs").mkdir()
        shutil.copy(SCRIPT, self.top / "scripts")
        tools = self.top / "scripts" / "check-tools"
        tools.write_text(f"#!/bin/sh\necho {pinned_tools.folder()}\n")
        tools.chmod(0o755)
        shutil.copy(DOCS / "book.toml", self.top / "docs")
        (self.top / "docs" / "SUMMARY.md").write_text("[First](../README.md)\n\n- [Page](page.md)\n- [Model](../model/README.md)\n")
        (self.top / "README.md").write_text("# First\n\n[page](docs/page.md#two-words-and-code) [model](model/README.md#part)\n")
        (self.top / "docs" / "page.md").write_text("# Page\n\n## Two words, and `code`!\n\n![picture](a.png) [up](../README.md)\n")
        (self.top / "docs" / "a.png").write_text("picture")
        (self.top / "model").mkdir()
        (self.top / "model" / "README.md").write_text("# Model\n\n## Part\n")

    def build(self) -> subprocess.CompletedProcess:
        """Runs the script on the folder."""
        command = [sys.executable, self.top / "scripts" / "site"]
        return subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, env=os.environ | {"NO_COLOR": "1"})

    def test_pages_in_and_outside_docs_are_built_and_their_links_lead_somewhere(self):
        built = self.build()
        self.assertEqual((built.returncode, built.stderr), (0, ""))
        site = self.top / "dist" / "site"
        self.assertIn('href="model/index.html#part"', (site / "index.html").read_text())
        self.assertEqual((site / "docs" / "a.png").read_text(), "picture")

    def test_broken_links_are_named_with_their_page(self):
        (self.top / "docs" / "a.png").unlink()
        (self.top / "model" / "README.md").write_text("# Model\n\n[unlisted](other.md)\n")
        (self.top / "model" / "other.md").write_text("# Other\n")
        built = self.build()
        self.assertEqual(built.returncode, 1)
        for message in (
            "docs/page.html: a.png: no such file",
            "index.html: model/index.html#part: no such heading",
            "model/index.html: other.html: no such file",
        ):
            self.assertIn(f"site: {message}\n", built.stderr)

    def test_every_page_is_in_the_summary(self):
        listed = (DOCS / "SUMMARY.md").read_text()
        pages = [str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md") if path.name != "SUMMARY.md"]
        self.assertGreater(len(pages), 10)
        self.assertEqual([page for page in pages if f"]({page})" not in listed], [])


if __name__ == "__main__":
    unittest.main()
