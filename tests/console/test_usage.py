"""The usage page: charts and table by day, quotas with what is reserved, cost by kind, and the export."""

from __future__ import annotations

import csv
import datetime as dt
import uuid

import pytest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from console.charts import BARS_HEIGHT, bar_charts_of
from tenants.accounts import quotas
from tenants.accounts.models import UsageDay
from tenants.jobs.models import Job
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.console.test_audits import read


def today() -> dt.date:
    return timezone.now().date()


def used(party: Party, day: dt.date, kind: str, amount: float) -> None:
    with tenant_scope(party.id):
        UsageDay.objects.create(day=day, kind=kind, amount=amount)


def test_nothing_used_is_said(owner: Client) -> None:
    page = read(owner, "/usage?from=2001-01-01&to=2001-01-02")
    assert "No usage in this period" in page
    assert "No jobs in this period." in page
    assert faults_of(page) == []


def test_days_are_charted_and_stand_in_a_table(party: Party, owner: Client) -> None:
    used(party, today() - dt.timedelta(days=3), "searches", 1234)
    used(party, today() - dt.timedelta(days=40), "searches", 7777)
    page = read(owner, "/usage")
    assert "1,234" in page
    assert "7,777" not in page
    assert "7,777" in read(owner, "/usage?days=90")
    assert page.count("<rect x=") == 1
    assert faults_of(page) == []


@pytest.mark.parametrize(
    "query",
    [
        "days=0",
        "days=zzz",
        "from=zzz",
        "to=0001-01-01",
        "from=2026-02-30",
        "from=2000-01-01",
        "to=9999-12-31",
    ],
)
def test_odd_periods_show_the_usual_one(query: str, owner: Client) -> None:
    assert owner.get(f"/usage?{query}").status_code == 200


def test_what_is_reserved_is_shown_beside_what_is_used(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        quotas.charge(amounts={"assets": 7})
        quotas.reserve(owner=uuid.uuid4(), amounts={"assets": 5})
    page = read(owner, "/usage")
    assert "+ 5 reserved" in page


def test_cost_is_summed_by_kind_of_the_period_alone(party: Party, stranger: Party, owner: Client) -> None:
    with tenant_scope(stranger.id):
        Job.objects.create(kind="finetune", cost_cpu_s=99)
    with tenant_scope(party.id):
        Job.objects.create(kind="embed_asset", cost_cpu_s=1.5)
        Job.objects.create(kind="embed_asset", cost_cpu_s=2.5)
        Job.objects.create(
            id=uuid.UUID("00dc6acf-ac00-7000-8000-000000000000"), kind="finetune", cost_cpu_s=50
        )
    page = read(owner, "/usage")
    assert "Embed an asset" in page
    assert "4.0 s" in page
    assert "kind=finetune" not in page
    assert "kind=finetune" in read(owner, "/usage?from=2000-01-01&to=2000-12-31")


def test_the_export_is_the_same_as_the_page_and_safe_in_spreadsheets(party: Party, owner: Client) -> None:
    day = today() - dt.timedelta(days=2)
    used(party, day, "searches", 12.5)
    used(party, day, "=cmd()", 1)
    answer = owner.get("/usage/export?days=7")
    assert answer["Content-Type"].startswith("text/csv")
    assert "attachment" in answer["Content-Disposition"]
    rows = list(csv.reader(b"".join(answer.streaming_content).decode().splitlines()))
    assert rows[0] == ["day", "kind", "amount"]
    assert [day.isoformat(), "searches", "12.5"] in rows
    assert [day.isoformat(), "'=cmd()", "1"] in rows


def test_bars_are_in_proportion_and_the_smallest_is_seen() -> None:
    days = [dt.date(2026, 1, 1), dt.date(2026, 1, 2), dt.date(2026, 1, 3)]
    [chart] = bar_charts_of([(days[0], "searches", 100_000), (days[2], "searches", 1)], days)
    assert [bar.height for bar in chart.bars] == [BARS_HEIGHT, 0, 2.0]
    assert chart.total == 100_001
    assert bar_charts_of([(days[0], "cpu_s", 0.0)], days) == []


def test_a_year_costs_as_many_queries_as_a_week(
    party: Party, owner: Client, django_assert_max_num_queries
) -> None:
    from django.db import connection

    def count(days: int) -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            read(owner, f"/usage?days={days}")
        return len(seen)

    used(party, today(), "searches", 1)
    few = count(7)
    for back in range(1, 200):
        used(party, today() - dt.timedelta(days=back), "searches", back)
    assert count(365) == few
