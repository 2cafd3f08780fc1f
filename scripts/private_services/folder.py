"""The folder of one pair of instances: ports, passwords, node name, configuration files, and the environment programs get.

Everything an instance writes stays below this folder. No processes are started here; that is `keeper.py`.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from .binaries import Binaries
from .lean import lean_home
from .ports import free_ports

PROJECT = Path(__file__).resolve().parent.parent.parent
BROKER_CONF = PROJECT / "deploy" / "rabbitmq.conf"
REDIS_CONF = PROJECT / "deploy" / "redis.conf"
STATE_FILE = "services.json"
# Every process of an instance carries this variable with the instance's own value, so that none is overlooked at the end.
MARK = "SELVAGE_SERVICES_MARK"
# A shared machine's disk may well be fuller than the broker of a real deployment would like.
PRIVATE_DISK_FREE_LIMIT = "50MB"


@dataclass(frozen=True)
class State:
    """What a restart must find again. Passwords are hexadecimal, so they need no quoting anywhere."""

    mark: str
    node: str
    amqp_port: int
    dist_port: int
    epmd_port: int
    redis_port: int
    amqp_user: str
    amqp_password: str
    redis_password: str


def new_state() -> State:
    """Returns fresh ports, names and passwords."""
    amqp, dist, epmd, redis = free_ports(4)
    suffix = secrets.token_hex(6)
    return State(
        mark=secrets.token_hex(16),
        node=f"selvage-{suffix}@localhost",
        amqp_port=amqp,
        dist_port=dist,
        epmd_port=epmd,
        redis_port=redis,
        amqp_user=f"selvage-{suffix}",
        amqp_password=secrets.token_hex(20),
        redis_password=secrets.token_hex(20),
    )


class Folder:
    """One folder and its state; `create` lays a new one out, `load` reads an existing one."""

    def __init__(self, path: Path, state: State):
        self.path = path
        self.state = state

    @classmethod
    def load(cls, path: Path) -> Folder:
        """Reads an existing folder; raises FileNotFoundError if it is none."""
        return cls(path, State(**json.loads((path / STATE_FILE).read_text())))

    @classmethod
    def create(cls, path: Path) -> Folder:
        """Lays the folder out with new ports and passwords, readable by the user alone; data of an earlier try is not kept."""
        folder = cls(path, new_state())
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        for name in ("home", "log", "redis"):
            (path / name).mkdir(mode=0o700, exist_ok=True)
        folder.write("enabled_plugins", "[].\n")
        folder.write("rabbitmq.conf", folder.broker_conf())
        folder.write("redis.conf", folder.redis_conf())
        folder.write(STATE_FILE, json.dumps(asdict(folder.state), indent=1) + "\n")
        return folder

    def write(self, name: str, text: str) -> None:
        """Writes a file of this folder in one step, readable by the user alone."""
        unfinished = self.path / f".{name}.new"
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        unfinished.replace(self.path / name)

    def broker_conf(self) -> str:
        """Returns the deployment's settings with this instance's own in place of, and after, them."""
        own = {
            "default_user": self.state.amqp_user,
            "default_pass": self.state.amqp_password,
            "disk_free_limit.absolute": PRIVATE_DISK_FREE_LIMIT,
            "log.console": "false",
            "log.file.level": "info",
        }
        shared = [line for line in BROKER_CONF.read_text().splitlines() if line.split("=")[0].strip() not in own]
        return "\n".join([*shared, *(f"{key} = {value}" for key, value in own.items())]) + "\n"

    def redis_conf(self) -> str:
        """Returns the deployment's settings, then this instance's own; in Redis the last line wins."""
        lines = [
            f'include "{REDIS_CONF}"',
            "bind 127.0.0.1",
            f"port {self.state.redis_port}",
            f"requirepass {self.state.redis_password}",
            f'dir "{self.path / "redis"}"',
            # It holds the cached results too, which would fill it and then keep new jobs out.
            "maxmemory 0",
            "daemonize no",
            'logfile ""',
        ]
        return "\n".join(lines) + "\n"

    def program_environment(self) -> dict[str, str]:
        """Returns the caller's environment without anything that would steer RabbitMQ or Erlang, and with the mark."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_", "NOTIFY_SOCKET"))}
        return {**kept, MARK: self.state.mark, "HOME": str(self.path / "home")}

    def broker_environment(self, binaries: Binaries, lean: bool) -> dict[str, str]:
        """Returns the environment for the server and for rabbitmqctl. `lean` leaves plugins out, see `lean.py`."""
        state, path = self.state, self.path
        sbin = lean_home(binaries.rabbitmq_sbin, path / "rabbitmq") if lean else binaries.rabbitmq_sbin
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            **self.program_environment(),
            "PATH": os.pathsep.join((os.environ.get("PATH", ""), "/usr/bin", "/bin")),
            "RABBITMQ_SCRIPTS_DIR": str(sbin),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": state.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(state.amqp_port),
            "RABBITMQ_DIST_PORT": str(state.dist_port),
            "RABBITMQ_MNESIA_BASE": str(path / "broker"),
            "RABBITMQ_LOG_BASE": str(path / "log"),
            "RABBITMQ_PID_FILE": str(path / "broker.pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(path / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(path / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(path / "advanced.config"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback,
            "RABBITMQ_CTL_ERL_ARGS": loopback,
            # Unbound: a scheduler that is tied to a core waits there for whatever else runs on it.
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            # Any free port for the tool's own end; its default is a range of eleven, shared with every other tool run.
            "RABBITMQ_CTL_DIST_PORT_MIN": "0",
            "RABBITMQ_CTL_DIST_PORT_MAX": "0",
            # Makes the server's script replace itself by the virtual machine, so that the process we start is the broker.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_EPMD_PORT": str(state.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": str(path / "log" / "erl_crash.dump"),
        }

    def exports(self, as_settings: bool) -> dict[str, str]:
        """Returns the variables that tests, and with `as_settings` the programs themselves, read."""
        state = self.state
        amqp = f"amqp://{state.amqp_user}:{state.amqp_password}@127.0.0.1:{state.amqp_port}/%2f"
        redis = f"redis://:{state.redis_password}@127.0.0.1:{state.redis_port}/0"
        names = {"SELVAGE_TEST_AMQP_URL": amqp, "SELVAGE_TEST_REDIS_URL": redis, "SELVAGE_TEST_SERVICES_DIR": str(self.path)}
        if as_settings:
            names.update(SELVAGE_AMQP_URL=amqp, SELVAGE_REDIS_URL=redis)
        return names

    def export_lines(self, as_settings: bool) -> str:
        """Returns the same variables as shell text."""
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self.exports(as_settings).items())
