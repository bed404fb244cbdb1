"""Seals are signed and kept outside: what a superuser of the database changes is found, whatever is computed anew."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import psycopg2
import pytest
from botocore.exceptions import ClientError
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection
from django.utils import timezone

from standalone.postgres import SUPERUSER
from tenants.accounts import installation_secrets
from tenants.accounts.models import InstallationSecret
from tenants.accounts.services import create_user, set_role
from tenants.events import deliveries, endpoints, webhooks
from tenants.events.models import AuditEvent, AuditLogLine
from tenants.events.services import record as log_event
from tenants.moderation import record
from tenants.moderation.models import Anchor, Checkpoint, CheckpointHead, LogSeal, Record, Seal
from tenants.moderation.record import anchors, checkpoints, seals, signatures
from tenants.moderation.record.chains import LOG, RECORD
from tenants.people.erasure import erase_user
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.receiver import receiving
from tests.tenants.time_stamping import Authority, authority


def superuser(*statements: tuple[str, tuple[Any, ...]]) -> list[int]:
    """As somebody who has the database: past every right and policy. How many rows each statement met."""
    database = settings.DATABASES["migration"]
    password = json.loads((settings.DATA_DIR / "secrets.json").read_text())["superuser_password"]
    with (
        closing(
            psycopg2.connect(
                host=database["HOST"],
                port=database["PORT"],
                dbname=database["NAME"],
                user=SUPERUSER,
                password=password,
            )
        ) as owner,
        owner,
        owner.cursor() as cursor,
    ):
        return [cursor.execute(*statement) or cursor.rowcount for statement in statements]


def forget_checkpoints() -> None:
    superuser(
        *(
            (f"DELETE FROM {name}", ())
            for name in ("record_anchor", "record_checkpoint_head", "record_checkpoint")
        )
    )


@pytest.fixture(autouse=True)
def _alone(settings: Any) -> Iterator[None]:
    """Checkpoints are of the installation: each test begins without any, and what other tests made is not noted."""
    forget_checkpoints()
    settings.RECORD_ANCHOR_S = 0
    checkpoints.make()
    forget_checkpoints()
    yield
    forget_checkpoints()


@pytest.fixture
def locked(s3_endpoint: str, settings: Any) -> Any:
    """A bucket with object lock, and the client that looks into it."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=s3_endpoint, **keys)
    name = f"record-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    settings.RECORD_BUCKET, settings.RECORD_BUCKET_ENDPOINT = f"s3://{name}/anchors", s3_endpoint
    settings.RECORD_BUCKET_ACCESS_KEY = settings.RECORD_BUCKET_SECRET_KEY = "test"
    client.bucket = name
    return client


@pytest.fixture(scope="module")
def stamping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Authority, str]]:
    with authority(tmp_path_factory.mktemp("tsa")) as running:
        yield running


@pytest.fixture
def tsa(stamping: tuple[Authority, str], settings: Any) -> Authority:
    running, settings.RECORD_TSA_URL = stamping
    settings.RECORD_TSA_CA = str(running.root)
    running.answers, running.refuses, running.garbles = 0, False, False
    return running


def write(party: Party, count: int = 1) -> None:
    with tenant_scope(party.id):
        for number in range(count):
            record.append(kind="test", decision="block", actor="key:x", payload={"n": number})


def seal(party: Party, count: int = 3) -> None:
    """Lines in the record and the audit log, sealed, noted and sent where there is somewhere to send them."""
    write(party, count)
    with tenant_scope(party.id):
        log_event(actor="key:x", verb="thing.done", target="7")
    seals.seal(party.id, RECORD)
    seals.seal(party.id, LOG)
    assert checkpoints.make() is not None
    anchors.send_due()


