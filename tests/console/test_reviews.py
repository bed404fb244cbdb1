"""Pages of reviewers: taking, deciding, giving back, undoing; many at once; figures."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable

import pytest
from django.test import Client
from django.utils import timezone

from tenants.datasets.models import Asset, Blob
from tenants.moderation import reviews
from tenants.moderation.models import Outcome, Review
from tenants.moderation.reviews import context, queue
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.auditing import audited, flag_of
from tests.console.pages import faults_of
from tests.console.test_audits import read
from tests.tenants.reviewing import ANN, World, make_world


@pytest.fixture
def world(party: Party) -> World:
    return make_world(party)


def raised(world: World, fired: tuple[str, ...] = ("rude",)) -> Review:
    """The flag of a new audit with evidence."""
    return flag_of(world, audited(world, fired), fired[0])


def state_of(world: World, review: Review) -> str:
    with tenant_scope(world.id):
        return Review.objects.get(pk=review.pk).state


def outcomes_of(world: World) -> list[Outcome]:
    with tenant_scope(world.id):
        return list(Outcome.objects.order_by("id"))


def test_the_queue_has_the_worst_first_and_says_what_is_late(world: World, owner: Client) -> None:
    rude, naked = raised(world, ("rude",)), raised(world, ("naked",))
    with tenant_scope(world.id):
        Review.objects.filter(pk=rude.pk).update(due_at=timezone.now() - dt.timedelta(hours=3))
    page = read(owner, "/reviews")
    assert page.index("It may be naked.") < page.index("It may be rude.")
    assert "late by 3\xa0hours" in page
    assert 'class="count-badge">2<' in page
    late = read(owner, "/reviews?show=late")
    assert "It may be rude." in late
    assert "It may be naked." not in late
    assert str(naked.id) in read(owner, "/reviews?show=zzz&page=zzz")
    assert "No reviews waiting" in read(owner, "/reviews?page=9")


def test_a_picture_is_shown_to_who_reviews_it(world: World, owner: Client) -> None:
    asset = world.add()
    with tenant_scope(world.id):
        Blob.objects.filter(pk=asset.blob_id).update(media_type="image/jpeg", width=64, height=48)
        Asset.objects.filter(pk=asset.pk).update(modality="image")
        picture = Asset.objects.get(pk=asset.pk)
    review = flag_of(world, audited(world, ("rude",), asset=picture), "rude")
    page = read(owner, f"/reviews/{review.id}")
    assert f'<img src="/assets/{asset.pk}/content"' in page
    assert "It cannot be shown" not in page


def test_an_empty_queue_tells_where_reviews_come_from(owner: Client) -> None:
    page = read(owner, "/reviews")
    assert "No reviews waiting" in page
    assert "count-badge" not in page
    assert "No decisions yet" in read(owner, "/reviews/decisions")
    assert "No reviews have been decided yet." in read(owner, "/reviews/figures")
    sent = owner.post("/reviews/next", follow=True)
    assert "Nothing in the queue is available to you now." in sent.content.decode()


def test_an_item_is_blurred_and_muted_until_somebody_wants_to_see_it(world: World, owner: Client) -> None:
    review = flag_of(world, audited(world))
    page = read(owner, f"/reviews/{review.id}")
    assert '<div class="veil" tabindex="0" role="group"' in page
    assert "The whole audit" in page
    assert "2 strikes before" in page
    assert "seller-17" in page
    assert "onkey" not in page
    assert "accesskey" not in page


def test_a_review_says_why_it_is_here_who_sent_it_and_what_they_sent_before(
    world: World, owner: Client
) -> None:
    audited(world, ("made",))
    review = flag_of(world, audited(world))
    page = read(owner, f"/reviews/{review.id}")
    assert "Everything" in page[page.index('id="why-title"') :]
    assert world.dataset.name in page[page.index('id="why-title"') :]
    sender = page[page.index('id="sender-title"') :]
    assert "seller-17" in sender
    assert "Of 1 other item." in sender
    assert "Labelled 1" in sender
    assert faults_of(page) == []


def test_the_words_of_a_text_stand_there_once_with_what_was_flagged_marked(
    world: World, owner: Client
) -> None:
    review = flag_of(world, audited(world))
    with tenant_scope(world.id):
        words = review.asset.excerpt if review.asset else ""
    page = read(owner, f"/reviews/{review.id}")
    assert f"{words[:2]}<mark>{words[2:5]}</mark>{words[5:6]}<mark>{words[6:12]}</mark>{words[12:]}" in page
    assert "<blockquote" not in page


def test_a_second_opinion_is_not_told_what_was_decided_about_similar_items(
    world: World, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    review = flag_of(world, audited(world))
    asked: list[object] = []
    monkeypatch.setattr(context, "similar_decided", lambda asset: asked.append(asset) or [])
    read(owner, f"/reviews/{review.id}")
    assert len(asked) == 1
    with tenant_scope(world.id):
        Review.objects.filter(pk=review.id).update(kind="second")
    read(owner, f"/reviews/{review.id}")
    assert len(asked) == 1


def test_a_flag_without_a_reason_whose_rule_is_in_no_policy_is_shown(world: World, owner: Client) -> None:
    review = raised(world)
    with tenant_scope(world.id):
        Review.objects.filter(pk=review.pk).update(rule="of-old", reason="")
    page = owner.get(f"/reviews/{review.id}")
    assert page.status_code == 200
    assert "<h1>of-old</h1>" in page.content.decode()


def test_taking_deciding_and_undoing(world: World, owner: Client) -> None:
    audit = audited(world, ("rude",))
    review = flag_of(world, audit)
    taken = owner.post("/reviews/next")
    assert taken["Location"] == f"/reviews/{review.id}"
    page = read(owner, taken["Location"])
    assert "yours until" in page
    sent = owner.post(f"/reviews/{review.id}/decide", {"decision": "block", "reason": "It is rude."})
    assert sent["Location"] == "/reviews"
    assert world.stands(audit)[0] == "block"
    [outcome] = outcomes_of(world)
    assert (outcome.reviewer, outcome.reason) == (str(owner.user.pk), "It is rude.")
    told = read(owner, "/reviews")
    assert f'action="/outcomes/{outcome.id}/undo"' in told
    assert "undone" not in read(owner, "/reviews/decisions")
    back = owner.post(f"/outcomes/{outcome.id}/undo", {"reason": "Too fast."})
    assert back["Location"] == f"/reviews/{review.id}"
    assert state_of(world, review) == "open"
    assert world.stands(audit)[0] != "block"
    assert "taken back" in read(owner, "/reviews/decisions")
    again = owner.post(f"/outcomes/{outcome.id}/undo", {"reason": "Again."}, follow=True)
    assert "undone already" in again.content.decode()


def test_a_decision_needs_a_reason_and_a_choice(world: World, owner: Client) -> None:
    review = raised(world)
    owner.post(f"/reviews/{review.id}/claim")
    for fields in (
        {"decision": "block"},
        {"reason": "x"},
        {"decision": "review", "reason": "x"},
        {"decision": "allow", "reason": " "},
        {"decision": "allow", "reason": "x\x00"},
        {"decision": "allow", "reason": "x" * 2001},
        {"decision": "label", "reason": "x", "labels": "y" * 61},
        {"decision": "allow", "reason": "x", "block_copies": "on"},
    ):
        response = owner.post(f"/reviews/{review.id}/decide", fields)
        assert response.status_code == 422, fields
        assert "field-error" in response.content.decode(), fields
    assert state_of(world, review) == "claimed"
    assert outcomes_of(world) == []


def test_labels_are_the_rules_or_ones_own(world: World, owner: Client) -> None:
    audit = audited(world, ("rude",))
    review = flag_of(world, audit)
    owner.post(f"/reviews/{review.id}/claim")
    owner.post(
        f"/reviews/{review.id}/decide",
        {"decision": "label", "reason": "Warn.", "labels": " coarse-language, , own "},
    )
    assert world.stands(audit) == ("label", ["coarse-language", "own"])


def test_deciding_and_taking_the_next(world: World, owner: Client) -> None:
    raised(world, ("naked",))
    second = raised(world, ("rude",))
    first = owner.post("/reviews/next")["Location"]
    sent = owner.post(f"{first}/decide", {"decision": "allow", "reason": "Fine.", "next": "1"})
    assert sent["Location"] == f"/reviews/{second.id}"
    assert state_of(world, second) == "claimed"


def test_what_somebody_else_holds_is_theirs(
    world: World, owner: Client, person: Callable[..., Client]
) -> None:
    review = raised(world)
    other = person("reviewer")
    other.post(f"/reviews/{review.id}/claim")
    page = owner.post(f"/reviews/{review.id}/claim", follow=True).content.decode()
    assert "Someone else has claimed this review." in page
    assert f"Claimed by {other.user.email}" in page
    sent = owner.post(f"/reviews/{review.id}/decide", {"decision": "allow", "reason": "x"})
    assert sent.status_code == 409
    assert (
        "Someone else has claimed"
        in owner.post(f"/reviews/{review.id}/release", follow=True).content.decode()
    )
    assert outcomes_of(world) == []
    other.post(f"/reviews/{review.id}/release")
    assert state_of(world, review) == "open"


def test_a_second_opinion_is_asked_for_unbiased(party: Party, owner: Client) -> None:
    world = make_world(party, second_opinion=1)
    review = raised(world)
    with tenant_scope(world.id):
        queue.claim(review_id=review.id, actor=ANN)
        reviews.decide_review(review_id=review.id, decision="block", reason="SECRET WORDS", actor=ANN)
        second = Review.objects.get(kind="second")
    page = read(owner, f"/reviews/{second.id}")
    assert "SECRET WORDS" not in page
    assert "Current decision" not in page
    assert "SECRET WORDS" in read(owner, f"/reviews/{review.id}")


# --- Many at once ----------------------------------------------------------------------------------------


def test_many_are_looked_at_decided_and_undone_as_a_whole(world: World, owner: Client) -> None:
    audits = [world.audit(("rude",)) for _ in range(3)]
    kept = world.audit(("naked",))
    page = read(owner, "/reviews/bulk?rule=rude&decision=block")
    assert "3 matching reviews" in page
    assert outcomes_of(world) == []
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))
    late = world.audit(("rude",))
    sent = owner.post("/reviews/bulk/apply", {**fields, "reason": "A wave of them."})
    assert sent["Location"] == "/reviews/decisions"
    assert [world.stands(audit)[0] for audit in audits] == ["block"] * 3
    assert [world.stands(audit)[0] for audit in (kept, late)] == ["review"] * 2
    [batch] = {outcome.batch for outcome in outcomes_of(world)}
    page = read(owner, "/reviews/decisions")
    assert "3 reviews decided." in page
    assert f'action="/batches/{batch}/undo"' in page
    owner.post(f"/batches/{batch}/undo", {"reason": "Wrong wave."})
    assert all(world.stands(audit)[0] != "block" for audit in audits)


@pytest.mark.parametrize(
    "asked",
    [
        {"decision": "block"},
        {"decision": "zzz", "rule": "rude"},
        {"decision": "allow", "rule": "\x00"},
        {"decision": "allow", "dataset": "zzz"},
        {"decision": "allow", "older_than_h": "-1"},
        {"decision": "allow", "older_than_h": "nan"},
        {"decision": "allow", "max_severity": "1e9"},
        {"decision": "allow", "category": "zzz"},
    ],
)
def test_an_odd_filter_is_refused(asked: dict[str, str], world: World, owner: Client) -> None:
    raised(world)
    assert owner.get("/reviews/bulk", asked).status_code == 422
    sent = owner.post("/reviews/bulk/apply", {**asked, "reason": "x", "as_of": "zzz", "batch": "zzz"})
    assert sent.status_code == 422
    assert outcomes_of(world) == []


def test_a_bulk_decision_needs_a_reason_and_goes_on_only_with_its_own_batch(
    world: World, owner: Client
) -> None:
    raised(world)
    fields = {"rule": "rude", "decision": "allow"}
    assert owner.post("/reviews/bulk/apply", fields).status_code == 422
    strange = {**fields, "reason": "x", "batch": str(uuid.uuid4())}
    assert owner.post("/reviews/bulk/apply", strange).status_code == 422
    assert outcomes_of(world) == []
    assert (
        "No reviews match now"
        in (
            owner.post("/reviews/bulk/apply", {**fields, "rule": "none", "reason": "x"}, follow=True)
        ).content.decode()
    )


def test_figures_count_what_people_made_of_rules(world: World, owner: Client) -> None:
    for decision in ("block", "block", "allow"):
        review = raised(world)
        owner.post(f"/reviews/{review.id}/claim")
        owner.post(f"/reviews/{review.id}/decide", {"decision": decision, "reason": "x"})
    page = " ".join(read(owner, "/reviews/figures").split())
    assert "67 %" in page
    assert "No second opinions yet." in page
