"""The address and the scheme of whoever really asks, where proxies stand before the web process.

Headers that a client may write itself are believed only on a connection from `settings.TRUSTED_PROXIES`, and of a chain
only as far as trusted proxies wrote it: from the right, the first address that is none of theirs. The ASGI scope is
rewritten once, at the edge, so that sessions, logs and limits need not know of proxies. RFC 7239 describes `Forwarded`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from tenants.accounts.networks import as_address

Scope = MutableMapping[str, Any]
Network = IPv4Network | IPv6Network
Hop = tuple[str, str]

X_FORWARDED_FOR, FORWARDED = "x-forwarded-for", "forwarded"
_SCHEMES = frozenset({"http", "https"})
# 192.0.2.1:443 and [2001:db8::1]:443; an IPv6 address without brackets has no port.
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\w+)?|([0-9.]+):\w+")
# A pair of Forwarded, and an element of such pairs. Elements are parted at commas wherever they stand, from the right:
# else a quotation mark that a client opened and never closed would swallow what the proxy added.
_PAIR = re.compile(
    r"(?<![!#$%&'*+.^`|~\w-])([!#$%&'*+.^`|~\w-]++)="
    r"(?:([!#$%&'*+.^`|~\w:\[\]-]+)|\"((?:[^\"\\]|\\.)*)\")"
)
_ELEMENT = re.compile(rf"(?:{_PAIR.pattern})(?:\s*;\s*(?:{_PAIR.pattern}))*;?")


def read_networks(given: str) -> tuple[Network, ...]:
    """Networks from a comma-separated list, such as `10.0.0.0/8,::1`. Raises ImproperlyConfigured."""
    try:
        return tuple(ip_network(part.strip(), strict=False) for part in given.split(",") if part.strip())
    except ValueError as error:
        raise ImproperlyConfigured(
            f"TRUSTED_PROXIES: {error}. Write addresses or networks with commas, such as 127.0.0.1,10.0.0.0/8."
        ) from error


def read_header(given: str) -> str:
    """The one header that carries addresses, in small letters. Raises ImproperlyConfigured."""
    name = given.strip().lower()
    if name not in (X_FORWARDED_FOR, FORWARDED):
        raise ImproperlyConfigured("TRUSTED_PROXY_HEADER is X-Forwarded-For or Forwarded.")
    return name


def plain_address(text: str) -> str:
    """An IP address in its one spelling, without port, brackets, zone, or IPv6 around IPv4; "" for anything else."""
    text = text.strip()
    if ported := _WITH_PORT.fullmatch(text):
        text = ported[1] or ported[2] or ""
    return as_address(text.partition("%")[0]) or ""


class TrustedProxies:
    """The proxies that are believed. `header` is the only header that addresses are read from.

    A proxy that writes one of the two passes the other on as the client sent it, so both together prove nothing.
    """

    def __init__(self, networks: Sequence[Network], header: str = X_FORWARDED_FOR) -> None:
        self._networks = tuple(networks)
        self._hops = _forwarded if header == FORWARDED else _x_forwarded_for
        self._trusts = lru_cache(maxsize=4096)(self._is_trusted)

    def resolved(self, scope: Scope) -> Scope:
        """The scope with `client` (a forwarded one has port 0) and `scheme` as the outermost trusted proxy saw them."""
        peer, port = scope.get("client") or ("", 0)
        address, scheme = plain_address(peer), str(scope["scheme"])
        if self._networks and self._trusts(address):
            for hop, said in self._hops(scope):
                scheme = said if said in _SCHEMES else scheme
                # Garbage, or "unknown": the proxy that wrote it is the last that is known.
                if hop:
                    address, port = hop, 0
                if not hop or not self._trusts(hop):
                    break
        if address in ("", peer) and scheme == scope["scheme"]:
            return scope
        return {**scope, "client": (address, port), "scheme": scheme}

    def _is_trusted(self, address: str) -> bool:
        return bool(address) and any(ip_address(address) in network for network in self._networks)


def _parts(scope: Scope, name: str) -> list[str]:
    """The elements of a header, last first; a proxy may add a line of its own instead of adding to the last one."""
    lines = [value.decode("latin-1") for key, value in scope["headers"] if key == name.encode()]
    return [part.strip() for line in reversed(lines) for part in reversed(line.split(","))]


def _x_forwarded_for(scope: Scope) -> Iterator[Hop]:
    """Addresses from the right, with the scheme by which the outermost proxy was asked: inner ones pass that on."""
    scheme = next(iter(_parts(scope, "x-forwarded-proto")), "").lower()
    # A proxy that tells the scheme alone.
    yield from ((plain_address(part), scheme) for part in _parts(scope, X_FORWARDED_FOR) or [""])


def _forwarded(scope: Scope) -> Iterator[Hop]:
    """Addresses from the right, each with the scheme that its own element tells."""
    for part in _parts(scope, FORWARDED):
        pairs: dict[str, str] = {}
        if _ELEMENT.fullmatch(part):
            pairs = {name.lower(): token or quoted for name, token, quoted in _PAIR.findall(part)}
        yield plain_address(pairs.get("for", "")), pairs.get("proto", "").lower()