def faults(party: Party) -> list[tuple[str, str]]:
    """What the whole verification finds, of this tenant or of no tenant."""
    reports = [seals.verify(party.id, chain=chain) for chain in (RECORD, LOG)]
    broken = [(report.broken.kind, "") for report in reports if report.broken]
    outside = [*anchors.check_tenant(party.tenant), *anchors.check()]
    mine = ("", party.tenant.slug, str(party.id))
    return broken + sorted({(fault.kind, fault.tenant) for fault in outside if fault.tenant in mine})


# --- Signatures --------------------------------------------------------------------------------------------


def test_a_seal_is_signed_by_the_installations_key(party: Party) -> None:
    write(party)
    seals.seal(party.id)
    with tenant_scope(party.id):
        made = Seal.objects.get()
    key = signatures.key_ring().public[0]
    assert made.key_id == key.id == hashlib.sha256(key.raw).hexdigest()[:16]
    message = f"crosslight seal 1\n{party.id}\nrecord\n1\n{made.digest}"
    assert key.verifies(message, made.signature)
    assert not key.verifies(message.replace("\n1\n", "\n2\n"), made.signature)
    report = seals.verify(party.id)
    assert (report.ok, report.seals, report.signed) == (True, 1, 1)


def test_the_key_is_sealed_and_none_is_made_in_its_place() -> None:
    ring = signatures.key_ring()
    row = InstallationSecret.objects.get(pk=signatures.NAME)
    assert ring.private.private_bytes_raw() not in bytes(row.content)
    InstallationSecret.objects.filter(pk=signatures.NAME).update(content=b"sealed by somebody else")
    with pytest.raises(signatures.KeyUnreadable, match="sealed under another key"):
        signatures.key_ring()
    assert bytes(InstallationSecret.objects.get(pk=signatures.NAME).content) == b"sealed by somebody else"
    InstallationSecret.objects.filter(pk=signatures.NAME).update(content=row.content)


def test_a_new_key_signs_and_the_one_before_still_counts(party: Party, capsys: Any) -> None:
    write(party)
    seals.seal(party.id)
    before = signatures.key_ring().public[0]
    call_command("record_key", rotate=True)
    write(party)
    seals.seal(party.id)
    now = signatures.key_ring().public
    shown = capsys.readouterr().out
    assert [key.id for key in now[:2]] == [shown[:16], before.id]
    assert now[0].pem in shown and "signs now" in shown
    with tenant_scope(party.id):
        assert list(Seal.objects.order_by("first").values_list("key_id", flat=True)) == [before.id, now[0].id]
    assert seals.verify(party.id).signed == 2
    with pytest.raises(CommandError, match="the signing key"):
        call_command("verify_record", tenant=party.tenant.slug, key="0" * 16)
    call_command("verify_record", tenant=party.tenant.slug, key=before.id)


def recompute(party: Party, *, signed: bool) -> None:
    """What a superuser does who has read this code: another decision in line 2, and every digest from there on."""
    with tenant_scope(party.id):
        lines, sealed = list(Record.objects.order_by("sequence")), list(Seal.objects.order_by("first"))
    lines[1].decision = "allow"
    lines[1].digest = record.digest_line(lines[1])
    said = [
        (
            "UPDATE moderation_record SET decision='allow', digest=%s WHERE id=%s",
            (lines[1].digest, str(lines[1].id)),
        )
    ]
    previous = ""
    for made in sealed:
        made.previous = previous
        of_it = [line.digest for line in lines if made.first <= line.sequence <= made.last]
        folded = hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in of_it)).hexdigest()
        previous = made.digest = seals.digest_seal(made, folded)
        kept = "signature" if signed else "''"
        said.append(
            (
                f"UPDATE moderation_seal SET previous=%s, digest=%s, signature={kept} WHERE id=%s",
                (made.previous, made.digest, str(made.id)),
            )
        )
    assert superuser(*said) == [1] * len(said)


def test_a_superuser_who_recomputes_the_whole_chain_cannot_sign_it(party: Party) -> None:
    seal(party)
    seal(party)
    assert faults(party) == []
    recompute(party, signed=True)
    assert faults(party) == [("forged-seal", ""), ("missing-seal", party.tenant.slug)]


