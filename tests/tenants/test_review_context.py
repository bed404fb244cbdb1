"""What stands beside a review: the sender's other items, and what was decided about similar ones, as one may read."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

from tenants.datasets.models import Asset
from tenants.datasets.services import create_dataset
from tenants.moderation import reviews
from tenants.moderation.models import Review
from tenants.moderation.reviews import context, queue
from tenants.retrieval import model_routing
from tenants.retrieval.index.vectors import NewVector, add_vectors
from tenants.scope import Narrowing, narrowed, tenant_scope
from tests.conftest import Party
from tests.tenants.reviewing import ANN, World, make_world


@pytest.fixture
def world(party: Party) -> World:
    return make_world(party)


def decide(world: World, review: Review, decision: str) -> Any:
    with tenant_scope(world.id):
        queue.claim(review_id=review.id, actor=ANN)
        return reviews.decide_review(review_id=review.id, decision=decision, reason="Seen.", actor=ANN)


def with_vector(world: World, *values: float, modality: str = "text") -> Asset:
    asset = world.add()
    with tenant_scope(world.id):
        vector = np.zeros(256, np.float32)
        vector[: len(values)] = values
        vector /= np.linalg.norm(vector)
        add_vectors(model=model_routing.live(), vectors=[(asset, [NewVector(modality, vector)])])
    return asset


# --- The sender ------------------------------------------------------------------------------------------


def test_a_senders_other_items_count_as_people_decided_them(world: World) -> None:
    for decision in ("block", "allow", "block"):
        decide(world, world.flag(subject="ann@shop"), decision)
    labelled = world.audit(("made",), subject="ann@shop")
    world.audit(("known",), subject="bob@shop")
    audit = world.audit(("rude",), subject="ann@shop")
    with tenant_scope(world.id):
        found = context.sender_history(audit)
    assert found is not None
    assert (found.subject, found.audits, found.more, found.strikes) == ("ann@shop", 4, False, 2)
    assert dict(found.decisions) == {"block": 2, "allow": 1, "label": 1}
    assert (found.last[0].audit.id, found.last[0].decision, found.last[0].outcome) == (
        labelled.id,
        "label",
        None,
    )
    assert [one.decision for one in found.last] == ["label", "block", "allow", "block"]


def test_what_was_undone_counts_as_the_policy_had_it(world: World) -> None:
    outcome = decide(world, world.flag(subject="ann"), "block")
    audit = world.audit(("rude",), subject="ann")
    with tenant_scope(world.id):
        reviews.undo_outcome(outcome_id=outcome.id, actor=ANN, reason="Wrong.")
        found = context.sender_history(audit)
    assert found is not None
    assert dict(found.decisions) == {"review": 1}


def test_other_looks_at_the_same_item_are_no_other_items(world: World) -> None:
    asset = world.add()
    world.audit(("made",), asset, subject="ann")
    audit = world.audit(("rude",), asset, subject="ann")
    with tenant_scope(world.id):
        found = context.sender_history(audit)
        assert found is not None
        assert (found.audits, found.last) == (0, [])
        assert context.sender_history(world.audit(("rude",))) is None


def test_only_the_newest_are_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "COUNTED", 2)
    monkeypatch.setattr(context, "LAST", 1)
    audits = [world.audit(("made",), subject="ann") for _ in range(4)]
    with tenant_scope(world.id):
        found = context.sender_history(audits[-1])
    assert found is not None
    assert (found.audits, found.more) == (2, True)
    assert [one.audit.id for one in found.last] == [audits[2].id]


def test_another_tenants_sender_of_that_name_is_another_one(world: World, stranger: Party) -> None:
    make_world(stranger).audit(("known",), subject="ann")
    audit = world.audit(("rude",), subject="ann")
    with tenant_scope(world.id):
        found = context.sender_history(audit)
    assert found is not None
    assert (found.audits, found.strikes) == (0, 0)


# --- Similar items ---------------------------------------------------------------------------------------


def test_the_nearest_decided_items_come_first_with_their_decisions(world: World) -> None:
    near, far, undone = (with_vector(world, 1.0, other) for other in (0.1, 2.0, 0.0))
    with_vector(world, 1.0, 0.01)  # nobody decided about it
    decide(world, world.flag(asset=far), "allow")
    decide(world, world.flag(asset=near), "label")
    decide(world, world.flag(asset=with_vector(world, 1.0, 0.2)), "block")  # which takes its vectors away
    outcome = decide(world, world.flag(asset=undone), "allow")
    item = with_vector(world, 1.0)
    decide(world, world.flag(asset=item), "allow")
    bare = world.add()
    with tenant_scope(world.id):
        reviews.undo_outcome(outcome_id=outcome.id, actor=ANN, reason="Wrong.")
        found = context.similar_decided(item)
        assert context.similar_decided(bare) == []
    assert [(one.asset.id, one.outcome.decision) for one in found] == [(near.id, "label"), (far.id, "allow")]
    assert [round(one.similarity, 3) for one in found] == [0.995, 0.447]


def test_nobody_has_decided_anything_yet(world: World, stranger: Party) -> None:
    other = make_world(stranger)
    decide(other, other.flag(asset=with_vector(other, 1.0)), "block")
    item = with_vector(world, 1.0)
    with tenant_scope(world.id):
        assert context.similar_decided(item) == []


def test_a_narrowed_member_sees_their_datasets_only(world: World) -> None:
    with tenant_scope(world.id):
        elsewhere = create_dataset(name=uuid.uuid4().hex)
    seen, unseen = with_vector(world, 1.0, 0.5), with_vector(world, 1.0, 0.1)
    for asset in (seen, unseen):
        decide(world, world.flag(asset=asset, subject="ann"), "allow")
    for dataset in (world.dataset, elsewhere):
        review = world.flag(subject="ann")
        decide(world, review, "block")
        with tenant_scope(world.id):
            Asset.objects.filter(pk=review.asset_id).update(dataset_id=dataset.id)
    item = with_vector(world, 1.0)
    audit = world.audit(("rude",), item, subject="ann")
    with tenant_scope(world.id):
        Asset.objects.filter(pk=unseen.pk).update(dataset_id=elsewhere.id)
    with narrowed(Narrowing((world.dataset.id,), ("rude",))), tenant_scope(world.id):
        history = context.sender_history(audit)
        similar = context.similar_decided(item)
    assert history is not None
    assert (history.audits, history.strikes) == (2, 1)
    assert dict(history.decisions) == {"allow": 1, "block": 1}
    assert [one.asset.id for one in similar] == [seen.id]
