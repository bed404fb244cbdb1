"""The commands with which an operator begins."""

from __future__ import annotations

import secrets

import pytest
from django.core.management import CommandError, call_command

from tenants.accounts import api_admission
from tenants.accounts.models import Membership, Tenant, User


def test_an_operator_is_made_once_and_with_a_good_password(monkeypatch, capsys) -> None:
    email = f"{secrets.token_hex(6)}@operators.example"
    monkeypatch.setenv("OPERATOR_PASSWORD", "12345678")
    with pytest.raises(CommandError, match="at least 12 characters"):
        call_command("create_operator", email)
    assert not User.objects.filter(email=email).exists()
    monkeypatch.setenv("OPERATOR_PASSWORD", "a long enough phrase")
    call_command("create_operator", email)
    assert User.objects.get(email=email).is_staff
    with pytest.raises(CommandError, match="registered already"):
        call_command("create_operator", email)
    with pytest.raises(CommandError, match="not an e-mail"):
        call_command("create_operator", "nobody")


def test_a_tenant_comes_with_its_owner_and_a_key(capsys) -> None:
    slug = f"t-{secrets.token_hex(6)}"
    call_command("create_tenant", slug, "--owner", f"owner@{slug}.example", "--name", "A Shop")
    printed = dict(
        line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if "key" not in line
    )
    assert printed["owner"] == f"owner@{slug}.example"
    assert User.objects.get(email=printed["owner"]).check_password(printed["password"])
    assert Membership.objects.get(tenant__slug=slug).role == "owner"


def test_the_printed_key_opens_the_tenant(capsys, party) -> None:
    slug = f"t-{secrets.token_hex(6)}"
    call_command("create_tenant", slug, "--owner", party.owner.email)
    printed = capsys.readouterr().out
    assert "password" not in printed
    token = next(line.split()[-1] for line in printed.splitlines() if line.startswith("api key"))
    assert api_admission.identify(token).tenant_id == str(Tenant.objects.get(slug=slug).id)


def test_a_tenant_that_cannot_be_made_leaves_nobody_behind(party) -> None:
    email = f"{secrets.token_hex(6)}@owners.example"
    with pytest.raises(CommandError, match="exists already"):
        call_command("create_tenant", party.tenant.slug, "--owner", email)
    with pytest.raises(CommandError, match="Unknown plan"):
        call_command("create_tenant", f"t-{secrets.token_hex(6)}", "--owner", email, "--plan", "golden")
    assert not User.objects.filter(email=email).exists()


def test_the_migrations_are_those_of_the_models(capsys) -> None:
    call_command("makemigrations", "--check", "--dry-run")
    assert "No changes detected" in capsys.readouterr().out
