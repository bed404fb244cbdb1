"""Second factors, sessions, rotated keys, streams that outlive a membership, and erasing a person."""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.utils import timezone

from config.event_stream import Subscription, read_job
from tenants.accounts import api_admission, keys, second_factor, sessions, watchers
from tenants.accounts.keyring import KeyMissing
from tenants.accounts.models import (
    ApiKey,
    Invitation,
    KeyDigest,
    Membership,
    RecoveryCode,
    SecondFactor,
    Session,
    Tenant,
    User,
)
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.models import AuditEvent, Export, IdempotentAnswer
from tenants.events.services import record
from tenants.jobs import server_sent_events
from tenants.people import invitations
from tenants.people.erasure import erase_user
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.keys import another_master_key
from tests.tenants.people import App, acting, new_member, new_user, turn_on

# --- The second factor ---


def test_the_apps_code_turns_it_on_and_works_once() -> None:
    user = new_user()
    app, codes = turn_on(user)
    assert second_factor.is_on(user)
    assert (len(set(codes)), {len(code) for code in codes}) == (10, {19})
    assert not second_factor.verify(user=user, code=app.code()), "the code that turned it on is used up"
    assert second_factor.verify(user=user, code=f" {app.code(1)[:3]} {app.code(1)[3:]} ")
    assert not second_factor.verify(user=user, code=app.code(1))
    assert not second_factor.verify(user=user, code=app.code(-1)), "older than a used one"


def test_codes_that_are_not_right() -> None:
    user, other = new_user(), new_user()
    app, codes = turn_on(user)
    _, other_codes = turn_on(other)
    wrong = [app.code(5), app.code(-5), "", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "\x00", other_codes[0]]
    assert [second_factor.verify(user=user, code=code) for code in wrong] == [False] * len(wrong)
    assert not second_factor.verify(user=new_user(), code=codes[0])


def test_a_recovery_code_works_once_and_new_ones_end_the_old() -> None:
    user = new_user()
    _, codes = turn_on(user)
    assert second_factor.verify(user=user, code=codes[0].upper().replace("-", " "))
    assert not second_factor.verify(user=user, code=codes[0])
    fresh = second_factor.renew_recovery_codes(user=user)
    assert not second_factor.verify(user=user, code=codes[1])
    assert second_factor.verify(user=user, code=fresh[1])


def test_nothing_of_it_is_kept_readable() -> None:
    user = new_user()
    app = App(user)
    secret = app._totp._hotp._key
    second_factor.confirm(user=user, code=app.code())
    assert secret not in bytes(SecondFactor.objects.get(user=user).sealed_secret)
    codes = second_factor.renew_recovery_codes(user=user)
    kept = [bytes(row.digest) for row in RecoveryCode.objects.filter(user=user)]
    assert all(code.encode() not in digest for code in codes for digest in kept)


def test_it_is_not_on_before_a_right_code() -> None:
    user = new_user()
    with pytest.raises(Conflict):
        second_factor.confirm(user=user, code="123456")
    app = App(user)
    with pytest.raises(Invalid):
        second_factor.confirm(user=user, code=app.code(9))
    assert not second_factor.is_on(user)
    assert not second_factor.verify(user=user, code=app.code())
    second_factor.confirm(user=user, code=app.code())
    for again in (lambda: second_factor.begin(user), lambda: second_factor.confirm(user=user, code="1")):
        with pytest.raises(Conflict):
            again()


def test_another_master_key_opens_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    user, half_way = new_user(), new_user()
    app, codes = turn_on(user)
    before = second_factor.begin(half_way)
    with another_master_key(tmp_path):
        assert not second_factor.verify(user=user, code=app.code(1))
        assert not second_factor.verify(user=user, code=codes[0])
        with pytest.raises(KeyMissing):
            second_factor.begin(half_way)
    assert second_factor.begin(half_way) == before
    assert second_factor.verify(user=user, code=codes[0])


