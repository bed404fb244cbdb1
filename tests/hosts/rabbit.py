"""A node of RabbitMQ that tests start and kill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from standalone.ports import free_port
from tests.waiting import until


@dataclass
class Rabbit:
    """One node of RabbitMQ. `url` works while it runs."""

    server: str
    names: str
    folder: Path
    port: int = field(default_factory=free_port)
    dist: int = field(default_factory=free_port)
    epmd: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    names_process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        # What is in the environment of a package's script comes from files of /etc otherwise.
        config = self.folder / "rabbitmq.conf"
        lines = [f"listeners.tcp.1 = 127.0.0.1:{self.port}", "vm_memory_high_watermark.relative = 0.9"]
        lines += ["disk_free_limit.absolute = 1MB", "log.console = true", "log.file = false"]
        config.write_text("\n".join(lines) + "\n")
        (self.folder / "plugins").write_text("[].\n")
        environment = {
            **os.environ,
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.epmd),
            "RABBITMQ_NODENAME": f"crosslight{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self.dist),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        with (self.folder / "out.log").open("ab") as out:
            if self.names_process is None:
                # Else the node starts one that outlives it.
                names = [self.names, "-port", str(self.epmd), "-address", "127.0.0.1"]
                self.names_process = subprocess.Popen(names, stdout=out, stderr=out)
            self.process = subprocess.Popen(
                [self.server], env=environment, stdout=out, stderr=out, start_new_session=True
            )
        until(self._answers, 60, lambda: (self.folder / "out.log").read_text()[-3000:], every_s=0.2)

    def kill(self) -> None:
        """At once, with the virtual machine that its script started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
            self.process = None

    def end(self) -> None:
        self.kill()
        if self.names_process is not None:
            self.names_process.terminate()
            self.names_process.wait(20)

    def _answers(self) -> bool:
        from kombu import Connection

        assert self.process is not None and self.process.poll() is None, "RabbitMQ ended"
        try:
            with Connection(self.url, connect_timeout=1) as connection:
                connection.connect()
            return True
        except OSError:
            return False
