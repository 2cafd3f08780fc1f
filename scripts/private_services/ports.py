"""Chooses free loopback ports. It does not reserve them: another program may take one before the caller listens on it."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOWEST, HIGHEST = 10_000, 65_000
RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# What system-wide instances use (Redis, AMQP, epmd, RabbitMQ's distribution and management); 16379 is Redis' cluster bus.
USUAL_PORTS = frozenset((4369, 5671, 5672, 6379, 15672, 16379, 25672))
TRIES = 2_000


def free_ports(count: int) -> list[int]:
    """Returns distinct loopback ports on which no program listens.

    They lie outside the kernel's range for outgoing connections: a client that retries the port of a stopped server in that range
    eventually connects to itself, and then the server cannot listen on its port again.
    """
    first_outgoing, last_outgoing = outgoing_range()
    chosen: list[int] = []
    for _ in range(TRIES):
        port = random.randint(LOWEST, HIGHEST)
        if port in chosen or port in USUAL_PORTS or first_outgoing <= port <= last_outgoing:
            continue
        if is_free(port):
            chosen.append(port)
            if len(chosen) == count:
                return chosen
    raise OSError(f"no {count} free ports between {LOWEST} and {HIGHEST}, outside {first_outgoing}-{last_outgoing}")


def outgoing_range() -> tuple[int, int]:
    """Returns the kernel's range for outgoing connections, or Linux' default if it cannot be read."""
    try:
        first, last = RANGE_FILE.read_text().split()
        first, last = int(first), int(last)
    except (OSError, ValueError):
        return 32_768, 60_999
    leaves_enough = (first - LOWEST) + (HIGHEST - last) > 1_000
    return (first, last) if leaves_enough else (0, 0)


def is_free(port: int) -> bool:
    """Tells whether a program could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
