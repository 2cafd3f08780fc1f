"""Runs the commands of a guide in the documentation, in their order, as a reader would.

What follows the language of a block says how it is run:

- nothing: shell commands are run to their end, Python in this process, with the names of the blocks before;
- `file=NAME`: the block is the content of that file;
- `server=PORT`: a command that is kept running until the page ends; the next block is run once it listens on that port;
- `not-run`: not run, which the page tells its readers.

The ports of the page are replaced by free ones.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import support

BLOCK = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"sh", "python", "toml", "caddyfile"}
REQUIREMENTS = support.PROJECT / "python" / "requirements-guides.txt"
HAT = support.PROJECT / "models" / "clothing" / "samples" / "hat.jpg"
LARGE = support.PROJECT / "tests" / "fixtures" / "photographs" / "turned-1200x1600.jpg"


class Guide(contextlib.ExitStack):
    """The folder, the environment and the servers of a page while its blocks are run."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.blocks = BLOCK.findall(path.read_text())
        self.names: dict[str, Any] = {}
        self.ports = {number: support.free_port() for number in {"8000", *re.findall(r"server=(\d+)", path.read_text())}}
        self.folder = Path(self.enter_context(tempfile.TemporaryDirectory()))
        self.enter_context(contextlib.chdir(self.folder))
        Path("photos").mkdir()
        for source, name in ((HAT, "photo.jpg"), (HAT, "photos/1.jpg"), (LARGE, "photos/2.jpg")):
            shutil.copyfile(source, name)
        self.settings = {
            "SELVAGE_URL": f"http://127.0.0.1:{self.ports['8000']}",
            "SELVAGE_LISTEN": f"127.0.0.1:{self.ports['8000']}",
            "SELVAGE_LOG": "warn",
            "NO_PROXY": "*",
        }
        self.enter_context(mock.patch.dict(os.environ, self.settings))

    def run(self) -> list[str]:
        """Runs every block; returns what each printed that was run to its end."""
        printed = []
        for language, how, text in self.blocks:
            code = self.with_free_ports(text)
            if language not in LANGUAGES:
                raise AssertionError(f"unknown language: {language}")
            if how == "not-run":
                continue
            if how.startswith("file="):
                Path(how.removeprefix("file=")).write_text(code)
            elif how.startswith("server="):
                self.start(code, self.ports[how.removeprefix("server=")])
            elif language == "sh" and not how:
                done = subprocess.run(**self.shell(code), timeout=support.DEADLINE_SECONDS, check=False)
                if done.returncode != 0:
                    raise AssertionError(f"{code}\nended with {done.returncode}: {done.stdout}")
                printed.append(done.stdout)
            elif language == "python" and not how:
                with contextlib.redirect_stdout(io.StringIO()) as output:
                    exec(compile(code, "guide", "exec"), self.names)
                printed.append(output.getvalue())
            else:
                raise AssertionError(f"nothing says how to run: {language} {how}")
        return printed

    def with_free_ports(self, text: str) -> str:
        """Replaces the page's ports."""
        return re.sub(r"(?<=[\w.]:)\d+\b|(?<=\", )\d+(?=\))", lambda found: str(self.ports.get(found[0], found[0])), text)

    def shell(self, code: str) -> dict[str, Any]:
        """Returns the arguments of a process for these commands: with the wheel's programs, and nothing else of this project."""
        _wheel, venv = support.installation()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SELVAGE_", "ORT_", "PYTHON", "XDG_"))}
        environment = kept | self.settings | {"PATH": f"{venv / 'bin'}:{kept['PATH']}", "HOME": str(self.folder)}
        command = ["bash", "-euo", "pipefail", "-c", code]
        return {"args": command, "env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}

    def start(self, code: str, port: int) -> None:
        """Starts a server, to be stopped with the page, and returns when it listens."""
        log = self.folder / f"{port}.log"
        with log.open("w") as output:
            process = subprocess.Popen(**self.shell(code) | {"stdout": output, "start_new_session": True})
        self.callback(stop, process)

        def listens() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"{code}\nended with {process.returncode}: {log.read_text()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        support.eventually(listens, f"{code} does not listen on {port}")


def stop(process: subprocess.Popen[str]) -> None:
    """Ends a server and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(support.DEADLINE_SECONDS)
