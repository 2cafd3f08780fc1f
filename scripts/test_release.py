"""Tests of `scripts/release-notes` and of what the workflows run. `check-workflows` validates the workflows themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import pinned_tools

PROJECT = Path(__file__).resolve().parent.parent
SCRIPT = PROJECT / "scripts" / "release-notes"
FILES = ("Cargo.toml", "Dockerfile", "docker-bake.hcl", "deploy/helm/selvage/Chart.yaml")
VERSION = re.search(r'^version = "(.+)"', (PROJECT / "Cargo.toml").read_text(), re.MULTILINE)[1]
CHANGELOG = f"# Changelog\n\n## Unreleased\n\n- later\n\n## {VERSION} (2026-12-01)\n\n### Added\n\n- notes\n\n## {VERSION}1\n\n- older\n"
DEADLINE_SECONDS = 60


class ReleaseNotes(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for name in FILES:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, self.root / name)
        (self.root / "CHANGELOG.md").write_text(CHANGELOG)

    def notes(self, version: str) -> subprocess.CompletedProcess:
        """Runs the script on the copy."""
        command = [sys.executable, SCRIPT, version, self.root]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)

    def test_they_are_the_section_of_the_version_that_all_files_have(self):
        done = self.notes(VERSION)
        self.assertEqual(done.stderr, "")
        self.assertEqual(done.stdout, "### Added\n\n- notes\n")

    def test_every_file_with_another_version_is_named(self):
        done = self.notes("9.9.9")
        self.assertEqual(done.returncode, 1)
        for name in (*FILES, "CHANGELOG.md"):
            with self.subTest(name):
                self.assertIn(f"{name}: ", done.stderr)

    def test_one_wrong_place_is_enough(self):
        chart = self.root / "deploy/helm/selvage/Chart.yaml"
        chart.write_text(chart.read_text().replace(f'appVersion: "{VERSION}"', 'appVersion: "9.9.9"'))
        done = self.notes(VERSION)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr, f"release-notes: deploy/helm/selvage/Chart.yaml: version 9.9.9, not {VERSION}\n")

    def test_a_file_that_lost_its_version_is_an_error(self):
        (self.root / "docker-bake.hcl").write_text("")
        self.assertIn("docker-bake.hcl: no version", self.notes(VERSION).stderr)


class Workflows(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.files = {path.name: pinned_tools.documents(path.read_text())[0] for path in (PROJECT / ".github" / "workflows").glob("*.yml")}
        cls.steps = [(name, step) for name, file in cls.files.items() for job in file["jobs"].values() for step in job.get("steps", [])]

    def test_every_command_is_valid_bash_without_expressions(self):
        commands = [(name, step["run"]) for name, step in self.steps if "run" in step]
        self.assertGreater(len(commands), 5)
        for name, command in commands:
            with self.subTest(name, command=command):
                self.assertNotIn("${{", command)
                done = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
                self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_the_scripts_and_targets_that_they_run_exist(self):
        targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
        commands = "\n".join(step.get("run", "") for _, step in self.steps)
        scripts = re.findall(r"(?:^|\s)((?:scripts|\.ci)/[\w-]+)", commands)
        self.assertGreaterEqual(set(scripts), {".ci/run", "scripts/release-notes"})
        self.assertEqual([script for script in scripts if not (PROJECT / script).exists()], [])
        self.assertEqual([target for target in re.findall(r"\bmake ([a-z-]+)", commands) if target not in targets], [])

    def test_a_release_waits_for_every_job(self):
        jobs = self.files["release.yml"]["jobs"]

        def before(name: str) -> set[str]:
            needs = jobs[name].get("needs", [])
            needs = [needs] if isinstance(needs, str) else needs
            return set(needs).union(*(before(need) for need in needs))

        self.assertEqual(before("publish"), set(jobs) - {"publish"})


if __name__ == "__main__":
    unittest.main()
