"""Appeals in the console: made on the page of what was blocked, decided by another person, followed by who appealed."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable

import pytest
from django.test import Client

from tenants.accounts.models import Membership
from tenants.events.models import AuditEvent
from tenants.moderation import reviews
from tenants.moderation.models import Appeal, Audit, Review
from tenants.moderation.reviews import cases, queue
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.auditing import audited
from tests.console.pages import faults_of
from tests.console.test_audits import read
from tests.tenants.reviewing import ANN, World, make_world

WORDS = "It is a painting of the sea, and hangs in a museum."


@pytest.fixture
def world(party: Party) -> World:
    return make_world(party)


def open_appeals(world: World) -> list[Appeal]:
    with tenant_scope(world.id):
        return list(Appeal.objects.order_by("id"))


def made(world: World, client: Client, audit: Audit, words: str = WORDS) -> Appeal:
    """An appeal of this person about a blocked asset."""
    sent = client.post(f"/assets/{audit.item}/appeal", {"reason": words})
    appeal = open_appeals(world)[-1]
    assert (sent.status_code, sent["Location"]) == (302, f"/appeals/{appeal.id}")
    return appeal


def decide(client: Client, appeal: Appeal, decision: str, reason: str = "The museum confirms it.") -> str:
    client.post(f"/reviews/{appeal.review_id}/claim")
    sent = client.post(
        f"/reviews/{appeal.review_id}/decide", {"decision": decision, "reason": reason}, follow=True
    )
    return sent.content.decode()


def test_who_sees_a_blocked_asset_appeals_and_reads_the_answer(
    world: World, person: Callable[..., Client]
) -> None:
    editor, reviewer = person("editor"), person("reviewer")
    audit = audited(world, ("known",))
    asset = read(editor, f"/assets/{audit.item}")
    assert f'href="/assets/{audit.item}/appeal"' in asset
    form = read(editor, f"/assets/{audit.item}/appeal")
    assert faults_of(form) == []
    refused = editor.post(f"/assets/{audit.item}/appeal", {"reason": " "})
    assert (refused.status_code, open_appeals(world)) == (422, [])

    appeal = made(world, editor, audit)
    page = read(editor, f"/appeals/{appeal.id}")
    assert faults_of(page) == []
    assert "It is waiting for a reviewer." in page
    assert WORDS in page
    assert WORDS in read(editor, "/appeals?state=open")
    assert WORDS not in read(editor, "/appeals?state=upheld")
    asset = read(editor, f"/assets/{audit.item}")
    assert f'href="/appeals/{appeal.id}"' in asset
    assert f'href="/assets/{audit.item}/appeal"' not in asset
    again = editor.post(f"/assets/{audit.item}/appeal", {"reason": "Once more."})
    assert again.status_code == 409
    assert "There is an open appeal about this item." in again.content.decode()
    assert "Once more." in again.content.decode()
    assert len(open_appeals(world)) == 1
    assert "Your appeal was decided" not in read(editor, "/")

    assert "1 appeal waits for a person" in read(reviewer, "/")
    review = read(reviewer, f"/reviews/{appeal.review_id}")
    assert faults_of(review) == []
    assert WORDS in review
    assert "What the policy decided" in review
    decide(reviewer, appeal, "allow")
    assert world.stands(audit)[0] == "allow"

    assert "Your appeal was decided: the decision was overturned" in read(editor, "/")
    answered = read(editor, f"/appeals/{appeal.id}")
    assert "The museum confirms it." in answered
    assert "Decision overturned" in answered
    assert reviewer.user.email in answered
    assert "Your appeal was decided" not in read(editor, "/")
    with tenant_scope(world.id):
        lines = AuditEvent.objects.filter(target=str(appeal.id)).order_by("id")
        assert [(one.verb, one.actor) for one in lines] == [
            ("appeal.opened", str(editor.user.pk)),
            ("appeal.decided", str(reviewer.user.pk)),
        ]


def test_an_answer_is_unread_again_once_it_was_undone_and_given_anew(
    world: World, person: Callable[..., Client]
) -> None:
    viewer, reviewer = person("viewer"), person("reviewer")
    appeal = made(world, viewer, audited(world, ("known",)))
    decide(reviewer, appeal, "block", "It is no painting.")
    assert "the decision stands" in read(viewer, "/")
    assert "It is no painting." in read(viewer, f"/appeals/{appeal.id}")
    undo = re.search(r"/outcomes/[0-9a-f-]{36}/undo", read(reviewer, "/reviews/decisions"))
    assert undo is not None
    reviewer.post(undo.group(), {"reason": "Too quick."})
    page = read(viewer, f"/appeals/{appeal.id}")
    assert "It is waiting for a reviewer." in page
    assert "It is no painting." not in page
    decide(reviewer, appeal, "label", "It may be shown with a label.")
    assert "the decision was overturned" in read(viewer, "/")


def test_who_decided_first_does_not_decide_the_appeal(
    world: World, person: Callable[..., Client], owner: Client
) -> None:
    first = person("reviewer")
    audit = audited(world, ("rude",))
    flag = world.flags(audit)["rude"]
    first.post(f"/reviews/{flag.id}/claim")
    first.post(f"/reviews/{flag.id}/decide", {"decision": "block", "reason": "Rude words."})
    appeal = made(world, person("editor"), audit)
    page = read(first, f"/reviews/{appeal.review_id}")
    assert "You have decided about this item before; another person has to decide this." in page
    assert "No one else in this workspace can review everything." not in page
    assert 'name="decision"' not in page
    assert "Look and decide" not in read(first, f"/appeals/{appeal.id}")
    second = read(owner, f"/reviews/{appeal.review_id}")
    # What was decided first, and why, stands beside what is said against it.
    assert "Rude words." in second
    assert "Look and decide" in read(owner, f"/appeals/{appeal.id}")


def test_nobody_decides_an_appeal_of_their_own_where_somebody_else_can(
    world: World, person: Callable[..., Client], owner: Client
) -> None:
    with tenant_scope(world.id):
        Membership.objects.filter(tenant=world.id).exclude(user=owner.user.pk).delete()
    audit = audited(world, ("known",))
    appeal = made(world, owner, audit)
    assert "Claim it" in read(owner, f"/reviews/{appeal.review_id}")
    reviewer = person("reviewer")
    page = read(owner, f"/reviews/{appeal.review_id}")
    assert "This is your own appeal; another person has to decide it." in page
    with tenant_scope(world.id):
        assert queue.claim_next(actor=str(owner.user.pk)) is None
    decide(owner, appeal, "allow")
    assert world.stands(audit)[0] == "block"
    decide(reviewer, appeal, "allow")
    assert world.stands(audit)[0] == "allow"


def test_of_others_appeals_only_reviewers_learn(world: World, person: Callable[..., Client]) -> None:
    editor, viewer = person("editor"), person("viewer")
    appeal = made(world, editor, audited(world, ("known",)))
    assert viewer.get(f"/appeals/{appeal.id}").status_code == 404
    assert WORDS not in read(viewer, "/appeals")
    reviewer = person("reviewer")
    assert WORDS in read(reviewer, "/appeals")
    assert WORDS not in read(reviewer, "/appeals?own=1")


def test_a_narrowed_member_follows_their_own_appeal_and_no_other(
    world: World, person: Callable[..., Client]
) -> None:
    """Also where they see other queues of reviews than that of appeals."""
    reviewer = person("reviewer")
    seen, other = audited(world, ("known",)), audited(make_world(world.party), ("known",))
    elsewhere = made(world, person("editor"), other)
    member = Membership.objects.get(tenant=world.id, user=reviewer.user.pk)
    member.datasets, member.queues = [world.dataset.id], ["rude"]
    member.save()
    appeal = made(world, reviewer, seen)
    decide(person("owner"), appeal, "allow", "Granted.")
    assert "Granted." in read(reviewer, f"/appeals/{appeal.id}")
    assert WORDS in read(reviewer, "/appeals?own=1")
    assert reviewer.get(f"/appeals/{elsewhere.id}").status_code == 404
    assert reviewer.get(f"/assets/{other.item}/appeal").status_code == 404
    assert reviewer.post(f"/assets/{other.item}/appeal", {"reason": WORDS}).status_code == 404
    assert len(open_appeals(world)) == 2


def test_one_person_has_so_many_open_appeals_and_no_more(world: World, person: Callable[..., Client]) -> None:
    editor = person("editor")
    audit = audited(world, ("known",))
    row = {"audit": audit, "reason": "x", "created_by": str(editor.user.pk)}
    with tenant_scope(world.id):
        Appeal.objects.bulk_create(
            Appeal(review_id=uuid.uuid4(), **row) for _ in range(reviews.MAX_OPEN_APPEALS)
        )
        Appeal.objects.update(audit=audited(world, ("known",)))
        before = Review.objects.count()
    sent = editor.post(f"/assets/{audit.item}/appeal", {"reason": WORDS})
    assert sent.status_code == 409
    assert "You have 50 appeals that wait." in sent.content.decode()
    with tenant_scope(world.id):
        assert Review.objects.count() == before
        # Keys speak for many people, and are limited by their rates.
        reviews.open_appeal(audit_id=audit.id, reason=WORDS, actor=ANN)


def test_reviewers_appeal_on_the_page_of_an_audit_too(
    world: World, person: Callable[..., Client], owner: Client
) -> None:
    audit = audited(world, ("known",))
    assert f"/audits/{audit.id}/appeal" in read(owner, f"/audits/{audit.id}")
    assert person("editor").post(f"/audits/{audit.id}/appeal", {"reason": WORDS}).status_code == 403
    sent = owner.post(f"/audits/{audit.id}/appeal", {"reason": WORDS})
    assert sent.status_code == 302
    assert f'href="{sent["Location"]}"' in read(owner, f"/audits/{audit.id}")


def test_after_the_policys_days_the_form_is_gone(
    party: Party, person: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, editor, reviewer = make_world(party, appeal_days=184), person("editor"), person("reviewer")
    audit = audited(world, ("known",))
    last = audit.created_at.date() + dt.timedelta(days=184)
    address = f"/assets/{audit.item}/appeal"
    assert f"until {last} (UTC)" in read(editor, f"/assets/{audit.item}")
    assert f"can be made until {last} (UTC)" in read(editor, address)
    monkeypatch.setattr(cases, "today", lambda: last + dt.timedelta(days=1))
    said = f"Appeals against this decision could be made until {last} (UTC)."
    for client, page in (
        (editor, f"/assets/{audit.item}"),
        (editor, address),
        (reviewer, f"/audits/{audit.id}"),
        (reviewer, f"/audits/{audit.id}/appeal"),
    ):
        shown = read(client, page)
        assert faults_of(shown) == []
        assert said in shown
        assert 'name="reason"' not in shown
        assert f'href="{address}"' not in shown
    late = editor.post(address, {"reason": WORDS})
    assert (late.status_code, late.content.decode().count(said)) == (409, 1)
    assert open_appeals(world) == []
