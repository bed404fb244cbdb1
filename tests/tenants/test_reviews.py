"""Flags: how they open, who may hold and decide one, and what the item stands at after each step."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tenants.accounts import keys, services
from tenants.datasets.models import Asset, Dataset
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.jobs.models import Job
from tenants.moderation import known_content, record, reviews
from tenants.moderation.models import HashEntry, Outcome, Review, Strike
from tenants.moderation.record import seals
from tenants.moderation.reviews import effects, queue
from tenants.people.erasure import erase_user
from tenants.pipeline.care import erasure, subject_erasure
from tenants.scope import tenant_scope
from tests.tenants.reviewing import ANN, BOB, CAROL, World, decided, make_version, make_world
from workers.base import run_job


@pytest.fixture
def world(party) -> World:
    return make_world(party)


def decide(world: World, flag: Review, decision: str, actor: str = ANN, **fields: Any) -> Outcome:
    """Claim and decide."""
    with tenant_scope(world.id):
        queue.claim(review_id=flag.id, actor=actor)
        return reviews.decide_review(
            review_id=flag.id,
            decision=decision,
            reason=fields.pop("reason", "because"),
            actor=actor,
            **fields,
        )


def undo(world: World, outcome: Outcome, actor: str = ANN) -> Outcome:
    with tenant_scope(world.id):
        return reviews.undo_outcome(outcome_id=outcome.id, actor=actor, reason="a mistake")


def again(world: World, flag: Review) -> Review:
    with tenant_scope(world.id):
        return Review.objects.get(pk=flag.pk)


def lapse(world: World, flag: Review) -> None:
    """Let the lease run out."""
    with tenant_scope(world.id):
        Review.objects.filter(pk=flag.pk).update(lease_until=timezone.now() - dt.timedelta(seconds=1))


# --- Opening ---


def test_each_rule_that_asks_opens_one_flag_however_often_the_job_runs(world) -> None:
    audit = world.audit(["rude", "naked", "made"])
    with tenant_scope(world.id):
        asset = Asset.objects.get(pk=audit.item)
        for _ in range(2):
            reviews.open_reviews(
                audit=audit, asset=asset, decision=decided(["rude", "naked", "made"], world.version.document)
            )
        flags = list(Review.objects.filter(audit=audit).order_by("severity"))
        assert reviews.is_waiting(asset_id=asset.id)
    assert [(f.rule, f.reason, f.severity, f.state) for f in flags] == [
        ("rude", "It may be rude.", 50, "open"),
        ("naked", "It may be naked.", 90, "open"),
    ]
    hours = [round((f.due_at - f.created_at).total_seconds() / 3600, 2) for f in flags]
    assert hours == [24, 4]


def test_the_policy_says_until_when(party) -> None:
    world = make_world(party, sla_hours={"high": 0.5})
    flags = world.flags(world.audit(["rude", "naked"]))
    hours = {name: round((f.due_at - f.created_at).total_seconds() / 3600, 2) for name, f in flags.items()}
    assert hours == {"rude": 24, "naked": 0.5}


def test_a_shadowed_audit_opens_nothing(world) -> None:
    audit = world.audit(mode="shadow")
    with tenant_scope(world.id):
        decision = decided(["rude"], world.version.document)
        assert reviews.open_reviews(audit=audit, asset=None, decision=decision) == []
        assert not Review.objects.exists()


def test_a_newer_audit_takes_the_place_of_what_was_open(world) -> None:
    asset = world.add()
    old = world.audit(["rude"], asset)
    done = world.audit(["naked"], asset)
    assert again(world, world.flags(old)["rude"]).state == "dropped"
    decide(world, world.flags(done)["naked"], "block")
    new = world.audit(["rude"], asset)
    assert again(world, world.flags(done)["naked"]).state == "decided"
    assert again(world, world.flags(new)["rude"]).state == "open"


# --- The queue ---


def test_the_worst_comes_first_and_of_equals_the_oldest(world) -> None:
    first, worst, second = world.flag(["rude"]), world.flag(["naked"]), world.flag(["rude"])
    with tenant_scope(world.id):
        listed = [r.id for r in queue.list_reviews(actor=ANN)]
        taken = [queue.claim_next(actor=ANN) for _ in range(4)]
    assert listed == [worst.id, first.id, second.id]
    assert [r and r.id for r in taken] == [*listed, None]


def test_orders_page_without_gaps(world) -> None:
    with tenant_scope(world.id):
        audit = world.audit(["made"])
        now = timezone.now()
        for place in range(12):
            Review.objects.create(
                audit=audit,
                rule=f"r{place}",
                severity=place % 3,
                due_at=now + dt.timedelta(hours=place % 4),
            )
        for order in queue.ORDERS:
            rows = queue.list_reviews(actor=ANN, order=order)
            whole, paged, page = list(rows), [], list(rows[:5])
            while page:
                paged += page
                page = list(queue.rows_after(rows, order, page[-1])[:5])
            assert len(whole) == 12
            assert paged == whole


def test_filters_tell_what_waits_and_what_does_not(world) -> None:
    late, held, done, free = world.flag(["naked"]), world.flag(), world.flag(), world.flag()
    lapsed = world.flag()
    decide(world, done, "allow")
    with tenant_scope(world.id):
        Review.objects.filter(pk=late.pk).update(due_at=timezone.now() - dt.timedelta(minutes=1))
        queue.claim(review_id=held.id, actor=BOB)
        queue.claim(review_id=lapsed.id, actor=BOB)
    lapse(world, lapsed)

    def shown(**wanted: Any) -> set[uuid.UUID]:
        with tenant_scope(world.id):
            return {r.id for r in queue.list_reviews(actor=wanted.pop("actor", ANN), **wanted)}

    assert shown(state="open") == {late.id, free.id, lapsed.id}
    assert shown(state="claimed") == {held.id}
    assert shown(state="decided") == {done.id}
    assert shown(overdue=True) == {late.id}
    assert shown(rule="naked") == {late.id}
    assert shown(mine=True, actor=BOB) == {held.id}
    assert shown(mine=True) == set()
    assert shown(audit_id=late.audit_id) == {late.id}
    assert shown(dataset_id=uuid.uuid4()) == set()
    with tenant_scope(world.id):
        ages = queue.ages()
    assert (ages.open, ages.claimed, ages.overdue) == (3, 1, 1)
    assert ages.oldest_s is not None
    assert 0 < ages.oldest_s < 60


# --- Claims ---


def test_a_claim_is_exclusive_until_it_is_given_back(world) -> None:
    flag = world.flag()
    with tenant_scope(world.id):
        held = queue.claim(review_id=flag.id, actor=ANN)
        assert dt.timedelta(minutes=9) < held.lease_until - timezone.now() < dt.timedelta(minutes=11)
        for refused in (queue.claim, queue.release):
            with pytest.raises(Conflict, match="Someone else has claimed"):
                refused(review_id=flag.id, actor=BOB)
        assert queue.claim_next(actor=BOB) is None
        renewed = queue.claim(review_id=flag.id, actor=ANN)
        assert renewed.lease_until > held.lease_until
        queue.release(review_id=flag.id, actor=ANN)
        assert queue.claim(review_id=flag.id, actor=BOB).claimed_by == BOB


def test_a_lease_that_ran_out_is_anybodys(world) -> None:
    first, second = world.flag(), world.flag()
    with tenant_scope(world.id):
        queue.claim(review_id=first.id, actor=ANN)
        queue.claim(review_id=second.id, actor=ANN)
    lapse(world, first)
    lapse(world, second)
    with tenant_scope(world.id):
        assert queue.claim(review_id=first.id, actor=BOB).claimed_by == BOB
        assert queue.claim_next(actor=CAROL).id == second.id
        with pytest.raises(Conflict, match="Someone else has claimed"):
            reviews.decide_review(review_id=first.id, decision="allow", reason="late", actor=ANN)


def test_two_who_ask_at_once_get_different_flags(world) -> None:
    flags = {world.flag().id for _ in range(12)}
    begin, got = threading.Barrier(6), []

    def ask(place: int) -> None:
        begin.wait()
        try:
            for _ in range(3):
                with tenant_scope(world.id):
                    got.append(queue.claim_next(actor=f"user:{place}"))
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))
    found = [review.id for review in got if review]
    assert len(found) == len(set(found)) == 12
    assert set(found) == flags


def test_of_many_who_claim_one_flag_one_gets_it(world) -> None:
    flag, begin, won = world.flag(), threading.Barrier(6), []

    def ask(place: int) -> None:
        begin.wait()
        try:
            with tenant_scope(world.id):
                won.append(queue.claim(review_id=flag.id, actor=f"user:{place}").claimed_by)
        except Conflict:
            pass
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))
    assert len(won) == 1
    assert again(world, flag).claimed_by == won[0]


# --- Deciding ---


def test_a_decision_closes_its_flag_and_shows_on_the_item(world) -> None:
    audit = world.audit(["rude"])
    flag = world.flags(audit)["rude"]
    assert world.stands(audit) == ("review", [])
    outcome = decide(world, flag, "allow", reason="  It is a joke. ")
    closed = again(world, flag)
    assert (closed.state, closed.claimed_by, closed.lease_until) == ("decided", ANN, None)
    assert (outcome.before, outcome.decision, outcome.reason, outcome.reviewer) == (
        "review",
        "allow",
        "It is a joke.",
        ANN,
    )
    assert world.stands(audit) == ("allow", [])
    line = world.lines()[-1]
    assert (line.kind, line.audit, line.item, line.subject, line.decision, line.actor) == (
        record.REVIEW_DECIDED,
        audit.id,
        audit.item,
        flag.id,
        "allow",
        ANN,
    )
    seals.seal(world.id)
    assert seals.verify(world.id).ok


def test_an_item_with_two_flags_is_held_until_nobody_asks_for_more(world) -> None:
    audit = world.audit(["rude", "naked"])
    flags = world.flags(audit)
    decide(world, flags["rude"], "allow")
    assert again(world, flags["naked"]).state == "open"
    assert world.stands(audit) == ("review", [])
    decide(world, flags["naked"], "allow")
    assert world.stands(audit) == ("allow", [])


def test_the_strongest_of_several_decisions_counts(world) -> None:
    audit = world.audit(["rude", "naked"])
    flags = world.flags(audit)
    decide(world, flags["rude"], "block")
    assert world.stands(audit)[0] == "block"
    decide(world, flags["naked"], "allow")
    assert world.stands(audit)[0] == "block"


def test_what_another_rule_labels_stays_when_a_person_lets_it_go(world) -> None:
    audit = world.audit(["rude", "made"])
    decide(world, world.flags(audit)["rude"], "allow")
    assert world.stands(audit) == ("label", ["ai-generated"])
    other = world.audit(["rude"])
    decide(world, world.flags(other)["rude"], "label", labels=["sensitive", "sensitive"])
    assert world.stands(other) == ("label", ["sensitive"])


def test_without_a_claim_that_stands_nothing_is_decided(world) -> None:
    audit = world.audit(["rude"])
    flag = world.flags(audit)["rude"]

    def refused(match: str, actor: str = ANN) -> None:
        before = len(world.lines())
        with tenant_scope(world.id), pytest.raises(Conflict, match=match):
            reviews.decide_review(review_id=flag.id, decision="allow", reason="because", actor=actor)
        with tenant_scope(world.id):
            assert not Outcome.objects.filter(review=flag.id).exists()
        assert len(world.lines()) == before
        assert world.stands(audit) == ("review", [])

    refused("Claim this review")
    with tenant_scope(world.id):
        queue.claim(review_id=flag.id, actor=ANN)
    refused("Someone else has claimed", BOB)
    lapse(world, flag)
    refused("has run out")


def test_a_flag_is_decided_once(world) -> None:
    flag = world.flag()
    decide(world, flag, "allow")
    with tenant_scope(world.id):
        for act in (
            lambda: reviews.decide_review(review_id=flag.id, decision="block", reason="again", actor=ANN),
            lambda: queue.claim(review_id=flag.id, actor=ANN),
            lambda: queue.release(review_id=flag.id, actor=ANN),
        ):
            with pytest.raises(Conflict, match="closed already"):
                act()
        assert Outcome.objects.filter(review=flag.id).count() == 1


def test_of_many_decisions_at_once_one_is_kept(world) -> None:
    audit = world.audit(["rude"])
    flag = world.flags(audit)["rude"]
    with tenant_scope(world.id):
        queue.claim(review_id=flag.id, actor=ANN)
    begin, kept = threading.Barrier(5), []

    def act(place: int) -> None:
        begin.wait()
        try:
            with tenant_scope(world.id):
                decision = ("allow", "block")[place % 2]
                kept.append(
                    reviews.decide_review(
                        review_id=flag.id, decision=decision, reason="race", actor=ANN
                    ).decision
                )
        except Conflict:
            pass
        finally:
            connection.close()

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(act, range(5)))
    assert len(kept) == 1
    assert world.stands(audit)[0] == kept[0]


def test_two_flags_of_one_item_decided_at_once_leave_the_strongest(world) -> None:
    for _ in range(3):
        audit = world.audit(["rude", "naked"])
        flags, begin = world.flags(audit), threading.Barrier(2)

        def act(name: str, decision: str, flags: Any = flags, begin: Any = begin) -> None:
            try:
                with tenant_scope(world.id):
                    queue.claim(review_id=flags[name].id, actor=ANN)
                begin.wait()
                with tenant_scope(world.id):
                    reviews.decide_review(
                        review_id=flags[name].id, decision=decision, reason="race", actor=ANN
                    )
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(act, ("rude", "naked"), ("block", "allow")))
        assert world.stands(audit)[0] == "block"


@pytest.mark.guard
def test_a_process_killed_while_it_decides_leaves_everything_as_it_was(world, monkeypatch) -> None:
    audit = world.audit(["rude"])
    flag = world.flags(audit)["rude"]

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        # The very last step.
        patch.setattr(record, "append_all", killed)
        decide(world, flag, "block")
    with tenant_scope(world.id):
        assert not Outcome.objects.exists()
        assert not Strike.objects.exists()
    assert world.stands(audit) == ("review", [])
    lapse(world, flag)
    decide(world, flag, "block", BOB)
    assert world.stands(audit)[0] == "block"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"decision": "review"}, "/decision"),
        ({"decision": "keep"}, "/decision"),
        ({"reason": " \n"}, "/reason"),
        ({"reason": "x" * 2001}, "/reason"),
        ({"reason": "nul\0"}, "/reason"),
        ({"labels": ["x"] * 21}, "/labels"),
        ({"labels": [""]}, "/labels"),
        ({"labels": ["\ud800"]}, "/labels"),
        ({"decision": "allow", "block_copies": True}, "/block_copies"),
    ],
)
def test_what_is_unclear_decides_nothing(world, fields: dict[str, Any], pointer: str) -> None:
    flag = world.flag()
    with pytest.raises(Invalid) as refused:
        decide(world, flag, **{"decision": "block", **fields})
    assert refused.value.errors[0]["pointer"] == pointer
    assert again(world, flag).state != "decided"


def test_a_shadowed_item_keeps_its_state(world) -> None:
    audit = world.audit(mode="shadow")
    with tenant_scope(world.id):
        flag = Review.objects.create(audit=audit, asset_id=audit.item, rule="rude", due_at=timezone.now())
    decide(world, flag, "block")
    assert world.stands(audit) == ("", [])


# --- Permission follows the item ---


def test_what_the_reviewer_may_not_read_is_absent(world, stranger) -> None:
    flag = world.flag()
    with tenant_scope(world.id):
        Dataset.objects.filter(pk=world.dataset.pk).update(deleted_at=timezone.now())
        assert not queue.may_review(ANN, flag)
        assert list(queue.list_reviews(actor=ANN)) == []
        assert queue.claim_next(actor=ANN) is None
        for act in (queue.claim, queue.release, queue.get_review):
            with pytest.raises(NotFound):
                act(review_id=flag.id, actor=ANN)
        with pytest.raises(NotFound):
            reviews.decide_review(review_id=flag.id, decision="allow", reason="because", actor=ANN)
    with tenant_scope(stranger.id), pytest.raises(NotFound):
        queue.get_review(review_id=flag.id, actor=ANN)


def test_an_erased_item_takes_its_flags_and_leaves_its_outcomes(world) -> None:
    audit = world.audit(["rude", "naked"])
    flags = world.flags(audit)
    outcome = decide(world, flags["rude"], "allow")
    with tenant_scope(world.id):
        erasure.erase_asset(asset_id=audit.item)
        assert not Review.objects.filter(audit=audit).exists()
        assert Outcome.objects.filter(pk=outcome.pk).exists()
        with pytest.raises(NotFound):
            reviews.decide_review(review_id=flags["naked"].id, decision="allow", reason="because", actor=ANN)
    with pytest.raises(Conflict, match="erased"):
        undo(world, outcome)


# --- Undoing ---


def test_undoing_opens_the_flag_again_and_restores_the_item(world) -> None:
    audit = world.audit(["rude"])
    flag = world.flags(audit)["rude"]
    for decision in ("block", "allow", "label"):
        outcome = decide(world, flag, decision, labels=["x"] if decision == "label" else None)
        undone = undo(world, outcome, BOB)
        assert (undone.undoes, undone.before, undone.decision) == (outcome.id, decision, "review")
        assert world.stands(audit) == ("review", [])
        back = again(world, flag)
        assert (back.state, back.claimed_by, back.decided_at) == ("open", "", None)
    with tenant_scope(world.id):
        assert Outcome.objects.filter(review=flag.id).count() == 6
    assert [line.kind for line in world.lines()] == ["review.decided", "review.undone"] * 3
    decide(world, flag, "block", BOB)
    assert world.stands(audit)[0] == "block"


def test_a_block_that_is_undone_is_searchable_again(world) -> None:
    audit = world.audit(["rude"])
    outcome = decide(world, world.flags(audit)["rude"], "block")
    assert world.asset(audit).status == "failed"
    undo(world, outcome)
    assert (world.asset(audit).status, world.asset(audit).error) == ("pending", None)
    with tenant_scope(world.id):
        job = Job.objects.filter(kind="embed_asset", state="queued").get()
    assert job.arguments["asset"] == str(audit.item)


def test_with_quarantine_a_block_that_is_undone_is_held_again(party) -> None:
    world = make_world(party, quarantine=True)
    audit = world.audit(["rude"])
    outcome = decide(world, world.flags(audit)["rude"], "block")
    undo(world, outcome)
    assert (world.asset(audit).moderation, world.asset(audit).status) == ("quarantined", "pending")
    with tenant_scope(world.id):
        assert not Job.objects.filter(kind="embed_asset", state="queued").exists()
    decide(world, world.flags(audit)["rude"], "allow")
    assert world.asset(audit).moderation == "allow"


def test_a_decision_is_undone_once(world) -> None:
    outcome = decide(world, world.flag(), "allow")
    begin, done = threading.Barrier(4), []

    def act(_: int) -> None:
        begin.wait()
        try:
            done.append(undo(world, outcome))
        except Conflict:
            pass
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(act, range(4)))
    assert len(done) == 1
    with pytest.raises(Conflict, match="undone already"):
        undo(world, outcome)
    with pytest.raises(Conflict, match="undoes a decision"):
        undo(world, done[0])


def test_a_newer_audit_is_not_undone_through_an_older_one(world) -> None:
    audit = world.audit(["rude"])
    outcome = decide(world, world.flags(audit)["rude"], "allow")
    newer = world.audit(["naked"], world.asset(audit))
    with pytest.raises(Conflict, match="newer audit"):
        undo(world, outcome)
    assert world.stands(newer)[0] == "review"


# --- Copies ---


def test_a_blocked_item_is_listed_so_that_its_copies_are_found_and_taken_off_with_an_undo(world) -> None:
    flag = world.flag()
    outcome = decide(world, flag, "block", block_copies=True, reason="x" * 1000)
    with tenant_scope(world.id):
        sha256 = Asset.objects.get(pk=flag.asset_id).blob.sha256
        entry = HashEntry.objects.get(item=outcome.copies, algorithm="sha256")
        assert (entry.hash_list.name, bytes(entry.content).hex()) == ("Blocked", sha256)
        assert [m["entry"] for m in known_content.match(fingerprints={}, sha256=sha256)] == [
            str(outcome.copies)
        ]
        job = Job.objects.get(kind="match_again")
        assert (job.state, job.arguments["item"]) == ("queued", str(outcome.copies))
    undo(world, outcome)
    with tenant_scope(world.id):
        assert not HashEntry.objects.exists()
        assert known_content.match(fingerprints={}, sha256=sha256) == []


def test_a_list_that_is_not_there_decides_nothing(world, stranger) -> None:
    with tenant_scope(stranger.id):
        theirs = known_content.create_list(name="theirs", stance="bad")
    with tenant_scope(world.id):
        good = known_content.create_list(name="good", stance="good")
    audit = world.audit(["rude"])
    flag = world.flags(audit)["rude"]
    for listed, refusal in ((theirs.id, NotFound), (good.id, Invalid)):
        with pytest.raises(refusal):
            decide(world, flag, "block", block_copies=True, list_id=listed)
    assert world.stands(audit)[0] == "review"


# --- Strikes ---


def strikes_of(world: World, subject: str = "bert") -> int:
    with tenant_scope(world.id):
        return effects.count_strikes(subject=subject)


def test_a_block_is_a_strike_until_it_is_taken_back(world) -> None:
    audit = world.audit(["rude"], subject="bert")
    flag = world.flags(audit)["rude"]
    outcome = decide(world, flag, "block")
    assert strikes_of(world) == 1
    undo(world, outcome)
    assert strikes_of(world) == 0
    decide(world, flag, "block")
    assert strikes_of(world) == 1
    other = world.audit(["rude"], subject="bert")
    decide(world, world.flags(other)["rude"], "allow")
    assert (strikes_of(world), strikes_of(world, "cleo"), strikes_of(world, "")) == (1, 0, 0)


def test_strikes_expire_as_the_policy_says(party) -> None:
    world = make_world(party, strikes={"expire_days": 7})
    audit = world.audit(["rude"], subject="bert")
    decide(world, world.flags(audit)["rude"], "block")
    with tenant_scope(world.id):
        strike = Strike.objects.get()
        assert round((strike.expires_at - timezone.now()) / dt.timedelta(days=1), 2) == 7
        # Counting the same audit again changes nothing.
        effects.add_strike(audit=audit, subject="bert", rule="rude")
        assert Strike.objects.count() == 1
        Strike.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    assert strikes_of(world) == 0


def test_strikes_for_an_item_can_be_forgotten(world) -> None:
    audits = [world.audit(["rude"], subject=name) for name in ("bert", "bert", "cleo")]
    for audit in audits:
        decide(world, world.flags(audit)["rude"], "block")
    with tenant_scope(world.id):
        assert effects.erase_strikes_about([audits[0].item]) == 1
        assert sorted(Strike.objects.values_list("subject", flat=True)) == ["bert", "cleo"]


def test_a_persons_strikes_go_with_all_that_they_sent_and_not_with_one_asset(world) -> None:
    audits = [world.audit(["rude"], world.add(external_id=f"bert-{n}"), subject="bert") for n in range(2)]
    for audit in audits:
        decide(world, world.flags(audit)["rude"], "block")
    with tenant_scope(world.id):
        erasure.erase_asset(asset_id=audits[0].item)
        assert effects.count_strikes(subject="bert") == 2
        criteria = subject_erasure.check_criteria(external_ids=["bert-1"])
        receipt, job = subject_erasure.request_erasure(criteria=criteria)
    run_job(str(job.id), str(world.id))
    with tenant_scope(world.id):
        receipt.refresh_from_db()
        assert (receipt.verified, receipt.removed["rows"]["strike"]) == (True, 1)
        assert effects.count_strikes(subject="bert") == 1


# --- Second opinions ---


@pytest.fixture
def doubted(party) -> World:
    """Every decision is looked at twice."""
    return make_world(party, second_opinion=1.0)


def second_of(world: World, flag: Review) -> Review:
    with tenant_scope(world.id):
        return Review.objects.get(of_review=flag.id, kind="second", state="open")


def test_a_second_opinion_is_somebody_elses_and_agreement_changes_nothing(doubted) -> None:
    audit = doubted.audit(["rude"])
    flag = doubted.flags(audit)["rude"]
    decide(doubted, flag, "block")
    second = second_of(doubted, flag)
    with tenant_scope(doubted.id):
        assert queue.claim_next(actor=ANN) is None
        with pytest.raises(NotAllowed, match="another person"):
            queue.claim(review_id=second.id, actor=ANN)
        assert queue.claim_next(actor=BOB).id == second.id
    decide(doubted, second, "block", BOB)
    with tenant_scope(doubted.id):
        assert not Review.objects.filter(state="open").exists()
    assert doubted.stands(audit)[0] == "block"


@pytest.mark.parametrize(
    ("first", "other", "between"), [("allow", "block", "review"), ("block", "allow", "block")]
)
def test_a_disagreement_is_a_third_persons(doubted, first: str, other: str, between: str) -> None:
    audit = doubted.audit(["rude"])
    flag = doubted.flags(audit)["rude"]
    decide(doubted, flag, first)
    decide(doubted, second_of(doubted, flag), other, BOB)
    assert doubted.stands(audit)[0] == between
    with tenant_scope(doubted.id):
        third = Review.objects.get(of_review=flag.id, kind="flag")
        for actor in (ANN, BOB):
            assert queue.claim_next(actor=actor) is None
            with pytest.raises(NotAllowed):
                queue.claim(review_id=third.id, actor=actor)
    decide(doubted, third, other, CAROL)
    assert doubted.stands(audit)[0] == other
    with tenant_scope(doubted.id):
        assert not Review.objects.filter(state="open").exists()


def test_what_builds_upon_a_decision_is_undone_first(doubted) -> None:
    audit = doubted.audit(["rude"])
    flag = doubted.flags(audit)["rude"]
    first = decide(doubted, flag, "allow")
    second = decide(doubted, second_of(doubted, flag), "block", BOB)
    with tenant_scope(doubted.id):
        third = Review.objects.get(of_review=flag.id, kind="flag")
    last = decide(doubted, third, "block", CAROL)
    for outcome in (first, second):
        with pytest.raises(Conflict, match="builds upon"):
            undo(doubted, outcome)
    undo(doubted, last)
    assert doubted.stands(audit)[0] == "review"
    undo(doubted, second)
    assert again(doubted, third).state == "dropped"
    assert doubted.stands(audit)[0] == "allow"
    undo(doubted, first)
    assert doubted.stands(audit)[0] == "review"
    # And once more from the beginning.
    decide(doubted, flag, "block")
    decide(doubted, second_of(doubted, flag), "allow", BOB)
    with tenant_scope(doubted.id):
        assert Review.objects.filter(of_review=flag.id, kind="flag", state="open").count() == 1


def test_the_sample_is_stable_and_of_the_wanted_size() -> None:
    ids = [uuid.UUID(int=n * 0x9E3779B97F4A7C15) for n in range(1, 2001)]
    drawn = [i for i in ids if queue.is_sampled(i, 0.2)]
    assert 320 < len(drawn) < 480
    assert drawn == [i for i in ids if queue.is_sampled(i, 0.2)]
    assert set(drawn) <= {i for i in ids if queue.is_sampled(i, 0.5)}
    assert not any(queue.is_sampled(i, 0.0) for i in ids)
    assert all(queue.is_sampled(i, 1.0) for i in ids)


def test_a_key_is_also_the_person_who_made_it(doubted) -> None:
    owner = doubted.party.owner
    with tenant_scope(doubted.id):
        key, _ = keys.create_key(name="mine", scopes=["moderate"], created_by=owner)
        other, _ = keys.create_key(name="other", scopes=["moderate"], created_by=owner)
    flag = doubted.flag()
    decide(doubted, flag, "block", f"key:{key.prefix}")
    second = second_of(doubted, flag)
    with tenant_scope(doubted.id):
        for person in (str(owner.pk), f"user:{owner.pk}"):
            with pytest.raises(NotAllowed):
                queue.claim(review_id=second.id, actor=person)
        assert queue.claim(review_id=second.id, actor=f"key:{other.prefix}")


def test_a_person_who_is_erased_leaves_a_pseudonym_and_a_record_that_fits(doubted) -> None:
    person = services.create_user(email=f"{uuid.uuid4().hex}@people.example", password=uuid.uuid4().hex)
    flag = doubted.flag()
    outcome = decide(doubted, flag, "block", str(person.pk))
    seals.seal(doubted.id)
    counts = erase_user(user=person)
    assert (counts["review_outcome"], counts["review"]) == (1, 1)
    with tenant_scope(doubted.id):
        kept = Outcome.objects.get(pk=outcome.pk)
    assert kept.reviewer.startswith("erased-")
    assert (again(doubted, flag).claimed_by, kept.reason) == (kept.reviewer, "because")
    assert seals.verify(doubted.id).ok


def test_versions_of_the_policy_decide_for_their_own_audits(doubted) -> None:
    with tenant_scope(doubted.id):
        trusting = make_version(doubted.version.policy)
    flag = doubted.flag(version=trusting)
    decide(doubted, flag, "allow")
    with tenant_scope(doubted.id):
        assert not Review.objects.filter(of_review=flag.id).exists()
