"""Trials: told before they end; then the workspace is read, searched, exported and emptied, and nothing is added."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tenants.accounts import keys, services, trials
from tenants.accounts.models import OperatorAct, Plan, Tenant
from tenants.accounts.permissions import ADDS
from tenants.datasets import selectors
from tenants.events.models import AuditEvent
from tenants.jobs.selectors import get_job
from tenants.scope import tenant_scope
from tests.conftest import Party, new_party
from tests.console.test_access import TABLE, Things
from tests.waiting import until

#: Of what is posted with a scope that adds: what stops something, deletes it, or only looks.
STILL_OPEN = {
    *(
        "dataset-delete",
        "dataset-version-delete",
        "import-delete",
        "dataset-bulk-delete",
        "asset-delete",
        "map-delete-assets",
        "map-delete",
    ),
    "dataset-version-delete",
    *("hash-list-delete", "hash-list-remove", "generation-delete", "classifier-delete", "model-delete"),
    *("task-delete", "golden-remove", "models-labels-forget", "models-labels-retire", "tasks-gate-retire"),
    *("generation-cancel", "model-cancel", "job-cancel", "review-release", "policies-check"),
}


def end_trial(party: Party, at: Any = None) -> None:
    Tenant.objects.filter(pk=party.id).update(trial_ends_at=at or timezone.now())
    keys.forget_tenant(party.id)


@pytest.fixture(scope="module")
def over() -> Things:
    """One for all tests of what is refused."""
    things = Things(new_party())
    end_trial(things.party)
    return things


def client_of(party: Party) -> Client:
    client = Client()
    client.force_login(party.owner)
    return client


def test_what_adds_is_refused_and_changes_nothing(over: Things) -> None:
    client, refused = client_of(over.party), 0
    for name, method, scope in TABLE:
        if scope not in ADDS or method in ("GET", "DELETE") or name in STILL_OPEN:
            continue
        response = client.generic(method, over.address(name), headers={"accept": "application/json"})
        assert (response.status_code, response.json()["type"]) == (403, "trial-ended"), name
        refused += 1
    assert refused > 50
    with tenant_scope(over.party.id):
        assert selectors.get_dataset(over.dataset.id).asset_count == 1


def test_looking_searching_administering_and_deleting_go_on(party: Party) -> None:
    things = Things(party)
    end_trial(party)
    client = client_of(party)
    for name, method, scope in sorted(TABLE, key=lambda row: row[1]):
        if method == "GET" or scope not in ADDS or name in STILL_OPEN:
            response = client.generic(method, things.address(name), headers={"accept": "application/json"})
            refused = response.status_code == 403 and response.json().get("type") == "trial-ended"
            assert (refused, response.status_code < 500) == (False, True), name


def test_an_export_is_made_and_nothing_is_deleted_by_the_end(party: Party) -> None:
    things = Things(party)
    end_trial(party)
    response = client_of(party).post("/data/export")
    assert response.status_code == 302
    with tenant_scope(party.id):
        job = get_job(response["Location"].rpartition("/")[2])
        assert job.kind == "export_tenant"
        assert selectors.get_dataset(things.dataset.id).asset_count == 1
        # What was accepted before the end goes on to its own.
        assert get_job(things.job.id).state == "queued"


def test_the_api_answers_what_to_do(party: Party) -> None:
    things = Things(party)
    http = Client(headers={"authorization": f"Bearer {party.token}"})
    path = f"/api/v1/datasets/{things.dataset.id}/assets"
    assert http.get("/api/v1/me").json()["plan"]["trial_ends_at"] is None
    end_trial(party, timezone.now() + timedelta(hours=1))
    until(lambda: http.get("/api/v1/me").json()["plan"]["trial_ends_at"])
    assert http.get("/api/v1/me").json()["plan"]["read_only"] is False
    assert http.post(path, {"text": "one"}, content_type="application/json").status_code == 202
    end_trial(party)
    answer = http.post(path, {"text": "two"}, content_type="application/json")
    until(lambda: http.post(path, {"text": "two"}, content_type="application/json").status_code == 403)
    answer = http.post(path, {"text": "two"}, content_type="application/json")
    body = answer.json()
    assert (answer.status_code, body["type"]) == (403, "urn:crosslight:problem:trial-ended")
    assert "Ask the operator" in body["detail"]
    assert body["ended_at"]
    for refused in ("generations", "audits", "finetunes", "maps"):
        answer = http.post(f"/api/v1/{refused}", {}, content_type="application/json")
        assert answer.json()["type"] == "urn:crosslight:problem:trial-ended", refused
    assert http.get("/api/v1/me").json()["plan"]["read_only"] is True
    assert http.get(path).status_code == 200
    assert http.delete(f"/api/v1/assets/{things.asset.id}").status_code == 204
    assert http.post(f"/api/v1/jobs/{things.job.id}/cancel").status_code in (200, 409)
    search = http.post("/api/v1/search", {"text": "kettle"}, content_type="application/json")
    assert search.status_code != 403


def test_at_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = Tenant(trial_ends_at=timezone.now())
    end = tenant.trial_ends_at
    for moved, over, days in (
        (timedelta(0), True, 0),
        (-timedelta(microseconds=1), False, 1),
        (-timedelta(days=1), False, 1),
        (-timedelta(days=1, microseconds=1), False, 2),
        (timedelta(days=9), True, 0),
    ):
        monkeypatch.setattr(trials.timezone, "now", lambda moved=moved: end + moved)
        assert (trials.is_over(tenant), trials.days_left(tenant)) == (over, days), moved
    assert (trials.is_over(Tenant()), trials.days_left(Tenant())) == (False, None)


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (timedelta(days=8), None),
        (timedelta(days=6, hours=1), "The trial ends within 7 days"),
        (timedelta(hours=1), "The trial ends within 1 day:"),
        (timedelta(0), "The trial has ended."),
    ],
)
def test_the_end_is_told_before_it_comes(party: Party, left: timedelta, said: str | None) -> None:
    end_trial(party, timezone.now() + left)
    page = client_of(party).get("/").content.decode()
    assert ("notice-bar" in page) == (said is not None)
    assert said is None or said in page


# --- What operators do ---


@pytest.fixture
def operator(fresh_address: str) -> Client:
    from tests.tenants.people import new_user

    user = new_user()
    user.is_staff = True
    user.save()
    client = Client(REMOTE_ADDR=fresh_address)
    client.force_login(user)
    client.user = user
    return client


def test_an_operator_gives_more_time_and_another_plan(party: Party, operator: Client) -> None:
    end_trial(party)
    address = f"/operator/tenants/{party.tenant.slug}"
    assert "The trial ended:" in operator.get(address).content.decode()
    before = timezone.now()
    assert operator.post(f"{address}/trial", {"days": "3"}).status_code == 302
    tenant = Tenant.objects.get(pk=party.id)
    assert timedelta(days=3) <= tenant.trial_ends_at - before < timedelta(days=3, minutes=1)
    assert operator.post(f"{address}/trial", {"days": "-1"}).status_code == 422
    assert operator.post(f"{address}/trial", {"days": "4000"}).status_code == 422
    # A plan of no end ends it; a trial begins anew, but not by choosing the plan that it has.
    services.ensure_plan("starter"), services.ensure_plan("trial")
    for plan, ends in (("starter", False), ("trial", True)):
        operator.post(f"{address}/plan", {"plan": plan})
        assert (Tenant.objects.get(pk=party.id).trial_ends_at is not None) == ends
    end_trial(party)
    operator.post(f"{address}/plan", {"plan": "trial"})
    assert trials.is_over(Tenant.objects.get(pk=party.id))
    operator.post(f"{address}/trial", {"days": ""})
    assert Tenant.objects.get(pk=party.id).trial_ends_at is None
    verbs = OperatorAct.objects.filter(target=party.tenant.slug).order_by("id").values_list("verb", flat=True)
    assert list(verbs) == ["tenant.trial_changed", *["tenant.plan_changed"] * 3, "tenant.trial_changed"]
    with tenant_scope(party.id):
        assert AuditEvent.objects.filter(verb="tenant.trial_changed").count() == 2


def test_a_plan_with_days_is_a_trial(operator: Client, party: Party) -> None:
    slug = f"p-{party.tenant.slug}"[:50]
    fields = {"slug": slug, "name": "Two weeks", "trial_days": "14"}
    assert operator.post("/operator/plans/new", fields).status_code == 302
    assert Plan.objects.get(slug=slug).trial_days == 14
    assert operator.post(f"/operator/plans/{slug}", {**fields, "trial_days": "0"}).status_code == 422
    assert operator.post(f"/operator/plans/{slug}", {**fields, "trial_days": ""}).status_code == 302
    assert Plan.objects.get(slug=slug).trial_days is None