def test_nor_without_signatures(party: Party) -> None:
    """Seals of the release before have none: they are believed for a day after the key was made, and no longer."""
    seal(party)
    recompute(party, signed=False)
    assert seals.verify(party.id).broken is None
    since = signatures.key_ring().since - seals.UNSIGNED_FOR - dt.timedelta(days=1)
    _age_key(since)
    assert seals.verify(party.id).broken.kind == "unsigned-seal"
    assert faults(party) == [("unsigned-seal", ""), ("missing-seal", party.tenant.slug)]


def _age_key(since: dt.datetime) -> None:
    """As if the key had been made then."""
    row = InstallationSecret.objects.get(pk=signatures.NAME)
    content = json.loads(installation_secrets.content_of(row)) | {"since": since.isoformat(), "former": []}
    installation_secrets.write(row.pk, json.dumps(content).encode(), tenant_id=None, private=True)


def test_a_key_that_a_superuser_puts_in_is_not_ours(party: Party) -> None:
    """Whoever deletes the key has the application make another, by which what was signed before is forged."""
    seal(party)
    noted = signatures.key_ring().public[0].id
    assert superuser(("DELETE FROM installation_secret WHERE name=%s", (signatures.NAME,))) == [1]
    assert faults(party)[0] == ("forged-seal", "")
    with pytest.raises(CommandError, match="the signing key"):
        call_command("verify_record", tenant=party.tenant.slug, key=noted)


# --- The audit log -----------------------------------------------------------------------------------------

MINE = "tenant_id = %s"
BACKDATED = """
INSERT INTO audit_event (id, tenant_id, actor, verb, target, details, created_at)
SELECT '01900000-0000-7000-8000-000000000001', id, 'key:z', 'thing.done', '', '{}', now() FROM tenant WHERE id = %s
"""
CHAIN = "record_checkpoint"


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        (f"UPDATE audit_event SET actor = 'key:y' WHERE verb = 'thing.done' AND {MINE}", "changed-line"),
        (f"UPDATE audit_event SET details = '{{\"a\": 1}}' WHERE verb = 'thing.done' AND {MINE}", "changed-line"),
        (f"DELETE FROM audit_event WHERE verb = 'thing.done' AND {MINE}", "changed-line"),
        (f"DELETE FROM audit_log_line WHERE sequence = 1 AND {MINE}", "missing-line"),
        (f"DELETE FROM audit_log_seal WHERE first = 1 AND {MINE}", "missing-seal"),
        (BACKDATED, "added-line"),
    ],
)  # fmt: skip
def test_the_audit_log_is_sealed_too(party: Party, statement: str, kind: str) -> None:
    seal(party)
    seal(party)
    report = seals.verify(party.id, chain=LOG)
    with tenant_scope(party.id):
        events = AuditEvent.objects.count()
    assert (report.ok, report.lines, report.seals, report.signed, report.unsealed) == (True, events, 2, 2, 0)
    assert superuser((statement, (str(party.id),)))[0] > 0
    assert seals.verify(party.id, chain=LOG).broken.kind == kind
    superuser(("DELETE FROM audit_event WHERE id = %s", ("01900000-0000-7000-8000-000000000001",)))


def test_only_tenants_with_new_events_are_looked_at(party: Party, stranger: Party) -> None:
    for one in (party, stranger):
        with tenant_scope(one.id):
            log_event(actor="key:x", verb="thing.done")
    seals.seal(party.id, LOG)
    behind = seals.tenants_with_new_lines(LOG)
    assert party.id not in behind and stranger.id in behind
    with tenant_scope(party.id):
        log_event(actor="key:x", verb="thing.done")
    assert party.id in seals.tenants_with_new_lines(LOG)
    assert seals.verify(party.id, chain=LOG).unsealed == 1


