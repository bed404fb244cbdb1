"""SCIM 2.0: shapes as RFC 7644, Entra ID and Okta send them, what they do, and what nobody should send."""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from console.access import find_workspace
from tenants.accounts import api_admission, keys, sessions
from tenants.accounts.models import Invitation, Membership, Session, SignOnDomain, User
from tenants.accounts.permissions import Actor
from tenants.errors import Conflict, NotAllowed
from tenants.events.models import AuditEvent
from tenants.people import invitations, members
from tenants.people.models import ProvisionedUser, ProvisioningToken
from tenants.people.provisioning import directory, tokens
from tenants.people.sign_on import domains, joining
from tenants.people.sign_on.assertions import Person, Refused
from tenants.scope import tenant_scope
from tests.api.conftest import Api
from tests.conftest import Party
from tests.tenants.people import acting, new_member, new_user
from tests.tenants.sign_on_world import connect_oidc, domain_name, prove

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
SETTINGS = Actor("test", "admin")


@dataclass
class Scim:
    """A client of `/scim/v2` with one token."""

    token: str
    http: Client = field(default_factory=lambda: Client(raise_request_exception=False))

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/scim+json") -> Any:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.http.generic(method, f"/scim/v2{path}", raw, content_type=kind, headers=headers)

    def get(self, path: str, **query: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.http.get(f"/scim/v2{path}", query, headers=headers)

    def ok(self, method: str, path: str, body: Any = None, status: int = 200) -> dict[str, Any]:
        answer = self.call(method, path, body)
        assert answer.status_code == status, answer.content
        assert answer.headers["Content-Type"] == "application/scim+json"
        return answer.json()

    def patch(self, path: str, *operations: dict[str, Any], status: int = 200) -> dict[str, Any]:
        return self.ok("PATCH", path, {"schemas": [PATCH], "Operations": list(operations)}, status)


def new_scim(party: Party) -> Scim:
    with tenant_scope(party.id):
        return Scim(tokens.create_token(actor=SETTINGS, name="idp")[1])


@pytest.fixture
def scim(party: Party) -> Scim:
    # Of one workspace at a time: the operator moves it from test to test.
    prove(party, "people.example")
    return new_scim(party)


def address() -> str:
    return f"u-{secrets.token_hex(6)}@people.example"


def entra(email: str, **fields: Any) -> dict[str, Any]:
    """A new user as Entra ID sends it."""
    return {
        "schemas": [USER, ENTERPRISE],
        "externalId": f"ext-{email}",
        "userName": email,
        "active": True,
        "emails": [{"primary": True, "type": "work", "value": email}],
        "meta": {"resourceType": "User"},
        "name": {"formatted": "Given Family", "familyName": "Family", "givenName": "Given"},
        "roles": [],
        ENTERPRISE: {"department": "Trust and Safety"},
        **fields,
    }


def refused(answer: Any, status: int, scim_type: str | None = None) -> str:
    body = json.loads(answer.content)
    assert (answer.status_code, body["schemas"], body["status"]) == (status, [ERROR], str(status)), body
    assert answer.headers["Content-Type"] == "application/scim+json"
    assert body.get("scimType") == scim_type, body
    assert body["detail"]
    return body["detail"]


def role_of(party: Party, email: str) -> str | None:
    member = Membership.objects.filter(tenant=party.tenant, user__email=email).first()
    return member.role if member else None


# --- Who comes in ---


def test_only_a_live_provisioning_token_opens_it(party: Party, scim: Scim, api: Api) -> None:
    assert scim.get("/Users").status_code == 200
    prefix = scim.token.partition(".")[0]
    for wrong in ("", "x", party.token, f"{prefix}.wrong", f"{prefix}.é", "." + scim.token, "a" * 9999):
        answer = Scim(wrong).get("/Users")
        refused(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    refused(Client().get("/scim/v2/Users"), 401)
    assert Api(scim.token).get("/me").status_code == 401
    with tenant_scope(party.id):
        tokens.revoke_token(actor=SETTINGS, prefix=prefix)
    refused(scim.get("/Users"), 401)


def test_a_token_is_kept_as_a_digest_and_rotates(party: Party) -> None:
    with tenant_scope(party.id):
        row, token = tokens.create_token(actor=SETTINGS, name=" idp ")
        assert (row.name, token.partition(".")[0]) == ("idp", row.prefix)
        assert token.partition(".")[2].encode() not in bytes(ProvisioningToken.objects.get(pk=row.pk).digest)
        new, second = tokens.rotate_token(actor=SETTINGS, prefix=row.prefix, overlap_s=60)
        assert [Scim(one).get("/Users").status_code for one in (token, second)] == [200, 200]
        tokens.rotate_token(actor=SETTINGS, prefix=new.prefix, overlap_s=0)
        assert Scim(second).get("/Users").status_code == 401
        with pytest.raises(Conflict):
            tokens.rotate_token(actor=SETTINGS, prefix=new.prefix, overlap_s=0)
        verbs = AuditEvent.objects.filter(verb__startswith="provisioning.").order_by("id")
        assert list(verbs.values_list("verb", flat=True)) == [
            "provisioning.token_made",
            "provisioning.token_rotated",
            "provisioning.token_rotated",
        ]


def test_a_suspended_tenants_token_opens_nothing(party: Party, scim: Scim) -> None:
    type(party.tenant).objects.filter(pk=party.id).update(state="suspended")
    refused(scim.get("/Users"), 401)


# --- What the service is ---


def test_what_the_service_is(scim: Scim) -> None:
    config = scim.ok("GET", "/ServiceProviderConfig")
    supported = {name: config[name]["supported"] for name in ("patch", "bulk", "filter", "sort", "etag")}
    assert supported == {"patch": True, "bulk": False, "filter": True, "sort": False, "etag": False}
    assert config["authenticationSchemes"][0]["type"] == "oauthbearertoken"
    types = scim.ok("GET", "/ResourceTypes")
    assert [one["endpoint"] for one in types["Resources"]] == ["/Users", "/Groups"]
    assert scim.ok("GET", "/ResourceTypes/User")["schema"] == USER
    known = scim.ok("GET", "/Schemas")
    assert [one["id"] for one in known["Resources"]] == [USER, GROUP]
    assert "userName" in [one["name"] for one in scim.ok("GET", f"/Schemas/{USER}")["attributes"]]
    refused(scim.get("/Schemas/none"), 404)
    refused(scim.get("/Schemas", filter='id eq "x"'), 403)
    refused(scim.get("/Nothing"), 404)
    refused(Client().get("/scim/v1/Users"), 404)


# --- Users ---


def test_a_user_as_entra_id_makes_it(party: Party, scim: Scim) -> None:
    email = address()
    made = scim.call("POST", "/Users", entra(email))
    body = made.json()
    assert made.status_code == 201, body
    assert made.headers["Location"].endswith(f"/scim/v2/Users/{body['id']}")
    assert body["meta"]["location"] == made.headers["Location"]
    shown = {name: body[name] for name in ("schemas", "externalId", "userName", "active", "emails", "name")}
    assert shown == {
        "schemas": [USER],
        "externalId": f"ext-{email}",
        "userName": email,
        "active": True,
        "emails": [{"primary": True, "type": "work", "value": email}],
        "name": {"formatted": "Given Family", "familyName": "Family", "givenName": "Given"},
    }
    user = User.objects.get(email=email)
    assert (user.name, user.has_usable_password(), user.is_staff) == ("Given Family", False, False)
    assert role_of(party, email) == "viewer"
    assert scim.ok("GET", f"/Users/{body['id']}") == body
    refused(scim.call("POST", "/Users", entra(email)), 409, "uniqueness")
    assert scim.get("/Users", filter=f'userName eq "{email.upper()}"').json()["totalResults"] == 1


ACTIVE_FALSE = (
    {"op": "Replace", "path": "active", "value": "False"},
    {"op": "replace", "value": {"active": False}},
    {"op": "Replace", "path": "active", "value": False},
    {"op": "replace", "path": f"{USER}:active", "value": False},
    {"op": "Add", "value": {"active": "False"}},
)


@pytest.mark.parametrize("operation", ACTIVE_FALSE, ids=json.dumps)
def test_deactivated_and_active_again(party: Party, scim: Scim, operation: dict[str, Any]) -> None:
    email = address()
    user_id = scim.ok("POST", "/Users", entra(email), 201)["id"]
    with tenant_scope(party.id):
        members.change_role(actor=SETTINGS_KEY, user_id=User.objects.get(email=email).pk, role="editor")
    for _ in range(2):
        assert scim.patch(f"/Users/{user_id}", operation)["active"] is False
        assert role_of(party, email) is None
    assert scim.ok("GET", f"/Users/{user_id}")["active"] is False
    again = scim.patch(f"/Users/{user_id}", {"op": "Replace", "path": "active", "value": "True"})
    assert (again["active"], role_of(party, email)) == (True, "editor")


SETTINGS_KEY = Actor("key:test", "admin")


def test_patches_of_entra_id_and_okta(scim: Scim) -> None:
    email = address()
    user = f"/Users/{scim.ok('POST', '/Users', entra(email), 201)['id']}"
    body = scim.patch(
        user,
        {"op": "Replace", "path": "displayName", "value": "Pat"},
        {"op": "Add", "path": 'emails[type eq "home"].value', "value": "home@people.example"},
        {"op": "Replace", "path": "name.givenName", "value": "P"},
        {"op": "Add", "path": f"{ENTERPRISE}:department", "value": "Sales"},
        {"op": "Remove", "path": "externalId"},
    )
    assert (body["displayName"], body["name"]["givenName"]) == ("Pat", "P")
    assert [one["value"] for one in body["emails"]] == [email, "home@people.example"]
    assert "externalId" not in body
    body = scim.patch(
        user, {"op": "Add", "value": {"externalId": "e2", "name.familyName": "F", "title": "x"}}
    )
    assert (body["externalId"], body["name"]["familyName"]) == ("e2", "F")
    # Okta replaces the whole.
    okta = {
        "schemas": [USER],
        "userName": email,
        "name": {"givenName": "O", "familyName": "K"},
        "active": True,
    }
    okta |= {
        "emails": [{"primary": True, "value": email, "type": "work"}],
        "groups": [],
        "displayName": "O K",
    }
    first, second = scim.ok("PUT", user, okta), scim.ok("PUT", user, okta)
    assert first["displayName"] == "O K"
    drop = {"meta"}
    assert {k: v for k, v in first.items() if k not in drop} == {
        k: v for k, v in second.items() if k not in drop
    }


def test_members_that_are_there_are_found_and_linked(party: Party, scim: Scim) -> None:
    ann = new_member(party.tenant, "editor", "a long enough password")
    found = scim.get("/Users", filter=f'userName eq "{ann.email}"').json()
    assert found["totalResults"] == 1
    path = f"/Users/{found['Resources'][0]['id']}"
    scim.patch(path, {"op": "add", "path": "externalId", "value": "e-1"})
    assert scim.get("/Users", filter='externalId eq "e-1"').json()["totalResults"] == 1
    # An account with a password is the person's own.
    scim.patch(path, {"op": "replace", "value": {"displayName": "Other", "userName": "other@people.example"}})
    scim.patch(path, {"op": "replace", "path": "emails", "value": [{"value": "evil@people.example"}]})
    kept = User.objects.get(pk=ann.pk)
    assert (kept.email, kept.name) == (ann.email, ann.name)
    scim.ok("GET", path)
    assert scim.call("DELETE", path).status_code == 204
    assert role_of(party, ann.email) is None
    assert User.objects.filter(pk=ann.pk).exists()
    refused(scim.call("DELETE", path), 404)


def test_who_is_only_provisioned_here_gets_another_address(party: Party, scim: Scim) -> None:
    email, new = address(), address()
    path = f"/Users/{scim.ok('POST', '/Users', entra(email), 201)['id']}"
    user = User.objects.get(email=email)
    open_session(user)
    scim.patch(path, {"op": "Replace", "path": 'emails[type eq "work"].value', "value": new})
    assert User.objects.get(pk=user.pk).email == new
    assert not Session.objects.filter(user=user).exists()


def path_of(scim: Scim, email: str) -> str:
    found = scim.get("/Users", filter=f'userName eq "{email}"').json()["Resources"]
    return f"/Users/{found[0]['id']}"


def open_session(user: User) -> str:
    store = sessions.SessionStore()
    store["_auth_user_id"] = str(user.pk)
    store.create()
    store.save()
    return str(store.session_key)


# --- Deactivation ends everything here, and nothing elsewhere ---


def test_deactivation_ends_sessions_keys_and_invitations_here_and_only_here(
    party: Party, stranger: Party, scim: Scim
) -> None:
    ann = new_member(party.tenant, "admin")
    Membership.objects.create(tenant=stranger.tenant, user=ann, role="admin")
    with tenant_scope(party.id):
        _, mine = keys.create_key(name="mine", scopes=["read"], created_by=ann)
        invited = invitations.invite(actor=acting(party.tenant, ann), email=address(), role="viewer")
        back = invitations.invite(actor=Actor("key:x", "admin"), email=address(), role="viewer").invitation
        Invitation.objects.filter(pk=back.pk).update(email=ann.email)
    with tenant_scope(stranger.id):
        _, elsewhere = keys.create_key(name="theirs", scopes=["read"], created_by=ann)
    # In the caches of this process and of Valkey.
    assert [Api(token).get("/me").status_code for token in (mine, elsewhere)] == [200, 200]
    session = open_session(ann)
    assert found_by(ann, party) == party.id
    path = path_of(scim, ann.email)
    scim.patch(path, {"op": "Replace", "path": "active", "value": "False"})
    assert [Api(token).get("/me").status_code for token in (mine, elsewhere)] == [401, 200]
    assert keys.look_up(mine.partition(".")[0], api_admission.cached(mine.partition(".")[0])).revoked  # type: ignore[union-attr]
    assert list(Membership.objects.filter(user=ann).values_list("tenant_id", flat=True)) == [stranger.id]
    assert not Invitation.objects.get(pk=invited.invitation.pk).open
    assert not Invitation.objects.get(pk=back.pk).open
    # The session still opens the other workspace, and that one alone.
    assert Session.objects.filter(pk=session).exists()
    assert found_by(ann, party) == stranger.id
    kept = User.objects.get(pk=ann.pk)
    assert (kept.is_active, kept.email, kept.name) == (True, ann.email, ann.name)
    scim.patch(path, {"op": "Replace", "path": "active", "value": "True"})
    assert role_of(party, ann.email) == "admin"
    assert Api(mine).get("/me").status_code == 401, "keys do not come back"


def found_by(user: User, party: Party) -> uuid.UUID:
    """Where a session of theirs works that had chosen the party's workspace."""
    found = find_workspace(user, None, str(party.id))
    assert found is not None
    return found.tenant.id


def test_another_workspaces_people_cannot_be_taken(party: Party, stranger: Party, scim: Scim) -> None:
    theirs = new_member(stranger.tenant, "viewer")
    operator = new_user()
    User.objects.filter(pk=operator.pk).update(is_staff=True)
    for person in (theirs, operator):
        refused(scim.call("POST", "/Users", entra(person.email, displayName="Taken")), 403)
        assert role_of(party, person.email) is None
        assert User.objects.get(pk=person.pk).name == "Pat Doe"
    assert scim.get("/Users", filter=f'userName eq "{theirs.email}"').json()["totalResults"] == 0
    # Nor by an address that a person who is provisioned here gets later.
    email = address()
    path = f"/Users/{scim.ok('POST', '/Users', entra(email), 201)['id']}"
    operation = {"op": "Replace", "path": 'emails[type eq "work"].value', "value": theirs.email}
    refused(scim.call("PATCH", path, {"schemas": [PATCH], "Operations": [operation]}), 409, "uniqueness")
    assert User.objects.filter(email=email).count() == 1
    assert User.objects.get(email=theirs.email).pk == theirs.pk


def test_only_addresses_in_domains_of_ones_own_are_provisioned(
    party: Party, stranger: Party, scim: Scim
) -> None:
    domain = f"d{secrets.token_hex(6)}.example"
    path = f"/Users/{scim.ok('POST', '/Users', entra(address()), 201)['id']}"
    moved = {"op": "Replace", "path": 'emails[type eq "work"].value', "value": f"bob@{domain}"}

    def denied() -> None:
        refused(scim.call("POST", "/Users", entra(f"ann@{domain}")), 403)
        refused(scim.call("PATCH", path, {"schemas": [PATCH], "Operations": [moved]}), 403)
        assert not User.objects.filter(email__endswith=f"@{domain}").exists()

    denied()
    prove(stranger, domain)
    denied()
    with tenant_scope(party.id):
        domains.add_domain(domain=domain, actor="key:t")
    denied()
    prove(party, domain)
    scim.ok("POST", "/Users", entra(f"ann@{domain}"), 201)
    scim.patch(path, moved)
    assert set(User.objects.filter(email__endswith=f"@{domain}").values_list("email", flat=True)) == {
        f"ann@{domain}",
        f"bob@{domain}",
    }


def test_a_member_with_another_address_is_kept_by_the_provider_all_the_same(party: Party, scim: Scim) -> None:
    ann = new_member(party.tenant, "viewer")
    SignOnDomain.objects.filter(tenant=party.tenant).update(proved_at=None)
    refused(scim.call("POST", "/Users", entra(ann.email)), 409, "uniqueness")
    path = path_of(scim, ann.email)
    scim.patch(path, {"op": "replace", "path": "active", "value": False})
    assert role_of(party, ann.email) is None
    scim.patch(path, {"op": "replace", "path": "active", "value": True})
    assert role_of(party, ann.email) == "viewer"


def test_single_sign_on_does_not_let_back_in_whom_the_provider_deactivated(party: Party, scim: Scim) -> None:
    route = connect_oidc(party, "https://provider.example")
    email = f"ann@{domain_name(party)}"
    person = Person(subject="ann", email=email, name="Ann", values=())
    path = f"/Users/{scim.ok('POST', '/Users', entra(email), 201)['id']}"
    user = User.objects.get(email=email)
    assert joining.enter(route=route, person=person).user == user
    scim.patch(path, {"op": "replace", "path": "active", "value": False})
    with pytest.raises(Refused, match="ended by its identity provider"):
        joining.enter(route=route, person=person)
    assert not Membership.objects.filter(user=user).exists()
    scim.patch(path, {"op": "replace", "path": "active", "value": True})
    assert joining.enter(route=route, person=person).user == user


def test_an_account_that_changed_hands_is_not_brought_back(party: Party, scim: Scim) -> None:
    email = address()
    path = f"/Users/{scim.ok('POST', '/Users', entra(email, active=False), 201)['id']}"
    assert role_of(party, email) is None
    User.objects.filter(email=email).update(email=address())
    body = {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "active", "value": True}]}
    refused(scim.call("PATCH", path, body), 409, "uniqueness")
    assert not Membership.objects.filter(tenant=party.tenant).exists()


