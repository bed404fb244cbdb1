"""Classifiers that learn from what reviewers decided: what counts, what is left out, and what is told."""

from __future__ import annotations

import numpy as np
import pytest

from tenants.datasets.models import Asset
from tenants.errors import Invalid
from tenants.learning.classifiers import services, training
from tenants.learning.classifiers.examples import Untrainable, read_examples
from tenants.learning.classifiers.features import feature_of
from tenants.learning.classifiers.providers import PROVIDERS
from tenants.moderation import reviews
from tenants.moderation.models import Review
from tenants.moderation.reviews import queue
from tenants.pipeline.assets.embedding_aside import embed_asset
from tenants.pipeline.assets.services import add_asset
from tenants.pipeline.care import erasure
from tenants.retrieval import model_routing
from tenants.retrieval.index import NewVector
from tenants.retrieval.models import Vector
from tenants.scope import tenant_scope
from tests.tenants.learning.test_classifiers import YES, found, promote, run, texts, train, vector
from tests.tenants.reviewing import ANN, BOB, CAROL, World, make_world

__all__ = ["texts"]


def decide(world: World, asset: Asset, decision: str, fired=("rude",), *, by: str = ANN, labels=None):
    """The outcome of the first of these flags, of a new audit."""
    audit = world.audit(fired, asset=asset)
    return settle(world, world.flags(audit)[fired[0]], decision, by=by, labels=labels)


def settle(world: World, flag: Review, decision: str, *, by: str = ANN, labels=None):
    with tenant_scope(world.id):
        queue.claim(review_id=flag.id, actor=by)
        return reviews.decide_review(
            review_id=flag.id, decision=decision, reason="because", actor=by, labels=labels
        )


def define(world: World, **options):
    with tenant_scope(world.id):
        return services.create_classifier(name="rude", **({"decisions_rule": "rude"} | options))


def labels(world: World, row) -> dict:
    with tenant_scope(world.id):
        return {one.asset_id: one.label for one in read_examples(row, "decisions")[0]}


@pytest.fixture
def world(party) -> World:
    return make_world(party)


def test_what_reviewers_blocked_and_let_go_becomes_a_filter(party, world, texts, monkeypatch) -> None:
    numbers = {asset.id: n for n, asset in enumerate(texts)}
    asked: list = []

    def embed(asset_id, *, model, tenant_id):
        asked.append(asset_id)
        n = numbers[asset_id]
        return [NewVector("text", vector(n, n < YES), model=model)], 0.25

    monkeypatch.setattr(PROVIDERS, "embed_asset", embed)
    for n in range(0, len(texts), 2):
        decide(world, texts[n], "block" if n < 8 else "label" if n < YES else "allow", labels=None)
    blocked = {texts[n].id for n in range(0, 8, 2)}
    with tenant_scope(party.id):
        # What is blocked lies in no index.
        assert not Vector.objects.filter(asset_id__in=blocked).exists()
    row = define(world)
    version = train(party, row)
    assert set(asked) == blocked
    report = version.report
    assert (version.source, report["n"], report["positive"]) == ("decisions", 20, 8)
    assert (report["embedded"], report["embedding_cpu_s"], report["decided_both_ways"]) == (4, 1.0, 0)
    assert (report["without_vectors"], report["figures"]["auc"]["value"]) == (0, 1.0)
    promote(party, row, 1)
    shown = found(party, **{"classifier.rude.probability": {"gte": 0.5}})
    assert shown == {asset.id for asset in texts[:YES]} - blocked


def test_the_latest_decision_counts_and_what_was_undone_does_not(world, texts) -> None:
    decide(world, texts[0], "allow")
    decide(world, texts[0], "label")
    decide(world, texts[1], "label")
    decide(world, texts[1], "allow")
    undone = decide(world, texts[2], "block")
    # Of another rule, and not decided at all.
    decide(world, texts[3], "allow", ["naked"])
    world.audit(["rude"], asset=texts[4])
    with tenant_scope(world.id):
        reviews.undo_outcome(outcome_id=undone.id, actor=ANN, reason="oh")
    assert labels(world, define(world)) == {texts[0].id: True, texts[1].id: False}


def test_a_rule_is_asked_for_itself_and_all_rules_for_the_item(world, texts) -> None:
    for asset, said in ((texts[0], ("allow", "label")), (texts[1], ("label", "allow"))):
        flags = world.flags(world.audit(["rude", "naked"], asset=asset))
        for rule, decision in zip(("rude", "naked"), said, strict=True):
            settle(world, flags[rule], decision, labels=["nude"] if decision == "label" else None)
    assert labels(world, define(world)) == {texts[0].id: False, texts[1].id: True}
    with tenant_scope(world.id):
        assert PROVIDERS.read_decided(rule="", label="") == {texts[0].id: True, texts[1].id: True}


def test_a_label_is_a_yes_and_nothing_is_said_of_what_is_blocked(world, texts) -> None:
    decide(world, texts[0], "label", labels=["nude"])
    decide(world, texts[1], "label", labels=["art"])
    decide(world, texts[2], "allow")
    decide(world, texts[3], "block")
    flags = world.flags(world.audit(["rude", "naked"], asset=texts[4]))
    settle(world, flags["rude"], "label", labels=["nude"])
    settle(world, flags["naked"], "allow")
    row = define(world, decisions_rule="", decisions_label="nude")
    yes = {texts[0].id: True, texts[1].id: False, texts[2].id: False, texts[4].id: True}
    assert labels(world, row) == yes


