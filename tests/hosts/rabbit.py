"""Nodes of RabbitMQ that tests start and kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from standalone.ports import free_port
from tests.waiting import until


@dataclass
class Rabbit:
    """One node of RabbitMQ. `url` works while it runs."""

    server: str
    # With the cookie that its cluster shares, and its own.
    home: Path
    folder: Path
    epmd: int
    port: int = field(default_factory=free_port)
    dist: int = field(default_factory=free_port)
    # Names of all nodes of its cluster.
    members: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return f"crosslight{self.port}@localhost"

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def environment(self) -> dict[str, str]:
        # What is in the environment of a package's script comes from files of /etc otherwise.
        return {
            **os.environ,
            "HOME": str(self.home),
            "ERL_EPMD_PORT": str(self.epmd),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(self.dist),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        }

    def launch(self) -> None:
        lines = [f"listeners.tcp.1 = 127.0.0.1:{self.port}", "vm_memory_high_watermark.relative = 0.9"]
        lines += ["disk_free_limit.absolute = 1MB", "log.console = true", "log.file = false"]
        if len(self.members) > 1:
            found = "cluster_formation"
            lines += [f"{found}.peer_discovery_backend = classic_config"]
            lines += [f"{found}.classic_config.nodes.{i} = {name}" for i, name in enumerate(self.members, 1)]
        self.folder.mkdir(exist_ok=True)
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (self.folder / "plugins").write_text("[].\n")
        with (self.folder / "out.log").open("ab") as out:
            self.process = subprocess.Popen(
                [self.server], env=self.environment, stdout=out, stderr=out, start_new_session=True
            )

    def wait(self) -> None:
        until(self._answers, 120, lambda: (self.folder / "out.log").read_text()[-3000:], every_s=0.2)

    def start(self) -> None:
        self.launch()
        self.wait()

    def kill(self) -> None:
        """At once, with the virtual machine that its script started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
            self.process = None

    def hang(self) -> None:
        """It takes connections and bytes, and says nothing."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def tell(self, *command: str) -> Any:
        """What `rabbitmqctl` answers."""
        control = Path(self.server).with_name("rabbitmqctl")
        asked = [str(control), "--node", self.name, "--formatter", "json", "--quiet", *command]
        done = subprocess.run(asked, env=self.environment, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, f"{done.stdout.decode()}\n{done.stderr.decode()}"
        return json.loads(done.stdout)

    def _answers(self) -> bool:
        from kombu import Connection

        assert self.process is not None and self.process.poll() is None, "RabbitMQ ended"
        try:
            with Connection(self.url, connect_timeout=1) as connection:
                connection.connect()
            return True
        except OSError:
            return False


class Cluster:
    """Nodes that know each other, with an epmd of their own, so that none outlives them."""

    def __init__(self, server: str, names: str, folder: Path, size: int = 1) -> None:
        port = free_port()
        self.nodes = [Rabbit(server, folder, folder / str(i), port) for i in range(size)]
        for node in self.nodes:
            node.members = [each.name for each in self.nodes]
        with (folder / "epmd.log").open("ab") as out:
            command = [names, "-port", str(port), "-address", "127.0.0.1"]
            self._names = subprocess.Popen(command, stdout=out, stderr=out)

    @property
    def url(self) -> str:
        return ";".join(node.url for node in self.nodes)

    def start(self) -> None:
        # The first makes the cookie.
        self.nodes[0].launch()
        until((self.nodes[0].home / ".erlang.cookie").exists)
        for node in self.nodes[1:]:
            node.launch()
        for node in self.nodes:
            node.wait()
        status = self.nodes[0].tell("cluster_status")
        assert sorted(status["running_nodes"]) == sorted(self.nodes[0].members), status

    def end(self) -> None:
        for node in self.nodes:
            node.kill()
        self._names.terminate()
        self._names.wait(20)

    def leader(self, queue: str) -> Rabbit:
        """The node that leads a queue, of which every node has a replica."""
        told = next(node for node in self.nodes if node.process).tell(
            "list_queues", "name", "leader", "members"
        )
        row = next(row for row in told if row["name"] == queue)
        assert sorted(row["members"]) == sorted(node.name for node in self.nodes), row
        return next(node for node in self.nodes if node.name == row["leader"])