def test_ids_of_another_tenant_name_nothing(stranger: Party, scim: Scim) -> None:
    other, email = new_scim(stranger), f"ann@{domain_name(stranger)}"
    prove(stranger, domain_name(stranger))
    user = other.ok("POST", "/Users", entra(email), 201)["id"]
    group = other.ok("POST", "/Groups", {"schemas": [GROUP], "displayName": "G"}, 201)["id"]
    replace = {"schemas": [PATCH], "Operations": [{"op": "replace", "value": {"displayName": "x"}}]}
    for path in (f"/Users/{user}", f"/Groups/{group}"):
        for method, body in (("GET", None), ("PATCH", replace), ("PUT", entra(email)), ("DELETE", None)):
            refused(scim.call(method, path, body), 404)
    body = {"schemas": [GROUP], "displayName": "H", "members": [{"value": user}]}
    refused(scim.call("POST", "/Groups", body), 400, "invalidValue")
    assert scim.get("/Groups").json()["totalResults"] == 0
    assert role_of(stranger, email) == "viewer"


def test_the_last_owner_stays(party: Party, scim: Scim) -> None:
    owner, second = new_member(party.tenant, "owner"), new_member(party.tenant, "owner")
    rows = scim.get("/Users").json()["Resources"]
    paths = {row["userName"]: f"/Users/{row['id']}" for row in rows}
    off = {"op": "replace", "path": "active", "value": False}
    scim.patch(paths[second.email], off)
    for method, body in (("PATCH", {"schemas": [PATCH], "Operations": [off]}), ("DELETE", None)):
        refused(scim.call(method, paths[owner.email], body), 409, "uniqueness")
    assert (role_of(party, owner.email), role_of(party, second.email)) == ("owner", None)
    scim.patch(paths[second.email], {"op": "replace", "path": "active", "value": True})
    assert role_of(party, second.email) == "admin", "a provider makes no owners"