def test_an_event_that_commits_late_gets_its_line(party: Party) -> None:
    with tenant_scope(party.id):
        early = AuditEvent(actor="key:x", verb="thing.late")
        log_event(actor="key:x", verb="thing.done")
    seals.seal(party.id, LOG)
    with tenant_scope(party.id):
        early.save()
        log_event(actor="key:x", verb="thing.done")
    seals.seal(party.id, LOG)
    with tenant_scope(party.id):
        assert AuditLogLine.objects.filter(event=early.id).count() == 1
        assert LogSeal.objects.count() == 2
    assert seals.verify(party.id, chain=LOG).ok


def test_a_person_can_be_erased_from_a_sealed_log(party: Party) -> None:
    ann = create_user(email=f"ann@{party.tenant.slug}.example", password="correct horse battery")
    set_role(tenant=party.tenant, user=ann, role="viewer")
    with tenant_scope(party.id):
        log_event(actor=str(ann.pk), verb="thing.done", target="7")
    seal(party)
    erase_user(user=ann)
    seals.seal(party.id, LOG)
    report = seals.verify(party.id, chain=LOG)
    with tenant_scope(party.id):
        assert not AuditEvent.objects.filter(actor=str(ann.pk)).exists()
        written_anew = AuditLogLine.objects.filter(why="erasure").count()
    assert written_anew > 0
    assert (report.ok, report.unsealed, report.rewritten) == (True, 0, written_anew)
    changed = (
        f"UPDATE audit_event SET target = '8' WHERE verb = 'thing.done' AND actor LIKE 'erased-%%' AND {MINE}"
    )
    assert superuser((changed, (str(party.id),))) == [1]
    assert seals.verify(party.id, chain=LOG).broken.kind == "changed-line"


def test_the_application_may_add_and_read_and_nothing_else(party: Party) -> None:
    seal(party)
    for table in ("audit_log_line", "audit_log_seal", "record_checkpoint", "record_checkpoint_head"):
        for statement in (f"UPDATE {table} SET digest = digest", f"DELETE FROM {table}"):
            with pytest.raises(ProgrammingError, match="permission denied"), tenant_scope(party.id):
                connection.cursor().execute(statement)


# --- Checkpoints -------------------------------------------------------------------------------------------


def test_a_checkpoint_names_what_is_new_and_follows_the_one_before(
    party: Party, stranger: Party, settings: Any
) -> None:
    seal(party)
    seal(stranger)
    one, two = Checkpoint.objects.order_by("number")
    assert (one.number, one.previous, two.number, two.previous) == (1, "", 2, one.digest)
    named = {(head.tenant, head.chain, head.last) for head in checkpoints.heads_of(two)}
    assert {found for found in named if found[0] == str(party.id)} == set()
    assert (str(stranger.id), "record", 3) in named
    assert checkpoints.make() is None
    write(party)
    seals.seal(party.id)
    settings.RECORD_ANCHOR_S = 3600
    assert checkpoints.make() is None
    settings.RECORD_ANCHOR_S = 0
    assert checkpoints.make().number == 3


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        (f"UPDATE {CHAIN} SET created_at = created_at + interval '1 s' WHERE number = 1", "changed-checkpoint"),
        (f"UPDATE {CHAIN} SET signature = repeat('A', 86) || '==' WHERE number = 1", "forged-checkpoint"),
        (f"UPDATE {CHAIN}_head SET last = 2 WHERE checkpoint_id = 1 AND chain = 'record'", "changed-checkpoint"),
        (
            f"DELETE FROM {CHAIN}_head WHERE checkpoint_id = 1; DELETE FROM {CHAIN} WHERE number = 1",
            "missing-checkpoint",
        ),
    ],
)  # fmt: skip
def test_checkpoints_that_were_changed_are_found(party: Party, statement: str, kind: str) -> None:
    seal(party)
    seal(party)
    assert list(checkpoints.check_chain()) == []
    superuser((statement, ()))
    assert next(iter(checkpoints.check_chain())).kind == kind


