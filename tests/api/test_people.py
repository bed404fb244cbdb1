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
from tenants.accounts.models import CustomRole, Invitation, KeyDigest, Membership, Plan, PlanRequest, User
from tenants.accounts.permissions import ROLES, SCOPES, Actor
from tenants.accounts.services import set_role
from tenants.datasets.services import create_dataset
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
        "datasets": None,
        "queues": None,
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


def test_what_a_member_sees_is_chosen(api: Api, party: Party, stranger: Party) -> None:
    member = new_member(party, "reviewer")
    with tenant_scope(party.id):
        first, second = (str(create_dataset(name=name).id) for name in ("a", "b"))
    with tenant_scope(stranger.id):
        others = str(create_dataset(name="a").id)
    path, row = f"/members/{member.pk}", Membership.objects.filter(tenant=party.id, user=member)

    def change(**body: Any) -> Any:
        answer = api.call("PATCH", path, body)
        assert answer.status_code == 200, answer.content
        return answer.json()

    assert change(datasets=[first])["datasets"] == [first]
    # What is not named stays.
    shown = change(queues=["night", "day", "night"])
    assert (shown["datasets"], shown["queues"], shown["role"]) == ([first], ["day", "night"], "reviewer")
    assert change(role="viewer", datasets=[second, first])["datasets"] == sorted([first, second])
    assert row.get().role == "viewer"
    [listed] = [one for one in api.get("/members").json()["results"] if one["id"] == str(member.pk)]
    assert (listed["datasets"], listed["queues"]) == (sorted([first, second]), ["day", "night"])
    for body, pointer in (
        ({"datasets": [first, others]}, "/datasets/1"),
        ({"datasets": ["x"]}, "/datasets/0"),
        ({"datasets": []}, "/datasets"),
        ({"queues": []}, "/queues"),
        ({"queues": [""]}, "/queues/0"),
        ({"datasets": first}, "/datasets"),
        ({"queues": ["q"] * 201}, "/queues"),
    ):
        refused(api.call("PATCH", path, body), 422, "invalid", pointer)
    refused(api.call("PATCH", path, {}), 422, "invalid")
    # One half that is refused takes the other with it.
    refused(api.call("PATCH", path, {"role": "admin", "datasets": [first]}), 422, "invalid", "/role")
    assert row.get().role == "viewer"
    assert change(datasets=None)["queues"] == ["day", "night"]
    assert change(queues=None)["queues"] is None
    assert (row.get().datasets, row.get().queues) == (None, None)
    with tenant_scope(party.id):
        assert AuditEvent.objects.filter(verb="member.narrowed").count() == 5


def test_keys_of_who_is_narrowed_end(api: Api, party: Party) -> None:
    member = new_member(party, "editor")
    with tenant_scope(party.id):
        theirs = Api(keys.create_key(name="theirs", scopes=["read"], created_by=member)[1])
    assert theirs.get("/me").status_code == 200
    assert api.call("PATCH", f"/members/{member.pk}", {"queues": ["night"]}).status_code == 200
    refused(theirs.get("/me"), 401, "invalid-key")


def test_an_invitation_says_what_they_will_see(api: Api, party: Party) -> None:
    with tenant_scope(party.id):
        dataset = str(create_dataset(name="a").id)
    body = {"email": "ann@people.example", "role": "reviewer", "datasets": [dataset], "queues": ["night"]}
    made = api.post("/invitations", body).json()
    assert (made["datasets"], made["queues"]) == ([dataset], ["night"])
    digest = links.digest(token_of(made["link"]))
    user, _ = invitations.accept_as_new(digest=digest, name="Ann", password="violet staircase yodel")
    joined = Membership.objects.get(user=user)
    assert ([str(one) for one in joined.datasets or ()], joined.queues) == ([dataset], ["night"])
    refused(api.post("/invitations", {**body, "role": "admin"}), 422, "invalid", "/role")
    refused(
        api.post("/invitations", {**body, "datasets": [str(uuid.uuid4())]}), 422, "invalid", "/datasets/0"
    )


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


# --- Roles ---


