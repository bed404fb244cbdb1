"""The first page: what was done lately, what needs attention, and that both cost the same in any workspace."""

from __future__ import annotations

import datetime as dt
import html
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from console import home
from tenants.accounts.models import QuotaCounter, UsageDay
from tenants.datasets.models import Asset, Blob
from tenants.datasets.services import create_dataset
from tenants.events.models import Webhook
from tenants.jobs.models import Job
from tenants.retrieval.models import IndexGeneration
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.tenants.learning.world import new_model


def read(client: Client, address: str = "/") -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    page = answer.content.decode()
    assert faults_of(page) == []
    return html.unescape(page)


def concerns_of(page: str) -> list[tuple[str, str]]:
    """Address and words of what needs attention."""
    section = page.partition('id="concerns-title"')[2].partition("</section>")[0]
    return re.findall(r'<a href="([^"]*)"[^>]*><svg.*?</svg><span>(.*?)</span>', section)


def fill(name: str, status: str, number: int) -> Any:
    dataset = create_dataset(name=name)
    blob = Blob.objects.create(sha256=uuid.uuid4().hex, bytes=1, media_type="text/plain", references=number)
    Asset.objects.bulk_create(
        Asset(dataset=dataset, blob=blob, modality="text", status=status) for _ in range(number)
    )
    return dataset


def test_a_new_workspace_is_told_how_to_begin_and_has_no_worries(owner: Client) -> None:
    page = read(owner)
    assert "Get started" in page
    assert "Needs attention" not in page
    assert "Lately" not in page


def test_days_are_drawn_and_told_as_a_table(party: Party, owner: Client) -> None:
    today = timezone.now().date()
    with tenant_scope(party.id):
        create_dataset(name="d")
        rows = ((1, "assets", 40), (1, "searches", 3), (5, "audits", 1_200), (20, "assets", 5))
        UsageDay.objects.bulk_create(
            UsageDay(day=today - dt.timedelta(days=back), kind=kind, amount=amount)
            for back, kind, amount in rows
        )
    page = read(owner)
    totals = re.findall(r"<figcaption><span[^>]*>(.*?)</span> <strong>(.*?)</strong>", page)
    assert totals == [("Assets added", "40"), ("Searches", "3"), ("Audits", "1,200")]
    assert page.count('<th scope="row">') == 7
    month = read(owner, "/?days=30")
    assert ("Assets added", "45") in re.findall(
        r"<figcaption><span[^>]*>(.*?)</span> <strong>(.*?)</strong>", month
    )
    assert month.count('<th scope="row">') == 30


def test_bars_are_as_high_as_their_share() -> None:
    day = dt.date(2026, 1, 1)
    series = home._series("assets", "Assets", [(day, 0), (day, 1), (day, 1_000), (day, 500)])
    assert [bar.height for bar in series.bars] == [0, 2.0, 64.0, 32.0]
    assert all(bar.y + bar.height == home.HEIGHT for bar in series.bars)
    assert series.total == 1_501


def test_what_is_wrong_is_told_with_the_way_to_it(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        bad = fill("broken <b>", "failed", 3)
        Job.objects.create(kind="embed_asset", state="failed", arguments={})
        Job.objects.create(
            id=uuid.UUID(int=1 << 80), kind="embed_asset", state="failed", arguments={}
        )  # long ago
        IndexGeneration.objects.create(model="prior:2", state="failed", seq=1, reason="its files are gone")
        limit = party.tenant.plan.limits["assets"]
        QuotaCounter.objects.create(resource="assets", used=0.85 * limit)
        Webhook.objects.create(url="https://a.example", state="disabled", reason="gone", sealed_secret=b"")
        Webhook.objects.create(url="https://b.example", state="disabled", reason="", sealed_secret=b"")
        model = new_model(party.id, state="candidate")
        type(model).objects.filter(pk=model.pk).update(trained_at=timezone.now())
    found = concerns_of(read(owner))
    assert (f"/datasets/{bad.id}?status=failed", "3 assets of “broken <b>” could not be indexed") in found
    assert ("/jobs?state=failed", "1 job failed this week") in found
    assert ("/webhooks", "1 webhook was disabled, as its deliveries failed") in found
    assert ("#plan", "Assets: 85 % of the plan is used") in found
    assert any(address == f"/models/{model.id}" for address, _ in found)
    assert any("search index was given up" in words for _, words in found)


def test_who_cannot_help_is_not_told(party: Party, person: Callable[..., Client]) -> None:
    with tenant_scope(party.id):
        create_dataset(name="d")
        Webhook.objects.create(url="https://a.example", state="disabled", reason="gone", sealed_secret=b"")
        model = new_model(party.id, state="candidate")
        type(model).objects.filter(pk=model.pk).update(trained_at=timezone.now())
    assert concerns_of(read(person("viewer"))) == []


def test_a_quota_below_the_mark_is_no_concern() -> None:
    entry = {"used": 79, "reserved": 1, "limit": 100}
    assert list(home._nearly_used_quotas({"assets": entry})) == []
    [one] = home._nearly_used_quotas({"assets": {**entry, "reserved": 2}})
    assert not one.broken
    [one] = home._nearly_used_quotas({"assets": {"used": 100, "reserved": 0, "limit": 100}})
    assert one.broken


def queries(client: Client) -> tuple[int, str]:
    with CaptureQueriesContext(connection) as made:
        read(client)
    return len(made), "\n".join(query["sql"] for query in made)


@pytest.mark.parametrize("number", [300])
def test_the_number_of_queries_is_the_same_and_none_counts_assets(
    party: Party, owner: Client, number: int
) -> None:
    with tenant_scope(party.id):
        fill("first", "ready", 1)
    read(owner)
    few, _ = queries(owner)
    with tenant_scope(party.id):
        for at in range(5):
            fill(f"more {at}", "failed", number)
        Job.objects.bulk_create(Job(kind="embed_asset", state="failed", arguments={}) for _ in range(number))
    many, sql = queries(owner)
    assert many == few
    assert 'COUNT(*) AS "__count" FROM "asset"' not in sql
    assert 'JOIN "asset"' not in sql
    assert 'COUNT("asset"' not in sql
    page = read(owner)
    assert "100+ jobs failed this week" in page
    assert page.count("could not be indexed") == 3
