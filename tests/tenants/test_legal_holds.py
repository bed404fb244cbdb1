"""Legal holds: while one stands nothing it holds is erased or changed, whoever asks and however."""

from __future__ import annotations

import datetime as dt
import io
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection
from django.utils import timezone

from tenants.accounts import keyring
from tenants.accounts.models import DataKey
from tenants.datasets import holds, storage
from tenants.datasets.models import Asset, Dataset, LegalHold
from tenants.datasets.services import create_dataset, update_dataset
from tenants.errors import Conflict, Held, Invalid, NotAllowed, NotFound
from tenants.events.models import AuditEvent, Erasure, TenantErasure
from tenants.jobs.models import Job
from tenants.pipeline.assets import services
from tenants.pipeline.care import erasure, retention, subject_erasure
from tenants.pipeline.care.tenant_erasure import erase_tenant
from tenants.pipeline.transfer import merging
from tenants.scope import operator_scope, tenant_scope
from tests.conftest import Party
from tests.waiting import PATIENCE_S, until
from workers.base import run_job

ANN = {"actor": "ann"}


class Kept:
    """Two datasets with an asset each, of which the first is to be held."""

    def __init__(self, party: Party) -> None:
        self.party = party
        with tenant_scope(party.id):
            self.dataset, self.free = create_dataset(name="contracts"), create_dataset(name="free")
            self.asset, self.other = (
                services.add_asset(
                    dataset_id=one.id, text=f"text of {one.name}", values={"customer": "42"}, external_id="e"
                ).asset
                for one in (self.dataset, self.free)
            )

    def hold(self, **options: Any) -> LegalHold:
        with tenant_scope(self.party.id):
            return holds.set_hold(
                reason="Doe v. Roe", reference="7 O 12/26", dataset_id=self.dataset.id, **ANN, **options
            )

    def release(self, hold: LegalHold) -> None:
        with tenant_scope(self.party.id):
            holds.release_hold(hold_id=hold.id, owner=True, **ANN)

    def state(self) -> tuple[object, ...]:
        """Everything that an erasure or a change would touch."""
        with tenant_scope(self.party.id):
            assets = list(
                Asset.objects.order_by("id").values("id", "caption", "metadata", "revision", "blob_id")
            )
            datasets = list(Dataset.objects.order_by("id").values("id", "deleted_at"))
            receipts = Erasure.objects.count()
            jobs = Job.objects.exclude(kind="embed_asset").count()
            events = AuditEvent.objects.count()
        path = storage.path_of(self.party.id, self.asset.blob.sha256)
        return assets, datasets, receipts, jobs, events, default_storage.exists(path)


@pytest.fixture
def kept(party: Party) -> Kept:
    return Kept(party)


def _subject(kept: Kept) -> Any:
    criteria = subject_erasure.check_criteria(values={"customer": "42"})
    return subject_erasure.request_erasure(criteria=criteria)


def _plan(kept: Kept) -> Any:
    return Job.objects.create(
        kind=merging.KIND,
        state="succeeded",
        result={"assets": 1},
        arguments={"dataset": str(kept.dataset.id), "plan": None, "until": str(uuid.UUID(int=0))},
    )


