"""Tests of `scripts/onnxruntime`. The worker's tests load the library and check that it works."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import unittest
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from unittest import mock

SCRIPT = Path(__file__).resolve().parent / "onnxruntime"
ELF_MAGIC = b"\x7fELF"
DEADLINE_SECONDS = 1_000
# Keeps pip from every index: what works with these variables works without a network.
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}


def onnxruntime(script: Path = SCRIPT, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs the script with these arguments and variables and returns its output."""
    inherited = {name: value for name, value in os.environ.items() if name != "ORT_DYLIB_PATH"}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, env={**inherited, **environment}, capture_output=True, text=True, timeout=DEADLINE_SECONDS)


class OnnxRuntime(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        first = onnxruntime()
        if first.returncode != 0:
            raise AssertionError(first.stderr)
        cls.library = Path(first.stdout.rstrip("\n"))

    def test_the_printed_path_is_a_shared_library(self):
        with open(self.library, "rb") as library:
            self.assertEqual(library.read(4), ELF_MAGIC)

    def test_a_second_run_fetches_nothing_and_needs_no_network(self):
        before = self.library.stat()
        second = onnxruntime(**OFFLINE)
        self.assertEqual((second.returncode, second.stdout, second.stderr), (0, f"{self.library}\n", ""))
        self.assertEqual((before.st_ino, before.st_mtime_ns), (self.library.stat().st_ino, self.library.stat().st_mtime_ns))

    def test_a_library_of_the_users_own_is_left_to_them(self):
        self.assertEqual(onnxruntime(ORT_DYLIB_PATH=sys.executable, **OFFLINE).stdout, f"{sys.executable}\n")
        missing = onnxruntime(ORT_DYLIB_PATH="/nowhere/libonnxruntime.so", **OFFLINE)
        self.assertEqual(missing.returncode, 1)
        self.assertIn("/nowhere/libonnxruntime.so", missing.stderr)

    def test_an_own_library_is_enough_where_none_is_pinned(self):
        loader = SourceFileLoader("onnxruntime_script", str(SCRIPT))
        module = module_from_spec(spec_from_loader(loader.name, loader))
        sys.modules[loader.name] = module
        loader.exec_module(module)
        with (
            mock.patch.object(sys, "argv", ["onnxruntime"]),
            mock.patch.object(platform, "machine", return_value="riscv64"),
            mock.patch.dict(os.environ, {"ORT_DYLIB_PATH": sys.executable}),
            contextlib.redirect_stdout(io.StringIO()) as printed,
        ):
            self.assertEqual(module.main(), 0)
        self.assertEqual(printed.getvalue(), f"{sys.executable}\n")

    def test_without_a_network_one_sentence_says_what_to_do(self):
        with tempfile.TemporaryDirectory(prefix="selvage-test-") as top:
            copy = Path(shutil.copytree(SCRIPT.parent, Path(top) / "scripts")) / SCRIPT.name
            failed = onnxruntime(copy, **OFFLINE)
            self.assertEqual((failed.returncode, failed.stdout), (1, ""))
            self.assertIn("set ORT_DYLIB_PATH", failed.stderr)
            self.assertNotIn("Traceback", failed.stderr)
            self.assertFalse((Path(top) / ".onnxruntime" / self.library.name).exists())

    @unittest.skipUnless(platform.machine() == "x86_64", "no plugin is pinned for this processor")
    def test_the_plugin_of_openvino_is_beside_the_library(self):
        first = onnxruntime(SCRIPT, "--device", "openvino")
        self.assertEqual((first.returncode, first.stdout), (0, f"{self.library}\n"), first.stderr)
        folder = self.library.parent / "openvino"
        self.assertTrue({"libopenvino_intel_cpu_plugin.so", "third-party-programs.txt"} <= set(os.listdir(folder)))
        with open(folder / "libonnxruntime_providers_openvino_plugin.so", "rb") as library:
            self.assertEqual(library.read(4), ELF_MAGIC)
        again = onnxruntime(SCRIPT, "--device", "openvino", **OFFLINE)
        self.assertEqual((again.returncode, again.stdout, again.stderr), (0, first.stdout, ""))

    @unittest.skipUnless(platform.machine() == "x86_64", "no build for GPUs is pinned for this processor")
    def test_the_build_for_gpus_is_not_the_one_for_the_cpu(self):
        with tempfile.TemporaryDirectory(prefix="selvage-test-") as top:
            copy = Path(shutil.copytree(SCRIPT.parent, Path(top) / "scripts")) / SCRIPT.name
            shutil.copytree(self.library.parent, Path(top) / ".onnxruntime", ignore=shutil.ignore_patterns("cuda", "openvino"))
            failed = onnxruntime(copy, "--device", "cuda", **OFFLINE)
            self.assertEqual((failed.returncode, failed.stdout), (1, ""))
            self.assertIn("nvidia-cudnn-cu13", failed.stderr)
            self.assertNotIn("Traceback", failed.stderr)
        unknown = onnxruntime(SCRIPT, "--device", "gpu", **OFFLINE)
        self.assertEqual(unknown.returncode, 2)
        self.assertIn("'cuda'", unknown.stderr)

    def test_a_damaged_library_is_not_taken_for_the_right_one(self):
        with tempfile.TemporaryDirectory(prefix="selvage-test-") as top:
            copy = Path(shutil.copytree(SCRIPT.parent, Path(top) / "scripts")) / SCRIPT.name
            shutil.copytree(self.library.parent, Path(top) / ".onnxruntime", ignore=shutil.ignore_patterns("cuda", "openvino"))
            library = Path(top) / ".onnxruntime" / self.library.name
            self.assertEqual(onnxruntime(copy, **OFFLINE).stdout, f"{library}\n")
            os.truncate(library, 1_000)
            self.assertEqual(onnxruntime(copy, **OFFLINE).returncode, 1)


if __name__ == "__main__":
    unittest.main()