# --- Groups ---


def map_groups(party: Party, default: str = "viewer", **roles: str) -> None:
    listed = [{"group": group, "role": role} for group, role in roles.items()]
    with tenant_scope(party.id):
        directory.change_settings(actor=SETTINGS_KEY, default_role=default, group_roles=listed)


def test_groups_give_roles_and_the_most_powerful_wins(party: Party, scim: Scim) -> None:
    map_groups(party, Admins="admin", Editors="editor", Reviewers="reviewer")
    email = address()
    user = scim.ok("POST", "/Users", entra(email), 201)["id"]
    paths = {}
    for name in ("editors", "Admins", "Other"):
        body = {"schemas": [GROUP], "displayName": name, "externalId": name, "members": [{"value": user}]}
        made = scim.ok("POST", "/Groups", body, 201)
        paths[name] = f"/Groups/{made['id']}"
        assert made["members"] == [{"value": user, "display": email, "type": "User"}]
    assert role_of(party, email) == "admin"
    assert {one["display"] for one in scim.ok("GET", f"/Users/{user}")["groups"]} == set(paths)
    gone = scim.patch(paths["Admins"], {"op": "remove", "path": f'members[value eq "{user}"]'})
    assert ("members" in gone, role_of(party, email)) == (False, "editor")
    for _ in range(2):
        scim.patch(paths["editors"], {"op": "Remove", "path": "members", "value": [{"value": user}]})
    assert role_of(party, email) == "viewer", "the default role, after the last group that has one"
    scim.patch(paths["Admins"], {"op": "Add", "path": "members", "value": [{"value": user}]})
    assert role_of(party, email) == "admin"
    scim.patch(paths["Admins"], {"op": "replace", "value": {"displayName": "Reviewers", "id": "x"}})
    assert role_of(party, email) == "reviewer", "the group has another name"
    map_groups(party, Reviewers="editor")
    assert role_of(party, email) == "editor"
    assert scim.call("DELETE", paths["Admins"]).status_code == 204
    assert role_of(party, email) == "viewer"


