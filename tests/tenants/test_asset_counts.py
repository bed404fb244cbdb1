"""Counts of assets that nobody counts: true after every way in which assets come, change and go."""

from __future__ import annotations

import uuid

from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tenants.datasets import asset_counts, selectors, services
from tenants.datasets.models import Asset, AssetTally, Blob, Dataset
from tenants.pipeline.assets.services import add_asset, delete_asset
from tenants.scope import operator_scope, tenant_scope
from tests.conftest import Party


def counts(dataset_id: uuid.UUID) -> tuple[int, int, int]:
    found = selectors.get_dataset(dataset_id)
    return found.asset_count, found.ready_count, found.failed_count


def counted(dataset_id: uuid.UUID) -> tuple[int, int, int]:
    """The same, the long way."""
    status = list(Asset.objects.filter(dataset_id=dataset_id).values_list("status", flat=True))
    return len(status), status.count("ready"), status.count("failed")


def shelf() -> Dataset:
    return services.create_dataset(name=f"shelf {uuid.uuid4()}")


def many(dataset: Dataset, status: str, number: int) -> list[Asset]:
    blob = Blob.objects.create(sha256=uuid.uuid4().hex, bytes=1, media_type="text/plain", references=number)
    return Asset.objects.bulk_create(
        [Asset(dataset=dataset, blob=blob, modality="text", status=status) for _ in range(number)]
    )


def test_a_new_dataset_has_none(party: Party) -> None:
    with tenant_scope(party.id):
        assert counts(shelf().id) == (0, 0, 0)


def test_one_asset_from_its_upload_to_its_end(party: Party) -> None:
    with tenant_scope(party.id):
        dataset = shelf()
        asset = add_asset(dataset_id=dataset.id, text="words").asset
        assert counts(dataset.id) == (1, 0, 0)
        Asset.objects.filter(pk=asset.id).update(status="failed")
        assert counts(dataset.id) == (1, 0, 1)
        Asset.objects.filter(pk=asset.id).update(status="ready")
        assert counts(dataset.id) == (1, 1, 0)
        rows = AssetTally.objects.count()
        Asset.objects.filter(pk=asset.id).update(caption="other words")
        # What changes no number leaves no row.
        assert AssetTally.objects.count() == rows
        delete_asset(asset_id=asset.id)
        assert counts(dataset.id) == (0, 0, 0)


def test_many_in_one_statement(party: Party) -> None:
    with tenant_scope(party.id):
        dataset, other = shelf(), shelf()
        many(dataset, "ready", 7)
        many(dataset, "failed", 2)
        many(other, "pending", 3)
        assert AssetTally.objects.count() == 3
        assert (counts(dataset.id), counts(other.id)) == ((9, 7, 2), (3, 0, 0))
        Asset.objects.filter(dataset=dataset, status="failed").delete()
        Asset.objects.filter(dataset=other).update(status="ready", dataset=dataset)
        assert (counts(dataset.id), counts(other.id)) == ((10, 10, 0), (0, 0, 0))
        assert counts(dataset.id) == counted(dataset.id)


def test_what_is_rolled_back_was_never_counted(party: Party) -> None:
    with tenant_scope(party.id):
        dataset = shelf()
        point = transaction.savepoint()
        many(dataset, "ready", 5)
        transaction.savepoint_rollback(point)
        assert counts(dataset.id) == (0, 0, 0)


def test_an_operator_counts_for_the_tenant_whose_asset_it_is(party: Party) -> None:
    with tenant_scope(party.id):
        dataset = shelf()
        [asset] = many(dataset, "pending", 1)
    with operator_scope("test of the tallies"):
        Asset.objects.filter(pk=asset.id).update(status="failed")
    with tenant_scope(party.id):
        assert counts(dataset.id) == (1, 0, 1)


def test_adding_up_changes_no_count_and_leaves_one_row(party: Party, stranger: Party) -> None:
    with tenant_scope(stranger.id):
        foreign = shelf()
        for _ in range(3):
            many(foreign, "ready", 1)
    with tenant_scope(party.id):
        dataset, gone = shelf(), shelf()
        for status in ("ready", "ready", "failed"):
            many(dataset, status, 2)
        many(gone, "ready", 1)
        Asset.objects.filter(dataset=gone).delete()
        asset_counts.compact()
        assert AssetTally.objects.filter(dataset_id=dataset.id).count() == 1
        assert not AssetTally.objects.filter(dataset_id=gone.id).exists()
        assert counts(dataset.id) == (6, 4, 2)
        asset_counts.compact()
        assert counts(dataset.id) == (6, 4, 2)
    with tenant_scope(stranger.id):
        assert AssetTally.objects.count() == 3


def test_naming_a_dataset_with_its_numbers_reads_no_assets(party: Party) -> None:
    with tenant_scope(party.id):
        dataset = shelf()
        with CaptureQueriesContext(connection) as made:
            selectors.get_dataset(dataset.id)
    assert len(made) == 1
    assert '"asset"' not in made[0]["sql"]
