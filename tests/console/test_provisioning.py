"""Security, Provisioning: tokens that are shown once, and roles of groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.test import Client

from tenants.people.models import ProvisioningSettings, ProvisioningToken
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of

PAGE = "/security/provisioning"


def opens(token: str) -> bool:
    answer = Client().get("/scim/v2/Users", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code == 200


def token_in(answer: Any) -> str:
    text = answer.content.decode()
    return text.split('<code id="token" tabindex="0">')[1].split("<")[0]


def test_a_token_is_shown_once_rotated_and_revoked(party: Party, person: Callable[..., Client]) -> None:
    client = person("admin")
    assert faults_of(client.get(PAGE).content.decode()) == []
    made = client.post(PAGE, {"name": "Entra ID"})
    token = token_in(made)
    assert (made.status_code, opens(token)) == (201, True)
    assert faults_of(made.content.decode()) == []
    assert token not in client.get(PAGE).content.decode()
    prefix = ProvisioningToken.objects.get(tenant=party.tenant).prefix
    second = token_in(client.post(f"{PAGE}/tokens/{prefix}/rotate", {"overlap": 0}))
    assert (opens(token), opens(second)) == (False, True)
    refused = client.post(f"{PAGE}/tokens/{prefix}/rotate", {"overlap": 0})
    assert (refused.status_code, refused["Location"]) == (302, PAGE)
    now = second.partition(".")[0]
    assert client.post(f"{PAGE}/tokens/{now}/revoke").status_code == 302
    assert not opens(second)


def test_roles_of_groups(party: Party, person: Callable[..., Client]) -> None:
    client = person("admin")
    sent = {
        "default_role": "editor",
        "group": [" Reviewers ", "", "Admins"],
        "role": ["reviewer", "viewer", "admin"],
    }
    assert client.post(f"{PAGE}/roles", sent).status_code == 302
    kept = [{"group": "Reviewers", "role": "reviewer"}, {"group": "Admins", "role": "admin"}]
    with tenant_scope(party.id):
        row = ProvisioningSettings.objects.get()
        assert (row.default_role, row.group_roles) == ("editor", kept)
    for wrong in (
        {**sent, "role": ["owner", "viewer", "admin"]},
        {**sent, "default_role": "king"},
        {**sent, "group": ["A", "", "a"]},
    ):
        answer = client.post(f"{PAGE}/roles", wrong)
        assert answer.status_code == 422
        assert faults_of(answer.content.decode()) == []
    with tenant_scope(party.id):
        assert ProvisioningSettings.objects.get().group_roles == kept
