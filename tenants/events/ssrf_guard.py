"""Where webhooks, sign-on and streams may ask: an address that a tenant typed must not reach what only we can.

The name is resolved here, every address of it is checked, and the connection is made to a checked address (`sending`),
so that a name that answers differently the second time leads nowhere else. Checked anew at each attempt.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import idna
from django.conf import settings
from django.utils.translation import gettext as _

from tenants.errors import Invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL = 2000
PORTS = ("80", "443", "8080", "8443")
# Schemes of brokers of streams: with TLS or without, and the usual ports.
BROKERS = {
    "redis": (False, 6379),
    "rediss": (True, 6379),
    "amqp": (False, 5672),
    "amqps": (True, 5671),
    "kafka": (False, 9092),
    "kafkas": (True, 9093),
}
BROKER_PORTS = ("5671-5672", "6379-6380", "9092-9094")
RESOLVE_S = 5.0
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# What Python's `is_global` lets pass, or has let pass in some release, and what leads elsewhere than it says.
_FORBIDDEN: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15"),
        *("224.0.0.0/4", "240.0.0.0/4"),
        # The host agent of one large cloud has a public address.
        "168.63.129.16/32",
        # Teredo and 6to4, which lead to an IPv4 address inside them; documentation.
        *("2001::/32", "2002::/16", "3fff::/20"),
    )
)
# What the internet gives out. Outside of it lie IPv4 addresses in disguise (::a.b.c.d, ::ffff:a.b.c.d,
# ::ffff:0:a.b.c.d, 64:ff9b:1::/48), segment routing (5f00::/16), and what is private, of one link, or for many.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Blocked(Exception):
    """The address may not be called, or leads nowhere; the text says why, without saying what it resolved to."""


@dataclass(frozen=True)
class Target:
    """A checked URL: `host` is the name in ASCII, as in the Host header and the certificate."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def secure(self) -> bool:
        return self.scheme == "https" or BROKERS.get(self.scheme, (False, 0))[0]


@dataclass(frozen=True)
class Allowance:
    """What the operator allows beside https to usual ports of the public internet."""

    http: bool
    ports: tuple[str, ...]
    hosts: tuple[str, ...]
    networks: tuple[str, ...]


def for_webhooks() -> Allowance:
    return Allowance(
        settings.WEBHOOK_ALLOW_HTTP,
        settings.WEBHOOK_PORTS,
        settings.WEBHOOK_ALLOWED_HOSTS,
        settings.WEBHOOK_ALLOWED_NETWORKS,
    )


def for_streams() -> Allowance:
    return Allowance(
        settings.STREAM_ALLOW_PLAIN,
        (*BROKER_PORTS, *settings.STREAM_PORTS),
        settings.STREAM_ALLOWED_HOSTS,
        settings.STREAM_ALLOWED_NETWORKS,
    )


def for_sign_on() -> Allowance:
    return Allowance(
        settings.SSO_ALLOW_HTTP, settings.SSO_PORTS, settings.SSO_ALLOWED_HOSTS, settings.SSO_ALLOWED_NETWORKS
    )


def read(url: str, allowed: Allowance | None = None) -> Target:
    """The parts of a URL that may be called, without resolving it. Raises Invalid."""
    allowed = allowed or for_webhooks()
    if len(url) > MAX_URL or not url.isprintable() or " " in url or "\\" in url:
        raise _invalid(_("A URL has at most 2,000 visible characters."))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _invalid(_("This is not a URL.")) from error
    schemes = ("https", "http") if allowed.http else ("https",)
    if parts.scheme not in schemes:
        raise _invalid(
            _("The URL starts with %(schemes)s.") % {"schemes": " / ".join(f"{s}://" for s in schemes)}
        )
    if "@" in parts.netloc or parts.fragment:
        raise _invalid(_("The URL has no user name, no password and no fragment."))
    port = port if port is not None else 443 if parts.scheme == "https" else 80
    if not _port_allowed(port, allowed):
        raise _invalid(_("No requests are sent to port %(port)s.") % {"port": port})
    path = _path(parts.path or "/", parts.query)
    host = _host(parts.hostname or "")
    if "[" in parts.netloc and ":" not in host:
        # IPvFuture, which urlsplit lets pass as if it were a name.
        raise _invalid(_("The URL has no usable host name."))
    return Target(parts.scheme, host, port, path)


@dataclass(frozen=True)
class Broker:
    """A checked address of a broker, with the login that stood in it."""

    target: Target
    user: str
    password: str

    @property
    def url(self) -> str:
        """Without the login."""
        host = f"[{self.target.host}]" if ":" in self.target.host else self.target.host
        return f"{self.target.scheme}://{host}:{self.target.port}{self.target.path}"