def test_groups_leave_owners_and_hand_made_roles_alone(party: Party, scim: Scim) -> None:
    owner, editor = new_member(party.tenant, "owner"), new_member(party.tenant, "editor")
    with tenant_scope(party.id), pytest.raises(Exception, match="owners"):
        directory.change_settings(
            actor=Actor("operator:x", "owner"),
            default_role="viewer",
            group_roles=[{"group": "All", "role": "owner"}],
        )
    map_groups(party, All="viewer")
    ids = {row["userName"]: row["id"] for row in scim.get("/Users").json()["Resources"]}
    people = [{"value": ids[owner.email]}]
    body = {"schemas": [GROUP], "displayName": "All", "members": people}
    scim.ok("POST", "/Groups", body, 201)
    other = {"schemas": [GROUP], "displayName": "None", "members": [{"value": ids[editor.email]}]}
    scim.ok("POST", "/Groups", other, 201)
    assert (role_of(party, owner.email), role_of(party, editor.email)) == ("owner", "editor")


def test_a_lower_role_by_a_group_ends_keys_that_do_more(party: Party, scim: Scim) -> None:
    map_groups(party, Low="viewer")
    ann = new_member(party.tenant, "admin")
    with tenant_scope(party.id):
        _, token = keys.create_key(name="k", scopes=["admin", "read"], created_by=ann)
    user = scim.get("/Users").json()["Resources"][0]["id"]
    assert Api(token).get("/keys").status_code == 200
    scim.ok("POST", "/Groups", {"schemas": [GROUP], "displayName": "Low", "members": [{"value": user}]}, 201)
    assert (role_of(party, ann.email), Api(token).get("/keys").status_code) == ("viewer", 401)


