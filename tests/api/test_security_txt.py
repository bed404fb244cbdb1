"""`/.well-known/security.txt`: RFC 9116, and nothing where nobody has said whom to tell."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.utils import timezone

from config.settings import read_moment


def test_without_a_contact_there_is_none(client: Client) -> None:
    answer = client.get("/.well-known/security.txt")
    assert (answer.status_code, answer.content) == (404, b"Nobody is named here.\n")


def test_it_names_what_the_settings_name(client: Client, settings: Any) -> None:
    until = timezone.now().replace(microsecond=0) + dt.timedelta(days=90)
    settings.SECURITY_CONTACT = ["mailto:security@shop.example", "https://shop.example/report"]
    settings.SECURITY_EXPIRES, settings.SECURITY_POLICY = until, "https://shop.example/policy"
    settings.BASE_URL = "https://shop.example"
    answer = client.get("/.well-known/security.txt")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.content.decode().splitlines() == [
        "Contact: mailto:security@shop.example",
        "Contact: https://shop.example/report",
        f"Expires: {until:%Y-%m-%dT%H:%M:%SZ}",
        "Canonical: https://shop.example/.well-known/security.txt",
        "Policy: https://shop.example/policy",
        "Preferred-Languages: en, zh",
    ]


def test_an_expired_one_is_not_served(client: Client, settings: Any) -> None:
    settings.SECURITY_CONTACT = ["mailto:security@shop.example"]
    settings.SECURITY_EXPIRES = timezone.now() - dt.timedelta(seconds=1)
    assert client.get("/.well-known/security.txt").status_code == 404


@pytest.mark.parametrize("value", ["tomorrow", "2027-06-30", "2027-06-30T00:00:00"])
def test_a_moment_needs_its_zone(value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="SECURITY_EXPIRES is a moment"):
        read_moment("SECURITY_EXPIRES", value)
