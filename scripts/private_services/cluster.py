"""Three RabbitMQ nodes, a Redis with a replica and three sentinels, on this machine, for one run. They end with their owner."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

from . import processes
from .binaries import Binaries
from .folder import MARK
from .ports import free_ports

NODES = ("a", "b", "c")
START_SECONDS = 240.0
END_SECONDS = 10.0


class Cluster:
    """The processes by name; data, logs and the Erlang cookie are in one folder."""

    def __init__(self, folder: Path, binaries: Binaries) -> None:
        self.folder, self.binaries = folder, binaries
        self.mark = f"cluster-{secrets.token_hex(8)}"
        self.password = secrets.token_hex(16)
        ports = free_ports(1 + 2 * len(NODES) + 2 + 3)
        self.epmd, self.amqp, self.dist = ports[0], ports[1:4], ports[4:7]
        self.redis, self.sentinels = ports[7:9], ports[9:12]
        self.running: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        """Starts everything and waits until the nodes have formed a cluster."""
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        if self.binaries.epmd is not None:
            self.spawn("epmd", [str(self.binaries.epmd), "-port", str(self.epmd), "-address", "127.0.0.1"], {})
        for node in NODES:
            self.start_node(node)
        self.start_redis()
        deadline = time.monotonic() + START_SECONDS
        while len(self.asked("a", "cluster_status").get("running_nodes", [])) < len(NODES):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the nodes did not find each other within {START_SECONDS:.0f} s; logs: {self.folder}")
            time.sleep(processes.POLL_SECONDS)

    def start_node(self, node: str) -> None:
        """Starts one RabbitMQ node, which finds the others by their names."""
        home = self.folder / node
        home.mkdir()
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.amqp[NODES.index(node)]}",
            "default_user = selvage",
            f"default_pass = {self.password}",
            "disk_free_limit.absolute = 50MB",
            "cluster_partition_handling = pause_minority",
            "cluster_formation.peer_discovery_backend = classic_config",
            *(f"cluster_formation.classic_config.nodes.{i} = {peer}@localhost" for i, peer in enumerate(NODES, 1)),
        ]
        (home / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (home / "plugins").write_text("[].\n")
        self.spawn(f"node-{node}", [str(self.binaries.rabbitmq_sbin / "rabbitmq-server")], self.node_environment(node))

    def node_environment(self, node: str) -> dict[str, str]:
        """The environment that ties a RabbitMQ program to this node."""
        home = self.folder / node
        return {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"{node}@localhost",
            "RABBITMQ_NODE_PORT": str(self.amqp[NODES.index(node)]),
            "RABBITMQ_DIST_PORT": str(self.dist[NODES.index(node)]),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none",
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
        }

    def start_redis(self) -> None:
        """Starts a primary, its replica and the sentinels that watch them."""
        primary, replica = self.redis
        for name, port, more in (("primary", primary, []), ("replica", replica, ["--replicaof", "127.0.0.1", str(primary)])):
            (self.folder / name).mkdir()
            settings = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(self.folder / name), "--appendonly", "yes"]
            self.spawn(name, [str(self.binaries.redis_server), *settings, *more], {})
        for port in self.sentinels:
            file = self.folder / f"sentinel-{port}.conf"
            watch = [f"monitor main 127.0.0.1 {primary} 2", "down-after-milliseconds main 1000", "failover-timeout main 5000"]
            lines = [f"bind 127.0.0.1\nport {port}\ndir {self.folder}", *(f"sentinel {line}" for line in watch)]
            file.write_text("\n".join(lines) + "\n")
            self.spawn(file.stem, [str(self.binaries.redis_server), str(file), "--sentinel"], {})

    def environment(self) -> dict[str, str]:
        """The settings of programs that use the cluster."""
        nodes = ",".join(f"amqp://selvage:{self.password}@127.0.0.1:{port}/" for port in self.amqp)
        sentinels = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return {"SELVAGE_AMQP_URL": nodes, "SELVAGE_REDIS_URL": f"redis+sentinel://{sentinels}/main/0"}

    def asked(self, node: str, *question: str) -> dict | list:
        """The node's answer to a rabbitmqctl query; empty if it does not answer."""
        command = [str(self.binaries.rabbitmq_sbin / "rabbitmqctl"), "-q", "-n", f"{node}@localhost", *question]
        environment = {**os.environ, **self.node_environment(node)}
        done = subprocess.run([*command, "--formatter", "json"], env=environment, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def leader(self, queue: str) -> str:
        """The node that leads the quorum queue whose name ends with `queue`."""
        queues = self.asked("a", "list_queues", "name", "leader")
        return next(each["leader"] for each in queues if each["name"].endswith(queue)).split("@")[0]

    def spawn(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        """Starts a process that ends with this one."""
        environment = {**os.environ, **environment, MARK: self.mark}
        self.running[name] = processes.spawn(command, environment, self.folder / f"{name}.log")

    def kill(self, name: str) -> None:
        """Kills a process and its whole session."""
        os.killpg(self.running[name].pid, signal.SIGKILL)
        self.running[name].wait()

    def end(self) -> list[int]:
        """Kills everything; returns the processes that are still there."""
        for process in self.running.values():
            process.kill()
            process.wait()
        return processes.kill_marked(f"{MARK}={self.mark}", END_SECONDS)