def test_members_are_replaced_and_read_without_them(scim: Scim) -> None:
    users = [scim.ok("POST", "/Users", entra(address()), 201)["id"] for _ in range(3)]
    body = {"schemas": [GROUP], "displayName": "G", "members": [{"value": users[0]}]}
    path = f"/Groups/{scim.ok('POST', '/Groups', body, 201)['id']}"
    refused(scim.call("POST", "/Groups", {**body, "displayName": "g"}), 409, "uniqueness")
    both = [{"value": users[1]}, {"value": users[2]}]
    shown = scim.patch(path, {"op": "Replace", "path": "members", "value": both})
    assert {one["value"] for one in shown["members"]} == set(users[1:])
    shown = scim.ok("PUT", path, {**body, "members": [{"value": users[0], "display": "x"}]})
    assert [one["value"] for one in shown["members"]] == [users[0]]
    assert "members" not in scim.get(path, excludedAttributes="members").json()
    assert "members" not in scim.get("/Groups", excludedAttributes="members").json()["Resources"][0]
    assert set(scim.get(path, attributes="displayName").json()) >= {"id", "displayName", "schemas"}
    assert scim.get("/Groups", filter=f'members.value eq "{users[0]}"').json()["totalResults"] == 1
    shown = scim.patch(path, {"op": "remove", "path": "members"})
    assert "members" not in shown