def test_roles_are_made_given_changed_and_deleted(party: Party, api: Api) -> None:
    sent = {"name": "night", "scopes": ["moderate", "read"], "description": "At night"}
    made = api.call("POST", "/roles", sent, {"Idempotency-Key": "once"})
    shape = {"name": "night", "description": "At night", "scopes": ["read", "moderate"], "built_in": False}
    assert (made.status_code, made.json()) == (201, shape)
    assert api.call("POST", "/roles", sent, {"Idempotency-Key": "once"}).content == made.content
    refused(api.post("/roles", sent), 409, "conflict")
    listed = api.get("/roles").json()
    assert listed["next"] is None
    assert [(row["name"], row["built_in"]) for row in listed["results"]] == [
        *((name, True) for name in ROLES),
        ("night", False),
    ]
    assert listed["results"][-1] == shape
    ann = new_member(party, "viewer")
    assert api.call("PATCH", f"/members/{ann.pk}", {"role": "night"}).json()["role"] == "night"
    invited = api.post("/invitations", {"email": "waits@people.example", "role": "night"})
    assert invited.json()["role"] == "night"
    problem = refused(api.call("DELETE", "/roles/night"), 409, "conflict")
    assert problem["detail"] == (
        f"This role is in use: {ann.email}, the invitation of waits@people.example. "
        "Give them another one first."
    )
    changed = api.call("PATCH", "/roles/night", {"scopes": ["search", "read"]}).json()
    assert changed == {**shape, "scopes": ["read", "search"]}
    assert api.call("PATCH", "/roles/night", {"description": ""}).json() == {**changed, "description": ""}
    api.call("DELETE", f"/members/{ann.pk}")
    api.call("DELETE", f"/invitations/{invited.json()['id']}")
    assert api.call("DELETE", "/roles/night").status_code == 204
    refused(api.call("DELETE", "/roles/night"), 404, "not-found")


def test_a_narrowed_role_ends_its_holders_keys_at_once(party: Party, api: Api) -> None:
    api.post("/roles", {"name": "night", "scopes": ["read", "write"]})
    ann = new_member(party, "viewer")
    api.call("PATCH", f"/members/{ann.pk}", {"role": "night"})
    with tenant_scope(party.id):
        writes, reads = (
            Api(keys.create_key(name="k", scopes=scopes, created_by=ann)[1])
            for scopes in (["read", "write"], ["read"])
        )
    assert [one.get("/datasets").status_code for one in (writes, reads)] == [200, 200]
    assert api.call("PATCH", "/roles/night", {"scopes": ["read"]}).status_code == 200
    refused(writes.get("/datasets"), 401, "invalid-key")
    assert reads.get("/datasets").status_code == 200


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"scopes": ["admin"]}, "/scopes"),
        ({"scopes": ["read", "admin"]}, "/scopes"),
        ({"scopes": ["fly"]}, "/scopes/0"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": "read"}, "/scopes"),
        ({"name": "Night"}, "/name"),
        ({"name": "night\n"}, "/name"),
        ({"name": "ni\x00ght"}, "/name"),
        ({"name": "\ud800night"}, "/name"),
        ({"name": "n"}, "/name"),
        ({"name": "n" * 40}, "/name"),
        ({"name": None}, "/name"),
        ({"name": 5}, "/name"),
        ({"description": "a\nb"}, "/description"),
        ({"description": "x" * 301}, "/description"),
        ({"members": []}, "/members"),
    ],
)
def test_roles_that_cannot_be(api: Api, party: Party, more: Any, pointer: str) -> None:
    refused(api.post("/roles", {"name": "night", "scopes": ["read"], **more}), 422, "invalid", pointer)
    assert not CustomRole.objects.filter(tenant=party.tenant).exists()


def test_a_built_in_role_is_neither_made_nor_changed(api: Api) -> None:
    for name in ROLES:
        refused(api.post("/roles", {"name": name, "scopes": ["read"]}), 409, "conflict")
        refused(api.call("PATCH", f"/roles/{name}", {"scopes": ["read"]}), 404, "not-found")
        refused(api.call("DELETE", f"/roles/{name}"), 404, "not-found")


@pytest.mark.parametrize("role", ["king", "Night", "night\n", "", "ni\x00ght", "n" * 41, None, 5])
def test_a_role_that_is_not_there_is_given_to_nobody(api: Api, party: Party, role: Any) -> None:
    api.post("/roles", {"name": "night", "scopes": ["read"]})
    ann = new_member(party, "viewer")
    refused(api.call("PATCH", f"/members/{ann.pk}", {"role": role}), 422, "invalid", "/role")
    refused(api.post("/invitations", {"email": "x@people.example", "role": role}), 422, "invalid", "/role")
    assert Membership.objects.get(user=ann).role == "viewer"
    assert not Invitation.objects.filter(tenant=party.tenant).exists()


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