def test_a_new_secret_key_leaves_apps_and_recovery_codes_valid(settings: Any) -> None:
    user = new_user()
    app, codes = turn_on(user)
    settings.SECRET_KEY = "another"
    assert second_factor.verify(user=user, code=app.code(1))
    assert second_factor.verify(user=user, code=codes[0])


# --- Sessions ---


def open_session(user: User, **client: str) -> sessions.SessionStore:
    store = sessions.SessionStore()
    store["_auth_user_id"] = str(user.pk)
    sessions.note_client(store, device=client.get("device", ""), address=client.get("address", ""))
    store.create()
    store.save()
    return store


def test_sessions_are_listed_and_ended_by_their_owner_only() -> None:
    user, other = new_user(), new_user()
    first = open_session(user, device="Mozilla", address="2001:db8::1")
    second = open_session(user, device="x" * 999, address="y" * 99)
    open_session(other)
    rows = {row.pk: row for row in sessions.list_sessions(user)}
    assert set(rows) == {first.session_key, second.session_key}
    assert (rows[first.session_key].device, rows[first.session_key].address) == ("Mozilla", "2001:db8::1")
    assert (len(rows[second.session_key].device), len(rows[second.session_key].address)) == (300, 45)
    handle = sessions.handle_of(first.session_key)
    assert first.session_key not in str(handle)
    assert sessions.end_session(user=other, handle=handle) == 0
    assert sessions.end_session(user=user, handle=handle) == 1
    assert sessions.SessionStore(first.session_key).get("_auth_user_id") is None
    assert sessions.end_sessions(user=user, keep=second.session_key) == 0
    assert sessions.end_sessions(user=user) == 1
    assert len(sessions.list_sessions(other)) == 1


def test_the_last_use_is_noted_once_a_minute() -> None:
    user = new_user()
    key = open_session(user).session_key
    long_ago = timezone.now() - dt.timedelta(hours=2)
    for seen, moves in ((long_ago, True), (timezone.now() - dt.timedelta(seconds=30), False)):
        Session.objects.filter(pk=key).update(seen_at=seen)
        store = sessions.SessionStore(key)
        store.load()
        sessions.touch(store)
        assert (Session.objects.get(pk=key).seen_at > seen) == moves


def test_expired_sessions_are_forgotten() -> None:
    user = new_user()
    key = open_session(user).session_key
    Session.objects.filter(pk=key).update(expire_date=timezone.now() - dt.timedelta(seconds=1))
    assert list(sessions.list_sessions(user)) == []
    sessions.forget_expired()
    assert not Session.objects.filter(pk=key).exists()


# --- Streams ---


@pytest.fixture
def job(party: Party) -> Any:
    with tenant_scope(party.id):
        dataset = create_dataset(name=f"d-{secrets.token_hex(4)}")
        return add_asset(dataset_id=dataset.id, text="A red kettle.").job


ENDS: dict[str, Callable[[Party, User, str], Any]] = {
    "removed": lambda party, user, key: Membership.objects.filter(user=user).delete(),
    "unknown role": lambda party, user, key: Membership.objects.filter(user=user).update(role="none"),
    "suspended": lambda party, user, key: Tenant.objects.filter(pk=party.id).update(state="suspended"),
    "inactive": lambda party, user, key: User.objects.filter(pk=user.pk).update(is_active=False),
    "signed out": lambda party, user, key: sessions.end_sessions(user=user),
    "expired": lambda party, user, key: Session.objects.filter(pk=key).update(expire_date=timezone.now()),
}


def as_event(job: Any) -> bytes:
    return server_sent_events.event(job).encode()


@pytest.mark.parametrize("end", ENDS)
def test_a_stream_ends_with_the_right_to_watch(end: str, party: Party, job: Any) -> None:
    user = new_member(party.tenant, "viewer")
    key = open_session(user).session_key
    stream = Subscription(party.id, job.id, watchers.by_session(key))
    reading = read_job(stream, as_event)
    assert reading is not None
    assert str(job.id).encode() in reading.text
    ENDS[end](party, user, key)
    assert read_job(stream, as_event) is None


