"""Many flags at once: a preview that tells the truth, one batch, and the way back."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from django.utils import timezone

from tenants.errors import Invalid, NotFound
from tenants.moderation import record, reviews
from tenants.moderation.models import Outcome, Review
from tenants.moderation.record import seals
from tenants.moderation.reviews import bulk, queue
from tenants.moderation.reviews import services as undoing
from tenants.moderation.reviews.bulk import Filter
from tenants.pipeline.care import erasure
from tenants.scope import tenant_scope
from tests.tenants.reviewing import ANN, BOB, World, make_world, seen


@pytest.fixture
def world(party) -> World:
    return make_world(party)


def preview(world: World, decision: str = "allow", actor: str = ANN, **wanted: Any) -> bulk.Preview:
    with tenant_scope(world.id):
        return bulk.preview(wanted=Filter(**wanted), decision=decision, actor=actor)


def apply(world: World, decision: str = "allow", actor: str = ANN, **fields: Any) -> bulk.Applied:
    given = {name: fields.pop(name) for name in ("as_of", "batch", "labels") if name in fields}
    with tenant_scope(world.id):
        return bulk.apply(
            wanted=Filter(**fields), decision=decision, reason="all the same", actor=actor, **given
        )


def states(world: World) -> dict[str, int]:
    with tenant_scope(world.id):
        counts: dict[str, int] = {}
        for state in Review.objects.values_list("state", flat=True):
            counts[state] = counts.get(state, 0) + 1
        return counts


def test_a_preview_says_what_would_change_and_changes_nothing(world) -> None:
    plain = [world.audit(["rude"]) for _ in range(3)]
    world.audit(["rude", "naked"])
    world.audit(["rude", "made"])
    shown = preview(world, rule="rude")
    assert (shown.count, shown.looked_at) == (5, 5)
    assert dict(shown.changes) == {
        ("review", "allow"): 3,
        ("review", "review"): 1,
        ("review", "label"): 1,
    }
    assert {change.review.rule for change in shown.samples} == {"rude"}
    assert len(shown.samples) == 5
    assert states(world) == {"open": 6}
    assert world.stands(plain[0])[0] == "review"
    assert world.lines() == []
    applied = apply(world, rule="rude", as_of=shown.as_of)
    assert (applied.decided, applied.left) == (5, 0)
    assert states(world) == {"open": 1, "decided": 5}
    assert [world.stands(audit)[0] for audit in plain] == ["allow"] * 3


def test_what_came_after_the_preview_or_is_somebody_elses_is_left_alone(world) -> None:
    first, held, mine = world.flag(), world.flag(), world.flag()
    with tenant_scope(world.id):
        queue.claim(review_id=held.id, actor=BOB)
        queue.claim(review_id=mine.id, actor=ANN)
    shown = preview(world, rule="rude")
    world.flag()
    applied = apply(world, "block", rule="rude", as_of=shown.as_of)
    with tenant_scope(world.id):
        decided = set(Review.objects.filter(state="decided").values_list("pk", flat=True))
        assert set(Outcome.objects.values_list("batch", flat=True)) == {applied.batch}
    assert decided == {first.id, mine.id}
    assert shown.count == applied.decided == 2


def test_filters_choose(world) -> None:
    rude, naked = world.audit(["rude"]), world.audit(["naked"])
    abusive = world.audit(
        ["rude"], evidence=seen(categories={"abuse": {"flagged": True}, "hate": {"flagged": False}})
    )
    with tenant_scope(world.id):
        Review.objects.filter(audit=rude).update(created_at=timezone.now() - dt.timedelta(hours=5))

    def count(**wanted: Any) -> int:
        return preview(world, **wanted).count

    assert count(rule="rude") == 2
    assert count(rule="no-such-rule") == 0
    assert count(category="abuse") == 1
    assert count(category="hate") == 0
    assert count(older_than_h=4) == 1
    assert count(newer_than_h=4) == 2
    assert count(max_severity=50) == 2
    assert count(modality="text") == 3
    assert count(modality="image") == 0
    assert count(dataset_id=world.dataset.id) == 3
    assert count(dataset_id=uuid.uuid4()) == 0
    assert count(rule="rude", category="abuse", newer_than_h=4) == 1
    apply(world, category="abuse")
    assert world.stands(abusive)[0] == "allow"
    assert world.stands(naked)[0] == world.stands(rude)[0] == "review"


@pytest.mark.parametrize("wanted", [{}, {"category": "no-such"}, {"category": "abuse__x"}])
def test_a_filter_that_says_nothing_is_refused(world, wanted: dict[str, Any]) -> None:
    world.flag()
    for act in (preview, apply):
        with pytest.raises(Invalid):
            act(world, **wanted)
    assert states(world) == {"open": 1}


def test_appeals_and_second_opinions_want_a_look_of_their_own(party) -> None:
    world = make_world(party, second_opinion=1.0)
    flag = world.flag()
    with tenant_scope(world.id):
        queue.claim(review_id=flag.id, actor=BOB)
        reviews.decide_review(review_id=flag.id, decision="allow", reason="ok", actor=BOB)
    assert states(world) == {"decided": 1, "open": 1}
    assert preview(world, rule="rude").count == 0
    assert apply(world, rule="rude").decided == 0


def test_a_large_batch_takes_several_calls_and_is_undone_as_a_whole(world, monkeypatch) -> None:
    monkeypatch.setattr(bulk, "AT_MOST", 4)
    monkeypatch.setattr(undoing, "AT_ONCE", 3)
    audits = [world.audit(["rude"], subject="bert") for _ in range(6)]
    two = world.audit(["rude", "naked"])
    first = apply(world, "block", rule="rude")
    second = apply(world, "block", rule="rude", batch=first.batch, as_of=first.as_of)
    assert (first.decided, first.left, second.decided, second.left) == (4, 3, 3, 0)
    assert {world.stands(audit)[0] for audit in [*audits, two]} == {"block"}
    with tenant_scope(world.id):
        undone = undoing.undo_batch(
            tenant_id=world.id, batch=first.batch, actor=BOB, reason="the rule was wrong"
        )
    assert (undone.undone, undone.left) == (7, ())
    assert {world.stands(audit)[0] for audit in [*audits, two]} == {"review"}
    assert states(world) == {"open": 8}
    with tenant_scope(world.id):
        assert (
            undoing.undo_batch(tenant_id=world.id, batch=first.batch, actor=BOB, reason="again").undone == 0
        )
    kinds = [line.kind for line in world.lines()]
    assert kinds == [record.REVIEW_DECIDED] * 7 + [record.REVIEW_UNDONE] * 7
    seals.seal(world.id)
    assert seals.verify(world.id).ok


def test_what_cannot_be_undone_any_more_is_named(world) -> None:
    kept, erased, newer = (world.audit(["rude"]) for _ in range(3))
    batch = apply(world, rule="rude").batch
    world.audit(["naked"], world.asset(newer))
    with tenant_scope(world.id):
        erasure.erase_asset(asset_id=erased.item)
        undone = undoing.undo_batch(tenant_id=world.id, batch=batch, actor=ANN, reason="oh")
    assert undone.undone == 1
    assert sorted(reason.split()[0] for _, reason in undone.left) == ["A", "The"]
    assert world.stands(kept)[0] == "review"
    with tenant_scope(world.id), pytest.raises(NotFound):
        undoing.undo_batch(tenant_id=world.id, batch=uuid.uuid4(), actor=ANN, reason="oh")


def test_a_batch_goes_on_only_for_who_began_it(world) -> None:
    world.flag()
    batch = apply(world, rule="rude").batch
    for actor, given in ((BOB, batch), (ANN, uuid.uuid4())):
        with pytest.raises(Invalid):
            apply(world, actor=actor, batch=given, rule="rude")
    with tenant_scope(world.id):
        undoing.undo_batch(tenant_id=world.id, batch=batch, actor=ANN, reason="oh")
    with pytest.raises(Invalid):
        apply(world, batch=batch, rule="rude")


def test_a_bulk_decision_that_is_cut_off_leaves_nothing(world, monkeypatch) -> None:
    audits = [world.audit(["rude"]) for _ in range(3)]

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(record, "append_all", killed)
        apply(world, "block", rule="rude")
    assert states(world) == {"open": 3}
    assert {world.stands(audit)[0] for audit in audits} == {"review"}
    assert apply(world, "block", rule="rude").decided == 3
