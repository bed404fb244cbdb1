"""Lists of networks (CIDR, IPv4 and IPv6) from which a tenant, or a key, may be used. An empty list: from anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from django.utils.translation import gettext as _

from tenants.errors import Invalid

Network = IPv4Network | IPv6Network
MOST, MAX_LENGTH = 100, 50


def read_networks(given: Iterable[str], pointer: str = "/networks") -> list[str]:
    """Each in its one spelling, and once. Raises Invalid with a pointer for each that is none, and for too many."""
    found: dict[str, None] = {}
    problems = []
    for place, text in enumerate(given):
        try:
            found[str(ip_network(text.strip(), strict=False))] = None
        except ValueError:
            said = _("This is no network: %(given)s. Write an address, or one with a length: 192.0.2.0/24.")
            problems.append({"pointer": f"{pointer}/{place}", "detail": said % {"given": text[:MAX_LENGTH]}})
    if problems:
        refusal = Invalid(problems[0]["detail"], pointer=pointer)
        refusal.errors = problems
        raise refusal
    if len(found) > MOST:
        raise Invalid(_("At most %(count)s networks.") % {"count": MOST}, pointer=pointer)
    return list(found)


@lru_cache(maxsize=4096)
def admits(networks: tuple[str, ...], address: str) -> bool:
    """Whether an address is in one of these; any is where there are none. What is no address is in none."""
    if not networks:
        return True
    known = as_address(address)
    return known is not None and any(ip_address(known) in ip_network(network) for network in networks)


def as_address(given: str) -> str | None:
    """An address in its one spelling, an IPv4 one that was mapped into IPv6 as such; None for what is no address."""
    try:
        found = ip_address(given)
    except ValueError:
        return None
    return str(getattr(found, "ipv4_mapped", None) or found)


def network_of(address: str) -> str:
    """What one household or server has: the /64 of an IPv6 address, and any other address as it is."""
    if ":" not in address:
        return address
    try:
        return str(ip_network((ip_address(address), 64), strict=False))
    except ValueError:
        return address


def are_inside(inner: Iterable[str], outer: Iterable[str]) -> bool:
    """Whether these networks reach no further than those: an empty list reaches everywhere."""
    bounds, asked = [ip_network(one) for one in outer], [ip_network(one) for one in inner]
    if not bounds:
        return True
    return bool(asked) and all(any(_is_inside(one, bound) for bound in bounds) for one in asked)


def _is_inside(one: Network, bound: Network) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(bound, IPv4Network) and one.subnet_of(bound)
    return isinstance(bound, IPv6Network) and one.subnet_of(bound)