def test_of_a_disagreement_the_third_counts_and_an_appeal_that_changed_it(party, texts) -> None:
    world = make_world(party, second_opinion=1.0)
    flag = world.flags(world.audit(["rude"], asset=texts[0]))["rude"]
    settle(world, flag, "label")
    row = define(world)
    with tenant_scope(world.id):
        second = Review.objects.get(of_review=flag.id, kind="second")
    settle(world, second, "allow", by=BOB)
    assert labels(world, row) == {texts[0].id: True}
    with tenant_scope(world.id):
        third = Review.objects.get(of_review=flag.id, kind="flag")
    settle(world, third, "allow", by=CAROL)
    assert labels(world, row) == {texts[0].id: False}
    for decision, asset, stands in (("overturned", texts[1], False), ("upheld", texts[2], True)):
        outcome = decide(world, asset, "label")
        with tenant_scope(world.id):
            opened = reviews.open_appeal(audit_id=outcome.audit, reason="no", actor="user:sender")
            reviews.decide_appeal(appeal_id=opened.id, decision=decision, reason="so", actor=BOB)
        assert labels(world, row)[asset.id] is stands


def test_the_same_content_decided_both_ways_is_told_and_the_newest_counts(party, world, texts) -> None:
    with tenant_scope(party.id):
        again = add_asset(dataset_id=texts[0].dataset_id, text="text 0").asset
    decide(world, texts[0], "allow")
    decide(world, again, "label")
    for n in (1, 2, 3, 30, 31, 32):
        decide(world, texts[n], "label" if n < YES else "allow")
    row = define(world)
    assert labels(world, row)[texts[0].id] is labels(world, row)[again.id] is True
    report = train(party, row).report
    assert (report["decided_both_ways"], report["n"]) == (1, 8)
    assert "decided_both_ways" in report["warnings"]


def test_assets_that_are_erased_and_items_that_are_none_drop_out(party, stranger, world, texts) -> None:
    for n in (0, 1, 30, 31, 32):
        decide(world, texts[n], "label" if n < YES else "allow")
    row = define(world)
    with tenant_scope(party.id):
        erasure.erase_asset(asset_id=texts[0].id)
    assert labels(world, row) == {texts[1].id: True, **{texts[n].id: False for n in (30, 31, 32)}}
    with tenant_scope(party.id), pytest.raises(Untrainable, match="make 1 examples of yes and 3 of no"):
        services.train(classifier_id=row.id)
    # Another workspace sees none of it.
    other = make_world(stranger)
    assert labels(other, define(other)) == {}


@pytest.mark.parametrize(
    ("decided", "said"),
    [
        ({}, "Reviewers have decided nothing yet"),
        ({0: "label", 1: "label", 2: "block"}, "of one answer: 3 of yes and 0 of no"),
        ({0: "label", 30: "allow"}, "1 examples of yes and 1 of no; at least 5"),
    ],
)
def test_what_nothing_can_be_learnt_from_is_refused_and_says_what_to_do(world, texts, decided, said) -> None:
    for n, decision in decided.items():
        decide(world, texts[n], decision)
    row = define(world)
    with tenant_scope(world.id), pytest.raises(Untrainable, match=said):
        services.train(classifier_id=row.id)


def test_decisions_about_one_content_are_refused_in_the_job(party, world, texts, monkeypatch) -> None:
    monkeypatch.setattr(
        training, "read_features", lambda chosen, model: training_features(chosen, {a.id for a in texts[:3]})
    )
    for n in (0, 1, 2, 30, 31):
        decide(world, texts[n], "label" if n < YES else "allow")
    with tenant_scope(party.id):
        _, job = services.train(classifier_id=define(world).id)
    assert "all about nearly the same content" in run(party, job).error["detail"]


def training_features(chosen, alike):
    from tenants.learning.classifiers.features import Features

    ids = list(chosen)
    values = [vector(0, True) if one in alike else vector(n, False) for n, one in enumerate(ids)]
    return Features(ids, np.stack(values))


def test_a_classifier_without_rule_and_label_has_no_decisions(world, texts) -> None:
    row = define(world, decisions_rule="")
    with tenant_scope(world.id), pytest.raises(Invalid, match="no rule and no label"):
        services.train(classifier_id=row.id, source="decisions")
    with tenant_scope(world.id), pytest.raises(Invalid, match="at most 100"):
        services.create_classifier(name="long", decisions_label="x" * 101)


def test_an_asset_without_stored_vectors_is_embedded_and_nothing_is_stored(party, texts) -> None:
    model = model_routing.default_model()
    with tenant_scope(party.id):
        hidden = add_asset(dataset_id=texts[0].dataset_id, text="a red chair").asset
    vectors, _ = embed_asset(hidden.id, model=model, tenant_id=party.id)
    space = model_routing.space(model, party.id)
    assert [(one.modality, one.model) for one in vectors] == [("text", model)]
    assert float(vectors[0].values @ space.embed_texts(["a red chair"])[0]) > 0.999
    with tenant_scope(party.id):
        assert not Vector.objects.filter(asset_id=hidden.id).exists()
        erasure.erase_asset(asset_id=hidden.id)
    assert embed_asset(hidden.id, model=model, tenant_id=party.id) == ((), 0.0)


def test_of_a_long_text_some_passages_count_and_captions_only_without_a_picture() -> None:
    own, other = np.eye(3, dtype=np.float32)[:2]
    assert feature_of("image", []) is None
    assert feature_of("image", [("text", other)]).tolist() == other.tolist()
    assert feature_of("image", [("text", other), ("image", own)]).tolist() == own.tolist()
    many = feature_of("text", [("text", own)] * 40 + [("text", other)] * 40)
    assert many == pytest.approx([0.5**0.5, 0.5**0.5, 0])
