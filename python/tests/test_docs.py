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

import guides
import support

PHOTO = support.PROJECT / "models" / "clothing" / "samples" / "hat.jpg"
EXPORTS = support.PROJECT / "tests" / "fixtures" / "exports"
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


class Guides(unittest.TestCase):
    """The tutorial and the how-to guides, whose commands are run by `guides.py`."""

    @classmethod
    def setUpClass(cls) -> None:
        _wheel, venv = support.installation()
        support.pip_install(venv, "--requirement", str(guides.REQUIREMENTS))

    def run_page(self, name: str) -> list[str]:
        guide = self.enterContext(guides.Guide(support.PROJECT / "docs" / name))
        if name.endswith("export.md"):
            for tool, folder in (
                ("hf-vit", "vit"),
                ("timm-resnet10t", "resnet18-timm"),
                ("ultralytics", "yolo"),
                ("opencv-linear", "resnet18"),
            ):
                shutil.copytree(EXPORTS / tool, f"my-models/{folder}")
        return guide.run()

    def test_the_tutorial(self) -> None:
        made, checked, predicted, python = self.run_page("tutorial.md")
        self.assertEqual(made, "")
        self.assertRegex(checked, r"labels +\[\"red\",\"green\",\"blue\"\] +model\.toml")
        self.assertRegex(predicted, r"photo\.jpg +succeeded")
        best = re.search(r'"label":"(\w+)"', predicted)
        assert best is not None
        self.assertRegex(python, rf"\A{best[1]} 0\.\d+\n(\w+ 0\.\d+\n){{2}}\Z")

    def test_exports(self) -> None:
        checked, served, written = self.run_page("how-to/export.md")
        for source in ("preprocessor_config.json", "config.json", "best.onnx", "model.toml"):
            self.assertIn(source, checked)
        self.assertRegex(served, r"photo\.jpg +succeeded")
        self.assertIn("wrote my-models/yolo/model.toml", written)

    def test_keys_and_tls(self) -> None:
        keys, predicted, python, encrypted = self.run_page("how-to/keys-and-tls.md")
        self.assertEqual(keys, "")
        self.assertIn('"label":"hat"', predicted)
        self.assertEqual(len(re.findall(r"photo\.jpg +succeeded +hat\b", predicted)), 2)
        self.assertEqual(python, "hat\n401 unauthenticated\n")
        self.assertIn('"label":"hat"', encrypted)

    def test_asynchronous_jobs(self) -> None:
        _secret, polled, listed, once, followed, submitted, received = self.run_page("how-to/asynchronous-jobs.md")
        self.assertRegex(polled, r"\A1\.jpg hat\n2\.jpg [\w-]+\n\Z")
        self.assertEqual(len(listed.splitlines()), 2)
        self.assertEqual((once, submitted), ("True\n", ""))
        self.assertRegex(followed, r"(?m)^1\.jpg succeeded")
        self.assertEqual(received, "job.succeeded photo.jpg hat\n")

    def test_photographs(self) -> None:
        shrunk, measured = self.run_page("how-to/photographs.md")
        for line in shrunk.splitlines():
            self.assertRegex(line, r"\A\d\.jpg: \d+ kB ([\w-]+) 0\.\d+, \d+ kB \1 0\.\d+\Z")
        self.assertIn("CLIENT US", measured)

    def test_what_is_not_run(self) -> None:
        for name in ("containers.md", "kubernetes.md"):
            self.assertEqual(self.run_page(f"how-to/{name}"), [])

    def test_every_guide_is_run(self) -> None:
        tests = Path(__file__).read_text()
        pages = [path.name for path in (support.PROJECT / "docs" / "how-to").glob("*.md")]
        self.assertEqual([name for name in pages if f'{name}"' not in tests], [])
