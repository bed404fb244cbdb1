"""What is told of what happens: the right types, ids and states, never content; quotas once a month."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from tenants.accounts import quotas
from tenants.accounts.models import Plan, Tenant
from tenants.errors import QuotaExceeded
from tenants.events import endpoints, quota_watch
from tenants.events.models import Webhook, WebhookEvent
from tenants.jobs import services as jobs
from tenants.learning.services import finish_training
from tenants.moderation import reviews
from tenants.pipeline.assets.services import add_asset, delete_asset
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.learning.world import new_model
from tests.tenants.reviewing import ANN, BOB, decided, make_world


@pytest.fixture
def listening(party: Party) -> Webhook:
    with tenant_scope(party.id):
        return endpoints.create_webhook(url="https://hooks.example/", actor="key:x")[0]


def told(party: Party) -> list[tuple[str, dict[str, Any]]]:
    with tenant_scope(party.id):
        bodies = [json.loads(event.body) for event in WebhookEvent.objects.order_by("id")]
    return [(body["type"], body["data"]) for body in bodies]


def test_reviews(party: Party, listening: Webhook) -> None:
    world = make_world(party)
    asset = world.add()
    audit = world.audit(("rude",), asset)
    review = world.flags(audit)["rude"]
    with tenant_scope(party.id):
        reviews.queue.claim(review_id=review.id, actor=ANN)
        outcome = reviews.decide_review(
            review_id=review.id, decision="block", reason="Secret words.", actor=ANN
        )
        reviews.undo_outcome(outcome_id=outcome.id, actor=ANN, reason="Secret words.")
    about = {
        "review": str(review.id),
        "audit": str(audit.id),
        "asset": str(asset.id),
        "kind": "flag",
        "rule": "rude",
    }
    found = [(name, data) for name, data in told(party) if name.startswith("review.")]
    assert found == [
        ("review.opened", about),
        ("review.decided", {**about, "outcome": str(outcome.id), "decision": "block"}),
        ("review.opened", about),
    ]
    assert ("asset.failed", "blocked") in [(name, data.get("error")) for name, data in told(party)]
    assert "Secret words" not in json.dumps(told(party))


def test_the_same_flags_are_told_once(party: Party, listening: Webhook) -> None:
    world = make_world(party)
    audit = world.audit(("rude", "naked"))
    with tenant_scope(party.id):
        before = WebhookEvent.objects.filter(type="review.opened").count()
        again = decided(("rude", "naked"), world.version.document)
        reviews.open_reviews(audit=audit, asset=world.asset(audit), decision=again)
        assert before == WebhookEvent.objects.filter(type="review.opened").count() == 2


def test_an_appeal_is_a_review(party: Party, listening: Webhook) -> None:
    world = make_world(party)
    audit = world.audit(("known",))
    with tenant_scope(party.id):
        reviews.open_appeal(audit_id=audit.id, reason="Please.", actor=BOB)
        opened = reviews.open_appeal(audit_id=world.audit(("known",)).id, reason="Please.", actor=BOB)
        reviews.decide_appeal(appeal_id=opened.id, decision="overturned", reason="Secret words.", actor=ANN)
    assert [data["kind"] for name, data in told(party) if name == "review.opened"] == ["appeal", "appeal"]
    found = [(name, data) for name, data in told(party) if name.startswith("appeal.")]
    about = {"appeal": str(opened.id), "audit": str(opened.audit_id), "asset": str(opened.asset_id)}
    assert found[1:] == [
        ("appeal.opened", {**about, "review": str(opened.review_id), "state": "open"}),
        ("appeal.decided", {**about, "review": str(opened.review_id), "state": "overturned"}),
    ]


def test_jobs_and_assets(party: Party, listening: Webhook) -> None:
    world = make_world(party)
    with tenant_scope(party.id):
        added = add_asset(dataset_id=world.dataset.id, text="Secret words.")
    claimed = jobs.claim(job_id=added.job.id, tenant_id=party.id)
    assert claimed is not None
    jobs.fail(claimed, error={"type": "damaged", "detail": "Secret words."}, final=True)
    with tenant_scope(party.id):
        delete_asset(asset_id=added.asset.id)
    asset, dataset = str(added.asset.id), str(world.dataset.id)
    state = {"asset": asset, "dataset": dataset, "modality": "text"}
    assert told(party) == [
        ("asset.created", {**state, "status": "pending"}),
        ("asset.failed", {**state, "status": "failed", "error": "damaged"}),
        (
            "job.failed",
            {"job": str(added.job.id), "kind": "embed_asset", "state": "failed", "error": "damaged"},
        ),
        ("asset.deleted", {"asset": asset, "dataset": dataset}),
    ]


def test_a_trained_model(party: Party, listening: Webhook) -> None:
    model = new_model(party.id, state="draft")
    with tenant_scope(party.id):
        finish_training(model.id, {})
    assert told(party) == [("model.trained", {"model": str(model.id), "state": "candidate"})]


def test_quotas_are_told_once_a_month_and_resource(party: Party, listening: Webhook) -> None:
    plan = Plan.objects.create(
        slug=f"p-{secrets.token_hex(4)}", name="small", limits={"assets": 10, "cpu_s": 0}
    )
    Tenant.objects.filter(pk=party.id).update(plan=plan)

    def use(count: int) -> None:
        with tenant_scope(party.id):
            quotas.charge(amounts={"assets": count})

    use(7)
    quota_watch.watch(party.id)
    assert told(party) == []
    use(1)
    quota_watch.watch(party.id)
    quota_watch.watch(party.id)
    about = {"resource": "assets", "period": quotas.current_period(), "limit": 10}
    assert told(party) == [("quota.warning", {**about, "used": 8})]
    with pytest.raises(QuotaExceeded):
        use(3)
    for _ in range(2):
        quota_watch.watch(party.id)
    assert told(party)[1:] == [("quota.exceeded", {**about, "used": 8})]


def test_refusals_are_noted_by_tenant(party: Party, stranger: Party, listening: Webhook) -> None:
    plan = Plan.objects.create(slug=f"p-{secrets.token_hex(4)}", name="none", limits={"assets": 0})
    Tenant.objects.filter(pk=stranger.id).update(plan=plan)
    with pytest.raises(QuotaExceeded), tenant_scope(stranger.id):
        quotas.charge(amounts={"assets": 1})
    for party_, found in ((stranger, {"assets"}), (party, set())):
        with tenant_scope(party_.id):
            assert quotas.refused() == found
