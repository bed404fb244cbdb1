"""Hostile forms, tokens and hosts: each is answered with what is wrong, and none with a fault of the server."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

import pytest
from django.contrib.sessions.backends.base import UpdateError
from django.test import Client

from tenants.accounts import sessions
from tests.tenants.people import new_member

PASSWORD = "correct horse battery"

# `U` stands for the person's id. Without a body the page is only opened.
FORMS: list[tuple[str, dict[str, str] | None]] = [
    ("/people/invite", {"email": "a\x00@b.example", "role": "viewer"}),
    ("/people/invite", {"email": "a@b.example", "role": "\x00"}),
    ("/people/invite", {"email": f"a@{'b' * 300}.example", "role": "viewer"}),
    ("/people/invite", {"email": f"{'a' * 60}@{'.'.join(['b' * 60] * 4)}.example", "role": "viewer"}),
    # One sign here is several once normalised.
    ("/people/invite", {"email": "㎏" * 84 + "@x.example", "role": "viewer"}),
    ("/people/invite", {"email": "x@" + "\ufdfa" * 20 + ".example", "role": "viewer"}),
    ("/people/U/role", {"U-role": "\x00"}),
    ("/people/U/role", {"U-role": "Viewer\n"}),
    ("/people/roles", {"name": "night\x00", "scopes": "read"}),
    ("/people/roles", {"name": "night", "description": "\u202e", "scopes": "read"}),
    ("/people/roles", {"name": "night", "scopes": "\x00"}),
    ("/people/roles/night/edit", {"scopes": "read", "seen": "\x00"}),
    ("/people/roles/Night/delete", {}),
    ("/security", {"session_idle_minutes": "\x00", "session_max_minutes": "9" * 5000}),
    ("/security", {"session_idle_minutes": "9" * 30}),
    ("/security/operators", {"required": "\x00"}),
    ("/security/operators", {}),
    (f"/security/operators/{uuid.UUID(int=1)}", {"answer": "\x00"}),
    (f"/security/operators/{uuid.UUID(int=1)}", {"answer": "approve"}),
    ("/account/name", {"name": "\x00"}),
    ("/account/name", {"name": "x\ud7ff"}),
    ("/account/password", {"current": "\x00", "password": "\x00" * 12, "again": "\x00" * 12}),
    ("/account/delete", {"delete-current": "\x00"}),
    ("/account/second-factor", {"code": "\x00", "current": "\x00"}),
    ("/account/second-factor", {"code": "٣٣٣٣٣٣", "current": PASSWORD}),
    ("/workspace", {"tenant": "\x00"}),
    ("/keys", {"name": "\x00", "scopes": "read"}),
    ("/data/erase", {"key": "\x00", "value": "x"}),
    ("/data/erase", {"key": "a", "value": "\x00"}),
    ("/data/erase", {"key": "a", "value": "9" * 18, "count": "٣"}),
    ("/data/erase", {"key": "a", "value": "b", "dataset": str(uuid.UUID(int=1))}),
    ("/data/erase", {"value": "only"}),
    ("/data/erase", {"key": "only"}),
    ("/data/erase", {"external_ids": "\x00"}),
    ("/data/erase", {"external_ids": "x" * 5000}),
    ("/data/erase", {"external_ids": "\n".join(map(str, range(2000)))}),
    ("/audit-log?verb=%00", None),
    ("/audit-log?actor=%00", None),
    ("/audit-log?before=%00", None),
    ("/data?before=zzz", None),
]


def _from_anywhere() -> Client:
    """Another address each time: attempts are counted by address."""
    return Client(REMOTE_ADDR="10." + ".".join(str(secrets.randbelow(250)) for _ in range(3)))


@pytest.mark.parametrize(("path", "body"), FORMS, ids=range(len(FORMS)))
def test_odd_forms_are_answered(party: Any, path: str, body: dict[str, str] | None) -> None:
    user = new_member(party.tenant, "owner", PASSWORD)
    client, own = Client(), str(user.pk)
    client.force_login(user)
    path = path.replace("U", own)
    if body is None:
        answer = client.get(path)
    else:
        answer = client.post(path, {name.replace("U", own): value for name, value in body.items()})
    assert answer.status_code < 500
    # Whatever the form was, the person is still in.
    assert client.get("/account").status_code == 200


@pytest.mark.parametrize(
    "token", ["", "a", "\x00", "%00", "é.x", "////.x", "MDAw.x", "a" * 5000, "AA.x", "gICA.x"]
)
@pytest.mark.parametrize("path", ["/reset/new", "/invitation"])
def test_odd_tokens_open_nothing(path: str, token: str) -> None:
    client = _from_anywhere()
    assert client.get(path, {"token": token}).status_code in (302, 410)
    assert client.get(path).status_code == 410


@pytest.mark.parametrize(
    "body",
    [
        {"code": "\x00"},
        {"username": "\x00", "password": "x"},
        {"username": "a@b.example", "password": "\x00"},
        {"username": "a" * 400, "password": "x" * 5000},
    ],
)
def test_odd_sign_ins_are_refused(body: dict[str, str]) -> None:
    client = _from_anywhere()
    assert client.post("/login", body).status_code == 200
    assert client.get("/account").status_code == 302


def test_a_host_that_is_not_ours_is_refused() -> None:
    assert Client(HTTP_HOST="evil.example").get("/login").status_code == 400


def test_a_session_that_was_ended_is_not_saved_back_to_life(party: Any) -> None:
    user = new_member(party.tenant, "owner")
    client = Client()
    client.force_login(user)
    session = client.session
    session["x"] = 1
    sessions.end_sessions(user=user)
    with pytest.raises(UpdateError):
        session.save()
    assert client.get("/account").status_code == 302
