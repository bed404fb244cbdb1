"""Where webhooks may go: names, addresses, ports; and what a server may do to whoever sends it one."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tenants.errors import Invalid
from tenants.events import sending, ssrf_guard
from tests.tenants.receiver import plain, receiving
from tests.waiting import pause

PUBLIC = ("93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822")
FORBIDDEN = (
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
    *("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "192.0.2.1"),
    *("203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *(
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "fec0::1",
        "2001:db8::1",
    ),
    # IPv4 inside IPv6: mapped, compatible, 6to4, Teredo, NAT64.
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "2002:7f00:1::"),
    *("2002:5db8:d822::1", "2001:0:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),
    # In disguise a public one is none, either; and IPv4 "translated" (RFC 2765).
    *("::ffff:93.184.216.34", "::ffff:5db8:d822", "0:0:0:0:0:FFFF:7f00:1", "::93.184.216.34"),
    *("::ffff:0:127.0.0.1", "::ffff:0:a9fe:a9fe", "::ffff:0:93.184.216.34"),
    # 6to4 and Teredo (whose address is inverted) around private ones, NAT64 around the rest of them.
    *("2002:a9fe:a9fe::1", "2002:c0a8:101::", "2001:0:5db8:d822:0:0:5601:5601", "64:ff9b::c0a8:101"),
    *("64:ff9b::a00:1", "64:ff9b::e000:1", "64:ff9b::a83f:8110"),
    # Documentation, segment routing, and what nobody was given.
    *("3fff::1", "3fff:fff:ffff::1", "5f00::1", "5f00:ffff::1", "4000::1", "a000::1", "100::1", "200::1"),
    *("nonsense", ""),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert ssrf_guard.may_call(address)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_addresses_that_only_this_installation_reaches(address: str) -> None:
    assert not ssrf_guard.may_call(address)


def test_an_operator_may_allow_networks_and_hosts(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = ("10.1.0.0/16", "fd12::/16")
    assert ssrf_guard.may_call("10.1.2.3")
    assert ssrf_guard.may_call("::ffff:10.1.2.3")
    assert ssrf_guard.may_call("fd12::1")
    assert not ssrf_guard.may_call("10.2.0.1")
    settings.WEBHOOK_ALLOWED_HOSTS = ("hooks.internal",)
    answers(monkeypatch, ["192.168.7.7"])
    assert ssrf_guard.addresses_of(ssrf_guard.read("https://HOOKS.internal./x")) == ["192.168.7.7"]
    with pytest.raises(ssrf_guard.Blocked):
        ssrf_guard.addresses_of(ssrf_guard.read("https://other.internal/"))


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://hooks.example/",
            "ftp://hooks.example/",
            "//hooks.example/",
            "hooks.example",
            "",
            "https://",
        ),
        *("https://u@hooks.example/", "https://u:p@hooks.example/", "https://@hooks.example/"),
        *("https://hooks.example:22/", "https://hooks.example:0/", "https://hooks.example:70000/"),
        *(
            "https://hooks.example/#x",
            "https://hooks example/",
            "https://hooks.example/ä",
            "https://h\\@x.example/",
        ),
        *(
            "https://hooks.example/\r\nX: y",
            "https://hooks.example/\0",
            "https://-x.example/",
            "https://a..b/",
        ),
        *(
            "https://[::1",
            "https://[v1.x]/",
            "https://" + "a" * 64 + ".example/",
            "https://x.example/" + "a" * 2000,
        ),
        "https://xn--\N{SNOWMAN}.example/",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        ssrf_guard.read(url)
    assert refused.value.errors[0]["pointer"] == "/url"


def test_urls_in_one_spelling() -> None:
    assert ssrf_guard.read("https://Hooks.Example.:8443/a?b=1") == ssrf_guard.Target(
        "https", "hooks.example", 8443, "/a?b=1"
    )
    assert ssrf_guard.read("https://bücher.example").host == "xn--bcher-kva.example"
    assert ssrf_guard.read("https://ｈooks.example").host == "hooks.example"
    assert ssrf_guard.read("https://[2606:2800::1]/").host == "2606:2800::1"


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "2130706433", "127.1", "0x7f000001", "0177.0.0.1", "localhost", "[::1]"),
        *("[::ffff:127.0.0.1]", "[::FFFF:7F00:1]", "[0:0:0:0:0:ffff:7f00:0001]", "[::ffff:0:127.0.0.1]"),
        *("[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[3fff::1]", "[5f00::1]"),
    ],
)
def test_spellings_of_this_machine(host: str) -> None:
    answer = sending.post(f"https://{host}/", b"{}", {})
    assert (answer.status, answer.error) == (None, "The host has an address that is not called from here.")


def answers(monkeypatch: pytest.MonkeyPatch, *rounds: list[str]) -> list[str]:
    """A name server that gives these addresses, one list after the other; returns the names that were asked."""
    asked: list[str] = []

    def resolve(host: str, port: int, *more: Any, **options: Any) -> list[Any]:
        asked.append(host)
        addresses = rounds[min(len(asked), len(rounds)) - 1]
        if not addresses:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(ssrf_guard.socket, "getaddrinfo", resolve)
    return asked


def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []

    def connect(address: Any, timeout: float) -> Any:
        made.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(sending.socket, "create_connection", connect)
    return made


@pytest.mark.parametrize("address", ["::ffff:10.0.0.1", "::ffff:93.184.216.34", "3fff::1", "5f00::1"])
def test_a_name_server_cannot_answer_in_disguise(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ["93.184.216.34", address])
    made = connections(monkeypatch)
    assert sending.post("https://hooks.example/", b"{}", {}).error.startswith("The host has an address")
    assert made == []


def test_one_forbidden_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ["93.184.216.34", "10.0.0.1"])
    made = connections(monkeypatch)
    assert sending.post("https://hooks.example/", b"{}", {}).error.startswith("The host has an address")
    assert made == []


def test_a_name_is_resolved_once_an_attempt_and_the_connection_pinned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: the second answer would lead inside."""
    asked = answers(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
    made = connections(monkeypatch)
    assert sending.post("https://hooks.example/", b"{}", {}).error == "The connection was refused."
    assert (asked, made) == (["hooks.example"], [("93.184.216.34", 443)])
    assert sending.post("https://hooks.example/", b"{}", {}).error.startswith("The host has an address")
    assert len(made) == 1


def test_names_that_do_not_resolve_and_slow_name_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, [])
    assert (
        sending.post("https://hooks.example/", b"{}", {}).error == "The name of the host cannot be resolved."
    )
    monkeypatch.setattr(ssrf_guard, "RESOLVE_S", 0.2)
    monkeypatch.setattr(
        ssrf_guard.socket,
        "getaddrinfo",
        lambda *a, **k: pause(30, "a name server that does not answer") or [],
    )
    assert sending.post("https://hooks.example/", b"{}", {}).status is None


