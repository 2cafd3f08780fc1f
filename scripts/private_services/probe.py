"""Probes a broker and a Redis over their own protocols. No processes and no files here."""

from __future__ import annotations

import socket

PROBE_SECONDS = 2.0
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
# Frame type 1 (method) on channel 0; after the length follow class 10 and method 10: `connection.start` (AMQP 0-9-1, 1.4.2.1).
AMQP_START_FRAME = b"\x01\x00\x00"
AMQP_START_METHOD = b"\x00\x0a\x00\x0a"


def amqp_speaks(port: int) -> bool:
    """Tells whether an AMQP 0-9-1 broker on this port starts the handshake."""
    answer = exchange(port, AMQP_HEADER, wanted=11)
    return answer[:3] == AMQP_START_FRAME and answer[7:11] == AMQP_START_METHOD


def redis_speaks(port: int, password: str) -> bool:
    """Tells whether a Redis on this port accepts the password and answers PING, which means that its data is loaded."""
    wanted = b"+OK\r\n+PONG\r\n"
    commands = f"AUTH {password}\r\nPING\r\n".encode()
    return exchange(port, commands, wanted=len(wanted)) == wanted


def exchange(port: int, request: bytes, wanted: int) -> bytes:
    """Sends the request to the loopback port and returns up to `wanted` bytes; empty if there is no reply."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PROBE_SECONDS) as connection:
            connection.sendall(request)
            while len(answer) < wanted:
                part = connection.recv(wanted - len(answer))
                if not part:
                    break
                answer += part
    except OSError:
        return b""
    return answer
