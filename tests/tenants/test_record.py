"""The record of decisions: no gaps, sealed, and what was changed is found. On the real database and its roles."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, transaction

from tenants.moderation import record
from tenants.moderation.models import Audit, Outcome, Record, RecordClock, Seal
from tenants.moderation.record import seals as sealing
from tenants.scope import tenant_scope

pytestmark = pytest.mark.guard

APPENDED_ONLY = (
    "audit",
    "policy_version",
    "policy_activation",
    "review_outcome",
    "moderation_record",
    "moderation_seal",
)


def write(party: Any, count: int = 1, **fields: Any) -> list[Record]:
    with tenant_scope(party.id):
        return [record.append(kind="test", audit=uuid.uuid4(), **fields) for _ in range(count)]


def tamper(statement: str, *values: Any) -> int:
    """As the owner of the tables would: past row-level security, with every right. Returns how many rows."""
    database = settings.DATABASES["migration"]
    owner = psycopg2.connect(
        host=database["HOST"],
        port=database["PORT"],
        dbname=database["NAME"],
        user=database["USER"],
        password=database["PASSWORD"],
    )
    try:
        with owner, owner.cursor() as cursor:
            # FORCE binds even the owner, who may say whose rows are meant.
            cursor.execute("SELECT set_config('app.tenant', %s, true)", [str(values[-1])])
            cursor.execute(statement, [v if isinstance(v, int) else str(v) for v in values])
            return cursor.rowcount
    finally:
        owner.close()


def broken(party: Any) -> tuple[str, int, int]:
    found = sealing.verify(party.id).broken
    assert found is not None
    return found.kind, found.first, found.last


def test_lines_count_up_without_gaps_though_some_are_rolled_back(party) -> None:
    write(party, 2)
    with pytest.raises(RuntimeError), tenant_scope(party.id):
        record.append(kind="test")
        raise RuntimeError
    write(party)
    with tenant_scope(party.id):
        assert list(Record.objects.order_by("sequence").values_list("sequence", flat=True)) == [1, 2, 3]
        assert RecordClock.objects.get().last == 3


def test_many_at_once_make_one_counter_and_no_gap(party) -> None:
    begin = threading.Barrier(8)

    def append(_: int) -> None:
        begin.wait()
        try:
            for _ in range(5):
                write(party)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(append, range(8)))
    with tenant_scope(party.id):
        assert list(Record.objects.order_by("sequence").values_list("sequence", flat=True)) == [*range(1, 41)]
        times = list(Record.objects.order_by("sequence").values_list("created_at", flat=True))
    assert times == sorted(times)
    assert sealing.seal(party.id) == 40
    assert sealing.verify(party.id).ok


def test_a_line_holds_ids_and_a_digest_and_nothing_that_was_said(party) -> None:
    said = {"reason": "a private word", "labels": ["b", "a"]}
    with tenant_scope(party.id):
        line = record.append(kind="test", decision="block", actor="key:x", payload=said)
        shown = Record.objects.filter(pk=line.pk).values()[0]
    assert "private" not in str(shown)
    assert shown["payload_digest"] == record.digest_of({"labels": ["b", "a"], "reason": "a private word"})
    assert shown["payload_digest"] != record.digest_of({"labels": ["a", "b"], "reason": "a private word"})


def test_the_application_may_add_and_read_and_nothing_else(party) -> None:
    write(party)
    sealing.seal(party.id)
    for table in APPENDED_ONLY:
        for statement in (f"UPDATE {table} SET id = id", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(ProgrammingError, match="permission denied"), tenant_scope(party.id):
                connection.cursor().execute(statement)
    for model in (Record, Seal, Outcome, Audit):
        with pytest.raises(ProgrammingError, match="permission denied"), tenant_scope(party.id):
            model.objects.all()._raw_delete("default")
    assert sealing.verify(party.id).lines == 1


def test_sealing_goes_on_where_it_stopped_and_the_chain_is_one(party, monkeypatch) -> None:
    monkeypatch.setattr(sealing, "BATCH", 4)
    write(party, 10)
    assert sealing.seal(party.id) == 10
    assert sealing.seal(party.id) == 0
    write(party, 3)
    before = sealing.verify(party.id)
    assert (before.ok, before.lines, before.seals, before.unsealed, before.head_last) == (True, 13, 3, 3, 10)
    assert sealing.seal(party.id) == 3
    with tenant_scope(party.id):
        seals = list(Seal.objects.order_by("first"))
    assert [(s.first, s.last) for s in seals] == [(1, 4), (5, 8), (9, 10), (11, 13)]
    assert [s.previous for s in seals] == ["", *[s.digest for s in seals[:-1]]]
    after = sealing.verify(party.id, known=before.head)
    assert (after.ok, after.known, after.unsealed, after.head) == (True, True, 0, seals[-1].digest)


def test_a_sealer_that_is_killed_leaves_nothing_half_done(party, monkeypatch) -> None:
    write(party, 3)

    def killed(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sealing.log, "info", killed)
        patch.setattr(sealing, "digest_seal", killed)
        sealing.seal(party.id)
    with tenant_scope(party.id):
        assert not Seal.objects.exists()
    assert sealing.seal(party.id) == 3
    assert sealing.verify(party.id).ok


def test_two_sealers_at_once_make_one_chain(party, monkeypatch) -> None:
    monkeypatch.setattr(sealing, "BATCH", 3)
    write(party, 20)
    begin = threading.Barrier(4)

    def run(_: int) -> None:
        begin.wait()
        try:
            sealing.seal(party.id)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    report = sealing.verify(party.id)
    assert (report.ok, report.lines, report.seals, report.unsealed) == (True, 20, 7, 0)


def test_only_tenants_with_new_lines_are_sealed(party, stranger) -> None:
    write(party)
    assert party.id in sealing.tenants_with_new_lines()
    assert stranger.id not in sealing.tenants_with_new_lines()
    assert sealing.seal_all() >= 1
    assert party.id not in sealing.tenants_with_new_lines()
    assert sealing.verify(party.id).unsealed == 0
    write(party)
    assert party.id in sealing.tenants_with_new_lines()


@pytest.fixture
def sealed(party, monkeypatch):
    """Twelve lines in three seals, and two lines that are not sealed yet."""
    monkeypatch.setattr(sealing, "BATCH", 4)
    write(party, 12, decision="block", actor="key:x")
    sealing.seal(party.id)
    write(party, 2)
    assert sealing.verify(party.id).ok
    return party


MINE = "tenant_id = %s::uuid"


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (f"UPDATE moderation_record SET decision = 'allow' WHERE sequence = 6 AND {MINE}", ("changed-line", 6, 6)),
        (f"UPDATE moderation_record SET actor = 'key:y' WHERE sequence = 14 AND {MINE}", ("changed-line", 14, 14)),
        (
            f"UPDATE moderation_record SET created_at = created_at + interval '1 us' WHERE sequence = 1 AND {MINE}",
            ("changed-line", 1, 1),
        ),
        (f"UPDATE moderation_record SET digest = repeat('0', 64) WHERE sequence=5 AND {MINE}", ("changed-line", 5, 5)),
        (f"DELETE FROM moderation_record WHERE sequence IN (7, 8, 9) AND {MINE}", ("missing-line", 7, 8)),
        (f"DELETE FROM moderation_record WHERE sequence = 1 AND {MINE}", ("missing-line", 1, 1)),
        (f"DELETE FROM moderation_record WHERE sequence > 12 AND {MINE}", ("missing-line", 13, 14)),
        (f"UPDATE moderation_record SET sequence = 99 WHERE sequence = 3 AND {MINE}", ("missing-line", 3, 3)),
        (f"DELETE FROM moderation_seal WHERE first = 5 AND {MINE}", ("missing-seal", 5, 8)),
        (f"DELETE FROM moderation_seal WHERE first = 1 AND {MINE}", ("missing-seal", 1, 4)),
        (f"UPDATE moderation_seal SET digest = repeat('0', 64) WHERE first=5 AND {MINE}", ("changed-seal", 5, 8)),
        (f"UPDATE moderation_seal SET previous = '' WHERE first = 5 AND {MINE}", ("changed-seal", 5, 8)),
        (f"UPDATE moderation_seal SET created_at = now() WHERE first = 9 AND {MINE}", ("changed-seal", 9, 12)),
        (f"UPDATE moderation_seal SET first = 4 WHERE first = 5 AND {MINE}", ("changed-seal", 4, 8)),
        (f"UPDATE moderation_seal SET last = 900 WHERE first = 9 AND {MINE}", ("changed-clock", 15, 900)),
        (f"UPDATE moderation_clock SET last = 10 WHERE {MINE}", ("changed-clock", 11, 12)),
        (f"UPDATE moderation_clock SET last = 16 WHERE {MINE}", ("missing-line", 15, 16)),
    ],
)  # fmt: skip
def test_verify_names_the_first_broken_place(sealed, statement: str, found: tuple[str, int, int]) -> None:
    assert tamper(statement, sealed.id) > 0
    assert broken(sealed) == found
    with pytest.raises(CommandError, match=sealed.tenant.slug):
        call_command("verify_record", tenant=sealed.tenant.slug)


def test_a_line_that_is_changed_together_with_its_digest_breaks_its_seal(sealed) -> None:
    with tenant_scope(sealed.id):
        line = Record.objects.get(sequence=6)
    line.decision = "allow"
    changed = "UPDATE moderation_record SET decision = 'allow', digest = %s WHERE sequence = 6 AND tenant_id = %s::uuid"
    assert tamper(changed, record.digest_line(line), sealed.id) == 1
    assert broken(sealed) == ("changed-seal", 5, 8)


def test_a_chain_that_was_computed_anew_is_told_by_a_digest_noted_elsewhere(sealed, capsys) -> None:
    noted = sealing.verify(sealed.id).head
    assert tamper("DELETE FROM moderation_seal WHERE tenant_id = %s::uuid", sealed.id) == 3
    sealing.seal(sealed.id)
    assert sealing.verify(sealed.id).ok
    told = sealing.verify(sealed.id, known=noted)
    assert (told.ok, told.known, told.broken) == (False, False, None)
    with pytest.raises(CommandError):
        call_command("verify_record", tenant=sealed.tenant.slug, known=noted)
    assert noted in capsys.readouterr().out


def test_verifying_in_parts_sees_the_same(sealed) -> None:
    whole = sealing.verify(sealed.id)
    part = sealing.verify(sealed.id, at_most=3, known=whole.head)
    assert (part.ok, part.lines, part.next, part.known) == (True, 4, 5, None)
    rest = sealing.verify(sealed.id, first=part.next, known=whole.head)
    assert (rest.ok, rest.lines, rest.seals, rest.next, rest.known) == (True, 10, 2, None, True)
    assert rest.head == whole.head
    assert (
        tamper(f"UPDATE moderation_record SET decision = 'x' WHERE sequence = 2 AND {MINE}", sealed.id) == 1
    )
    assert sealing.verify(sealed.id, first=5).ok
    assert sealing.verify(sealed.id, at_most=3).broken.kind == "changed-line"


def test_the_command_says_what_it_saw(party, sealed, capsys) -> None:
    call_command("verify_record", tenant=sealed.tenant.slug)
    shown = capsys.readouterr().out
    assert f"{sealed.tenant.slug:30} record: 14 lines, 3 seals, 2 not sealed yet" in shown
    assert sealing.verify(sealed.id).head in shown
    with pytest.raises(CommandError, match="no tenant"):
        call_command("verify_record", tenant="nobody-at-all")
    with pytest.raises(CommandError, match="--tenant"):
        call_command("verify_record", known="ab")


def test_an_empty_record_is_whole(party) -> None:
    report = sealing.verify(party.id)
    assert (report.ok, report.lines, report.head, report.unsealed) == (True, 0, "", 0)
    assert sealing.verify(party.id, known="ab").ok is False


def test_lines_of_another_tenant_stay_out(party, stranger) -> None:
    write(party, 3)
    write(stranger, 2)
    assert (sealing.seal(party.id), sealing.seal(stranger.id)) == (3, 2)
    with tenant_scope(party.id):
        assert Record.objects.count() == 3
    assert sealing.verify(stranger.id).lines == 2


def test_a_caller_that_fails_takes_its_line_back(party) -> None:
    with tenant_scope(party.id), pytest.raises(ValueError), transaction.atomic():
        record.append(kind="test")
        raise ValueError
    assert write(party)[0].sequence == 1


def test_times_are_kept_to_the_microsecond(party) -> None:
    line = write(party)[0]
    with tenant_scope(party.id):
        kept = Record.objects.get(pk=line.pk)
    assert kept.created_at == line.created_at
    assert record.canonical(kept) == record.canonical(line)
    assert dt.timedelta(0) <= dt.datetime.now(dt.UTC) - kept.created_at < dt.timedelta(minutes=1)