# --- The bucket --------------------------------------------------------------------------------------------


def kept(locked: Any) -> list[str]:
    return [found["Key"] for found in locked.list_objects_v2(Bucket=locked.bucket).get("Contents", ())]


def test_a_checkpoint_lies_in_the_bucket_and_cannot_be_deleted(party: Party, locked: Any) -> None:
    seal(party)
    row = Checkpoint.objects.get()
    assert row.places == ["bucket"]
    assert kept(locked) == [f"anchors/checkpoint-000000000001-{row.digest}.json"]
    where = {"Bucket": locked.bucket, "Key": kept(locked)[0]}
    held = locked.head_object(**where)
    assert held["ObjectLockMode"] == "COMPLIANCE"
    assert held["ObjectLockRetainUntilDate"].date() == (row.created_at + dt.timedelta(days=365)).date()
    version = held["VersionId"]
    with pytest.raises(ClientError, match="AccessDenied"):
        locked.delete_object(**where, VersionId=version)
    document = json.loads(locked.get_object(**where)["Body"].read())
    assert hashlib.sha256(document["signed"].encode()).hexdigest() == row.digest
    key = signatures.key_ring().public[0]
    assert key.verifies(f"crosslight checkpoint 1\n{row.digest}", document["signature"])
    assert faults(party) == []


def test_a_superuser_who_lets_the_application_seal_anew_is_found(party: Party, locked: Any) -> None:
    """Everything here fits and is signed: the bucket alone knows better."""
    seal(party)
    seal(party)
    tables = ("record_anchor", "record_checkpoint_head", "record_checkpoint")
    mine = (str(party.id),)
    superuser(
        ("UPDATE moderation_record SET decision = 'allow' WHERE sequence = 2 AND tenant_id = %s", mine),
        ("DELETE FROM moderation_seal WHERE tenant_id = %s", mine),
        *((f"DELETE FROM {table}", ()) for table in tables),
    )
    with tenant_scope(party.id):
        line = Record.objects.get(sequence=2)
    superuser(
        ("UPDATE moderation_record SET digest = %s WHERE id = %s", (record.digest_line(line), str(line.id)))
    )
    seals.seal(party.id)
    checkpoints.make()
    assert seals.verify(party.id).ok
    assert list(checkpoints.check_chain()) == []
    found = faults(party)
    assert ("missing-seal", party.tenant.slug) in found
    assert ("changed-checkpoint", "") in found and ("missing-checkpoint", "") in found
    with pytest.raises(CommandError, match=party.tenant.slug):
        call_command("verify_record", tenant=party.tenant.slug)


def test_a_superuser_who_cuts_the_end_off_is_found(party: Party, locked: Any) -> None:
    seal(party)
    seal(party)
    mine = (str(party.id),)
    superuser(
        ("DELETE FROM moderation_record WHERE sequence > 3 AND tenant_id = %s", mine),
        ("DELETE FROM moderation_seal WHERE first > 3 AND tenant_id = %s", mine),
        ("UPDATE moderation_clock SET last = 3 WHERE tenant_id = %s", mine),
        ("DELETE FROM record_anchor WHERE checkpoint_id = 2", ()),
        ("DELETE FROM record_checkpoint_head WHERE checkpoint_id = 2", ()),
        ("DELETE FROM record_checkpoint WHERE number = 2", ()),
    )
    assert seals.verify(party.id).ok
    assert faults(party) == [("missing-checkpoint", ""), ("missing-seal", party.tenant.slug)]


