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
from tenants.accounts import keys, metering, services
from tenants.accounts.models import ApiKey, Membership, QuotaCounter, UsageDay
from tenants.datasets.models import Asset, Blob
from tenants.datasets.services import create_dataset
from tenants.events.models import Webhook
from tenants.jobs.models import Job
from tenants.learning.models import LearntModel
from tenants.moderation.policies.services import activate, create_policy
from tenants.retrieval.models import IndexGeneration
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.tenants.learning.world import new_model
from tests.tenants.people import new_member


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


def steps_of(page: str) -> list[tuple[str, str]]:
    """The title of each step of the checklist, and where it leads; "" for one that is done."""
    section = page.partition('id="begin-title"')[2].partition("</section>")[0]
    found = []
    for line in re.findall(r"<li.*?</li>", section, re.DOTALL):
        title, link = re.search(r"<strong>(.*?)</strong>", line), re.search(r'<a [^>]*href="([^"]*)"', line)
        assert title
        assert ("(done)" in line) == (link is None)
        found.append((title[1], link[1] if link else ""))
    return found


def test_a_new_workspace_is_told_how_to_begin_and_has_no_worries(owner: Client) -> None:
    page = read(owner)
    assert "Get started" in page
    assert "No datasets yet" not in page
    assert "Needs attention" not in page
    assert "Recently" not in page


@pytest.fixture
def alone(party: Party) -> Client:
    """The owner, who is the only member."""
    client = Client()
    client.force_login(party.owner)
    return client


def test_the_checklist_fills_itself_and_goes(party: Party, alone: Client) -> None:
    with tenant_scope(party.id):
        ApiKey.objects.all().delete()
    address = {
        "Upload something": "/datasets?new=1",
        "Try a search": "/search",
        "Invite people": "/people?new=1",
        "Try a policy": "/policies?new=1",
        "Try a model of your own": "/models/finetune",
        "Create an API key": "/keys?new=1",
    }
    assert steps_of(read(alone)) == list(address.items())
    for link in address.values():
        assert ("data-open-now" in read(alone, link)) == link.endswith("?new=1")
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        policy, _ = create_policy(name="p", starter="community", actor="test")
    address |= {"Upload something": f"/datasets/{dataset.id}", "Try a policy": f"/policies/{policy.id}"}
    page = read(alone)
    assert steps_of(page) == list(address.items())
    assert "0 of 6 done" in page
    with tenant_scope(party.id):
        fill("first", "ready", 1)
        UsageDay.objects.create(day=timezone.now().date(), kind="searches", amount=1)
        keys.create_key(name="k", scopes=["read"], created_by=party.owner)
        model = new_model(party.id)
        new_model(party.id, state="draft")
    address["Try a model of your own"] = f"/models/{model.id}"
    names = ("Invite people", "Try a policy", "Try a model of your own")
    left = dict.fromkeys(address, "") | {name: address[name] for name in names}
    page = read(alone)
    assert steps_of(page) == list(left.items())
    assert "3 of 6 done" in page
    new_member(party.tenant, "viewer")
    with tenant_scope(party.id):
        activate(policy_id=policy.id, number=1, mode="shadow", actor="test")
    assert [title for title, link in steps_of(read(alone)) if link] == ["Try a model of your own"]
    with tenant_scope(party.id):
        # Whatever became of it since: it was tried.
        LearntModel.objects.filter(pk=model.pk).update(promoted_at=timezone.now(), state="retired")
    assert "Get started" not in read(alone)


def test_a_search_is_seen_before_it_is_in_the_database(party: Party, alone: Client) -> None:
    assert ("Try a search", "/search") in steps_of(read(alone))
    metering.record(tenant_id=party.id, amounts={"searches": 1})
    assert ("Try a search", "") in steps_of(read(alone))
    with tenant_scope(party.id):
        assert not UsageDay.objects.filter(kind="searches").exists()


def test_the_checklist_has_what_the_role_may_do(person: Callable[..., Client]) -> None:
    expected = {
        "viewer": ["Try a search"],
        "reviewer": ["Try a search", "Try a policy"],
        "editor": ["Upload something", "Try a search", "Try a model of your own"],
    }
    for role, titles in expected.items():
        assert [title for title, _ in steps_of(read(person(role)))] == titles


def test_a_dismissed_checklist_stays_away_from_that_member_in_that_workspace(
    party: Party, alone: Client, stranger: Party, person: Callable[..., Client]
) -> None:
    services.set_role(tenant=stranger.tenant, user=party.owner, role="owner")
    editor = person("editor")
    alone.post("/workspace", {"tenant": str(party.id)})
    assert "Get started" in read(alone)
    answer = alone.post("/checklist/dismiss")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    page = read(alone)
    assert "Get started" not in page
    assert "No datasets yet" in page
    assert "Get started" in read(editor)
    alone.post("/workspace", {"tenant": str(stranger.id)})
    assert "Get started" in read(alone)
    dismissed = Membership.objects.filter(checklist_dismissed=True, tenant__in=[party.id, stranger.id])
    assert list(dismissed.values_list("tenant", "user")) == [(party.id, party.owner.id)]


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
    assert any("search index was discarded" in words for _, words in found)


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
    # The number of unread alerts is in the frame of every page, and read up to a hundred.
    assert 'JOIN "asset"' not in "\n".join(one for one in sql.split("\n") if '"standing_alert"' not in one)
    assert 'COUNT("asset"' not in sql
    page = read(owner)
    assert "100+ jobs failed this week" in page
    assert page.count("could not be indexed") == 3
