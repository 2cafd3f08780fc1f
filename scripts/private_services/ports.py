"""Chooses free loopback ports. It only looks: whoever listens on one finds out whether somebody was faster."""

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
    """Returns different loopback ports that nobody listens on.

    They lie outside the range the kernel gives to outgoing connections: a client that retries a stopped server's port from
    that range sooner or later connects to itself, and then keeps the server from coming back.
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
    """Returns the kernel's range for outgoing connections; Linux' default where it cannot be read."""
    try:
        first, last = RANGE_FILE.read_text().split()
        first, last = int(first), int(last)
    except (OSError, ValueError):
        return 32_768, 60_999
    leaves_enough = (first - LOWEST) + (HIGHEST - last) > 1_000
    return (first, last) if leaves_enough else (0, 0)


def is_free(port: int) -> bool:
    """Tells whether the port can be listened on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
