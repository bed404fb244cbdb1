"""Ports: is one free, and which one had a server the last time."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

from standalone.errors import StackError
from standalone.files import read_json, write_json

# Below the range from which Linux takes the ports of outgoing connections (32768 and up), so that
# no connection can sit on a server's port while the server restarts.
CANDIDATES = range(20_000, 32_000)


def is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            # Linux lets two sockets with SO_REUSEADDR bind one port until one of them listens.
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    for _ in range(100):
        port = random.choice(CANDIDATES)  # noqa: S311 - not a secret
        if is_free(host, port):
            return port
    raise StackError(f"No free port between {CANDIDATES.start} and {CANDIDATES.stop} on {host}.")


def remembered_port(memory: Path, name: str) -> int:
    """The same port as the last time where it is still free, so that open connections find it again."""
    ports = read_json(memory, {})
    if name not in ports or not is_free("127.0.0.1", ports[name]):
        ports[name] = free_port()
        write_json(memory, ports)
    return ports[name]


def check_port(host: str, port: int) -> None:
    try:
        socket.getaddrinfo(host, port)
    except socket.gaierror as error:
        raise StackError(f"HOST {host!r} is not an address of this machine: {error.strerror}.") from error
    if not is_free(host, port):
        raise StackError(f"Port {port} on {host} is taken. Choose another one: make run PORT={port + 1}")
