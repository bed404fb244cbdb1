"""Passwords of 12 characters and more that are refused, and those that are not."""

from __future__ import annotations

import base64
import random
import secrets
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.hashers import check_password
from django.core.management import CommandError, call_command
from django.test import Client

from tenants.accounts import passwords
from tenants.accounts.models import Tenant, User
from tenants.accounts.password_rules import COMMON, NAMED, common_passwords, why_guessable
from tenants.errors import Invalid
from tests.conftest import Party


@pytest.mark.parametrize(
    "password",
    [
        *("password1234", "Password2026!", "P@ssw0rd2024!!", "p4$$w0rd1234", "2024-passw0rd", "PASSWORD____"),
        *(
            "passwordpassword",
            "monkeymonkey",
            "monkeymonkeymon",
            "dragonmonkey",
            "iloveyoumichael",
            "Sun$hine Dr4gon",
        ),
        *("qwertyuiop[]", "1qaz2wsx3edc", "zxcvbnm,./;'", "qweasdzxc123", "poiuytrewqlk", "asdfghjkl;'1"),
        *(
            "123456789012",
            "098765432109",
            "abcdefghijkl",
            "zyxwvutsrqpo",
            "aaaaaaaaaaaa",
            "abcabcabcabc",
            "ababababababab",
        ),
        *(
            "correcthorsebatterystaple",
            "Correct Horse Battery Staple",
            "maytheforcebewithyou!",
            "iloveyouforever1",
        ),
        *(
            "woaini1314520",
            "WOAINI5201314",
            "ｐａｓｓｗｏｒｄ１２３４",
            "l3tm31npl34s3",
            "!!!!!!!!!!!!",
            "2024 2025 2026",
        ),
        *("1nternational", "TheQuickBrownFox9", "administrator"),
    ],
)
def test_common_ones_in_disguise(password: str) -> None:
    assert len(password) >= 12
    assert why_guessable(password) == COMMON


@pytest.mark.parametrize(
    "password",
    [
        *(
            "Crosslight2026",
            "cr0ssl1ght!!!!",
            "crosslight-password",
            "Cornershop12345",
            "the Corner Shop",
            "corner.shop.2026",
        ),
        *("AnnBeechworth1", "beechworth-ann", "ann.beechworth", "B33chw0rth2026", "beechworthmonkey"),
    ],
)
def test_names_at_hand(password: str) -> None:
    names = ["Ann Beechworth", "ann.beechworth@corner.example", "The Corner Shop", "corner-shop"]
    assert why_guessable(password, names) == NAMED


@pytest.mark.parametrize(
    "password",
    [
        *("correct horse battery", "another horse battery", "violet staircase yodel", "a long enough phrase"),
        *(
            "Tr0ub4dor&3-lantern",
            "h7Qx2Lm9vT4z",
            "kaffee trinken im Regen",
            "我家的猫今天又打翻了杯子",
            "dunkle 7 Pfützen",
        ),
        *("long-enough-for-all-1", "crosslight lantern kettle", "corner piano avalanche"),
    ],
)
def test_good_ones(password: str) -> None:
    assert why_guessable(password, ["Ann Beechworth", "ann@corner.example", "The Corner Shop"]) == ""


def test_what_chance_makes_is_hardly_ever_refused() -> None:
    """As a manager of passwords would make them; a few look like walks over the keys."""
    chance = random.Random(7)
    made = [base64.urlsafe_b64encode(chance.randbytes(12)).decode() for _ in range(20_000)]
    assert sum(bool(why_guessable(password)) for password in made) <= 8


def test_a_password_that_the_product_makes_is_never_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_urlsafe", lambda length: "qwertyqwertyqwerty")
    monkeypatch.delenv("OWNER_PASSWORD", raising=False)
    slug, told = f"t-{secrets.token_hex(6)}", StringIO()
    call_command("create_tenant", slug, "--owner", f"owner@{slug}.example", stdout=told)
    assert "password  qwertyqwertyqwerty" in told.getvalue()


def test_the_lists_are_there() -> None:
    known = common_passwords()
    assert {"password", "qwerty", "iloveyouforever", "woaini1314520"} <= known
    assert len(known) > 19_000


def test_at_least_twelve_characters_and_workspaces_of_the_person_count(party: Party) -> None:
    Tenant.objects.filter(pk=party.id).update(name="Beechworth Granary")
    for weak, said in (
        ("h7Qx2Lm9vT4", "at least 12 characters"),
        ("BeechworthGranary1", "little more than a name"),
        ("granary-2026", "little more than a name"),
    ):
        with pytest.raises(Invalid, match=said):
            passwords.change_password(user=party.owner, password=weak)
    assert check_password(party.password, User.objects.get(pk=party.owner.pk).password), "nothing changed"
    passwords.change_password(user=party.owner, password="h7Qx2Lm9vT4z")


def test_the_workspace_that_is_joined_counts() -> None:
    with pytest.raises(Invalid, match="little more than a name"):
        passwords.check("granary-2026!", User(email="ann@people.example"), ["Beechworth Granary"])


def test_a_short_one_from_before_goes_on_to_open_its_account(party: Party) -> None:
    party.owner.set_password("short")
    party.owner.save()
    answer = Client().post("/login", {"username": party.owner.email, "password": "short"})
    assert (answer.status_code, answer["Location"]) == (302, "/")


def test_commands_refuse_them(monkeypatch: Any) -> None:
    slug = f"t-{secrets.token_hex(6)}"
    monkeypatch.setenv("OWNER_PASSWORD", "password1234")
    with pytest.raises(CommandError, match="among the first that are tried"):
        call_command("create_tenant", slug, "--owner", f"owner@{slug}.example")
    assert not Tenant.objects.filter(slug=slug).exists()
    assert not User.objects.filter(email=f"owner@{slug}.example").exists()
