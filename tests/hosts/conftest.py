"""Several hosts before real engines: `make test-hosts` runs these tests, `make test` does not.

Each says what it lacks where a program or the right to make network namespaces is missing.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.proxy import Proxy, WebHost
from tests.hosts.rabbit import Cluster, Rabbit

HERE = Path(__file__).parent
# What is proved on several hosts, by number (docs/deploying.md, docs/scaling.md).
PROOFS = {
    1: "built on one host, searched on others",
    2: "an index published under load",
    3: "kill -9 of a web host under load",
    4: "a web host cut off",
    5: "the primary of Postgres cut off under Patroni",
    6: "a node of RabbitMQ killed under 10,000 jobs",
    7: "a worker host cut off in mid-job",
    8: "a cache wiped, a stored file corrupted",
    9: "an upload in parts over two hosts; a tenant erased on all",
    10: "a rolling upgrade; four hosts become six",
    11: "a tenant to Milvus and back, under writes",
    12: "bulk work on Ray, a node killed",
}
LEAST = 9
NEEDS = {
    "haproxy": "haproxy",
    "rabbitmq-server": "rabbitmq-server",
    "patroni": "patroni",
    "etcd": "etcd-server (and python3-etcd)",
    "pgbouncer": "pgbouncer",
    "valkey-server": "valkey-server",
    "ip": "iproute2",
    "setpriv": "util-linux",
}
# By pip, beside what `install-dev` brings.
MODULES = {"ray": "'ray[data]'", "pymilvus": "pymilvus", "milvus": "milvus"}
PLACES = os.pathsep.join(("/usr/lib/rabbitmq/bin", os.environ.get("PATH", ""), "/usr/sbin"))
# By the number of a proof how its tests ended.
ENDED: dict[int, list[str]] = {}
FIGURES: list[str] = []
WANTED = os.environ.get("CROSSLIGHT_TEST_HOSTS") == "1"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if WANTED:
        return
    left_out = [item for item in items if HERE in item.path.parents]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if HERE not in item.path.parents]


def pytest_report_header() -> list[str]:
    if not WANTED:
        return []
    missing = [package for program, package in NEEDS.items() if shutil.which(program, path=PLACES) is None]
    said = [f"hosts: missing, by apt: {', '.join(missing)}"] if missing else []
    absent = [package for module, package in MODULES.items() if importlib.util.find_spec(module) is None]
    said += [f"hosts: missing, by pip: {', '.join(absent)}"] if absent else []
    return said + (["hosts: not root, so no network namespaces"] if os.geteuid() else [])


class Outcomes:
    """Notes how the tests of each proof end. A plugin of its own: hooks of this file are not called for tests in other
    folders, where some proofs are."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, Any]:
        report = yield
        if report.when == "call" or report.outcome != "passed":
            for mark in item.iter_markers("proof"):
                ENDED.setdefault(mark.args[0], []).append(report.outcome)
        return report


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Outcomes())


