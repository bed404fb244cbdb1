"""What outcomes say about reviewers, rules and detectors."""

from __future__ import annotations

from typing import Any

import pytest

from tenants.moderation import reviews
from tenants.moderation.models import Review
from tenants.moderation.reviews import figures, queue
from tenants.pipeline.care import erasure
from tenants.scope import tenant_scope
from tests.tenants.reviewing import ANN, BOB, CAROL, World, make_world, seen


def decide(world: World, flag: Review, decision: str, actor: str = ANN) -> Any:
    with tenant_scope(world.id):
        queue.claim(review_id=flag.id, actor=actor)
        return reviews.decide_review(review_id=flag.id, decision=decision, reason="because", actor=actor)


def test_cohens_kappa_is_as_published() -> None:
    # The example of a 2x2 table with 20, 5, 10, 15: observed .7, by chance .5.
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    found = figures.cohens_kappa(pairs)
    assert (found.items, found.agreed) == (50, 35)
    assert found.share == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    assert figures.cohens_kappa([("a", "b"), ("b", "a")]).kappa == pytest.approx(-1.0)
    assert figures.cohens_kappa([("a", "a"), ("b", "b"), ("c", "c")]).kappa == pytest.approx(1.0)


def test_where_kappa_says_nothing_it_is_none() -> None:
    assert figures.cohens_kappa([]) == figures.Agreement(0, 0, None)
    same = figures.cohens_kappa([("allow", "allow")] * 9)
    assert (same.share, same.kappa) == (1.0, None)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    # Newcombe 1998, method 3, and the ends.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_as_published(hits: int, total: int, low: float, high: float) -> None:
    assert figures.wilson(hits, total) == pytest.approx((low, high), abs=5e-5)
    assert figures.wilson(total - hits, total) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_nothing_has_no_interval() -> None:
    assert figures.wilson(0, 0) is None


def test_agreement_is_counted_per_pair_and_survives_erasure(party) -> None:
    world = make_world(party, second_opinion=1.0)
    answers = (
        (ANN, "block", BOB, "block"),
        (ANN, "allow", BOB, "allow"),
        (BOB, "allow", ANN, "block"),
        (ANN, "allow", CAROL, "allow"),
    )
    for first, said, other, answered in answers:
        audit = world.audit(["rude"])
        flag = world.flags(audit)["rude"]
        decide(world, flag, said, first)
        with tenant_scope(world.id):
            second = Review.objects.get(of_review=flag.id, kind="second")
        decide(world, second, answered, other)
        with tenant_scope(world.id):
            erasure.erase_asset(asset_id=audit.item)
    with tenant_scope(world.id):
        found = figures.agreements()
    assert (found.overall.items, found.overall.agreed) == (4, 3)
    assert set(found.pairs) == {(ANN, BOB), (ANN, CAROL)}
    pair = found.pairs[ANN, BOB]
    # Ann: block, allow, block; Bob: block, allow, allow.
    assert (pair.items, pair.agreed) == (3, 2)
    assert pair.kappa == pytest.approx((2 / 3 - (2 * 1 + 1 * 2) / 9) / (1 - 4 / 9))
    assert found.pairs[ANN, CAROL].kappa is None


def test_precision_counts_what_stands(party) -> None:
    world = make_world(party, second_opinion=0.0)
    outcomes = [decide(world, world.flag(), said) for said in ("block", "label", "allow", "block")]
    decide(world, world.flag(["naked"]), "allow")
    with tenant_scope(world.id):
        reviews.undo_outcome(outcome_id=outcomes[0].id, actor=ANN, reason="oh")
        found = {p.rule: p for p in figures.precisions()}
    assert {rule: (p.decided, p.confirmed) for rule, p in found.items()} == {"rude": (3, 2), "naked": (1, 0)}
    assert found["rude"].precision == pytest.approx(2 / 3)
    assert found["rude"].interval == figures.wilson(2, 3)


def test_of_a_disagreement_the_third_counts(party) -> None:
    world = make_world(party, second_opinion=1.0)
    flag = world.flag()
    decide(world, flag, "block")
    with tenant_scope(world.id):
        second = Review.objects.get(of_review=flag.id, kind="second")
    decide(world, second, "allow", BOB)
    with tenant_scope(world.id):
        third = Review.objects.get(of_review=flag.id, kind="flag")
    decide(world, third, "allow", CAROL)
    with tenant_scope(world.id):
        assert [(p.decided, p.confirmed) for p in figures.precisions()] == [(1, 0)]


def test_scores_come_with_what_people_decided(party, monkeypatch) -> None:
    monkeypatch.setattr(figures, "BATCH", 2)
    world = make_world(party)

    def evidence(score: float | None, abuse: float) -> dict[str, Any]:
        return seen(
            detectors=[{"name": "copy_move", "score": score}, {"name": "other", "score": 0.5}],
            categories={"abuse": {"score": abuse, "detector": "abuse", "flagged": True}},
        )

    wanted = []
    for score, abuse, rules, said in (
        (0.9, 0.8, ["rude"], ["block"]),
        (0.2, 0.1, ["rude"], ["allow"]),
        (0.7, 0.3, ["rude", "naked"], ["allow", "block"]),
        (None, 0.4, ["rude"], ["block"]),
    ):
        audit = world.audit(rules, evidence=evidence(score, abuse))
        flags = world.flags(audit)
        for rule, decision in zip(rules, said, strict=True):
            decide(world, flags[rule], decision)
        wanted.append((audit.id, score, abuse, "block" in said))
    undone = world.flag(evidence=evidence(0.1, 0.1))
    outcome = decide(world, undone, "block")
    with tenant_scope(world.id):
        reviews.undo_outcome(outcome_id=outcome.id, actor=ANN, reason="oh")
    world.audit(["rude"], evidence=evidence(0.6, 0.6))

    def scores(**options: Any) -> set[tuple[Any, float, bool]]:
        return {(s.audit, s.score, s.violating) for s in figures.labelled_scores(world.id, **options)}

    assert scores(detector="copy_move") == {(a, s, v) for a, s, _, v in wanted if s is not None}
    assert scores(detector="abuse", category="abuse") == {(a, c, v) for a, _, c, v in wanted}
    assert scores(detector="copy_move", rules=["naked"]) == {(wanted[2][0], 0.7, True)}
    assert scores(detector="copy_move", category="abuse") == set()
    assert scores(detector="no-such") == set()