def test_a_stream_of_a_key_ends_with_the_key_and_opens_no_other_tenant(
    party: Party, stranger: Party, job: Any
) -> None:
    prefix = party.token.partition(".")[0]
    stream = Subscription(party.id, job.id, watchers.by_key(prefix))
    assert read_job(stream, as_event) is not None
    assert not watchers.may_watch(watchers.by_key(prefix), stranger.id)
    with tenant_scope(party.id):
        keys.revoke_key(key_id=ApiKey.objects.get().id)
    assert read_job(stream, as_event) is None


@pytest.mark.parametrize("watcher", ["", "session:", "session:x", "key:", "key:x", "user:x"])
def test_odd_watchers_see_nothing(watcher: str, party: Party, job: Any) -> None:
    assert read_job(Subscription(party.id, job.id, watcher), as_event) is None


# --- Rotating keys ---


def rotate(party: Party, overlap_s: int, **old: Any) -> tuple[str, str, KeyDigest, KeyDigest]:
    """Old and new token, and their digest rows."""
    with tenant_scope(party.id):
        key, old_token = keys.create_key(name="robot", scopes=["read", "search"], **old)
        assert api_admission.identify(old_token) is not None
        new, new_token = keys.rotate_key(key_id=key.id, overlap_s=overlap_s, created_by=party.owner)
    rows = [KeyDigest.objects.get(key_id=row.id) for row in (key, new)]
    return old_token, new_token, *rows


def test_a_rotated_key_works_beside_the_new_one_for_the_overlap(party: Party) -> None:
    old_token, new_token, old, new = rotate(party, 3600)
    assert api_admission.identify(new_token).scopes == ("read", "search")
    assert api_admission.identify(old_token) is not None
    assert abs(old.expires_at - timezone.now() - dt.timedelta(hours=1)) < dt.timedelta(minutes=1)
    assert new.expires_at is None
    KeyDigest.objects.filter(pk=old.pk).update(expires_at=timezone.now())
    keys.forget(old.prefix)
    assert api_admission.identify(old_token) is None
    assert api_admission.identify(new_token) is not None


def test_without_overlap_the_old_key_ends_at_once(party: Party) -> None:
    old_token, new_token, old, _ = rotate(party, 0)
    assert api_admission.identify(old_token) is None
    assert old.revoked_at is not None
    assert api_admission.identify(new_token) is not None


def test_a_rotated_key_keeps_its_lifetime_and_never_gains_time(party: Party) -> None:
    end = timezone.now() + dt.timedelta(hours=1)
    _, _, old, new = rotate(party, 7 * 86400, expires_at=end)
    assert old.expires_at == end
    assert abs(new.expires_at - end) < dt.timedelta(minutes=1)


def test_rotations_that_are_refused_change_nothing(party: Party, stranger: Party) -> None:
    with tenant_scope(party.id):
        key, _ = keys.create_key(name="robot", scopes=["read"])
        for overlap_s in (-1, 7 * 86400 + 1):
            with pytest.raises(Invalid):
                keys.rotate_key(key_id=key.id, overlap_s=overlap_s)
        with pytest.raises(NotFound):
            keys.rotate_key(key_id=uuid.uuid4(), overlap_s=0)
        before = ApiKey.objects.count()
    with tenant_scope(stranger.id), pytest.raises(NotFound):
        keys.rotate_key(key_id=key.id, overlap_s=0)
    with tenant_scope(party.id):
        keys.revoke_key(key_id=key.id)
        with pytest.raises(Conflict):
            keys.rotate_key(key_id=key.id, overlap_s=0)
        assert ApiKey.objects.count() == before


# --- Erasing a person ---


def everything_of(user: User, parties: tuple[Party, ...]) -> str:
    """All rows that could still name a person, as text."""
    found: list[Any] = [list(User.objects.filter(email=user.email).values())]
    found.append(list(Invitation.objects.filter(email=user.email).values()))
    for party in parties:
        with tenant_scope(party.id):
            found.append(list(AuditEvent.objects.values("actor", "target", "details")))
            found.append(list(ApiKey.objects.values("created_by", "name")))
            found.append(list(Export.objects.values("requested_by")))
            found.append(list(IdempotentAnswer.objects.values("body")))
    return json.dumps(found, default=str)