# --- Filters and pages ---


@pytest.fixture
def three(scim: Scim) -> tuple[Scim, str]:
    mark = secrets.token_hex(4)
    for number, name in enumerate(("Ann", "Bob", "Cid")):
        email = f"{name.lower()}-{mark}@people.example"
        scim.ok(
            "POST", "/Users", entra(email, displayName=f"{name} {mark}", externalId=f"{number}-{mark}"), 201
        )
    return scim, mark


FILTERS = (
    ('userName eq "ann-{0}@people.example"', "A"),
    ('userName Eq "ANN-{0}@People.Example"', "A"),
    ('urn:ietf:params:scim:schemas:core:2.0:User:userName eq "ann-{0}@people.example"', "A"),
    ('externalId eq "1-{0}"', "B"),
    ('displayName eq "cid {0}"', "C"),
    ('displayName sw "B"', "B"),
    ('displayName co "i"', "C"),
    ('userName sw "a" or userName sw "b"', "AB"),
    ('active eq true and not (displayName sw "A")', "BC"),
    ('active eq "True"', "ABC"),
    ("active eq false", ""),
    ("externalId pr", "ABC"),
    ("title pr", None),
    ('emails[type eq "work" and value eq "bob-{0}@people.example"]', "B"),
    ('emails.value eq "bob-{0}@people.example"', "B"),
    ('meta.lastModified gt "2020-01-01T00:00:00Z"', "ABC"),
    ('meta.created lt "2020-01-01T00:00:00Z"', ""),
    ('id eq "none"', ""),
    ('displayName co "%"', ""),
    ('displayName co "\'; DROP TABLE x; --"', ""),
    ('displayName ne "Ann {0}"', "BC"),
    ("(" * 500 + "userName pr" + ")" * 500, "ABC"),
)