def test_a_superuser_who_deletes_a_tenants_record_is_found(party: Party, locked: Any) -> None:
    seal(party)
    mine = (str(party.id),)
    superuser(
        *(
            (f"DELETE FROM {table} WHERE tenant_id = %s", mine)
            for table in ("moderation_record", "moderation_seal", "moderation_clock")
        ),
        ("DELETE FROM record_anchor", ()),
        ("DELETE FROM record_checkpoint_head", ()),
        ("DELETE FROM record_checkpoint", ()),
    )
    report = seals.verify(party.id)
    assert (report.ok, report.lines) == (True, 0)
    assert faults(party) == [("missing-checkpoint", ""), ("missing-seal", party.tenant.slug)]


def test_a_tenant_that_is_gone_without_a_receipt_is_found(make_party: Any, locked: Any, capsys: Any) -> None:
    hidden, erased = make_party(), make_party()
    seal(hidden)
    seal(erased)
    call_command("erase_tenant", erased.tenant.slug, "--yes")
    # As if nobody had ever made it: its random id stands in the checkpoint alone.
    nobody = str(uuid.uuid4())
    renamed = "UPDATE record_checkpoint_head SET of_tenant = %s WHERE of_tenant = %s"
    assert superuser((renamed, (nobody, str(hidden.id)))) == [2]
    assert [(fault.kind, fault.tenant) for fault in checkpoints.check_tenants_gone()] == [
        ("missing-tenant", nobody)
    ]


def test_what_a_superuser_puts_into_or_takes_from_the_bucket_is_told(party: Party, locked: Any) -> None:
    seal(party)
    forged = {"signed": json.dumps({"heads": []}), "key": "0" * 16, "signature": "AA=="}
    locked.put_object(
        Bucket=locked.bucket, Key=f"anchors/checkpoint-{9:012}-{'0' * 64}.json", Body=json.dumps(forged)
    )
    assert faults(party) == [("foreign-checkpoint", "")]


def test_a_bucket_that_is_away_takes_it_later(party: Party, locked: Any, settings: Any) -> None:
    there, settings.RECORD_BUCKET_ENDPOINT = settings.RECORD_BUCKET_ENDPOINT, "http://127.0.0.1:9"
    seal(party)
    anchor = Anchor.objects.get()
    assert (anchor.done_at, anchor.tries) == (None, 1)
    assert anchor.error.startswith("The bucket did not take it: ")
    (state,) = anchors.states()
    assert (state.place, state.arrived, state.waiting, state.error) == ("bucket", 0, 1, anchor.error)
    assert faults(party) == [("unreachable", "")]
    settings.RECORD_BUCKET_ENDPOINT = there
    assert anchors.send_due() == 0, "not before its time"
    Anchor.objects.update(due_at=timezone.now())
    assert anchors.send_due() == 1
    assert faults(party) == []


def test_a_sender_that_is_killed_after_it_has_sent_sends_it_again(
    party: Party, locked: Any, monkeypatch: Any
) -> None:
    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(anchors.timezone, "now", timezone.now)
        patch.setitem(anchors._SENDERS, Anchor.Place.BUCKET, lambda row: (anchors._put(row), killed()))
        seal(party)
    assert len(kept(locked)) == 1
    assert Anchor.objects.get().done_at is None
    assert anchors.send_due() == 0, "another worker may still be at it"
    Anchor.objects.update(due_at=timezone.now())
    assert anchors.send_due() == 1
    assert len(kept(locked)) == 1
    assert faults(party) == []


# --- The time stamp ----------------------------------------------------------------------------------------


def test_a_checkpoint_is_stamped(party: Party, tsa: Authority, tmp_path: Path) -> None:
    seal(party)
    anchor, row = Anchor.objects.get(), Checkpoint.objects.get()
    assert (anchor.place, row.places, tsa.answers) == ("tsa", ["tsa"], 1)
    assert abs(anchors.stamped_at(anchor) - timezone.now()) < dt.timedelta(minutes=1)
    assert faults(party) == []
    # What anybody can do with openssl alone.
    (tmp_path / "token.tsr").write_bytes(bytes(anchor.token))
    (tmp_path / "digest").write_text(row.digest)
    given = ("-data", str(tmp_path / "digest"), "-in", str(tmp_path / "token.tsr"), "-CAfile", "root.pem")
    assert tsa._run("ts", "-verify", *given) == b"Verification: OK\n"


