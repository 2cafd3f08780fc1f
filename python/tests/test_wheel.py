"""The wheel: built from the programs that are there, installed into a clean virtual environment, and used as a new user would."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import tomllib
import unittest
from importlib import import_module
from pathlib import Path
from unittest import mock

import support

from selvage import _programs


class Wheel(unittest.TestCase):
    bin: Path
    bundle: Path
    wheel: Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.wheel, venv = support.installation()
        cls.bin = venv / "bin"
        (cls.bundle,) = venv.glob("lib/python3*/site-packages/selvage/_bundle")

    def run_program(self, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Runs a program of the environment, in a folder and with variables that have nothing of this project."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SELVAGE_", "ORT_", "PYTHON"))}
        return subprocess.run(
            [self.bin / command[0], *command[1:]],
            env=kept | settings,
            cwd=self.bin,
            capture_output=True,
            text=True,
            timeout=support.DEADLINE_SECONDS,
            check=False,
        )

    def serving(self, *arguments: str) -> contextlib.AbstractContextManager[str]:
        """Runs `selvage serve`."""
        port = support.free_port()
        settings = {"SELVAGE_LISTEN": f"127.0.0.1:{port}", "SELVAGE_AMQP_URL": "amqp://nowhere"}
        return support.running([str(self.bin / "selvage"), "serve", *arguments], port, **settings)

    def test_the_server_of_a_fresh_installation_answers_its_command_line_and_its_client(self) -> None:
        with self.serving() as url:
            picture = str(self.bundle / "models" / "fashion-mnist" / "samples" / "9-ankle-boot.png")
            predicted = self.run_program("selvage", "predict", picture, "--output", "json", SELVAGE_URL=url)
            self.assertEqual(json.loads(predicted.stdout)[0]["job"]["output"]["label"], "Ankle boot", predicted.stderr)
            code = "import selvage, sys; print(selvage.Client().predict(sys.argv[1], model='clothing').label)"
            hat = str(support.PROJECT / "models" / "clothing" / "samples" / "hat.jpg")
            self.assertEqual(self.run_program("python", "-c", code, hat, SELVAGE_URL=url).stdout, "hat\n")

    def test_a_folder_of_models_is_served(self) -> None:
        with self.serving(str(support.VARIANTS), "--default-model", "nchw") as url:
            listed = self.run_program("selvage", "models", "--output", "json", SELVAGE_URL=url)
            names = {model["name"] for model in json.loads(listed.stdout)["models"]}
            self.assertEqual(names, {folder.name for folder in support.VARIANTS.iterdir()})

    def test_a_models_folder_is_checked_with_the_packages_onnxruntime(self) -> None:
        checked = self.run_program("selvage", "model", "check", str(self.bundle / "models" / "fashion-mnist"), "--image", str(support.BOOT))
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))
        self.assertIn("Ankle boot", checked.stdout)

    def test_all_programs_run_and_help_names_the_commands_of_the_package(self) -> None:
        for name in ("selvage", "selvage-gateway", "selvage-worker"):
            self.assertEqual(self.run_program(name, "--version").stdout.split()[-1], cargo_version())
        for line in (["--help"], ["help"]):
            shown = self.run_program("selvage", *line)
            self.assertEqual(shown.returncode, 0)
            for command in ("predict", "serve", "fleet"):
                self.assertRegex(shown.stdout, rf"(?m)^  {command} ")
        self.assertIn("--max-in-flight", self.run_program("selvage", "serve", "--help").stdout)
        self.assertIn("--workers", self.run_program("selvage", "fleet", "--help").stdout)
        wrong = self.run_program("selvage", "predict")
        self.assertEqual((wrong.returncode, wrong.stdout), (2, ""))

    def test_the_fleet_runs_from_the_package(self) -> None:
        port = support.free_port()
        command = [str(self.bin / "selvage"), "fleet", "--listen", f"127.0.0.1:{port}", "--workers", "1"]
        with support.running(command, port) as url:
            predicted = self.run_program("selvage", "predict", str(support.BOOT), "--output", "json", SELVAGE_URL=url)
            self.assertEqual(json.loads(predicted.stdout)[0]["job"]["output"]["label"], "Ankle boot", predicted.stderr)
            self.assertEqual(json.loads(support.get(f"{url}/readyz")[1])["mode"], "fleet")

    def test_the_tag_is_that_of_the_newest_glibc_that_a_program_needs(self) -> None:
        found = re.fullmatch(r"selvage-(.+)-py3-none-manylinux_2_(\d+)_(x86_64|aarch64)\.whl", self.wheel.name)
        assert found is not None, self.wheel.name
        self.assertEqual(found[1], cargo_version())
        needed = b"".join((self.bundle / "bin" / name).read_bytes() for name in ("selvage", "selvage-gateway", "selvage-worker"))
        newest = max(int(minor) for minor in re.findall(rb"\0GLIBC_2\.(\d+)\0", needed))
        self.assertEqual(int(found[2]), max(newest, 28))


class Package(unittest.TestCase):
    def test_onnxruntime_is_the_version_that_the_project_pins(self) -> None:
        project = tomllib.loads((support.PROJECT / "python" / "pyproject.toml").read_text())["project"]
        (pinned,) = re.findall(r'Wheel\("onnxruntime", "([\d.]+)"', (support.PROJECT / "scripts" / "onnxruntime").read_text())
        self.assertIn(f"onnxruntime=={pinned}", project["dependencies"])

    def test_missing_services_are_named_and_not_installed(self) -> None:
        scripts = str(support.PROJECT / "scripts")
        with mock.patch.object(_programs, "SCRIPTS", scripts):
            binaries = import_module("private_services.binaries")
            printed = io.StringIO()
            with (
                mock.patch.object(binaries, "find", return_value=None),
                contextlib.redirect_stderr(printed),
                self.assertRaises(SystemExit) as ended,
            ):
                _programs.need_services()
        self.assertEqual(ended.exception.code, 69)
        self.assertIn("apt-get install --no-install-recommends rabbitmq-server redis-server", printed.getvalue())


def cargo_version() -> str:
    """Returns the version of the workspace."""
    manifest = tomllib.loads((support.PROJECT / "Cargo.toml").read_text())
    return str(manifest["workspace"]["package"]["version"])


if __name__ == "__main__":
    unittest.main()
