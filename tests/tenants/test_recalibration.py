"""Thresholds from reviewers' decisions: proposed, by command, in a job and by schedule; never put in force unasked."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.models import AuditEvent
from tenants.jobs.models import Job
from tenants.moderation import policies
from tenants.moderation.models import Audit, Evidence, Outcome, PolicyActivation, PolicyVersion, Review
from tenants.moderation.policies import recalibration
from tenants.moderation.policies.recalibration import Wanted
from tenants.pipeline.upkeep import periodic
from tenants.scope import tenant_scope
from tests.ml.test_recalibration import pairs
from tests.tenants.reviewing import World, make_world, seen
from workers.base import run_job

RULES = [
    {"id": "rude", "when": "categories.abuse.flagged", "then": "review", "reason": "It may be rude."},
    {"id": "odd", "when": "item.bytes > 5.0", "then": "review", "reason": "It is odd."},
    {
        "id": "both",
        "when": "categories.abuse.flagged || categories.hate.flagged",
        "then": "review",
        "reason": "?",
    },
    {"id": "sure", "when": "categories.abuse.score > 0.99", "then": "block", "reason": "It is rude."},
]


def enforced(party: Any, **fields: Any) -> World:
    world = make_world(party, **{"rules": RULES, **fields})
    with tenant_scope(party.id):
        policies.activate(policy_id=world.version.policy_id, number=1, mode="enforce")
    return world


def decided(
    world: World,
    scores: Sequence[float],
    violating: Sequence[bool],
    *,
    rule: str = "rude",
    version: str = "3",
    words: Sequence[str] = (),
    items: Sequence[uuid.UUID] = (),
) -> list[uuid.UUID]:
    """Audits with one decided flag each, as rows: their items are no assets unless these are named."""
    with tenant_scope(world.id):
        audits = [
            Audit(
                modality="text", source="request", decision="review", mode="enforce", rules=[rule],
                policy_version=world.version.id, verdict="no_evidence", evidence_digest="0" * 64,
                item=items[n] if items else None,
            )
            for n in range(len(scores))
        ]  # fmt: skip
        Audit.objects.bulk_create(audits)
        texts = words or [uuid.uuid4().hex for _ in audits]
        due = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        reviews = [Review(audit=audit, rule=rule, state="decided", due_at=due) for audit in audits]
        Review.objects.bulk_create(reviews)
        Evidence.objects.bulk_create(
            Evidence(audit=audit, document=document(float(score), version, text))
            for audit, score, text in zip(audits, scores, texts, strict=True)
        )
        Outcome.objects.bulk_create(
            Outcome(
                review=review.id, audit=audit.id, item=audit.item or audit.id, rule=rule, reviewer="user:ann",
                decision="block" if yes else "allow",
            )
            for audit, review, yes in zip(audits, reviews, violating, strict=True)
        )  # fmt: skip
    return [audit.id for audit in audits]


def document(score: float, version: str, text: str) -> dict[str, Any]:
    found = {"state": "examined", "score": score, "detector": "abuse", "suggested_threshold": 0.5}
    return seen(
        categories={"abuse": found},
        detectors=[{"name": "abuse", "version": version, "score": None}],
        words=[{"text": text, "origin": "text", "at_s": None}],
    )


def run(world: World, **options: Any) -> recalibration.Report:
    dry = options.pop("dry", False)
    return recalibration.recalibrate(
        world.id, Wanted(world.version.policy_id, **options), actor="key:x", dry=dry
    )


def in_force(world: World) -> tuple[int, dict[str, float]]:
    with tenant_scope(world.id):
        found = policies.in_force()
        assert found is not None
        return found.number, dict(found.document["thresholds"])


@pytest.fixture
def world(party: Any) -> World:
    made = enforced(party, thresholds={"hate": 0.8})
    decided(made, *pairs(200)[:2])
    return made


def test_a_version_is_proposed_once_and_nothing_changes_by_it(world: World) -> None:
    report = run(world)
    compared = report.categories["abuse"]
    found = compared.found
    assert list(report.categories) == ["abuse"]
    assert (report.from_version, report.version, report.activated) == (1, 2, "none")
    # The rule about two categories says nothing about one of them.
    assert (found.outcome, compared.rules, compared.detector) == ("accepted", ["rude"], "abuse@3")
    assert (found.decisions, compared.left_out, found.threshold.before) == (200, 0, 0.5)
    after = found.threshold.after
    assert after > 0.55
    with tenant_scope(world.id):
        version = PolicyVersion.objects.get(number=2)
        assert version.document == {
            **world.version.document,
            "thresholds": {"abuse": after, "hate": 0.8},
        }
        event = AuditEvent.objects.get(verb="policy.recalibrated")
        assert (event.details["version"], event.details["abuse"]) == (2, after)
    assert in_force(world) == (1, {"hate": 0.8})
    assert run(world).version == 2
    with tenant_scope(world.id):
        assert PolicyVersion.objects.count() == 2


def test_a_dry_run_writes_nothing(world: World) -> None:
    report = run(world, dry=True)
    assert (report.version, report.categories["abuse"].found.outcome) == (None, "accepted")
    with tenant_scope(world.id):
        assert PolicyVersion.objects.count() == 1
        assert not AuditEvent.objects.filter(verb="policy.recalibrated").exists()


def test_it_is_put_in_force_where_that_is_asked_for(world: World) -> None:
    assert run(world, activate="shadow").activated == "shadow"
    assert in_force(world)[0] == 1
    with tenant_scope(world.id):
        assert policies.newest()[world.version.policy_id].shadow.number == 2
    assert run(world, activate="enforce").activated == "enforce"
    number, thresholds = in_force(world)
    assert (number, thresholds["abuse"] > 0.55) == (2, True)
    with tenant_scope(world.id):
        policies.roll_back(policy_id=world.version.policy_id)
    assert in_force(world)[0] == 1


def test_what_is_enforced_for_a_share_is_left_as_it_is(world: World) -> None:
    with tenant_scope(world.id):
        policies.activate(policy_id=world.version.policy_id, number=1, mode="enforce", ratio=0.5)
        before = PolicyActivation.objects.count()
    report = run(world, activate="enforce")
    assert (report.version, report.activated) == (2, "none")
    with tenant_scope(world.id):
        assert PolicyActivation.objects.count() == before


def test_the_newest_decision_of_an_item_counts_and_copies_are_one_opinion(party: Any) -> None:
    world = enforced(party)
    items = [uuid.uuid4() for _ in range(3)]
    decided(world, [0.6, 0.6, 0.6], [True] * 3, items=items)
    decided(world, [0.7], [False], items=items[:1])
    decided(
        world,
        [0.8] * 4,
        [True] * 4,
        words=["The very same words", "the very, same words!", "Other words here", "ok"],
    )
    # Another rule's, and of a detector whose scores mean something else.
    decided(world, [0.9], [True], rule="odd")
    found = run(world).categories["abuse"].found
    assert (found.outcome, found.decisions, found.confirmed) == ("few", 7, 6)
    assert (found.groups.confirmed, found.groups.let_go) == (5, 1)
    decided(world, [0.9], [True], version="4")
    compared = run(world).categories["abuse"]
    assert (compared.detector, compared.found.decisions, compared.left_out) == ("abuse@4", 1, 7)


def test_pictures_that_look_alike_are_one_opinion() -> None:
    def pair(pdq: str) -> Any:
        return recalibration._Pair(0.5, True, ("d", "1"), None, (f"file {uuid.uuid4()}",), pdq)

    near, far = "f" * 63 + "0", "0f" * 32
    found = recalibration._groups([pair("f" * 64), pair(near), pair(far), pair("")]).tolist()
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_decisions_of_another_workspace_and_erased_evidence_do_not_count(
    party: Any, stranger: Any, world: World
) -> None:
    other = enforced(stranger)
    assert run(other).categories["abuse"].found.decisions == 0
    with tenant_scope(party.id):
        Evidence.objects.all().delete()
    assert run(world).categories["abuse"].found.decisions == 0
    with pytest.raises(NotFound):
        recalibration.recalibrate(other.id, Wanted(world.version.policy_id))


def test_a_version_that_came_meanwhile_is_not_overwritten(world: World) -> None:
    wanted = Wanted(world.version.policy_id)
    base, report = recalibration.compare(world.id, wanted)
    with tenant_scope(world.id):
        policies.add_version(policy_id=base.policy_id, document={**base.document, "quarantine": True})
        policies.activate(policy_id=base.policy_id, number=2, mode="enforce")
        with pytest.raises(Conflict, match="in the meantime"):
            recalibration.propose(base, wanted, report)
        assert PolicyVersion.objects.count() == 2


@pytest.mark.parametrize(
    "options", [{"lose": -0.1}, {"lose": 0.3}, {"lose": float("nan")}, {"activate": "on"}]
)
def test_odd_wishes_are_refused(world: World, options: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        run(world, **options)


def test_a_policy_without_a_flag_to_adjust_is_told(party: Any) -> None:
    world = enforced(party, rules=RULES[1:])
    with pytest.raises(Conflict, match="nothing to adjust"):
        run(world)
    off = make_world(party, rules=RULES, off=["abuse"])
    with pytest.raises(Conflict, match="nothing to adjust"):
        run(off)


# --- The job, and the schedule -----------------------------------------------------------------------------


@pytest.mark.guard
def test_a_job_that_is_killed_has_written_nothing_and_is_done_again(world: World, monkeypatch: Any) -> None:
    with tenant_scope(world.id):
        job = recalibration.start_recalibration(Wanted(world.version.policy_id), actor="key:x")
        with pytest.raises(Conflict, match="already"):
            recalibration.start_recalibration(Wanted(world.version.policy_id))

    def killed(*args: Any, **options: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        # After the version was made, in the transaction that ends the job.
        patch.setattr(recalibration.jobs, "succeed", killed)
        run_job(str(job.id), str(world.id))
    with tenant_scope(world.id):
        assert PolicyVersion.objects.count() == 1
        assert Job.objects.get(pk=job.id).state != "succeeded"
    run_job(str(job.id), str(world.id))
    with tenant_scope(world.id):
        done = Job.objects.get(pk=job.id)
        assert (done.state, done.result["version"]) == ("succeeded", 2), done.error
        assert PolicyVersion.objects.count() == 2


def test_the_schedule_is_off_unless_the_policy_says_so(world: World) -> None:
    periodic.collect_garbage([world.id])
    with tenant_scope(world.id):
        assert not Job.objects.filter(kind=recalibration.JOB).exists()


def test_a_policy_in_force_asks_for_it_and_has_one_job_a_period(party: Any) -> None:
    world = enforced(party, recalibrate={"every_days": 7, "activate": "shadow"})
    assert world.version.document["recalibrate"] == {"every_days": 7, "lose": 0.02, "activate": "shadow"}
    decided(world, *pairs(200)[:2])
    periodic.collect_garbage([world.id])
    with tenant_scope(world.id):
        job = Job.objects.get(kind=recalibration.JOB)
        assert recalibration.consider() is False
    run_job(str(job.id), str(world.id))
    with tenant_scope(world.id):
        assert Job.objects.get(pk=job.id).result["activated"] == "shadow"
        assert recalibration.consider() is False
        Job.objects.filter(pk=job.id).update(queued_at=dt.datetime.now(dt.UTC) - dt.timedelta(days=8))
        assert recalibration.consider() is True
        assert recalibration.consider() is False
        policies.activate(policy_id=world.version.policy_id, number=1, mode="off")
        Job.objects.filter(kind=recalibration.JOB).update(queued_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        assert recalibration.consider() is False


@pytest.mark.parametrize(
    "given",
    ["weekly", {"every_days": 0}, {"every_days": 61}, {"lose": 0.5}, {"activate": "on"}, {"when": "sundays"}],
)
def test_an_odd_schedule_is_refused_where_the_policy_is_written(party: Any, given: Any) -> None:
    with tenant_scope(party.id), pytest.raises(Invalid) as refused:
        policies.create_policy(name="odd", document={"rules": [], "recalibrate": given})
    assert "/recalibrate" in refused.value.errors[0]["pointer"]


# --- The command -------------------------------------------------------------------------------------------


def test_the_command_tells_what_it_found_and_what_it_made(world: World, capsys: Any) -> None:
    slug = world.party.tenant.slug
    call_command("recalibrate", slug, "--dry-run")
    assert "no new version" in capsys.readouterr().out
    call_command("recalibrate", slug)
    told = capsys.readouterr().out
    assert "abuse: accepted" in told
    assert "decisions      200, " in told
    assert "threshold      0.50 -> 0." in told
    assert "confirmed ones lost" in told
    assert "version 2: in force nowhere" in told
    call_command("recalibrate", slug, "--activate", "enforce", "--lose", "0.02")
    assert "version 2: enforce" in capsys.readouterr().out
    assert in_force(world)[0] == 2


def test_the_command_says_what_is_missing(party: Any, capsys: Any) -> None:
    slug = party.tenant.slug
    for arguments, said in (
        (["no-such"], "no tenant"),
        ([slug], "No policy is enforced"),
        ([slug, "--policy", "no-such"], "no policy 'no-such'"),
    ):
        with pytest.raises(CommandError, match=said):
            call_command("recalibrate", *arguments)
    enforced(party)
    with pytest.raises(CommandError, match="lose is a number"):
        call_command("recalibrate", slug, "--lose", "2")
    call_command("recalibrate", slug)
    told = capsys.readouterr().out
    assert "it takes 20 different contents" in told
    assert "no new version" in told


def test_scores_that_are_none_are_no_evidence(party: Any) -> None:
    world = enforced(party)
    audits = decided(world, [0.9, 0.9, 0.9, 0.9], [True] * 4)
    with tenant_scope(world.id):
        for audit, changes in zip(
            audits, ({"score": None}, {"score": True}, {"score": 7.0}, {"state": "failed"}), strict=True
        ):
            row = Evidence.objects.get(audit=audit)
            row.document["categories"]["abuse"] |= changes
            row.save()
    assert run(world).categories["abuse"].found.decisions == 0
    assert np.isfinite(run(world).categories["abuse"].found.threshold.before)