def test_a_stamp_of_something_else_is_found(party: Party, tsa: Authority) -> None:
    seal(party)
    seal(party)
    one, two = Anchor.objects.order_by("checkpoint")
    superuser(("UPDATE record_anchor SET token = %s WHERE id = %s", (bytes(one.token), str(two.id))))
    assert faults(party) == [("wrong-time-stamp", "")]
    superuser(("DELETE FROM record_anchor WHERE id = %s", (str(two.id),)))
    assert faults(party) == [("missing-anchor", "")]


def test_an_authority_that_is_not_trusted_or_answers_nonsense_stamps_nothing(
    party: Party, tsa: Authority, settings: Any, tmp_path: Path
) -> None:
    tsa.garbles = True
    seal(party)
    assert Anchor.objects.get().error.startswith("The time stamp authority's answer cannot be used: ")
    tsa.garbles, tsa.refuses = False, True
    Anchor.objects.update(due_at=timezone.now())
    assert anchors.send_due() == 0
    assert Anchor.objects.get().error == "The time stamp authority answered 503."
    tsa.refuses, trusted = False, settings.RECORD_TSA_CA
    with authority(tmp_path / "other") as (other, _):
        settings.RECORD_TSA_CA = str(other.root)
        Anchor.objects.update(due_at=timezone.now())
        assert anchors.send_due() == 0
    assert Anchor.objects.get().token is None
    settings.RECORD_TSA_CA = trusted
    Anchor.objects.update(due_at=timezone.now())
    assert anchors.send_due() == 1
    assert faults(party) == []


# --- The webhook -------------------------------------------------------------------------------------------


def test_each_seal_is_told_to_a_webhook_with_its_signature(
    party: Party, settings: Any, monkeypatch: Any
) -> None:
    settings.WEBHOOK_ALLOW_HTTP, settings.WEBHOOK_PORTS = True, ("1024-65535",)
    settings.WEBHOOK_ALLOWED_NETWORKS = ("127.0.0.0/8",)
    monkeypatch.setattr(webhooks, "send", lambda *args: None)
    with receiving() as receiver:
        with tenant_scope(party.id):
            row, secret = endpoints.create_webhook(url=receiver.url, events=["record.sealed"], actor="key:x")
        seal(party)
        deliveries.deliver(row.id, party.id)
        told = [body["data"] for body in receiver.verified(secret)]
    assert sorted(data["chain"] for data in told) == ["log", "record"]
    sealed = next(data for data in told if data["chain"] == "record")
    with tenant_scope(party.id):
        made = Seal.objects.get()
    assert (sealed["first"], sealed["last"], sealed["digest"]) == (1, 3, made.digest)
    message = f"crosslight seal 1\n{party.id}\nrecord\n3\n{made.digest}"
    assert signatures.key_ring().public[0].verifies(message, sealed["signature"])
    # What the receiver noted is what shows a chain that was sealed anew.
    superuser(("DELETE FROM moderation_seal WHERE tenant_id = %s", (str(party.id),)))
    seals.seal(party.id)
    assert seals.verify(party.id).ok
    assert seals.verify(party.id, known=sealed["digest"]).ok is False


# --- The command -------------------------------------------------------------------------------------------


def test_the_command_looks_at_everything(party: Party, locked: Any, capsys: Any) -> None:
    seal(party)
    call_command("verify_record", tenant=party.tenant.slug)
    shown = capsys.readouterr().out
    assert f"{party.tenant.slug:30} record: 3 lines, 1 seals, 0 not sealed yet" in shown
    assert re.search(rf"{party.tenant.slug} +log: \d+ lines, 1 seals, 0 not sealed yet", shown)
    assert CheckpointHead.objects.filter(of_tenant=party.id).count() == 2
