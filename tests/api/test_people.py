"""Members, invitations and rotated keys over HTTP."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone

from config.self_service import SelfService
from tenants.accounts import keys, links
from tenants.accounts.models import (
    Invitation,
    KeyDigest,
    Membership,
    OperatorRequest,
    Plan,
    PlanRequest,
    User,
)
from tenants.accounts.permissions import SCOPES, Actor
from tenants.accounts.services import set_role
from tenants.errors import NotFound
from tenants.events.models import AuditEvent
from tenants.people import invitations
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party
from tests.tenants.people import token_of


def new_member(party: Party, role: str) -> User:
    user = User.objects.create(email=f"{uuid.uuid4().hex}@people.example", name="Pat")
    set_role(tenant=party.tenant, user=user, role=role)
    return user


def test_members_are_listed_with_their_role_here(api: Api, party: Party, stranger: Party) -> None:
    ann, bob = new_member(party, "editor"), new_member(party, "viewer")
    set_role(tenant=stranger.tenant, user=ann, role="owner")
    first = api.get("/members?limit=1").json()
    second = api.get(f"/members?limit=1&cursor={first['next']}").json()
    shown = [(m["id"], m["role"], m["second_factor"]) for m in first["results"] + second["results"]]
    assert shown == [(str(bob.pk), "viewer", False), (str(ann.pk), "editor", False)]
    assert second["next"] is None
    assert first["results"][0] | {"since": ""} == {
        "id": str(bob.pk),
        "email": bob.email,
        "name": "Pat",
        "role": "viewer",
        "second_factor": False,
        "since": "",
    }


def test_a_key_does_not_reach_owners(api: Api, party: Party) -> None:
    owner, editor = new_member(party, "owner"), new_member(party, "editor")
    refused(api.call("PATCH", f"/members/{owner.pk}", {"role": "viewer"}), 403, "not-allowed")
    refused(api.call("DELETE", f"/members/{owner.pk}"), 403, "not-allowed")
    refused(api.call("PATCH", f"/members/{editor.pk}", {"role": "owner"}), 403, "not-allowed")
    refused(api.post("/invitations", {"email": "a@b.example", "role": "owner"}), 403, "not-allowed")
    assert dict(Membership.objects.filter(tenant=party.id).values_list("user", "role")) == {
        owner.pk: "owner",
        editor.pk: "editor",
    }


def test_inviting_shows_the_link_once(api: Api, party: Party) -> None:
    body = {"email": "Ann@People.example", "role": "reviewer"}
    made = api.post("/invitations", body, Idempotency_Key="one").json()
    again = api.post("/invitations", body, Idempotency_Key="one").json()
    assert "/invitation?token=" in made["link"]
    assert again == {**made, "link": None}
    assert made["email"] == "ann@people.example"
    (listed,) = api.get("/invitations").json()["results"]
    assert listed == {name: value for name, value in made.items() if name != "link"}
    assert api.call("DELETE", f"/invitations/{made['id']}").status_code == 204
    assert api.get("/invitations").json()["results"] == []
    refused(api.call("DELETE", f"/invitations/{made['id']}"), 404, "not-found")


def test_a_new_link_ends_the_one_before(api: Api, party: Party, stranger: Party) -> None:
    made = api.post("/invitations", {"email": "bo@people.example", "role": "reviewer"}).json()
    path = f"/invitations/{made['id']}/link"
    Invitation.objects.filter(pk=made["id"]).update(expires_at=timezone.now() + dt.timedelta(hours=1))
    answer = api.post(path, {}, Idempotency_Key="again")
    fresh = answer.json()
    assert answer.status_code == 201
    assert fresh.keys() == made.keys()
    assert fresh["expires_at"] > made["expires_at"]
    assert api.post(path, {}, Idempotency_Key="again").json() == {**fresh, "link": None}
    found = invitations.find_by_digest(links.digest(token_of(fresh["link"])))
    assert str(found.pk) == made["id"]
    with pytest.raises(NotFound):
        invitations.find_by_digest(links.digest(token_of(made["link"])))
    refused(Api(stranger.token).post(path, {}), 404, "not-found")
    with tenant_scope(party.id):
        owners = invitations.invite(actor=Actor("key:x", "owner"), email="c@people.example", role="owner")
        assert AuditEvent.objects.get(verb="invitation.link_renewed").target == made["id"]
    refused(api.post(f"/invitations/{owners.invitation.pk}/link", {}), 403, "not-allowed")
    assert invitations.find_by_digest(links.digest(token_of(owners.link))).role == "owner"


def test_a_key_makes_and_rotates_only_keys_whose_scopes_it_has(api: Api, party: Party) -> None:
    with tenant_scope(party.id):
        lesser = Api(keys.create_key(name="lesser", scopes=["admin", "read"])[1])
        wide, _ = keys.create_key(name="wide", scopes=["read", "search", "write"])
    made = KeyDigest.objects.filter(tenant=party.id).count()
    problem = refused(lesser.post("/keys", {"name": "x", "scopes": ["read", "write"]}), 403, "missing-scope")
    assert (problem["scope"], "lacks: write" in problem["detail"]) == ("write", True)
    problem = refused(lesser.post(f"/keys/{wide.id}/rotate", {"overlap_s": 0}), 403, "missing-scope")
    assert problem["scope"] == "search"
    assert KeyDigest.objects.filter(tenant=party.id).count() == made
    assert KeyDigest.objects.get(key_id=wide.id).revoked_at is None
    own = lesser.post("/keys", {"name": "x", "scopes": ["read"]})
    assert own.status_code == 201
    assert lesser.post(f"/keys/{own.json()['id']}/rotate", {"overlap_s": 0}).status_code == 201
    # Ending a key gives nobody anything.
    assert lesser.call("DELETE", f"/keys/{wide.id}").status_code == 204


def test_a_removed_persons_keys_leave_no_others_behind(api: Api, party: Party) -> None:
    admin = new_member(party, "admin")
    with tenant_scope(party.id):
        theirs = Api(keys.create_key(name="theirs", scopes=list(SCOPES), created_by=admin)[1])
    mine = api.post("/keys", {"name": "mine", "scopes": ["read"]}).json()
    made = theirs.post("/keys", {"name": "made", "scopes": ["admin"]}).json()
    seen = theirs.post(f"/keys/{mine['id']}/rotate", {"overlap_s": 60}).json()
    assert api.call("DELETE", f"/members/{admin.pk}").status_code == 204
    for token in (theirs.token, made["token"], seen["token"]):
        refused(Api(token).get("/me"), 401, "invalid-key")
    assert Api(mine["token"]).get("/me").status_code == 200


def test_bodies_are_checked(api: Api, party: Party) -> None:
    refused(api.post("/invitations", {"email": "nobody", "role": "viewer"}), 422, "invalid", "/email")
    refused(api.post("/invitations", {"email": "a@b.example", "role": "king"}), 422, "invalid", "/role")
    refused(api.post("/invitations", {"email": "a@b.example"}), 422, "invalid", "/role")
    assert not Invitation.objects.filter(tenant=party.id).exists()


def test_rotating_a_key(api: Api) -> None:
    made: dict[str, Any] = api.post("/keys", {"name": "robot", "scopes": ["read"]}).json()
    for overlap_s in (-1, 7 * 86400 + 1, "60", 1.5, None):
        refused(
            api.post(f"/keys/{made['id']}/rotate", {"overlap_s": overlap_s}), 422, "invalid", "/overlap_s"
        )
    rotated = api.post(f"/keys/{made['id']}/rotate", {"overlap_s": 60}, Idempotency_Key="r")
    assert rotated.status_code == 201
    fresh = rotated.json()
    assert (fresh["name"], fresh["scopes"], fresh["expires_at"]) == ("robot", ["read"], None)
    assert api.post(f"/keys/{made['id']}/rotate", {"overlap_s": 60}, Idempotency_Key="r").json() == {
        **fresh,
        "token": None,
    }
    for token in (made["token"], fresh["token"]):
        assert Api(token).get("/me").status_code == 200
    last = "9999-12-31T23:59:59.999999Z"
    endless = api.post("/keys", {"name": "robot", "scopes": ["read"], "expires_at": last}).json()
    assert api.post(f"/keys/{endless['id']}/rotate", {"overlap_s": 0}).json()["expires_at"] == last
    api.post(f"/keys/{fresh['id']}/rotate", {"overlap_s": 0})
    refused(Api(fresh["token"]).get("/me"), 401, "invalid-key")
    refused(api.post(f"/keys/{fresh['id']}/rotate", {"overlap_s": 0}), 409, "conflict")


# --- Requests of operators ---


def operator_request(party: Party, **fields: Any) -> OperatorRequest:
    operator = User.objects.create(email=f"o-{uuid.uuid4().hex}@operators.example", is_staff=True)
    until = timezone.now() + dt.timedelta(days=1)
    asked = {"access": "full", "reason": "Ticket 12.", "minutes": 60, "until": until, **fields}
    return OperatorRequest.objects.create(tenant=party.tenant, operator=operator, **asked)


def test_an_owners_key_approves_and_takes_it_back(party: Party) -> None:
    owner, row = new_member(party, "owner"), operator_request(party)
    with tenant_scope(party.id):
        key, token = keys.create_key(name="test", scopes=list(SCOPES), created_by=owner)
    api = Api(token)
    (listed,) = api.get("/operator-requests").json()["results"]
    assert listed == {
        "id": str(row.id),
        "operator": row.operator.email,
        "access": "full",
        "reason": "Ticket 12.",
        "minutes": 60,
        "state": "pending",
        "until": listed["until"],
        "answered_by": None,
        "answered_at": None,
        "created_at": listed["created_at"],
    }
    approved = api.call("PATCH", f"/operator-requests/{row.id}", {"answer": "approve"}).json()
    assert (approved["state"], approved["answered_by"]) == ("approved", f"key:{key.prefix}")
    refused(api.call("PATCH", f"/operator-requests/{row.id}", {"answer": "deny"}), 409, "conflict")
    back = api.call("PATCH", f"/operator-requests/{row.id}", {"answer": "revoke"}).json()
    assert back["state"] == "revoked"
    with tenant_scope(party.id):
        lines = AuditEvent.objects.filter(target=str(row.id)).order_by("id")
        assert [line.verb for line in lines] == ["operators.approved", "operators.revoked"]


def test_a_key_that_no_owner_made_answers_nothing(party: Party) -> None:
    row, admin = operator_request(party), new_member(party, "admin")
    with tenant_scope(party.id):
        tokens = [
            keys.create_key(name="test", scopes=list(SCOPES), created_by=maker)[1] for maker in (None, admin)
        ]
    for token in tokens:
        answer = Api(token).call("PATCH", f"/operator-requests/{row.id}", {"answer": "approve"})
        refused(answer, 403, "not-allowed")
    row.refresh_from_db()
    assert row.state == "pending"


# --- Requests for more ---


@pytest.fixture
def offered(settings: Any, party: Party) -> Iterator[Plan]:
    settings.SELF_SERVICE = SelfService(frozenset({"requests"}))
    slug = f"p-{uuid.uuid4().hex}"
    yield Plan.objects.create(slug=slug, name="Large", limits={"assets": 9000}, offered=True)
    # The operators' overview of other tests counts those that are open.
    PlanRequest.objects.filter(tenant=party.tenant).delete()


@pytest.fixture
def asking(party: Party, offered: Plan) -> Api:
    """With a key that a member made."""
    with tenant_scope(party.id):
        maker = new_member(party, "admin")
        return Api(keys.create_key(name="test", scopes=list(SCOPES), created_by=maker)[1])


def test_a_key_asks_for_more_and_withdraws(party: Party, asking: Api, offered: Plan) -> None:
    Plan.objects.create(slug=f"h-{uuid.uuid4().hex}", name="Only for Acme")
    assert [one for one in asking.get("/offered-plans").json()["results"] if one["slug"] == offered.slug] == [
        {"slug": offered.slug, "name": "Large", "limits": {"assets": 9000.0}}
    ]
    wanted = {"plan": offered.slug, "resource": "vectors", "amount": 70000, "note": "A larger catalogue."}
    header = {"Idempotency-Key": "once"}
    made = asking.call("POST", "/plan-requests", wanted, header)
    assert made.status_code == 201
    row = PlanRequest.objects.get(tenant=party.tenant)
    assert made.json() == {
        "id": str(row.id),
        "state": "open",
        **wanted,
        "asked_by": row.asked_by.email,
        "answer": None,
        "created_at": made.json()["created_at"],
        "answered_at": None,
    }
    assert asking.call("POST", "/plan-requests", wanted, header).content == made.content
    refused(asking.post("/plan-requests", {"note": "More."}), 409, "conflict")
    assert asking.get("/plan-requests").json()["results"] == [made.json()]
    gone = asking.post(f"/plan-requests/{row.id}/withdraw", None).json()
    assert (gone["state"], gone["answered_at"] is None) == ("withdrawn", False)
    refused(asking.post(f"/plan-requests/{row.id}/withdraw", None), 409, "conflict")
    assert asking.post("/plan-requests", {"note": "More."}).json()["plan"] is None
    refused(asking.post(f"/plan-requests/{row.id}/withdraw", None), 409, "conflict")
    with tenant_scope(party.id):
        lines = AuditEvent.objects.filter(verb__startswith="plan.request").order_by("id")
        assert [line.verb for line in lines] == ["plan.requested", "plan.request_withdrawn", "plan.requested"]


def test_where_it_is_off_nothing_is_asked_for(api: Api, party: Party) -> None:
    made = PlanRequest.objects.create(tenant=party.tenant, note="More.", state="withdrawn")
    for method, path in (
        ("GET", "/offered-plans"),
        ("GET", "/plan-requests"),
        ("POST", "/plan-requests"),
        ("POST", f"/plan-requests/{made.id}/withdraw"),
    ):
        problem = refused(api.call(method, path), 404, "not-found")
        assert problem["detail"] == "On this installation nothing is asked for here."


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"note": None}, "/note"),
        ({"note": ""}, "/note"),
        ({"note": " \n"}, "/note"),
        ({"note": 5}, "/note"),
        ({"note": "a\x00b"}, "/note"),
        ({"note": "\ud800"}, "/note"),
        ({"note": "x" * 1001}, "/note"),
        ({"plan": "no-such-plan"}, "/plan"),
        ({"plan": 5}, "/plan"),
        ({"plan": "x" * 51}, "/plan"),
        ({"resource": "colours", "amount": 5}, "/resource"),
        ({"resource": ["assets"], "amount": 5}, "/resource"),
        ({"resource": "assets"}, "/amount"),
        ({"amount": 5}, "/resource"),
        ({"resource": "assets", "amount": -1}, "/amount"),
        ({"resource": "assets", "amount": 1e300}, "/amount"),
        ({"resource": "assets", "amount": "5"}, "/amount"),
        ({"resource": "assets", "amount": True}, "/amount"),
        ({"words": "x"}, "/words"),
    ],
)
def test_what_cannot_be_asked_for(asking: Api, party: Party, more: Any, pointer: str) -> None:
    refused(asking.post("/plan-requests", {"note": "More.", **more}), 422, "invalid", pointer)
    assert not PlanRequest.objects.filter(tenant=party.tenant).exists()


def test_an_answer_is_one_of_three(api: Api, party: Party) -> None:
    row = operator_request(party)
    for body in ({"answer": "yes"}, {}, {"answer": None}):
        refused(api.call("PATCH", f"/operator-requests/{row.id}", body), 422, "invalid")
    row.refresh_from_db()
    assert row.state == "pending"
