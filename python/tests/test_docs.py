"""The Python code in the documentation runs, in the order of the page."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import support

PHOTO = support.PROJECT / "models" / "clothing" / "samples" / "hat.jpg"
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Documentation(unittest.TestCase):
    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (folder / "photos").mkdir()
        for name in ("photo.jpg", "photos/1.jpg", "photos/2.jpg"):
            shutil.copyfile(PHOTO, folder / name)
        self.enterContext(contextlib.chdir(folder))
        url = self.enterContext(support.gateway())
        self.enterContext(mock.patch.dict(os.environ, {"SELVAGE_URL": url}))

    def run_page(self, path: Path) -> list[str]:
        """Runs the page's code; returns what each block printed."""
        names: dict[str, Any] = {}
        printed = []
        for code in CODE.findall(path.read_text()):
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(code, str(path), "exec"), names)
            printed.append(output.getvalue())
        if "client" in names:
            names["client"].close()
        return printed

    def test_the_pages_code_runs(self) -> None:
        predicted, many, jobs, _webhooks, asynchronous, error = self.run_page(support.PROJECT / "docs" / "PYTHON.md")
        self.assertRegex(predicted, r"^hat 0\.9")
        self.assertEqual(many, "photos/1.jpg hat\nphotos/2.jpg hat\n")
        self.assertIn("succeeded None\nhat\n", jobs)
        self.assertEqual(asynchronous, "hat\n" * 4)
        self.assertRegex(error, r"^model_not_found 404 ")

    def test_the_packages_readme_runs(self) -> None:
        (predicted,) = self.run_page(support.PROJECT / "python" / "README.md")
        self.assertTrue(predicted.strip())

    def test_the_projects_readme_runs(self) -> None:
        Path("models").symlink_to(support.PROJECT / "models")
        without_client, with_client = self.run_page(support.PROJECT / "README.md")
        self.assertRegex(without_client, r"^Ankle boot 0\.9")
        self.assertEqual(with_client, "hat\n")