@pytest.mark.parametrize(("text", "found"), FILTERS)
def test_filters(three: tuple[Scim, str], text: str, found: str | None) -> None:
    scim, mark = three
    answer = scim.get("/Users", filter=text.format(mark))
    if found is None:
        refused(answer, 400, "invalidFilter")
        return
    names = [row["displayName"][0] for row in answer.json()["Resources"]]
    assert "".join(sorted(names)) == found, answer.content


def test_pages_by_index(three: tuple[Scim, str]) -> None:
    scim, _ = three
    first, second = (scim.get("/Users", startIndex=start, count=2).json() for start in (1, 3))
    assert [(one["totalResults"], one["startIndex"], one["itemsPerPage"]) for one in (first, second)] == [
        (3, 1, 2),
        (3, 3, 1),
    ]
    names = [row["displayName"][0] for one in (first, second) for row in one["Resources"]]
    assert names == ["A", "B", "C"]
    assert scim.get("/Users", count=0).json()["Resources"] == []
    assert scim.get("/Users", startIndex=-5, count=-1).json()["itemsPerPage"] == 0
    assert scim.get("/Users", startIndex=999_999_999).json()["Resources"] == []
    for query in ({"count": "x"}, {"startIndex": "1" * 40}, {"count": "²"}):
        refused(scim.get("/Users", **query), 400, "invalidValue")


# --- What nobody should send ---

OPERATIONS = [{"op": "add", "path": "displayName", "value": "x"}]
HOSTILE_FILTERS = (
    "userName",
    'userName eq "x',
    "(" * 1900,
    " or ".join(['userName eq "x"'] * 5_000),
    " or ".join(["externalId pr"] * 90),
    'userName eq "' + "x" * 10_000 + '"',
    "userName gt 5",
    "active gt true",
    'active eq "perhaps"',
    'meta.created eq "yesterday"',
    'meta.created gt "9999-99-99T00:00:00Z"',
    'userName eq "\\u0000"',
    'displayName co "\\ud800"',
    'password eq "x"',
    'emails co "x"',
    'emails[type eq "work" or value eq "x"]',
    "not",
    "",
)


@pytest.mark.parametrize("text", HOSTILE_FILTERS, ids=lambda text: text[:30] or "empty")
def test_hostile_filters(scim: Scim, text: str) -> None:
    refused(scim.get("/Users", filter=text), 400, "invalidFilter")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


HOSTILE_BODIES: tuple[Any, ...] = (
    b"",
    b"{",
    b"\xff",
    b"[" * 5_000,
    [],
    [entra("a@people.example")],
    "x",
    {},
    {"schemas": "x"},
    {"schemas": [USER]},
    {"schemas": [USER], "userName": 5},
    {"schemas": [USER], "userName": ""},
    {"schemas": [USER], "userName": "not an address"},
    {"schemas": [USER], "userName": ["x"]},
    {"schemas": [USER], "userName": "x" * 1_000 + "@people.example"},
    {"schemas": [USER], "userName": "n\x00@people.example"},
    {"schemas": [USER], "userName": "a@people.example", "emails": "x"},
    {"schemas": [USER], "userName": "a@people.example", "emails": [5]},
    {"schemas": [USER], "userName": "a@people.example", "emails": [{"value": "x"}]},
    {
        "schemas": [USER],
        "userName": "a@people.example",
        "emails": [{"value": f"a{i}@b.example"} for i in range(99)],
    },
    {"schemas": [USER], "userName": "a@people.example", "active": "perhaps"},
    {"schemas": [USER], "userName": "a@people.example", "name": "x"},
    {"schemas": [USER], "userName": "a@people.example", "displayName": "x" * 5_000},
    {"schemas": [USER], "userName": "a@people.example", "x": nested(100)},
    b'{"schemas": ["%s"], "userName": "\\ud800@people.example"}' % USER.encode(),
)


@pytest.mark.parametrize("body", HOSTILE_BODIES, ids=lambda body: str(body)[:40])
def test_hostile_users(scim: Scim, body: Any) -> None:
    before = User.objects.count()
    answer = scim.call("POST", "/Users", body)
    refused(answer, 400, json.loads(answer.content).get("scimType"))
    assert User.objects.count() == before


HOSTILE_PATCHES: tuple[Any, ...] = (
    {},
    {"schemas": [PATCH]},
    {"schemas": [PATCH], "Operations": []},
    {"schemas": [PATCH], "Operations": {}},
    {"schemas": [PATCH], "Operations": "x"},
    {"schemas": [PATCH], "Operations": [5]},
    {"schemas": [PATCH], "Operations": [{"op": "explode", "path": "active", "value": True}]},
    {"schemas": [PATCH], "Operations": [{"op": "remove"}]},
    {"schemas": [PATCH], "Operations": [{"op": "add", "path": "active"}]},
    {"schemas": [PATCH], "Operations": [{"op": 5, "path": "active", "value": True}]},
    {"schemas": [PATCH], "Operations": [{"op": "add", "path": 5, "value": True}]},
    {"schemas": [PATCH], "Operations": [{"op": "add", "path": "members[", "value": "x"}]},
    {"schemas": [PATCH], "Operations": [{"op": "add", "path": "displayName", "value": {"a": 1}}]},
    {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "displayName", "value": [1]}]},
    {"schemas": [PATCH], "Operations": [{"op": "add", "value": nested(60)}]},
    {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "id", "value": "x"}]},
    {"schemas": [PATCH], "Operations": OPERATIONS * 10_000},
)


