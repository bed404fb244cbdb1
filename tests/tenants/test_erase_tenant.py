"""Erasing a whole tenant: nothing of it is found afterwards, anywhere, and nobody else lost anything."""

from __future__ import annotations

import json
import os
import secrets
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from ml.provenance import signing
from standalone.backup.database import snapshot
from tenants.accounts import api_admission, keys, metering, rate_counter, services
from tenants.accounts.models import (
    CustomRole,
    DataKey,
    Membership,
    OperatorRequest,
    Session,
    Tenant,
    TenantSecurity,
    User,
)
from tenants.accounts.sessions import SessionStore
from tenants.datasets import storage
from tenants.datasets.models import Asset
from tenants.datasets.services import REMOVING_FILES, create_dataset
from tenants.events.models import TenantErasure
from tenants.generation import previews, signing_keys
from tenants.generation import services as generation
from tenants.generation.models import GenerationOutput
from tenants.generation.validation import GenerationSpec
from tenants.jobs import services as jobs
from tenants.jobs.models import JobDispatch
from tenants.pipeline.care import tenant_erasure
from tenants.scope import operator_scope, tenant_scope
from tenants.valkey import client, tenant_key
from tests.tenants.test_erasure import add

pytestmark = pytest.mark.guard


def fill(party: Any) -> Asset:
    """Rows in most tables, files of every kind, keys in Valkey and an upload under way."""
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
    asset = add(party, dataset, secrets.token_hex(8), values={"a": 1})
    for kind in ("clean", "thumbnail"):
        storage.put(storage.path_of(party.id, asset.blob.sha256, kind), b"rendition")
    default_storage.save(
        f"{party.id}/import/x", default_storage.open(storage.path_of(party.id, asset.blob.sha256))
    )
    with tenant_scope(party.id):
        asked, _ = generation.request_generation(
            wanted=GenerationSpec(prompt="a cat of mine"), dataset_id=dataset.id
        )
        generation.vary_generation(generation_id=asked.id)
        GenerationOutput.objects.create(generation=asked, kind="image", asset=asset, how="model", model="m")
    previews.keep(party.id, asked.id, b"preview")
    signing.tenant_keys(settings.PROVENANCE_DIR, str(party.id), party.tenant.name)
    signing_keys.keys_of(party.tenant)
    upload = settings.DATA_DIR / "uploads" / str(party.id) / "x.part"
    upload.parent.mkdir(parents=True, exist_ok=True)
    upload.write_bytes(b"half")
    client().set(tenant_key(party.id, "search", "x"), b"ranking", ex=60)
    metering.record(tenant_id=party.id, amounts={"requests": 1})
    assert api_admission.identify(party.token) is not None
    session = SessionStore()
    session[SESSION_KEY], session["tenant"] = str(party.owner.pk), str(party.id)
    session.save()
    return asset


def rows_that_name(value: Any) -> dict[str, int]:
    """Every table of the database whose rows hold this text anywhere."""
    found = {}
    with operator_scope("test"), connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT count(*) FROM "{table}" t WHERE t::text LIKE %s', [f"%{value}%"])
            if count := cursor.fetchone()[0]:
                found[table] = count
    return found


def keys_that_name(value: Any) -> list[bytes]:
    store, text = client(), str(value).encode()
    named = [key for key in store.scan_iter(count=1000) if text in key]
    queues = [q for q in (b"embed", b"default") if any(text in raw for raw in store.lrange(q, 0, -1))]
    return named + queues + [k for k in (b"usage:dirty", b"usage:copying") if _has(store.smembers(k), text)]


def _has(members: Any, text: bytes) -> bool:
    return any(text in member for member in members)


def everything(party: Any) -> tuple[dict[str, int], int]:
    with tenant_scope(party.id):
        assets = Asset.objects.count()
    return tenant_erasure.find_traces(party.id), assets


def erase(party: Any, capsys: Any) -> dict[str, Any]:
    capsys.readouterr()
    call_command("erase_tenant", party.tenant.slug, "--yes")
    return json.loads(capsys.readouterr().out)