WAYS: dict[str, Callable[[Kept], object]] = {
    "an asset, by people": lambda k: erasure.erase_asset(asset_id=k.asset.id),
    "an asset, by services": lambda k: services.delete_asset(asset_id=k.asset.id),
    "a dataset": lambda k: services.delete_dataset(dataset_id=k.dataset.id),
    "some of a dataset": lambda k: services.erase_some(dataset_id=k.dataset.id, count=1),
    "a person's data": _subject,
    "metadata": lambda k: services.update_asset(asset_id=k.asset.id, values={"customer": "43"}),
    "one key of it": lambda k: services.update_asset(asset_id=k.asset.id, changes={"customer": None}),
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_held_goes_or_changes_and_the_answer_says_why(kept: Kept, way: str) -> None:
    hold = kept.hold()
    before = kept.state()
    with tenant_scope(kept.party.id), pytest.raises(Held) as refused:
        WAYS[way](kept)
    assert (refused.value.status, refused.value.slug) == (409, "legal-hold")
    assert refused.value.extra == {"hold": str(hold.id)}
    assert "reference: 7 O 12/26" in refused.value.detail
    assert "once an owner of this workspace has released the hold" in refused.value.detail
    assert kept.state() == before
    kept.release(hold)
    with tenant_scope(kept.party.id):
        WAYS[way](kept)


def test_what_is_not_held_goes_and_more_may_come(kept: Kept) -> None:
    hold = kept.hold()
    with tenant_scope(kept.party.id):
        erasure.erase_asset(asset_id=kept.other.id)
        services.delete_dataset(dataset_id=kept.free.id)
        services.add_asset(dataset_id=kept.dataset.id, text="more evidence")
        assert sorted(Asset.objects.values_list("excerpt", flat=True)) == [
            "more evidence",
            "text of contracts",
        ]
    kept.release(hold)


def test_a_hold_over_the_workspace_holds_every_dataset_also_later_ones(kept: Kept) -> None:
    with tenant_scope(kept.party.id):
        hold = holds.set_hold(reason="Investigation", **ANN)
        later = create_dataset(name="later")
        made = services.add_asset(dataset_id=later.id, text="later").asset
        for asset in (kept.asset, kept.other, made):
            with pytest.raises(Held):
                erasure.erase_asset(asset_id=asset.id)
        assert set(holds.held_datasets()) == {kept.dataset, kept.free, later}
    kept.release(hold)


def test_a_hold_of_another_tenant_holds_nothing_here(kept: Kept, stranger: Party) -> None:
    with tenant_scope(stranger.id):
        foreign = holds.set_hold(reason="Theirs", **ANN)
        with pytest.raises(NotFound):
            holds.set_hold(reason="x", dataset_id=kept.dataset.id, **ANN)
    with tenant_scope(kept.party.id):
        with pytest.raises(NotFound):
            holds.get_hold(foreign.id)
        with pytest.raises(NotFound):
            holds.release_hold(hold_id=foreign.id, owner=True, **ANN)
        erasure.erase_asset(asset_id=kept.asset.id)
    with tenant_scope(stranger.id):
        holds.release_hold(hold_id=foreign.id, owner=True, **ANN)


def test_retention_passes_over_what_is_held_and_takes_it_after_the_release(kept: Kept) -> None:
    with tenant_scope(kept.party.id):
        for one in (kept.dataset, kept.free):
            update_dataset(dataset_id=one.id, retention_days=1)
        Asset.objects.update(created_at=timezone.now() - dt.timedelta(days=3))
    hold = kept.hold()
    assert retention.expire_assets(kept.party.id) == 1
    with tenant_scope(kept.party.id):
        assert list(Asset.objects.values_list("pk", flat=True)) == [kept.asset.id]
        assert set(Erasure.objects.values_list("target", flat=True)) == {kept.free.id}
    kept.release(hold)
    assert retention.expire_assets(kept.party.id) == 1


def test_a_deletion_that_has_begun_waits_for_the_release(kept: Kept) -> None:
    with tenant_scope(kept.party.id):
        job = services.delete_dataset(dataset_id=kept.dataset.id)
        # A dataset that is deleted is named by nobody any more; the workspace is.
        hold = holds.set_hold(reason="Late", **ANN)
    run_job(str(job.id), str(kept.party.id))
    with tenant_scope(kept.party.id):
        job.refresh_from_db()
        assert (job.state, Asset.objects.filter(pk=kept.asset.id).exists()) == ("queued", True)
    kept.release(hold)
    run_job(str(job.id), str(kept.party.id))
    with tenant_scope(kept.party.id):
        job.refresh_from_db()
        assert (job.state, Asset.objects.filter(pk=kept.asset.id).exists()) == ("succeeded", False)


def test_an_erasure_of_a_persons_data_that_has_begun_waits_too(kept: Kept) -> None:
    with tenant_scope(kept.party.id):
        receipt, job = _subject(kept)
    hold = kept.hold()
    run_job(str(job.id), str(kept.party.id))
    with tenant_scope(kept.party.id):
        job.refresh_from_db()
        receipt.refresh_from_db()
        assert (job.state, receipt.finished_at) == ("queued", None)
        assert Asset.objects.filter(pk=kept.asset.id).exists()
    kept.release(hold)
    run_job(str(job.id), str(kept.party.id))
    with tenant_scope(kept.party.id):
        job.refresh_from_db()
        assert (job.state, Asset.objects.count()) == ("succeeded", 0)


def test_copies_are_not_merged_away(kept: Kept) -> None:
    hold = kept.hold()
    with tenant_scope(kept.party.id):
        plan = _plan(kept)
        with pytest.raises(Held):
            merging.start_merge(dataset_id=kept.dataset.id, plan=plan.id)
    kept.release(hold)


def test_a_tenant_with_a_hold_is_not_erased_and_its_key_not_destroyed(kept: Kept) -> None:
    keyring.seal(b"x", owner=kept.party.id, purpose=b"test")
    hold = kept.hold()
    before = kept.state()
    with pytest.raises(Held):
        erase_tenant(slug=kept.party.tenant.slug)
    with pytest.raises(CommandError, match="legal hold"):
        call_command("erase_tenant", kept.party.tenant.slug, "--yes", stdout=io.StringIO())
    assert not TenantErasure.objects.filter(erased_tenant=kept.party.id).exists()
    kept.party.tenant.refresh_from_db()
    assert (kept.party.tenant.state, kept.state()) == ("active", before)
    with pytest.raises(IntegrityError, match="under legal hold"):
        keyring.destroy_keys(kept.party.id)
    assert set(DataKey.objects.filter(owner=kept.party.id).values_list("state", flat=True)) == {"active"}
    with operator_scope("test"), pytest.raises(IntegrityError, match="under legal hold"):
        DataKey.objects.filter(owner=kept.party.id).delete()
    kept.release(hold)
    assert erase_tenant(slug=kept.party.tenant.slug).verified


def test_a_hold_comes_too_late_for_a_tenant_that_is_being_erased(kept: Kept) -> None:
    TenantErasure.objects.create(erased_tenant=kept.party.id, slug=kept.party.tenant.slug)
    with pytest.raises(Conflict, match="too late"):
        kept.hold()
    with tenant_scope(kept.party.id):
        assert not LegalHold.objects.exists()
    TenantErasure.objects.filter(erased_tenant=kept.party.id).delete()


@pytest.mark.parametrize("role", ["application", "operator"])
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM asset WHERE id = %(asset)s",
        "DELETE FROM asset",
        "DELETE FROM dataset WHERE id = %(dataset)s",
        "DELETE FROM legal_hold",
        "UPDATE legal_hold SET dataset_id = %(asset)s",
        "UPDATE legal_hold SET released_at = now(), dataset_id = %(asset)s",
    ],
)
def test_the_database_itself_refuses_what_did_not_ask(kept: Kept, statement: str, role: str) -> None:
    """SQL by the roles that the application has, past every service."""
    hold = kept.hold()
    before = kept.state()
    scope = tenant_scope(kept.party.id) if role == "application" else operator_scope("test")
    given = {"asset": kept.asset.id, "dataset": kept.dataset.id}
    with pytest.raises(IntegrityError, match="legal hold") as refused, scope, connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        cursor.execute(
            statement
            if role == "application" or "WHERE" in statement
            else f"{statement} WHERE tenant_id = %(tenant)s",
            {**given, "tenant": kept.party.id},
        )
    assert refused.value.__cause__.pgcode == "23001"
    assert kept.state() == before
    kept.release(hold)


