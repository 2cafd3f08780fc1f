"""The commands of the package: they run the programs in the wheel, with the wheel's models and ONNX Runtime's library.

`selvage serve` and `selvage fleet` are commands of the package; any other command goes to the command-line client.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

BUNDLE = Path(__file__).resolve().parent / "_bundle"
SCRIPTS = BUNDLE / "scripts"
PICTURE = BUNDLE / "models" / "fashion-mnist" / "samples" / "9-ankle-boot.png"
# Without these, a gateway is embedded.
BACKENDS = ("SELVAGE_AMQP_URL", "SELVAGE_REDIS_URL", "SELVAGE_CACHE_URL")
PACKAGE_COMMANDS = """
Commands of the Python package:
  serve [MODELS] [OPTIONS]  Start a server: one process, no services; OPTIONS are those of selvage-gateway
  fleet [MODELS] [OPTIONS]  Start RabbitMQ, Redis, a gateway and workers on this machine; see `selvage fleet --help`"""
SERVE_USAGE = """Usage: selvage serve [MODELS] [OPTIONS]

Starts a server: one process, no services. MODELS is a folder with one folder per model; without it, the server has the two models of
the package. OPTIONS are those of selvage-gateway:
"""
EXIT_UNAVAILABLE = 69  # sysexits.h: a service that is needed is missing


def selvage() -> NoReturn:
    """`selvage`."""
    match sys.argv[1:]:
        case ["serve", *arguments]:
            serve(arguments)
        case ["fleet", *arguments]:
            fleet(arguments)
        case [] | ["help" | "-h" | "--help"]:
            status = subprocess.run([program("selvage"), *sys.argv[1:]], check=False).returncode
            print(PACKAGE_COMMANDS, file=sys.stdout if status == 0 else sys.stderr)
            sys.exit(status)
        case arguments:
            set_defaults()  # for `selvage model`, which starts selvage-worker
            run(program("selvage"), *arguments)


def gateway() -> NoReturn:
    """`selvage-gateway`."""
    set_defaults()
    run(program("selvage-gateway"), *sys.argv[1:])


def worker() -> NoReturn:
    """`selvage-worker`."""
    set_defaults()
    run(program("selvage-worker"), *sys.argv[1:])


def serve(arguments: list[str]) -> NoReturn:
    """Starts the embedded gateway."""
    for name in BACKENDS:
        os.environ.pop(name, None)
    options = take_models(arguments)
    set_defaults()
    if {"-h", "--help"} & set(options):
        print(SERVE_USAGE, flush=True)
    elif options == arguments:
        print(f"Try it, in another terminal:\n  selvage predict {PICTURE}\n", file=sys.stderr, flush=True)
    run(program("selvage-gateway"), *options)


def fleet(arguments: list[str]) -> NoReturn:
    """Starts the local fleet, if RabbitMQ and Redis are installed."""
    options = take_models(arguments)
    set_defaults()
    if not {"-h", "--help"} & set(options):
        need_services()
    run(sys.executable, str(SCRIPTS / "fleet"), "--programs", str(BUNDLE / "bin"), *options)


def need_services() -> None:
    """Exits with a message if RabbitMQ or Redis is not installed: a package must not install services."""
    sys.path.insert(0, str(SCRIPTS))
    binaries = import_module("private_services.binaries")
    if binaries.find() is None:
        packages = " ".join(binaries.PACKAGES)
        print(
            "selvage: `selvage fleet` needs the programs rabbitmq-server, erl and redis-server, and at least one is not installed.\n"
            f"On Debian and Ubuntu: sudo apt-get install --no-install-recommends {packages}\n"
            "Without them, use `selvage serve`.",
            file=sys.stderr,
        )
        sys.exit(EXIT_UNAVAILABLE)


def take_models(arguments: list[str]) -> list[str]:
    """Takes the models folder if the arguments begin with one; returns the rest."""
    if arguments and not arguments[0].startswith("-"):
        os.environ["SELVAGE_MODELS"] = arguments[0]
        return arguments[1:]
    return arguments


def set_defaults() -> None:
    """Names ONNX Runtime's library and the models, unless the environment does."""
    if not os.environ.get("SELVAGE_MODELS"):
        os.environ["SELVAGE_MODELS"] = str(BUNDLE / "models")
    library = onnxruntime_library()
    if library is not None and not os.environ.get("ORT_DYLIB_PATH"):
        os.environ["ORT_DYLIB_PATH"] = str(library)


def onnxruntime_library() -> Path | None:
    """Returns the library inside the `onnxruntime` package, which is not imported."""
    package = find_spec("onnxruntime")
    folders = (package and package.submodule_search_locations) or ()
    return next((path for folder in folders for path in Path(folder, "capi").glob("libonnxruntime.so.*")), None)


def program(name: str) -> str:
    """Returns the path of a program in the wheel."""
    return str(BUNDLE / "bin" / name)


def run(command: str, *arguments: str) -> NoReturn:
    """Replaces this process by a program."""
    os.execv(command, [command, *arguments])