@pytest.mark.parametrize("body", HOSTILE_PATCHES, ids=lambda body: str(body)[:80])
@pytest.mark.parametrize("kind", ["Users", "Groups"])
def test_hostile_patches(scim: Scim, kind: str, body: Any) -> None:
    new = entra(address()) if kind == "Users" else {"schemas": [GROUP], "displayName": "G"}
    made = scim.ok("POST", f"/{kind}", new, 201)
    answer = scim.call("PATCH", f"/{kind}/{made['id']}", body)
    refused(answer, 400, json.loads(answer.content).get("scimType"))
    now = scim.ok("GET", f"/{kind}/{made['id']}")
    assert now == made


HOSTILE_MEMBERS = (
    "x",
    [5],
    [{}],
    [{"value": ""}],
    [{"value": "none"}],
    [{"value": str(uuid.UUID(int=7))}],
    [{"value": {"a": 1}}],
    [{"value": str(uuid.UUID(int=n))} for n in range(11_000)],
)


@pytest.mark.parametrize("people", HOSTILE_MEMBERS, ids=lambda people: str(people)[:40])
def test_hostile_members(scim: Scim, people: Any) -> None:
    made = scim.ok("POST", "/Groups", {"schemas": [GROUP], "displayName": "G"}, 201)
    patch = {"schemas": [PATCH], "Operations": [{"op": "add", "path": "members", "value": people}]}
    refused(scim.call("PATCH", f"/Groups/{made['id']}", patch), 400, "invalidValue")
    new = {"schemas": [GROUP], "displayName": "H", "members": people}
    answer = scim.call("POST", "/Groups", new)
    refused(answer, 400, json.loads(answer.content).get("scimType"))
    assert [row["displayName"] for row in scim.get("/Groups").json()["Resources"]] == ["G"]


def test_methods_and_media_types(scim: Scim) -> None:
    refused(scim.call("DELETE", "/Users"), 405)
    refused(scim.call("POST", "/Bulk", {}), 404)
    answer = scim.call("POST", "/Users", entra(address()), kind="application/json")
    assert answer.status_code == 201
    refused(scim.call("POST", "/Users", b"x", kind="text/plain"), 415)
    too_large = b" " * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
    refused(scim.call("POST", "/Users", too_large), 413)


def test_what_it_did_stands_in_the_audit_log(party: Party, scim: Scim) -> None:
    path = f"/Users/{scim.ok('POST', '/Users', entra(address()), 201)['id']}"
    scim.patch(path, {"op": "replace", "path": "active", "value": False})
    scim.call("DELETE", path)
    label = f"scim:{scim.token.partition('.')[0]}"
    with tenant_scope(party.id):
        rows = AuditEvent.objects.filter(actor=label).order_by("id").values_list("verb", flat=True)
        assert list(rows) == [
            "member.provisioned",
            "member.activated",
            "member.removed",
            "member.unprovisioned",
        ]
        assert not ProvisionedUser.objects.exists()


def test_the_rate_of_the_plan_holds(party: Party, scim: Scim) -> None:
    type(party.tenant).objects.filter(pk=party.id).update(exceptions={"rate_per_minute": 3})
    answers = [scim.get("/Users") for _ in range(8)]
    assert {answer.status_code for answer in answers} == {200, 429}
    last = answers[-1]
    refused(last, 429)
    assert int(last.headers["Retry-After"]) <= 60


def test_an_account_here_alone_that_left_may_come_back(
    party: Party, scim: Scim, make_party: Callable[..., Party]
) -> None:
    email = address()
    path = f"/Users/{scim.ok('POST', '/Users', entra(email), 201)['id']}"
    assert scim.call("DELETE", path).status_code == 204
    other = make_party()
    Membership.objects.create(tenant=other.tenant, user=User.objects.get(email=email), role="viewer")
    refused(scim.call("POST", "/Users", entra(email)), 403)
    with tenant_scope(party.id), pytest.raises(NotAllowed):
        directory.create_person(actor=SETTINGS_KEY, person=directory.Person(email))
    Membership.objects.filter(tenant=other.tenant).delete()
    scim.ok("POST", "/Users", entra(email), 201)