def test_an_erased_person_is_named_nowhere(party: Party, stranger: Party) -> None:
    user = new_member(party.tenant, "admin")
    Membership.objects.create(tenant=stranger.tenant, user=user, role="editor")
    turn_on(user)
    open_session(user)
    with tenant_scope(party.id):
        token = keys.create_key(name="robot", scopes=["read"], created_by=user)[1]
        invitations.invite(actor=acting(party.tenant, user), email="x@y.example", role="viewer")
        for name in (user.email, "x@y.example"):
            body = json.dumps({"email": name})
            IdempotentAnswer.objects.create(key=name, fingerprint="f", status=201, body=body)
        record(actor=str(user.pk), verb="thing.done", details={"by": user.email, "all": [user.name, "else"]})
    with tenant_scope(stranger.id):
        invitations.invite(
            actor=acting(stranger.tenant, stranger.owner), email=f"old-{user.email}", role="viewer"
        )
        record(actor="key:x", verb="thing.done", target=str(user.pk))
        Export.objects.create(requested_by=str(user.pk))
    receipt = erase_user(user=user)
    assert receipt == {
        "membership": 2,
        "key_digest": 1,
        "session": 1,
        "second_factor": 1,
        "passkey": 0,
        "sign_on_identity": 0,
        "recovery_code": 10,
        "invitation": 1,
        "sign_up": 0,
        "api_key": 1,
        # The invitation, what was recorded twice, and leaving twice.
        "audit_event": 5,
        "idempotent_answer": 1,
        "export": 1,
        "user": 1,
    }
    left = everything_of(user, (party, stranger))
    assert str(user.pk) not in left
    assert f'"{user.email}"' not in left
    assert user.name not in left
    assert api_admission.identify(token) is None
    with tenant_scope(party.id):
        done = AuditEvent.objects.get(verb="thing.done")
        assert done.actor.startswith("erased-")
        assert done.details == {"by": done.actor, "all": [done.actor, "else"]}
    with tenant_scope(stranger.id):
        assert AuditEvent.objects.get(verb="thing.done").target == done.actor


def test_the_last_owner_is_not_erased(party: Party, stranger: Party) -> None:
    user = new_member(party.tenant, "viewer")
    Membership.objects.filter(tenant=stranger.tenant).update(user=user)
    with pytest.raises(Conflict, match=stranger.tenant.name):
        erase_user(user=user)
    assert Membership.objects.filter(user=user).count() == 2
    assert User.objects.filter(pk=user.pk).exists()
    with pytest.raises(CommandError, match="only owner"):
        call_command("erase_user", user.email)


def test_the_operators_commands(capsys: Any) -> None:
    user = new_user("the old password")
    turn_on(user)
    call_command("reset_password", user.email.upper(), "--forget-second-factor")
    out = capsys.readouterr().out
    assert "The second factor is forgotten." in out
    assert "/reset/new?token=" in out
    assert not second_factor.is_on(user)
    call_command("erase_user", user.email)
    assert json.loads(capsys.readouterr().out)["user"] == 1
    for command in ("reset_password", "erase_user"):
        with pytest.raises(CommandError, match="There is no"):
            call_command(command, user.email)


@pytest.mark.services
def test_create_tenant_prints_credentials_and_nothing_else() -> None:
    slug = f"t-{secrets.token_hex(6)}"
    command = [sys.executable, "manage.py", "create_tenant", slug, "--owner", f"owner@{slug}.example"]
    env = {name: value for name, value in os.environ.items() if name != "LOG_LEVEL"}
    done = subprocess.run(
        command, cwd=settings.ROOT, env=env, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stderr == ""
    labels = [line.rpartition(" ")[0].strip() for line in done.stdout.splitlines()]
    assert labels == ["owner", "password", "tenant", "api key"]
