"""A rolling upgrade under load: hosts of the release before are replaced one by one, while two more come."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from standalone.ports import free_port
from tests.conftest import ROOT, Party
from tests.hosts.proxy import Load, Proxy, WebHost
from tests.hosts.test_placement import of_keys
from tests.waiting import until

Start = Callable[[dict[str, str]], Proxy]
Tell = Callable[[str], None]
# The last revision of 0.2.0 before there were many hosts; a release that has been out moves it on.
RELEASED = "3ed4e140291068b74443b4f6cdff3ed484d90646"
# The revision to come from: `make test-hosts UPGRADE_FROM=revision`.
GIVEN = os.environ.get("UPGRADE_FROM")
# Packages of that release only, in its tree.
PACKAGES = "packages"
CLIENTS = 6
# A host starts beside the load, and beside whatever else the machine does.
START_S = 400


@pytest.fixture
def old_tree(tmp_path: Path) -> Path:
    """The release before, as a checkout has it."""
    packed = subprocess.run(["git", "archive", GIVEN or RELEASED], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode and not GIVEN:
        pytest.skip(f"{RELEASED} is not in this clone: git fetch --unshallow, or UPGRADE_FROM=revision")
    assert packed.returncode == 0, packed.stderr.decode()
    tree = tmp_path / "old"
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tree, filter="data")
    if gone := missing_packages(tree / "requirements.txt"):
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(tree / PACKAGES),
        ]
        subprocess.run([*pip, *gone], check=True)
    return tree


def missing_packages(requirements: Path) -> list[str]:
    """What that release needs and this one does not have any more."""
    found = []
    for line in requirements.read_text().splitlines():
        if not line[:1].isalnum():
            continue
        needed = Requirement(line.rstrip(" \\"))
        if needed.marker and not needed.marker.evaluate():
            continue
        try:
            version(needed.name)
        except PackageNotFoundError:
            found.append(f"{needed.name}{needed.specifier}")
    return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., WebHost]]:
    """`start("h1", port)` is a host of this release; with a tree, of that one."""
    started: list[WebHost] = []

    def begin(name: str, port: int, tree: Path | None = None) -> WebHost:
        folder = tmp_path / f"{name}-{'old' if tree else 'new'}"
        (folder / "data" / "static").mkdir(parents=True)
        own = {"DATA_DIR": str(folder / "data"), "HOST": "127.0.0.1", "PORT": str(port), "DEBUG": "1"}
        env = {
            **os.environ,
            **own,
            "TRUSTED_PROXIES": "127.0.0.1",
            "STORAGE_URL": f"file://{tmp_path / 'blobs'}",
        }
        command = [sys.executable, "-m", "standalone", "process", "web"]
        if tree is not None:
            # The old release knows no command for one process.
            env["PYTHONPATH"] = os.pathsep.join((str(tree), str(tree / "platform"), str(tree / PACKAGES)))
            server = ["granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--ws"]
            command = [
                sys.executable,
                "-m",
                *server,
                "--workers-kill-timeout",
                "5",
                "config.asgi:application",
            ]
        started.append(WebHost(command, env, f"127.0.0.1:{port}", folder, tree or ROOT))
        return started[-1]

    yield begin
    for host in started:
        host.kill()


@pytest.mark.proof(10)
@pytest.mark.timeout(3600)
def test_four_hosts_of_the_release_before_become_six_of_this_one(
    proxy: Start, start: Callable[..., WebHost], old_tree: Path, make_party: Callable[..., Party], tell: Tell
) -> None:
    """The schema is this release's from the beginning: migrations only expand."""
    ports = {f"h{i}": free_port() for i in range(1, 7)}
    before = {}
    for name in list(ports)[:4]:
        before[name] = start(name, ports[name], old_tree)
        before[name].wait(START_S)
    parties = [make_party() for _ in range(CLIENTS)]
    front = proxy({name: f"127.0.0.1:{port}" for name, port in ports.items()})
    # In the first second of its own it believes that all are there.
    until(lambda: all(f"Server web/{name} is DOWN" in front.log.read_text() for name in ("h5", "h6")))
    with Load(front.port, of_keys(parties, writes=True), CLIENTS) as load:
        load.reach(100, START_S)
        for name in list(ports)[4:]:
            start(name, ports[name]).wait(START_S)
        load.reach(100, START_S)
        for name, host in before.items():
            host.stop()
            start(name, ports[name]).wait(START_S)
            load.reach(50, START_S)
    tell(f"10. a rolling upgrade, 4 to 6 hosts, a third writes: {load.told()}")
    assert load.failed == 0, load.said
    assert set(load.hosts) == set(ports)
