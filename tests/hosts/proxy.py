"""HAProxy with the configuration that ships, the servers behind it, and clients that count what they are answered."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from standalone.ports import free_port
from tests.conftest import ROOT
from tests.waiting import PATIENCE_S, until

CONFIGURATION = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
STAND_IN = Path(__file__).with_name("stand_in.py")


class Proxy:
    """The configuration that ships, with other ports and servers, and a header that says who answered."""

    def __init__(self, program: str, servers: dict[str, str], folder: Path) -> None:
        self.port = free_port()
        folder.mkdir()
        text = re.sub(r"^    server web-\d.*\n", "", CONFIGURATION.read_text(), flags=re.MULTILINE)
        lines = "".join(f"    server {name} {address}\n" for name, address in servers.items())
        text = text.replace(".else\n.endif\n\n# For whoever", f".else\n{lines}.endif\n\n# For whoever")
        text = text.replace("bind :8080", f"bind 127.0.0.1:{self.port}").replace(":8405", f":{free_port()}")
        text = text.replace("backend web\n", "backend web\n    http-response set-header X-Served-By %s\n")
        assert all(f"server {name} {address}" in text for name, address in servers.items())
        self.file = folder / "haproxy.cfg"
        self.file.write_text(text)
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen([program, "-db", "-f", str(self.file)], stdout=log, stderr=log)
        self._client = Client(self.port)
        until(self._all_are_well, message=lambda: self.log.read_text())

    def _all_are_well(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            return self.ask("GET", "/").status < 500
        except OSError:
            self._client.close()
            return False

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """On one connection: a request of another one may come before the last is counted as ended, and the balance
        factor would pass it on."""
        return self._client.ask(method, path, headers, body)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


@dataclass(frozen=True)
class Answer:
    status: int
    host: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection to the proxy, kept open."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        self._http.request(method, path, body, headers or {})
        answer = self._http.getresponse()
        return Answer(answer.status, answer.getheader("X-Served-By", ""), answer.read())

    def close(self) -> None:
        self._http.close()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


class WebHost:
    """A web process, and what befalls it."""

    def __init__(
        self, command: Sequence[str], env: dict[str, str], address: str, folder: Path, tree: Path = ROOT
    ) -> None:
        self.address, self.seen, self._folder = address, folder / "seen", folder
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, env=env, cwd=tree, stdout=log, stderr=log)

    @classmethod
    def stand_in(cls, name: str, folder: Path, address: str = "127.0.0.1", within: str = "") -> WebHost:
        """`within`: the network namespace that it runs in."""
        folder = folder / name
        folder.mkdir()
        port = str(free_port())
        inside = ["ip", "netns", "exec", within] if within else []
        command = [*inside, sys.executable, "-I", str(STAND_IN), address, port, name, str(folder / "seen")]
        return cls(command, dict(os.environ), f"{address}:{port}", folder)

    @classmethod
    def product(cls, name: str, folder: Path, within: str = "", **more: str) -> WebHost:
        """`within`: the network namespace that it runs in, where it listens on the loopback; `more`: settings."""
        data_dir, port = folder / name / "data", str(free_port())
        (data_dir / "static").mkdir(parents=True)
        own = {"DATA_DIR": str(data_dir), "HOST": "127.0.0.1", "PORT": port, "TRUSTED_PROXIES": "127.0.0.1"}
        env = {**os.environ, **own, "STORAGE_URL": f"file://{folder / 'blobs'}", **more}
        inside = ["ip", "netns", "exec", within] if within else []
        command = [*inside, sys.executable, "-m", "standalone", "process", "web"]
        return cls(command, env, f"127.0.0.1:{port}", folder / name)

    def wait(self, seconds: float = PATIENCE_S) -> None:
        self._said = ""
        until(self._is_ready, seconds, lambda: f"{self._said}\n{(self._folder / 'log').read_text()[-4000:]}")

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()[-4000:]
        host, port = self.address.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request("GET", "/readyz", headers={"Host": "127.0.0.1"})
            answer = connection.getresponse()
            self._said = f"{answer.status} {answer.read()[:500]!r}"
            return answer.status == 200
        except OSError as error:
            self._said = repr(error)
            return False
        finally:
            connection.close()

    def processes(self) -> list[psutil.Process]:
        """It and every process under it."""
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]

    def kill(self) -> None:
        """SIGKILL, and for every process under it."""
        if self._process.poll() is None:
            for process in self.processes():
                process.kill()
        self._process.wait(20)

    def stop(self) -> int:
        """SIGTERM, as an orchestrator stops it; returns its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)


@dataclass
class Load:
    """Clients that ask one request after the other, each with a key of its own, until they are told to stop."""

    port: int
    asks: Callable[[Client, int], Answer]
    clients: int
    answered: int = 0
    slowest_s: float = 0.0
    hosts: Counter[str] = field(default_factory=Counter)
    failures: Counter[int] = field(default_factory=Counter)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(self.clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *rest: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)

    def reach(self, more: int, seconds: float = 240) -> None:
        """Return when so many more requests have been answered."""
        goal = self.answered + more
        until(lambda: self.answered >= goal, seconds, lambda: self.told())

    def _run(self, number: int) -> None:
        client = Client(self.port)
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                answer = self.asks(client, number)
                failed = "" if answer.status < 500 else f"{answer.status} {answer.body[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                client, answer, failed = Client(self.port), None, repr(error)
            with self._lock:
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                if answer is None or failed:
                    self.failures[number] += 1
                    self.said.append(failed)
                else:
                    self.answered += 1
                    self.hosts[answer.host] += 1

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def share(self) -> float:
        """Of all requests, those that were answered."""
        return self.answered / (self.answered + self.failed)

    def told(self) -> str:
        return (
            f"{self.answered} of {self.answered + self.failed} answered ({100 * self.share:.2f} %), slowest "
            f"{self.slowest_s:.2f} s, most failures of a client {max(self.failures.values(), default=0)}, "
            f"hosts {dict(sorted(self.hosts.items()))}"
        )