def test_nothing_of_a_tenant_is_left_and_nobody_else_lost_anything(party, stranger, capsys) -> None:
    asset, _ = fill(party), fill(stranger)
    services.set_role(tenant=party.tenant, user=stranger.owner, role="viewer")
    for one in (party, stranger):
        CustomRole.objects.create(tenant=one.tenant, name="night", scopes=["read"])
        TenantSecurity.objects.create(tenant=one.tenant, allowed_networks=["192.0.2.0/24"])
        OperatorRequest.objects.create(
            tenant=one.tenant,
            operator=stranger.owner,
            access="read",
            reason="x",
            minutes=5,
            until=timezone.now(),
        )
    before = everything(stranger)
    assert before[0]["custom_role"] == 1
    receipt = erase(party, capsys)
    assert tenant_erasure.find_traces(party.id) == {}
    # That its key was destroyed is remembered, so that nobody makes it another.
    assert rows_that_name(party.id) == {"tenant_erasure": 1, "data_key": 1}
    assert set(DataKey.objects.filter(owner=party.id).values_list("state")) == {("destroyed",)}
    assert rows_that_name(party.owner.email) == {}
    assert rows_that_name(asset.id) == {}
    assert keys_that_name(party.id) == []
    assert list(settings.DATA_DIR.rglob(f"*{party.id}*")) == []
    assert api_admission.identify(party.token) is None
    assert receipt["verified"]
    assert (receipt["slug"], receipt["tenant"]) == (party.tenant.slug, str(party.id))
    assert (receipt["removed"]["files"], receipt["removed"]["people"]["user"]) == (4, 1)
    counted = receipt["removed"]["rows"]
    wanted = {"generation": 2, "generation_output": 1, "custom_role": 1, "tenant_security": 1}
    wanted |= {"operator_request": 1}
    wanted |= {"asset": 1, "vector": 1, "facet": 1, "blob": 1, "dataset": 1, "membership": 2, "tenant": 1}
    assert {table: counted[table] for table in wanted} == wanted
    assert counted["audit_event"] >= 1
    # The stranger was a member: that ended, with the session, and nothing else.
    assert receipt["removed"]["people"]["kept"] == 1
    assert everything(stranger) == before
    assert Membership.objects.get(user=stranger.owner).tenant_id == stranger.id
    assert not Session.objects.filter(user=stranger.owner).exists()


def test_operators_stay(party, capsys) -> None:
    User.objects.filter(pk=party.owner.pk).update(is_staff=True)
    erase(party, capsys)
    assert User.objects.filter(pk=party.owner.pk).exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "step", ["_erase_people", "_erase_rows", "_erase_files", "_erase_keys", "_drop_tenant", "_sign"]
)
def test_a_killed_erasure_goes_on_and_counts_once(party, capsys, monkeypatch, step) -> None:
    # For so long a web process remembers, and an erasure waits.
    monkeypatch.setattr(keys, "RECENT_S", 0.05)
    monkeypatch.setattr(rate_counter, "FRESH_S", 0.05)
    fill(party)
    whole = getattr(tenant_erasure, step)

    def half(*args: Any) -> Any:
        if step == "_erase_rows" and args[1] is not Asset:
            return whole(*args)
        if step in ("_erase_files", "_drop_tenant"):
            whole(*args)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(tenant_erasure, step, half)
        call_command("erase_tenant", party.tenant.slug, "--yes")
    receipt = erase(party, capsys)
    assert receipt["verified"]
    assert (receipt["removed"]["files"], receipt["removed"]["rows"]["asset"]) == (4, 1)
    # That its key was destroyed is remembered, so that nobody makes it another.
    assert rows_that_name(party.id) == {"tenant_erasure": 1, "data_key": 1}
    assert set(DataKey.objects.filter(owner=party.id).values_list("state")) == {("destroyed",)}


def test_a_worker_that_is_under_way_writes_nothing_more(party, capsys) -> None:
    with tenant_scope(party.id):
        job = jobs.enqueue(kind="embed_asset", arguments={"asset": "x", "revision": 1}, reserve={})
    claimed = jobs.claim(job_id=job.id, tenant_id=party.id)
    erase(party, capsys)
    with pytest.raises(jobs.LeaseLost):
        jobs.progress(claimed, done=1, total=1)
    assert not JobDispatch.objects.filter(tenant_id=party.id).exists()
    assert tenant_erasure.find_traces(party.id) == {}


def test_without_yes_it_only_shows_what_there_is(party, capsys) -> None:
    fill(party)
    capsys.readouterr()
    call_command("erase_tenant", party.tenant.slug)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["asset"] == 1
    assert "Nothing was erased" in printed.err
    assert Tenant.objects.get(pk=party.id).state == "active"
    assert not TenantErasure.objects.filter(erased_tenant=party.id).exists()


def test_what_is_not_there_is_not_erased(party, capsys) -> None:
    erase(party, capsys)
    for arguments in (["--yes"], []):
        with pytest.raises(CommandError, match="Unknown tenant"):
            call_command("erase_tenant", party.tenant.slug, *arguments)


def test_files_stay_while_a_backup_copies_them(party, capsys) -> None:
    fill(party)
    backup = snapshot(os.environ["OPERATOR_DATABASE_URL"], REMOVING_FILES)
    with backup, pytest.raises(CommandError, match="backup is being made"):
        erase(party, capsys)
    assert len(list(tenant_erasure.files_of(party.id))) == 4
    assert erase(party, capsys)["removed"]["files"] == 4
    assert list(tenant_erasure.files_of(party.id)) == []