# --- Real servers that behave badly --------------------------------------------------------------------------


@pytest.fixture
def local(settings: Any) -> None:
    settings.WEBHOOK_ALLOW_HTTP = True
    settings.WEBHOOK_PORTS = ("1024-65535",)
    settings.WEBHOOK_ALLOWED_NETWORKS = ("127.0.0.1/32",)


@pytest.fixture
def hurried(local: None, settings: Any) -> None:
    settings.WEBHOOK_TIMEOUT_S = 1.5


@contextmanager
def raw(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does as it likes with each connection."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=_quietly, args=(behave, client), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
    finally:
        server.close()


def _quietly(behave: Callable[[socket.socket], None], client: socket.socket) -> None:
    try:
        with client:
            behave(client)
    except OSError:
        return


def posted(url: str) -> sending.Answer:
    return sending.post(url, b"{}", {})


def drip(client: socket.socket) -> None:
    """One byte of a header at a time, for ever: no single read takes long."""
    client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        client.sendall(b"a")
        pause(0.1, "a server that drips")


def drip_body(client: socket.socket) -> None:
    client.recv(4096)
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        client.sendall(b"a")
        pause(0.1, "a server that drips")


def silent(client: socket.socket) -> None:
    pause(10, "a server that says nothing")


def endless(client: socket.socket) -> None:
    client.recv(4096)
    client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        client.sendall(b"10000\r\n" + b"a" * 65536 + b"\r\n")


def continues(client: socket.socket) -> None:
    while True:
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        pause(0.01, "a server that drips")


@pytest.mark.parametrize("behave", [drip, silent, continues])
def test_the_whole_of_an_attempt_is_bounded(hurried: None, behave: Callable[..., None]) -> None:
    with raw(behave) as url:
        answer = posted(url)
    assert (answer.status, answer.error) == (None, "No answer within 1.5 seconds.")


def test_a_body_without_end_is_left_and_the_status_counts(
    local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "BODY_S", 0.5)
    for behave in (drip_body, endless):
        with raw(behave) as url:
            answer = posted(url)
        assert answer.ok
        assert len(answer.excerpt) <= sending.EXCERPT_BYTES


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    ],
)
def test_what_is_not_http(local: None, said: bytes) -> None:
    def behave(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(said)

    with raw(behave) as url:
        answer = posted(url)
    assert answer.status is None
    assert answer.error


def test_a_huge_answer_with_hostile_text(local: None) -> None:
    with receiving() as server:
        server.answer = plain(500, b"\0\x1b[31m\xff" + b"x" * 5_000_000)
        answer = sending.post(server.url, b"{}", {})
    assert answer.status == 500
    assert len(answer.excerpt) <= sending.EXCERPT_BYTES
    assert "\0" not in answer.excerpt
    assert "\x1b" not in answer.excerpt


def test_proxies_of_the_environment_are_not_asked(local: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    with receiving() as server:
        assert sending.post(server.url, b"{}", {}).ok


# --- TLS -----------------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, secret = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    kind = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()))
    return chain, secret


@pytest.mark.parametrize(("name", "fits"), [("hooks.example", True), ("other.example", False)])
def test_the_certificate_is_checked_for_the_name_and_the_name_is_asked_for(
    local: None, name: str, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, secret = certificate(tmp_path, name)
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    answers(monkeypatch, ["127.0.0.1"])
    asked: list[str | None] = []
    with receiving() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, secret)
        context.sni_callback = lambda sock, asked_name, ctx: asked.append(asked_name)
        server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
        answer = sending.post(f"https://hooks.example:{server.port}/", b"{}", {})
        assert asked == ["hooks.example"]
        assert answer.ok == fits, answer
        assert len(server.requests) == int(fits)
        if fits:
            assert server.requests[0]["headers"]["Host"] == f"hooks.example:{server.port}"
        else:
            assert answer.error.startswith("The certificate cannot be trusted")


def test_a_handshake_that_hangs_is_bounded(hurried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ["127.0.0.1"])
    with raw(silent) as url:
        port = url.split(":")[2].strip("/")
        answer = posted(f"https://hooks.example:{port}/")
    assert answer.status is None
