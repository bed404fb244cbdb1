"""Retention: old assets go, in small transactions, with a receipt and a line in the audit log."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from tenants.datasets.models import Asset
from tenants.datasets.services import create_dataset, update_dataset
from tenants.errors import Invalid
from tenants.events.models import AuditEvent, Erasure
from tenants.pipeline.assets import services
from tenants.pipeline.care import retention
from tenants.pipeline.upkeep import periodic
from tenants.scope import tenant_scope

pytestmark = pytest.mark.guard


def add(party: Any, dataset: Any, days: int, count: int = 1) -> None:
    """Assets that came so many days ago."""
    with tenant_scope(party.id):
        for n in range(count):
            asset = services.add_asset(dataset_id=dataset.id, text=f"{days} days {n}").asset
            moment = timezone.now() - dt.timedelta(days=days, minutes=1)
            Asset.objects.filter(pk=asset.id).update(created_at=moment)


def left(party: Any) -> list[str]:
    with tenant_scope(party.id):
        return sorted(Asset.objects.values_list("excerpt", flat=True))


def test_only_what_is_older_than_its_dataset_keeps_it_goes(party) -> None:
    with tenant_scope(party.id):
        short, long, ever = (create_dataset(name=name) for name in ("short", "long", "ever"))
        update_dataset(dataset_id=short.id, retention_days=10)
        update_dataset(dataset_id=long.id, retention_days=100)
    for dataset in (short, long, ever):
        add(party, dataset, days=9)
        add(party, dataset, days=10)
        add(party, dataset, days=200)
    periodic.collect_garbage([party.id])
    assert left(party) == sorted(["9 days 0"] * 3 + ["10 days 0"] * 2 + ["200 days 0"])
    with tenant_scope(party.id):
        events = AuditEvent.objects.filter(verb="dataset.expired").order_by("id")
        receipts = Erasure.objects.filter(kind="retention").order_by("id")
        assert {(e.actor, e.target, e.details["assets"]) for e in events} == {
            ("retention", str(short.id), 2),
            ("retention", str(long.id), 1),
        }
        assert {(r.target, r.matched, r.removed["rows"]["asset"]) for r in receipts} == {
            (short.id, 2, 2),
            (long.id, 1, 1),
        }
        assert [e.details["erasure"] for e in events] == [str(r.id) for r in receipts]
    periodic.collect_garbage([party.id])
    with tenant_scope(party.id):
        # Nothing was old any more, and the receipts have been signed.
        assert AuditEvent.objects.filter(verb="dataset.expired").count() == 2
        assert Erasure.objects.filter(verified=True).count() == 2


def test_a_run_stops_when_its_time_is_up_and_goes_on_in_the_next(party, monkeypatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        update_dataset(dataset_id=dataset.id, retention_days=1)
    add(party, dataset, days=3, count=5)
    assert retention.expire_assets(party.id, budget_s=0) == 0
    clock = iter([0, 1, 2, 30])
    assert retention.expire_assets(party.id, budget_s=20, clock=lambda: next(clock)) == 4
    assert len(left(party)) == 1
    assert retention.expire_assets(party.id) == 1
    assert left(party) == []


def test_a_retention_that_is_lifted_keeps_everything(party) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        update_dataset(dataset_id=dataset.id, retention_days=1)
        update_dataset(dataset_id=dataset.id, retention_days=None)
    add(party, dataset, days=3)
    assert retention.expire_assets(party.id) == 0
    assert left(party) == ["3 days 0"]


@pytest.mark.parametrize("days", [0, -1, 36_501])
def test_a_retention_has_a_sensible_length(party, days) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        with pytest.raises(Invalid, match="36500"):
            update_dataset(dataset_id=dataset.id, retention_days=days)


def test_other_changes_leave_the_retention_as_it_is(party) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        update_dataset(dataset_id=dataset.id, retention_days=7)
        assert update_dataset(dataset_id=dataset.id, description="new").retention_days == 7
