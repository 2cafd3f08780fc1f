"""Servers for the tests: a real gateway, a local fleet, and a server that responds by a script; and images that no cache knows."""

from __future__ import annotations

import atexit
import functools
import http.server
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("SELVAGE_PROGRAMS") or PROJECT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug")
LIBRARY = os.environ.get("ORT_DYLIB_PATH") or str(PROJECT / ".onnxruntime" / "libonnxruntime.so")
sys.path.append(str(PROJECT / "scripts"))
PORTS = import_module("private_services.ports")
SAMPLES = PROJECT / "models" / "fashion-mnist" / "samples"
BOOT = SAMPLES / "9-ankle-boot.png"
VARIANTS = PROJECT / "tests" / "fixtures" / "variants"
DEADLINE_SECONDS = 180.0
INSTALL_SECONDS = 900
POLL_SECONDS = 0.05


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Returns when the condition holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {DEADLINE_SECONDS:.0f} s: {what}")
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    """Returns a loopback port on which no program listens, and which the kernel gives to no client."""
    return int(PORTS.free_ports(1)[0])


def get(url: str) -> tuple[int, str]:
    """Returns status and body; status 0 if nobody responds."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def pip_install(venv: Path, *what: str) -> None:
    """Installs packages into a virtual environment."""
    command = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    subprocess.run(command, check=True, timeout=INSTALL_SECONDS)


@functools.cache
def installation() -> tuple[Path, Path]:
    """Builds the wheel from the programs that are there and installs it into a clean virtual environment; returns both paths."""
    folder = Path(tempfile.mkdtemp(prefix="selvage-wheel-"))
    atexit.register(shutil.rmtree, folder)
    script = PROJECT / "scripts" / "wheel"
    built = subprocess.run([script, folder, PROGRAMS], stdout=subprocess.PIPE, text=True, check=True, timeout=INSTALL_SECONDS)
    wheel, venv = Path(built.stdout.strip()), folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True, timeout=INSTALL_SECONDS)
    pip_install(venv, str(wheel))
    return wheel, venv


@contextmanager
def running(command: list[str], port: int, **settings: str) -> Iterator[str]:
    """Runs a server in a folder that has nothing to do with it, until the block ends; yields its URL once it is ready."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SELVAGE_", "ORT_", "PYTHONPATH"))}
    environment = inherited | {"SELVAGE_LOG": "warn"} | settings
    process = subprocess.Popen(command, env=environment, cwd=tempfile.gettempdir(), stdin=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: process.poll() is not None or get(f"{url}/readyz")[0] == 200, f"{command[0]} is not ready")
        if process.poll() is not None:
            raise AssertionError(f"{command} ended with status {process.returncode}")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_SECONDS)


@contextmanager
def gateway(**settings: str) -> Iterator[str]:
    """Runs an embedded gateway; yields its URL."""
    port = free_port()
    defaults = {"SELVAGE_LISTEN": f"127.0.0.1:{port}", "SELVAGE_MODELS": str(PROJECT / "models"), "ORT_DYLIB_PATH": LIBRARY}
    with running([str(PROGRAMS / "selvage-gateway")], port, **(defaults | settings)) as url:
        yield url


@contextmanager
def fleet() -> Iterator[str]:
    """Runs a gateway and two workers with private RabbitMQ and Redis; yields the gateway's URL once a worker consumes."""
    port = free_port()
    command = [str(PROJECT / "scripts" / "fleet"), "--programs", str(PROGRAMS), "--listen", f"127.0.0.1:{port}"]
    with running(command, port) as url:
        yield url


class Scripted:
    """A server that gives these responses in order, each raw, and keeps the requests that it gets."""

    def __init__(self, *responses: bytes) -> None:
        self.requests: list[str] = []
        remaining = list(responses)
        requests = self.requests

        class Handler(http.server.BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                self.close_connection = True
                if not self.raw_requestline or not self.parse_request():
                    return
                self.rfile.read(int(self.headers.get("content-length", 0)))
                requests.append(f"{self.requestline}\n{self.headers}".lower())
                self.wfile.write(remaining.pop(0))

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(POLL_SECONDS,))

    def __enter__(self) -> Scripted:
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def response(status: int, body: str = "", **headers: str) -> bytes:
    """Returns a response for a script; `_` in the names of headers is `-`."""
    lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body.encode())}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def renewed(png: bytes) -> bytes:
    """Returns the PNG with a text chunk of its own, so that no cache has its result."""
    return add_chunk(png, b"tEXt", b"Comment\0" + random.randbytes(8).hex().encode())


def add_chunk(png: bytes, name: bytes, data: bytes) -> bytes:
    """Returns the PNG with a chunk before its end."""
    at = png.rindex(b"IEND") - 4
    return png[:at] + struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) + png[at:]


def bright_png() -> bytes:
    """Returns a white image, for which the model `endless` does not end."""
    side = 8
    begin = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0IEND\xae\x42\x60\x82"
    with_header = add_chunk(begin, b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return add_chunk(with_header, b"IDAT", zlib.compress((b"\0" + b"\xff\xff\xff" * side) * side))