def read_broker(url: str, schemes: Sequence[str]) -> Broker:
    """The parts of a broker's address, not resolved: `scheme://user:password@host:port/path`. Raises Invalid."""
    allowed = for_streams()
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise _invalid(_("A URL has at most 2,000 visible characters."))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _invalid(_("This is not a URL.")) from error
    usable = [scheme for scheme in schemes if allowed.http or BROKERS[scheme][0]]
    if parts.scheme not in usable:
        raise _invalid(
            _("The URL starts with %(schemes)s.") % {"schemes": " / ".join(f"{s}://" for s in usable)}
        )
    if parts.query or parts.fragment:
        raise _invalid(_("The URL of a broker has no parameters."))
    port = BROKERS[parts.scheme][1] if port is None else port
    if not _port_allowed(port, allowed, ()):
        raise _invalid(_("No requests are sent to port %(port)s.") % {"port": port})
    host = _host(parts.hostname or "")
    if "[" in parts.netloc and ":" not in host:
        raise _invalid(_("The URL has no usable host name."))
    path = "" if parts.path == "/" and parts.scheme not in ("amqp", "amqps") else parts.path
    target = Target(parts.scheme, host, port, path)
    return Broker(target, unquote(parts.username or ""), unquote(parts.password or ""))


def _invalid(detail: str) -> Invalid:
    return Invalid(detail, pointer="/url")


def _port_allowed(port: int, allowed: Allowance, usual: Sequence[str] = PORTS) -> bool:
    for span in (*usual, *allowed.ports):
        first, __, last = span.partition("-")
        if int(first) <= port <= int(last or first):
            return True
    return False


def _path(path: str, query: str) -> str:
    full = f"{path}?{query}" if query else path
    if not full.isascii():
        raise _invalid(_("Write what is not ASCII in the path percent-encoded."))
    return full


def _host(host: str) -> str:
    """The host in one spelling: an address as such, a name in the ASCII form of IDNA."""
    name = host.rstrip(".")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        encoded = idna.encode(name, uts46=True).decode() if not name.isascii() else name.lower()
    except idna.IDNAError as error:
        raise _invalid(_("The URL has no usable host name.")) from error
    if len(encoded) > 253 or not encoded or not all(map(_LABEL.fullmatch, encoded.split("."))):
        raise _invalid(_("The URL has no usable host name."))
    return encoded


def addresses_of(target: Target, allowed: Allowance | None = None) -> list[str]:
    """The addresses to connect to, all of them checked. Raises Blocked; never from within a transaction."""
    allowed = allowed or for_webhooks()
    try:
        found = _resolve(target.host, target.port)
    except OSError as error:
        raise Blocked("The name of the host cannot be resolved.") from error
    if not found:
        raise Blocked("The name of the host cannot be resolved.")
    if target.host not in allowed.hosts and not all(may_call(address, allowed) for address in found):
        raise Blocked("The host has an address that is not called from here.")
    return found


def may_call(address: str, allowed: Allowance | None = None) -> bool:
    """Whether this IP address is one of the public internet, or of a network that the operator allows."""
    allowed = allowed or for_webhooks()
    try:
        found: Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    real = _embedded_ipv4(found)
    if any(real in ipaddress.ip_network(network, strict=False) for network in allowed.networks):
        return True
    # No name server of the internet answers with an IPv4 address in disguise; a translator's prefix, which one of an
    # IPv6 network does answer with, counts by what it leads to.
    if isinstance(found, ipaddress.IPv6Address) and found not in _GLOBAL_UNICAST and found not in _NAT64:
        return False
    return real.is_global and not real.is_multicast and not any(real in network for network in _FORBIDDEN)


def _embedded_ipv4(address: Address) -> Address:
    """The IPv4 address inside one that only wraps it."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        # ::a.b.c.d, deprecated, and what a translator of the network turns into IPv4.
        if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _resolve(host: str, port: int) -> list[str]:
    """Like getaddrinfo, in bounded time: a name server of the tenant's own may be slow on purpose."""
    answer: list[Sequence[str] | OSError] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.append(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
        except (OSError, UnicodeError) as error:
            answer.append(OSError(str(error)))

    thread = threading.Thread(target=ask, daemon=True, name="resolve")
    thread.start()
    thread.join(RESOLVE_S)
    if not answer:
        raise TimeoutError("the name server does not answer")
    if isinstance(answer[0], OSError):
        raise answer[0]
    return list(answer[0])
