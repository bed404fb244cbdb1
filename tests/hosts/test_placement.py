"""HAProxy as it ships (deploy/haproxy): whose requests go where, and what happens to them when a host goes away."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Party
from tests.hosts.proxy import CONFIGURATION, Answer, Client, Load, Proxy, WebHost, bearer
from tests.waiting import pause, until

Start = Callable[[dict[str, str]], Proxy]
Tell = Callable[[str], None]
StandIns = Callable[[int], dict[str, WebHost]]


def addresses(hosts: dict[str, WebHost]) -> dict[str, str]:
    return {name: host.address for name, host in hosts.items()}


def key(number: int) -> str:
    """As tenants.accounts.keys makes them."""
    return f"cl{number * 2654435761 % (1 << 40):010x}.secret-{number}"


def home(front: Proxy, headers: dict[str, str], method: str = "GET", path: str = "/") -> str:
    return front.ask(method, path, headers).host


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    file = tmp_path / "tls.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run(
        [*command, "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")],
        check=True,
        capture_output=True,
    )
    file.write_text((tmp_path / "cert").read_text() + (tmp_path / "key").read_text())
    return file


@pytest.mark.parametrize("dns", [{}, {"WEB_DNS": "web", "WEB_PORT": "8000", "STATUS_BIND": ":8405"}])
@pytest.mark.parametrize("tls", [False, True])
def test_the_configuration_has_no_error(
    haproxy: str, certificate: Path, dns: dict[str, str], tls: bool
) -> None:
    env = {**os.environ, **dns, **({"TLS_CERT": str(certificate)} if tls else {})}
    run = subprocess.run(
        [haproxy, "-c", "-V", "-f", str(CONFIGURATION)], env=env, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "WARNING" not in run.stdout + run.stderr


def test_a_key_goes_to_one_host_and_keys_to_all(proxy: Start, stand_ins: StandIns, tell: Tell) -> None:
    front = proxy(addresses(stand_ins(3)))
    first = {number: home(front, bearer(key(number))) for number in range(300)}
    again = {number: home(front, bearer(key(number)), "POST", "/other") for number in range(300)}
    assert again == first
    shares = [list(first.values()).count(host) / 300 for host in ("h1", "h2", "h3")]
    tell(f"300 keys over 3 hosts: {', '.join(f'{100 * share:.0f} %' for share in shares)}")
    assert min(shares) > 0.2
    # The secret does not matter, nor how the scheme is written, nor a cookie beside a key.
    for number in range(20):
        prefix = key(number).partition(".")[0]
        for headers in (
            bearer(f"{prefix}.another"),
            {"Authorization": f"bearer  {prefix}.s"},
            {**bearer(key(number)), "Cookie": "tenant=0198c0de-0000-7000-8000-000000000001"},
        ):
            assert home(front, headers) == first[number]


def test_a_workspace_of_the_console_goes_to_one_host(proxy: Start, stand_ins: StandIns) -> None:
    front = proxy(addresses(stand_ins(3)))
    ids = [f"0198c0de-{number:04x}-7000-8000-0123456789ab" for number in range(60)]
    hosts = [home(front, {"Cookie": f"sessionid=a{i}; tenant={id}"}) for i, id in enumerate(ids)]
    assert hosts == [home(front, {"Cookie": f"tenant={id}; sessionid=b"}) for id in ids]
    assert set(hosts) == {"h1", "h2", "h3"}
    # Who is nobody yet, or writes something else there, gets each host in turn.
    for headers in ({}, {"Cookie": "tenant=" + "x" * 40}, {"Authorization": "Bearer ../../etc"}):
        assert {front.ask("GET", "/", headers).host for _ in range(6)} == {"h1", "h2", "h3"}


def test_two_more_hosts_move_few_tenants(proxy: Start, stand_ins: StandIns, tell: Tell) -> None:
    """Four hosts become six: at most 40 % of tenants move, and only to the new ones."""
    servers = addresses(stand_ins(6))
    before, after = proxy(dict(list(servers.items())[:4])), proxy(servers)
    moved = []
    for number in range(600):
        old, new = (home(front, bearer(key(number))) for front in (before, after))
        moved += [new] if old != new else []
    tell(f"4 to 6 hosts: {len(moved)} of 600 tenants moved ({len(moved) / 6:.1f} %)")
    assert len(moved) / 600 <= 0.40
    assert set(moved) == {"h5", "h6"}


@pytest.mark.parametrize(
    ("method", "path", "times"),
    [
        ("GET", "/lost", 2),
        ("POST", "/api/v1/search", 2),
        ("POST", "/api/v1/datasets", 1),
        ("DELETE", "/a", 1),
    ],
)
def test_only_what_changes_nothing_is_asked_twice(
    proxy: Start, stand_ins: StandIns, method: str, path: str, times: int
) -> None:
    """A host loses the answer after it had the request."""
    hosts = stand_ins(3)
    front = proxy(addresses(hosts))
    answer = front.ask(method, path, {**bearer(key(7)), "X-Lose": "yes"}, b"{}" if method == "POST" else None)
    seen = [host.seen.read_text() for host in hosts.values() if host.seen.exists()]
    # Each by another host.
    assert [text.count(f"{method} {path}\n") for text in seen if path in text] == [1] * times
    if times == 2:
        assert answer.status == 200
    else:
        assert (answer.status, answer.json["status"]) == (502, 502)


def test_a_search_whose_body_comes_late_is_asked_twice_too(
    proxy: Start, stand_ins: StandIns, tmp_path: Path
) -> None:
    hosts = stand_ins(2)
    front = proxy(addresses(hosts))
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=60)
    connection.putrequest("POST", "/api/v1/search")
    for name, value in {**bearer(key(7)), "X-Lose": "yes", "Content-Length": "2"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    pause(0.3, "the head would be sent on by itself meanwhile")
    connection.send(b"{}")
    answer = connection.getresponse()
    assert (answer.status, (tmp_path / "lost").exists()) == (200, True)
    connection.close()


def test_what_a_host_is_told_of_the_client(proxy: Start, stand_ins: StandIns) -> None:
    front = proxy(addresses(stand_ins(1)))
    lies = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "Forwarded": "for=203.0.113.9"}
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    told = front.ask("GET", "/", {**lies, **upgrade, "Host": "search.example"}).json["headers"]
    assert (told["x-forwarded-for"], told["x-forwarded-proto"], told["host"]) == (
        *("127.0.0.1", "http"),
        "search.example",
    )
    assert not {"forwarded", "upgrade"} & set(told)
    assert front.ask("GET", "/metrics").status == 404


def test_the_log_holds_no_query_and_no_key(proxy: Start, stand_ins: StandIns) -> None:
    front = proxy(addresses(stand_ins(1)))
    front.ask("GET", "/reset/new?token=t0k3n", bearer(key(1)))
    said = until(lambda: front.log.read_text() if "GET /reset/new 200" in front.log.read_text() else "")
    assert not [part for part in ("t0k3n", "secret-1", key(1).partition(".")[0]) if part in said]


def test_with_no_host_the_answer_says_so(proxy: Start, stand_ins: StandIns) -> None:
    hosts = stand_ins(1)
    front = proxy(addresses(hosts))
    hosts["h1"].kill()
    answer = front.ask("GET", "/api/v1/datasets", bearer(key(1)))
    assert (answer.status, answer.json["title"]) == (503, "No server is ready")


def test_what_a_host_refuses_is_done_by_another(proxy: Start, stand_ins: StandIns) -> None:
    """Also the third, with which it is thought to be away."""
    hosts = stand_ins(3)
    front = proxy(addresses(hosts))
    gone = home(front, bearer(key(7)))
    hosts[gone].kill()
    answers = [front.ask(method, "/", bearer(key(7)), b"{}") for method in ("GET", "POST") * 6]
    assert {answer.status for answer in answers} == {200}
    until(lambda: f"Server web/{gone} is DOWN" in front.log.read_text())
    assert front.ask("POST", "/", bearer(key(7)), b"{}").status == 200


# --- Real web processes under load ---


def of_keys(parties: list[Party], *, writes: bool = False) -> Callable[[Client, int], Answer]:
    """Reads, and of those that write each a dataset with a name of its own."""
    counts = [0] * len(parties)

    def ask(client: Client, number: int) -> Answer:
        counts[number] += 1
        headers = {**bearer(parties[number].token), "Content-Type": "application/json"}
        if writes and counts[number] % 3 == 0:
            body = json.dumps({"name": f"d{counts[number]}"}).encode()
            return client.ask("POST", "/api/v1/datasets", headers, body)
        return client.ask("GET", "/api/v1/datasets?limit=1", headers)

    return ask


@pytest.mark.timeout(600)
@pytest.mark.proof(3)
def test_a_host_is_killed_under_load(
    proxy: Start, web_hosts: dict[str, WebHost], make_party: Callable[..., Party], tell: Tell
) -> None:
    parties = [make_party() for _ in range(8)]
    front = proxy(addresses(web_hosts))
    with Load(front.port, of_keys(parties), len(parties)) as load:
        load.reach(600)
        busiest = load.hosts.most_common(1)[0][0]
        web_hosts[busiest].kill()
        load.reach(2400)
    tell(f"kill -9 of a web host under load: {load.told()}")
    assert load.share >= 0.999, load.said


@pytest.mark.timeout(600)
def test_a_host_that_is_stopped_loses_nothing(
    proxy: Start, web_hosts: dict[str, WebHost], make_party: Callable[..., Party], tell: Tell
) -> None:
    """SIGTERM under load, writes among it: it drains, then ends."""
    parties = [make_party() for _ in range(8)]
    front = proxy(addresses(web_hosts))
    with Load(front.port, of_keys(parties, writes=True), len(parties)) as load:
        load.reach(300)
        assert web_hosts[load.hosts.most_common(1)[0][0]].stop() == 0
        load.reach(300)
    tell(f"SIGTERM of a web host under load, a third writes: {load.told()}")
    assert load.failed == 0, load.said


@pytest.mark.timeout(600)
@pytest.mark.proof(4)
def test_a_host_is_cut_off(proxy: Start, namespaces: list[str], tmp_path: Path, tell: Tell) -> None:
    """Its link goes down without a word: at most one request of each client is lost."""
    hosts = {
        name: WebHost.stand_in(name, tmp_path, f"10.77.9.{i}", within=name)
        for i, name in enumerate(namespaces, 1)
    }
    try:
        for host in hosts.values():
            host.wait()
        front = proxy(addresses(hosts))

        def asks(client: Client, number: int) -> Answer:
            method = "POST" if number % 2 else "GET"
            return client.ask(method, "/", bearer(key(number)), b"{}" if number % 2 else None)

        with Load(front.port, asks, 12) as load:
            load.reach(600)
            number = namespaces.index(load.hosts.most_common(1)[0][0]) + 1
            subprocess.run(["ip", "link", "set", f"clv{number}", "down"], check=True)
            load.reach(3000)
    finally:
        for host in hosts.values():
            host.kill()
    tell(f"a web host cut off under load: {load.told()}")
    assert max(load.failures.values(), default=0) <= 1, load.said