def outcome(number: int) -> str:
    """`passed` where all tests of a proof did; `not run` where one was left out."""
    ended = ENDED.get(number, [])
    if "failed" in ended:
        return "failed"
    return "passed" if ended and set(ended) == {"passed"} else "not run"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that proved too little must not look like one that proved all; one that was asked for a few tests may."""
    whole = WANTED and os.environ.get("CROSSLIGHT_TEST_HOSTS_WHOLE") == "1"
    if whole and session.exitstatus == 0 and sum(outcome(n) == "passed" for n in PROOFS) < LEAST:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if WANTED and ENDED:
        passed = sum(outcome(n) == "passed" for n in PROOFS)
        terminalreporter.section(f"proofs: {passed} of {len(PROOFS)} passed, at least {LEAST} are wanted")
        for number, what in PROOFS.items():
            terminalreporter.write_line(f"{number:>2}  {outcome(number):<8} {what}")
    if FIGURES:
        terminalreporter.section("measured")
        for line in FIGURES:
            terminalreporter.write_line(line)


@pytest.fixture
def tell() -> Callable[[str], None]:
    """Print a figure at the end of the run."""
    return FIGURES.append


@pytest.fixture(scope="session")
def haproxy() -> str:
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip("haproxy is missing: apt-get install haproxy")
    return found


@pytest.fixture
def proxy(haproxy: str, tmp_path: Path) -> Iterator[Callable[[dict[str, str]], Proxy]]:
    """`proxy({"h1": "127.0.0.1:8001", …})` is the shipped configuration before these servers."""
    started: list[Proxy] = []

    def start(servers: dict[str, str]) -> Proxy:
        started.append(Proxy(haproxy, servers, tmp_path / f"haproxy-{len(started)}"))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def stand_ins(tmp_path: Path) -> Iterator[Callable[[int], dict[str, WebHost]]]:
    """`stand_ins(3)` are small servers h1 to h3 (tests.hosts.stand_in)."""
    started: list[WebHost] = []

    def start(count: int) -> dict[str, WebHost]:
        hosts = {f"h{i}": WebHost.stand_in(f"h{i}", tmp_path) for i in range(1, count + 1)}
        started.extend(hosts.values())
        for host in hosts.values():
            host.wait()
        return hosts

    yield start
    for host in started:
        host.kill()


@pytest.fixture
def web_hosts(tmp_path: Path) -> Iterator[dict[str, WebHost]]:
    """Three web processes of the product, each with a DATA_DIR of its own, on one database and one storage."""
    hosts = {name: WebHost.product(name, tmp_path) for name in ("h1", "h2", "h3")}
    try:
        for host in hosts.values():
            host.wait()
        yield hosts
    finally:
        for host in hosts.values():
            host.kill()


@pytest.fixture
def namespaces(tmp_path: Path) -> Iterator[list[str]]:
    """Three hosts of their own on a bridge: names of network namespaces, each with an address 10.77.9.N."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    names = ["clh1", "clh2", "clh3"]
    if subprocess.run(
        ["ip", "link", "add", "clbr0", "type", "bridge"], capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine makes no bridge: network namespaces are not allowed here")
    try:
        _ip("addr add 10.77.9.254/24 dev clbr0", "link set clbr0 up")
        for i, name in enumerate(names, 1):
            # Left by a run that was killed while something still ran in its namespace.
            subprocess.run(["ip", "link", "del", f"clv{i}"], capture_output=True, check=False)
            _ip(
                f"netns add {name}",
                f"link add clv{i} type veth peer name eth0 netns {name}",
                f"link set clv{i} master clbr0",
                f"link set clv{i} up",
                f"-n {name} addr add 10.77.9.{i}/24 dev eth0",
                f"-n {name} link set eth0 up",
                f"-n {name} link set lo up",
            )
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", "clbr0"], capture_output=True, check=False)


def _ip(*commands: str) -> None:
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)


def needed(*programs: str, package: str) -> list[str]:
    """Where these programs are; skips where one of them is missing."""
    # The script of rabbitmq-server in /usr/sbin runs as a user of its own.
    found = [shutil.which(program, path=PLACES) for program in programs]
    if None in found:
        pytest.skip(f"{' and '.join(programs)} is missing: apt-get install {package}")
    return [program for program in found if program]


@pytest.fixture(scope="module")
def rabbits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Cluster]]:
    """`rabbits(3)` is a cluster of three nodes of RabbitMQ that run."""
    server, names = needed("rabbitmq-server", "epmd", package="rabbitmq-server")
    started: list[Cluster] = []

    def start(size: int) -> Cluster:
        started.append(Cluster(server, names, tmp_path_factory.mktemp("rabbit"), size))
        started[-1].start()
        return started[-1]

    yield start
    for cluster in started:
        cluster.end()


@pytest.fixture(scope="module")
def rabbit(rabbits: Callable[[int], Cluster]) -> Rabbit:
    return rabbits(1).nodes[0]
