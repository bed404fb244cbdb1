"""What one, two and three web hosts answer, each on a fifth of a core: the rest of the machine is the databases', the
proxy's and the clients'."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.conftest import Party
from tests.hosts.proxy import Answer, Client, Load, Proxy, WebHost, bearer
from tests.hosts.test_serving import one_storage
from tests.tenants.test_index_lifecycle import Library
from tests.waiting import pause

__all__ = ["one_storage"]

CORES_A_HOST, PERIOD_US = 0.2, 100_000
# A client of each of these workspaces, twelve a host.
TENANTS, CLIENTS_A_HOST = 36, 12
ROUNDS, SECONDS = 3, 12
WANTED = {2: 1.9, 3: 2.7}
# Of what the machine has beside the hosts. Above, something else would be measured.
MOST_OF_REST = 0.8
GROUPS = Path("/sys/fs/cgroup")


@contextmanager
def limited(name: str, pids: list[int]) -> Iterator[None]:
    """These processes have `CORES_A_HOST` together while the block runs."""
    quota = int(CORES_A_HOST * PERIOD_US)
    old = GROUPS / "cpu"
    group = (old if old.is_dir() else GROUPS) / name
    try:
        group.mkdir(exist_ok=True)
        if old.is_dir():
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {PERIOD_US}")
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        pytest.skip(f"no limit of the CPU can be set here (cgroups, as root): {error}")
    try:
        yield
    finally:
        for pid in pids:
            (group.parent / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def busy_s() -> float:
    """Of all cores since the machine started, whoever used them."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice


def used_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


@pytest.fixture
def libraries(make_party: Callable[..., Party], one_storage: None) -> list[Library]:
    made = [Library(make_party()) for _ in range(TENANTS)]
    for library in made:
        library.fill(30)
    return made


@pytest.mark.timeout(900)
def test_two_and_three_hosts_answer_nearly_as_many_times_as_much(
    libraries: list[Library],
    proxy: Callable[[dict[str, str]], Proxy],
    tmp_path: Path,
    tell: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OMP_NUM_THREADS", "WEB_WORKERS"):
        monkeypatch.setenv(name, "1")
    hosts = {name: WebHost.product(name, tmp_path) for name in ("h1", "h2", "h3")}

    def ask(client: Client, number: int) -> Answer:
        party = libraries[number].party
        headers = {**bearer(party.token), "Content-Type": "application/json"}
        answer = client.ask("POST", "/api/v1/search", headers, json.dumps({"text": "anything"}).encode())
        assert answer.status != 429, answer.body
        return answer

    try:
        for host in hosts.values():
            host.wait()
            client = Client(int(host.address.split(":")[1]))
            for number in range(TENANTS):
                # What a process keeps of a tenant is there before anything is measured.
                assert ask(client, number).status == 200
        found = _measure(hosts, proxy, ask)
    finally:
        for host in hosts.values():
            host.kill()
    rates = {count: statistics.median(one["rate"] for one in rounds) for count, rounds in found.items()}
    used = {count: statistics.median(one["used"] for one in rounds) for count, rounds in found.items()}
    rest = max(one["rest"] for rounds in found.values() for one in rounds)
    tell(
        f"growth, {CORES_A_HOST} core a host: "
        + ", ".join(
            f"{count}: {rate:.1f} searches a second ({used[count]:.2f} cores)"
            for count, rate in rates.items()
        )
        + f"; x {rates[2] / rates[1]:.2f} and x {rates[3] / rates[1]:.2f}; the rest of the machine at most "
        f"{100 * rest:.0f} % busy"
    )
    assert rest <= MOST_OF_REST, (
        f"{100 * rest:.0f} % of the rest of this machine was busy: it is no measurement"
    )
    assert {count: rates[count] / rates[1] >= wanted for count, wanted in WANTED.items()} == {
        2: True,
        3: True,
    }, rates


def _measure(
    hosts: dict[str, WebHost], proxy: Callable[[dict[str, str]], Proxy], ask: Callable[[Client, int], Answer]
) -> dict[int, list[dict[str, float]]]:
    found: dict[int, list[dict[str, float]]] = {1: [], 2: [], 3: []}
    cores = len(os.sched_getaffinity(0))
    fronts = {n: proxy({name: hosts[name].address for name in list(hosts)[:n]}) for n in found}
    families = {name: host.processes() for name, host in hosts.items()}
    everything = [process for family in families.values() for process in family]
    # Turn by turn, so that whatever else the machine does meets all of them.
    for _ in range(ROUNDS):
        for count, front in fronts.items():
            with Load(front.port, ask, CLIENTS_A_HOST * count) as load, _each_limited(families):
                load.reach(30)
                began, answered, ours = time.monotonic(), load.answered, used_s(everything)
                busy = busy_s()
                pause(SECONDS, "so long is counted")
                took = time.monotonic() - began
                used = used_s(everything) - ours
                others = busy_s() - busy - used
                rate = (load.answered - answered) / took
            assert load.failed == 0, load.said
            rest = others / took / (cores - CORES_A_HOST * count)
            found[count].append({"rate": rate, "rest": rest, "used": used / took})
    return found


@contextmanager
def _each_limited(families: dict[str, list[psutil.Process]]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, family in families.items():
            stack.enter_context(limited(f"crosslight-{name}", [process.pid for process in family]))
        yield