def test_what_the_trigger_says_is_an_answer_and_no_failure(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a release that knows no holds runs beside."""
    hold = kept.hold()
    before = kept.state()
    monkeypatch.setattr(holds, "refuse_held", lambda dataset_ids: None)
    with tenant_scope(kept.party.id), pytest.raises(Held, match="until the hold is released"):
        erasure.erase_asset(asset_id=kept.asset.id)
    assert kept.state() == before
    kept.release(hold)


def test_a_hold_that_was_answered_finds_no_erasure_under_way(kept: Kept) -> None:
    """Who sets it waits for an erasure that saw none; the next one sees it."""
    done: list[LegalHold] = []

    def ask() -> None:
        try:
            done.append(kept.hold())
        finally:
            connection.close()

    thread = threading.Thread(target=ask)
    with tenant_scope(kept.party.id):
        services.delete_asset(asset_id=kept.asset.id)
        thread.start()
        until(lambda: _waits_for_lock(), 20, lambda: "it does not wait")
        assert done == []
    thread.join(PATIENCE_S)
    with tenant_scope(kept.party.id):
        assert not Asset.objects.filter(pk=kept.asset.id).exists()
        assert len(done) == 1
    kept.release(done[0])


def _waits_for_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return bool(cursor.fetchone()[0])


def test_only_an_owner_or_the_operator_releases(kept: Kept) -> None:
    own, set_by_operator = kept.hold(), kept.hold(by_operator=True)
    with tenant_scope(kept.party.id):
        with pytest.raises(NotAllowed, match="Only an owner"):
            holds.release_hold(hold_id=own.id, **ANN)
        with pytest.raises(NotAllowed, match="alone releases it"):
            holds.release_hold(hold_id=set_by_operator.id, owner=True, **ANN)
        assert LegalHold.objects.filter(released_at=None).count() == 2
        holds.release_hold(hold_id=own.id, owner=True, **ANN)
        with pytest.raises(Conflict, match="already"):
            holds.release_hold(hold_id=own.id, owner=True, **ANN)
        with pytest.raises(Held, match="the operator of this installation has released"):
            erasure.erase_asset(asset_id=kept.asset.id)
    call_command(
        "legal_hold", kept.party.tenant.slug, "--release", str(set_by_operator.id), stdout=io.StringIO()
    )
    with tenant_scope(kept.party.id):
        erasure.erase_asset(asset_id=kept.asset.id)
        told = AuditEvent.objects.filter(verb__startswith="hold.").order_by("id")
        assert [(e.verb, e.actor, e.details["reference"]) for e in told] == [
            ("hold.set", "ann", "7 O 12/26"),
            ("hold.set", "ann", "7 O 12/26"),
            ("hold.released", "ann", "7 O 12/26"),
            ("hold.released", "operator", "7 O 12/26"),
        ]


def test_the_operators_command_sets_lists_and_says_what_is_wrong(kept: Kept) -> None:
    slug, out = kept.party.tenant.slug, io.StringIO()
    call_command("legal_hold", slug, "--reason", "Subpoena", "--dataset", "contracts", stdout=out)
    with tenant_scope(kept.party.id):
        hold = LegalHold.objects.get()
    assert (hold.dataset_id, hold.by_operator, hold.set_by) == (kept.dataset.id, True, "operator")
    assert out.getvalue().startswith(f"{hold.id}  dataset {kept.dataset.id}  stands")
    for options, words in (
        (["--reason", "x", "--dataset", "nowhere"], "no dataset 'nowhere'"),
        (["--reason", "x", "--release", str(hold.id)], "Say either"),
        (["--release", str(uuid.uuid4())], "This hold does not exist"),
    ):
        with pytest.raises(CommandError, match=words):
            call_command("legal_hold", slug, *options, stdout=io.StringIO())
    call_command("legal_hold", slug, "--release", str(hold.id), stdout=out)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"reason": "  "}, "/reason"),
        ({"reason": "x" * 1001}, "/reason"),
        ({"reason": "a\0"}, "/reason"),
        ({"reason": "x", "reference": "y" * 201}, "/reference"),
    ],
)
def test_a_hold_says_why(kept: Kept, fields: dict[str, str], pointer: str) -> None:
    with tenant_scope(kept.party.id):
        with pytest.raises(Invalid) as refused:
            holds.set_hold(**fields, **ANN)
        assert refused.value.errors[0]["pointer"] == pointer
        assert not LegalHold.objects.exists()
