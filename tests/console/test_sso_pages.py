"""The pages on which a workspace sets up its single sign-on: what their forms take, and how they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from tenants.accounts.models import IdentityProvider
from tenants.accounts.permissions import Actor
from tenants.people import roles
from tenants.people.sign_on import connections, saml
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.saml_provider import metadata as idp_metadata
from tests.tenants.sign_on_world import allow_local

NEW = "/security/single-sign-on/new"
OIDC = {
    "protocol": "oidc",
    "name": "House login",
    "issuer": "https://login.example.org",
    "client_id": "crosslight",
    "client_secret": "s3cret",
}


@pytest.fixture(autouse=True)
def _local(settings: Any) -> None:
    allow_local(settings)


@pytest.fixture
def owner(party: Party) -> Client:
    client = Client()
    client.force_login(party.owner)
    return client


def providers(party: Party) -> list[IdentityProvider]:
    with tenant_scope(party.id):
        return list(IdentityProvider.objects.order_by("id"))


def test_roles_are_chosen_among_those_of_the_workspace(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        roles.create_role(actor=Actor("key:t", "admin"), name="night-shift", scopes=["read"])
    page = owner.get(f"{NEW}?protocol=oidc").content.decode()
    assert "Roles: admin, editor, reviewer, viewer, night-shift." in page
    lines = {"role_claim": "groups", "role_lines": "catalogue-team = editor\nnights=night-shift"}
    made = owner.post(NEW, {**OIDC, **lines, "default_role": "viewer", "sync_roles": "on"})
    [row] = providers(party)
    assert made.headers["Location"] == f"/security/single-sign-on/connections/{row.pk}"
    assert (row.default_role, row.sync_roles) == ("viewer", True)
    assert row.role_map == [
        {"value": "catalogue-team", "role": "editor"},
        {"value": "nights", "role": "night-shift"},
    ]
    shown = owner.get(f"{made.headers['Location']}/edit").content.decode()
    assert "nights = night-shift" in shown
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"role_lines": "ops = owner"}, "role_lines"),
        ({"role_lines": "ops"}, "role_lines"),
        ({"default_role": "owner"}, "default_role"),
        ({"issuer": "file:///etc/passwd"}, "issuer"),
        ({"issuer": "https://u:p@login.example.org"}, "issuer"),
        ({"client_id": ""}, "client_id"),
        ({"client_secret": "s\x07"}, "client_secret"),
    ],
)
def test_what_an_openid_provider_cannot_be(party: Party, owner: Client, sent: Any, field: str) -> None:
    answer = owner.post(NEW, {**OIDC, **sent})
    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == [field]
    assert providers(party) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "This is needed."),
        (b"<html></html>", "It describes no identity provider."),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "declares entities"),
        (b" " * (saml.MAX_METADATA + 1), "more than a megabyte"),
    ],
)
def test_what_is_no_metadata_of_a_saml_provider(
    party: Party, owner: Client, content: bytes | None, said: str
) -> None:
    sent: dict[str, Any] = {"protocol": "saml", "name": "House login"}
    if content is not None:
        sent["metadata"] = SimpleUploadedFile("idp.xml", content, "application/xml")
    answer = owner.post(NEW, sent)
    assert answer.status_code == 422
    assert said in str(answer.context["form"].errors["metadata"])
    assert providers(party) == []


def test_a_change_keeps_the_secret_and_the_metadata(party: Party, owner: Client) -> None:
    owner.post(NEW, OIDC)
    metadata = SimpleUploadedFile("idp.xml", idp_metadata().encode(), "application/xml")
    owner.post(NEW, {"protocol": "saml", "name": "Other login", "metadata": metadata})
    oidc, by_saml = providers(party)
    for row, sent in ((oidc, {**OIDC, "client_secret": ""}), (by_saml, {"name": "Other login"})):
        path = f"/security/single-sign-on/connections/{row.pk}"
        assert owner.post(f"{path}/edit", {**sent, "name": "Renamed"}).headers["Location"] == path
    oidc, by_saml = providers(party)
    assert (oidc.name, by_saml.name) == ("Renamed", "Renamed")
    assert connections.client_of(oidc).secret == "s3cret"
    assert by_saml.metadata == idp_metadata()
