"""Appeals: in the same queue, for another person, and they overrule."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.moderation import reviews
from tenants.moderation.models import Appeal, Audit, Outcome, Review
from tenants.moderation.reviews import cases, effects, queue
from tenants.moderation.reviews.services import AppealWindow
from tenants.pipeline.care import erasure
from tenants.scope import tenant_scope
from tests.tenants.reviewing import ANN, BOB, CAROL, World, make_world


@pytest.fixture
def world(party) -> World:
    return make_world(party)


def appeal(world: World, audit: Audit, reason: str = "It is art.") -> Appeal:
    with tenant_scope(world.id):
        return reviews.open_appeal(audit_id=audit.id, reason=reason, actor="key:client")


def answer(
    world: World, opened: Appeal, decision: str, actor: str = BOB, **fields: Any
) -> tuple[Appeal, Outcome]:
    with tenant_scope(world.id):
        return reviews.decide_appeal(
            appeal_id=opened.id, decision=decision, reason="looked again", actor=actor, **fields
        )


def by_person(world: World, decision: str = "block", **fields: Any) -> Audit:
    """An item that Ann decided about."""
    audit = world.audit(["rude"], **fields)
    flag = world.flags(audit)["rude"]
    with tenant_scope(world.id):
        queue.claim(review_id=flag.id, actor=ANN)
        reviews.decide_review(review_id=flag.id, decision=decision, reason="because", actor=ANN)
    return audit


def test_an_appeal_waits_in_the_queue_for_another_person(world) -> None:
    audit = by_person(world)
    opened = appeal(world, audit)
    with tenant_scope(world.id):
        assert queue.claim_next(actor=ANN) is None
        for act in (
            lambda: queue.claim(review_id=opened.review_id, actor=ANN),
            lambda: reviews.decide_appeal(
                appeal_id=opened.id, decision="upheld", reason="I was right", actor=ANN
            ),
        ):
            with pytest.raises(NotAllowed, match="another person"):
                act()
        taken = queue.claim_next(actor=BOB)
        assert (taken.id, taken.kind, taken.reason) == (opened.review_id, "appeal", "It is art.")
        assert [a.id for a in reviews.list_appeals(actor=BOB, state="open")] == [opened.id]
    assert world.stands(audit)[0] == "block"


def test_overturned_the_item_is_let_go_and_its_strike_with_it(world) -> None:
    audit = by_person(world, subject="bert")
    with tenant_scope(world.id):
        assert effects.count_strikes(subject="bert") == 1
    decided, outcome = answer(world, appeal(world, audit), "overturned")
    assert (decided.state, outcome.decision, outcome.before, outcome.kind) == (
        "overturned",
        "allow",
        "block",
        "appeal",
    )
    assert decided.decided_at is not None
    assert world.stands(audit) == ("allow", [])
    with tenant_scope(world.id):
        assert effects.count_strikes(subject="bert") == 0
    assert [line.kind for line in world.lines()] == ["review.decided", "appeal.opened", "appeal.decided"]


def test_upheld_everything_stays(world) -> None:
    audit = by_person(world, "label")
    with tenant_scope(world.id):
        before = world.stands(audit)
    decided, outcome = answer(world, appeal(world, audit), "upheld")
    assert (decided.state, outcome.decision) == ("upheld", "label")
    assert world.stands(audit) == before


@pytest.mark.parametrize(
    ("decision", "state"), [("block", "upheld"), ("label", "overturned"), ("allow", "overturned")]
)
def test_a_decision_says_by_itself_whether_it_overturns(world, decision: str, state: str) -> None:
    audit = by_person(world)
    decided, _ = answer(
        world, appeal(world, audit), decision, labels=["disputed"] if decision == "label" else None
    )
    assert decided.state == state
    assert world.stands(audit)[0] == decision


def test_a_block_of_the_policy_alone_can_be_overturned(world) -> None:
    audit = world.audit(["known", "made"])
    assert world.stands(audit)[0] == "block"
    answer(world, appeal(world, audit), "overturned", ANN)
    assert world.stands(audit) == ("allow", [])


def test_an_appeal_is_decided_through_the_queue_as_well(world) -> None:
    audit = by_person(world)
    opened = appeal(world, audit)
    with tenant_scope(world.id):
        queue.claim(review_id=opened.review_id, actor=BOB)
        with pytest.raises(Conflict, match="Someone else has claimed"):
            reviews.decide_appeal(appeal_id=opened.id, decision="upheld", reason="mine", actor=CAROL)
        reviews.decide_review(review_id=opened.review_id, decision="allow", reason="art indeed", actor=BOB)
        assert Appeal.objects.get(pk=opened.pk).state == "overturned"
        with pytest.raises(Conflict, match="closed already"):
            reviews.decide_appeal(appeal_id=opened.id, decision="upheld", reason="again", actor=CAROL)


def test_undoing_an_appeal_opens_it_again(world) -> None:
    audit = by_person(world)
    opened = appeal(world, audit)
    _, outcome = answer(world, opened, "overturned")
    with tenant_scope(world.id):
        reviews.undo_outcome(outcome_id=outcome.id, actor=CAROL, reason="too quick")
        back = Appeal.objects.get(pk=opened.pk)
    assert (back.state, back.decided_at) == ("open", None)
    assert world.stands(audit)[0] == "block"
    answer(world, opened, "upheld", CAROL)


def test_flags_that_are_decided_later_count_beside_an_appeal(world) -> None:
    audit = by_person(world)
    answer(world, appeal(world, audit), "overturned")
    with tenant_scope(world.id):
        late = Review.objects.create(
            audit=audit, asset_id=audit.item, rule="naked", due_at=timezone.now() + dt.timedelta(hours=1)
        )
        queue.claim(review_id=late.id, actor=CAROL)
        reviews.decide_review(review_id=late.id, decision="block", reason="this too", actor=CAROL)
    assert world.stands(audit)[0] == "block"


def test_an_appeal_follows_its_item_to_a_newer_audit(world) -> None:
    audit = by_person(world)
    opened = appeal(world, audit)
    newer = world.audit(["known"], world.asset(audit))
    with tenant_scope(world.id):
        moved = Appeal.objects.get(pk=opened.pk)
        assert moved.audit_id == newer.id
        assert Review.objects.get(pk=opened.review_id).audit_id == newer.id
        # Who decided about the item before is still who.
        with pytest.raises(NotAllowed):
            queue.claim(review_id=opened.review_id, actor=ANN)
    answer(world, moved, "overturned")
    assert world.stands(newer)[0] == "allow"


def test_what_cannot_be_appealed(world) -> None:
    waiting, shadowed = world.audit(["rude"]), world.audit(["known"], mode="shadow")
    decided, erased, old = by_person(world), by_person(world), by_person(world)
    appeal(world, decided)
    world.audit(["made"], world.asset(old))
    with tenant_scope(world.id):
        erasure.erase_asset(asset_id=erased.item)
    for audit, why in (
        (waiting, "still has to decide"),
        (shadowed, "changed nothing"),
        (decided, "open appeal"),
        (erased, "erased"),
        (old, "newer audit"),
    ):
        with pytest.raises(Conflict, match=why):
            appeal(world, audit)
    with tenant_scope(world.id):
        assert Appeal.objects.count() == 1
        for nobody in (None, world.dataset.id):
            with pytest.raises(NotFound):
                reviews.open_appeal(audit_id=nobody, reason="x", actor=ANN)
    for reason in ("", " ", "x" * 2001, "\0"):
        with pytest.raises(Invalid):
            appeal(world, decided, reason)


def test_words_that_decide_nothing(world) -> None:
    audit = by_person(world, "allow")
    opened = appeal(world, audit, "It must go.")
    for decision in ("overturned", "review", "yes"):
        with pytest.raises((Invalid, Conflict)):
            answer(world, opened, decision)
    decided, _ = answer(world, opened, "block")
    assert decided.state == "overturned"
    assert world.stands(audit)[0] == "block"


# --- Until when ---


def test_after_the_policys_days_nobody_appeals(party, monkeypatch) -> None:
    world = make_world(party, appeal_days=30)
    audit = world.audit(["known"])
    last = audit.created_at.date() + dt.timedelta(days=30)
    monkeypatch.setattr(cases, "today", lambda: last)
    with tenant_scope(world.id):
        assert reviews.appeal_window(audit.id) == AppealWindow(is_open=True, until=last)
    opened = appeal(world, audit)
    other = world.audit(["known"])
    monkeypatch.setattr(cases, "today", lambda: last + dt.timedelta(days=1))
    with tenant_scope(world.id):
        assert reviews.appeal_window(other.id) == AppealWindow(is_open=False, until=last, is_over=True)
    before = world.lines()
    with pytest.raises(Conflict, match=f"could be made until {last} ") as refused:
        appeal(world, other)
    assert refused.value.extra == {"appealable_until": last.isoformat()}
    assert world.lines() == before
    # What was appealed in time is decided, and undone, whenever that is.
    decided, outcome = answer(world, opened, "overturned")
    assert (decided.state, outcome.decision) == ("overturned", "allow")
    with tenant_scope(world.id):
        reviews.undo_outcome(outcome_id=outcome.id, reason="too soon", actor=CAROL)
        assert Appeal.objects.get(pk=opened.id).state == "open"


def test_the_days_count_from_what_a_person_decided_last(party, monkeypatch) -> None:
    world = make_world(party, appeal_days=30)
    audit = by_person(world)
    with tenant_scope(world.id):
        case = cases.read_cases([audit.id])[audit.id]
    decided = case.outcomes[-1]
    case.audit.created_at -= dt.timedelta(days=40)
    assert case.appealable_until() == decided.created_at.date() + dt.timedelta(days=30)
    decided.kind = Review.Kind.SECOND
    assert case.appealable_until() == case.audit.created_at.date() + dt.timedelta(days=30)
    case.document = {}
    assert case.appealable_until() is None
