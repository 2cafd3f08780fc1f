"""The folder of one pair of instances: ports, passwords, node name, configuration files, and the environment of its programs.

Everything an instance writes stays in this folder. `keeper.py` starts the processes.
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
# Every process of an instance has this variable with the instance's own value, so that no process is missed at the end.
MARK = "SELVAGE_SERVICES_MARK"
# The disk of a shared machine may be fuller than a production limit allows.
PRIVATE_DISK_FREE_LIMIT = "50MB"


@dataclass(frozen=True)
class State:
    """The state that a restart needs. Passwords are hexadecimal, so they need no quoting."""

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
    """Returns new ports, names and passwords."""
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
    """One folder and its state; `create` sets up a new one, `load` reads an existing one."""

    def __init__(self, path: Path, state: State):
        self.path = path
        self.state = state

    @classmethod
    def load(cls, path: Path) -> Folder:
        """Reads an existing folder; raises FileNotFoundError if it has no state file."""
        return cls(path, State(**json.loads((path / STATE_FILE).read_text())))

    @classmethod
    def create(cls, path: Path) -> Folder:
        """Sets up the folder with new ports and passwords, readable only by the user; overwrites an earlier attempt."""
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
        """Writes a file of this folder atomically, readable only by the user."""
        unfinished = self.path / f".{name}.new"
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        unfinished.replace(self.path / name)

    def broker_conf(self) -> str:
        """Returns the deployment's settings, with this instance's own settings instead of the same keys."""
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
            # This Redis also holds the cached results; with a limit they would fill it, and it would reject new jobs.
            "maxmemory 0",
            "daemonize no",
            'logfile ""',
        ]
        return "\n".join(lines) + "\n"

    def program_environment(self) -> dict[str, str]:
        """Returns the caller's environment with the mark and without variables that affect RabbitMQ or Erlang."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_", "NOTIFY_SOCKET"))}
        return {**kept, MARK: self.state.mark, "HOME": str(self.path / "home")}

    def broker_environment(self, binaries: Binaries, lean: bool) -> dict[str, str]:
        """Returns the environment for the server and for rabbitmqctl. `lean` leaves out plugins, see `lean.py`."""
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
            # Unbound, because a scheduler that is bound to a core waits for other programs on that core.
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            # Any free port for rabbitmqctl itself. The default is a range of eleven ports, shared with every other rabbitmqctl run.
            "RABBITMQ_CTL_DIST_PORT_MIN": "0",
            "RABBITMQ_CTL_DIST_PORT_MAX": "0",
            # Makes the server script exec the virtual machine, so that the process we start is the broker itself.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_EPMD_PORT": str(state.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": str(path / "log" / "erl_crash.dump"),
        }

    def exports(self, as_settings: bool) -> dict[str, str]:
        """Returns the variables that tests read and, with `as_settings`, those that the programs read."""
        state = self.state
        amqp = f"amqp://{state.amqp_user}:{state.amqp_password}@127.0.0.1:{state.amqp_port}/%2f"
        redis = f"redis://:{state.redis_password}@127.0.0.1:{state.redis_port}/0"
        names = {"SELVAGE_TEST_AMQP_URL": amqp, "SELVAGE_TEST_REDIS_URL": redis, "SELVAGE_TEST_SERVICES_DIR": str(self.path)}
        if as_settings:
            names.update(SELVAGE_AMQP_URL=amqp, SELVAGE_REDIS_URL=redis)
        return names

    def export_lines(self, as_settings: bool) -> str:
        """Returns the same variables as shell commands."""
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self.exports(as_settings).items())
