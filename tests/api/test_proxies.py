"""Whose address a request has, behind proxies and without: what a client writes itself is believed from nobody."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.proxies import FORWARDED, TrustedProxies, plain_address, read_header, read_networks

PROXY, OUTER, CLIENT = "10.0.0.1", "10.0.0.2", "203.0.113.5"
NETWORKS = read_networks(" 10.0.0.0/24, 2001:db8:ffff::/48 ,127.0.0.1")


def asked(peer: str, *headers: tuple[str, str], proxies: TrustedProxies | None = None) -> tuple[str, str]:
    """The address and the scheme that the rest of the product sees."""
    scope: dict[str, Any] = {
        "type": "http",
        "scheme": "http",
        "client": (peer, 40_000),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }
    found = (proxies or TrustedProxies(NETWORKS)).resolved(scope)
    return found["client"][0], found["scheme"]


def xff(value: str) -> tuple[str, str]:
    return "X-Forwarded-For", value


def forwarded(peer: str, *values: str) -> tuple[str, str]:
    proxies = TrustedProxies(NETWORKS, FORWARDED)
    return asked(peer, *(("Forwarded", value) for value in values), proxies=proxies)


def test_without_trusted_proxies_no_header_counts() -> None:
    told = (xff(CLIENT), ("Forwarded", f"for={CLIENT};proto=https"), ("X-Forwarded-Proto", "https"))
    for header in ("x-forwarded-for", FORWARDED):
        assert asked(PROXY, *told, proxies=TrustedProxies((), header)) == (PROXY, "http")
        assert asked(CLIENT, *told, proxies=TrustedProxies(NETWORKS, header)) == (CLIENT, "http")


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (CLIENT, CLIENT),
        # What the client itself sent stands to the left of what the proxy added.
        (f"198.51.100.1, {CLIENT}", CLIENT),
        (f"198.51.100.1,{CLIENT} , {OUTER}", CLIENT),
        (f"127.0.0.1, {OUTER}", "127.0.0.1"),
        (f"{CLIENT}:41234", CLIENT),
        ("[2001:db8::7]:41234", "2001:db8::7"),
        ("[2001:DB8:0::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:203.0.113.5", CLIENT),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8:ffff::1, 2001:db8:ffff::2", "2001:db8:ffff::1"),
        # Garbage is nobody's address: the last proxy that is known stands for it.
        ("", PROXY),
        ("unknown", PROXY),
        (f"{CLIENT}, unknown", PROXY),
        (f"{CLIENT}, nonsense, {OUTER}", OUTER),
        (f"{CLIENT}, 300.1.2.3", PROXY),
        (f"{CLIENT}, \xff\x00", PROXY),
        (f"{CLIENT}, ", PROXY),
        ("203.0.113.5\n198.51.100.1", PROXY),
    ],
)
def test_the_right_most_hop_that_is_not_trusted(given: str, address: str) -> None:
    assert asked(PROXY, xff(given)) == (address, "http")


def test_lines_of_a_header_are_one_list_in_their_order() -> None:
    assert asked(PROXY, xff("198.51.100.1"), xff(CLIENT)) == (CLIENT, "http")
    assert asked(PROXY, xff(CLIENT), xff(OUTER)) == (CLIENT, "http")


def test_only_the_configured_header_counts() -> None:
    lie = ("Forwarded", "for=198.51.100.1;proto=https")
    assert asked(PROXY, lie, xff(CLIENT)) == (CLIENT, "http")
    proxies = TrustedProxies(NETWORKS, FORWARDED)
    truth = ("Forwarded", f"for={CLIENT}")
    told = asked(PROXY, truth, xff("198.51.100.1"), ("X-Forwarded-Proto", "https"), proxies=proxies)
    assert told == (CLIENT, "http")


def test_the_scheme_is_the_proxys_word() -> None:
    assert asked(PROXY, xff(CLIENT), ("X-Forwarded-Proto", "HTTPS")) == (CLIENT, "https")
    assert asked(PROXY, ("X-Forwarded-Proto", "https")) == (PROXY, "https")
    # A proxy that adds its word to what the client sent.
    assert asked(PROXY, xff(CLIENT), ("X-Forwarded-Proto", "https, http")) == (CLIENT, "http")
    assert asked(PROXY, xff(CLIENT), ("X-Forwarded-Proto", "https\r\n, ftp")) == (CLIENT, "http")
    assert asked(CLIENT, ("X-Forwarded-Proto", "https")) == (CLIENT, "http")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (f"for={CLIENT};proto=https;by={PROXY}", (CLIENT, "https")),
        (f"for=198.51.100.1;proto=http, For={CLIENT};Proto=https", (CLIENT, "https")),
        (f'for={CLIENT};proto=https, for="{OUTER}:80";proto=http', (CLIENT, "https")),
        ('for="[2001:db8::7]:4711";host="a.example";proto=https', ("2001:db8::7", "https")),
        ("for=unknown;proto=https", (PROXY, "https")),
        ("for=_hidden", (PROXY, "http")),
        ("proto=https", (PROXY, "https")),
        ("nonsense", (PROXY, "http")),
        # A quotation mark that the client leaves open swallows nothing that the proxy added.
        (f'for="198.51.100.1, for={CLIENT}', (CLIENT, "http")),
        # A host that the client chose is no address, however it is written.
        (f'for={CLIENT};host="x, for=198.51.100.1"', (PROXY, "http")),
        (f'for={CLIENT};host="x, for=198.51.100.1;a=\\"b"', (PROXY, "http")),
    ],
)
def test_forwarded(given: str, found: tuple[str, str]) -> None:
    assert forwarded(PROXY, given) == found
    # Lines of one header are one list.
    assert forwarded(PROXY, f"for=198.51.100.9;proto={found[1]}", given) == found


def test_a_scope_without_a_client_stays_as_it_is() -> None:
    scope = {"type": "http", "scheme": "http", "client": None, "headers": [(b"x-forwarded-for", b"::1")]}
    assert TrustedProxies(NETWORKS).resolved(scope) is scope


def test_one_spelling_of_an_address_without_proxies_too() -> None:
    assert asked("::ffff:127.0.0.9", proxies=TrustedProxies(())) == ("127.0.0.9", "http")
    assert plain_address("[::1]") == "::1"
    assert plain_address("1.2.3.4.5") == ""


def test_settings_that_are_wrong_say_what_to_write() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"Write addresses or networks"):
        read_networks("10.0.0.0/8, proxy.example")
    with pytest.raises(ImproperlyConfigured, match="X-Forwarded-For or Forwarded"):
        read_header("X-Real-IP")
    assert (read_networks(""), read_header(" Forwarded ")) == ((), FORWARDED)
