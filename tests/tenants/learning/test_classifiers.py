"""Classifiers of a tenant: defined, labelled, trained, promoted, filtered by; and what becomes of them."""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from ml import classification
from ml.auditing import Examination
from tenants.datasets.models import Asset, Blob, Facet
from tenants.errors import Conflict, Invalid, NotFound, NotReady, QuotaExceeded
from tenants.events.models import AuditEvent
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning.classifiers import scoring, selectors, services, suggestions, training
from tenants.learning.classifiers.examples import Untrainable
from tenants.learning.models import Classifier, ClassifierExample, ClassifierVersion
from tenants.moderation import policies
from tenants.moderation.models import AuditRequest
from tenants.moderation.policies import InForce
from tenants.pipeline.assets.services import add_asset, update_asset
from tenants.pipeline.audits import auditing
from tenants.pipeline.care import erasure
from tenants.retrieval import filters, model_routing
from tenants.retrieval.computed_fields import Stale
from tenants.retrieval.index.vectors import NewVector, add_vectors, replace_vectors
from tenants.retrieval.models import ComputedField
from tenants.scope import tenant_scope
from tests.tenants.learning.world import new_dataset
from tests.tenants.policy_world import document, new_policy, rule
from tests.tenants.second_model import keep_turned
from workers.base import run_job

N, YES = 40, 16


def vector(n: int, yes: bool, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(1000 * seed + n)
    values = random.normal(size=256).astype(np.float32) / 16
    values[0] += 1 if yes else -1
    return values / np.linalg.norm(values)


@pytest.fixture
def texts(party):
    """Texts, whose first YES are like each other: rows alone, as no file matters here."""
    with tenant_scope(party.id):
        dataset = new_dataset()
        # What comes from a text that is added again is the same content.
        named = [hashlib.sha256(f"text {n}".encode()).hexdigest() for n in range(N)]
        blobs = [Blob(sha256=one, bytes=6, media_type="text/plain", references=1) for one in named]
        Blob.objects.bulk_create(blobs)
        made = [Asset(dataset=dataset, blob=blob, modality="text", status="ready") for blob in blobs]
        Asset.objects.bulk_create(made)
        vectors = [(asset, [NewVector("text", vector(n, n < YES))]) for n, asset in enumerate(made)]
        add_vectors(vectors=vectors, model=model_routing.default_model())
    return made


def embed(asset: Asset, values: np.ndarray, model: str = model_routing.default_model()) -> None:
    """As its job does."""
    replace_vectors(asset=asset, vectors=[NewVector("text", values, model=model)])
    Asset.objects.filter(pk=asset.pk).update(status="ready")
    scoring.score_assets([asset])


@pytest.fixture
def damaged(party, texts):
    with tenant_scope(party.id):
        row = services.create_classifier(name="damaged", actor="key:x")
        labels = {asset.id: n < YES for n, asset in enumerate(texts) if n % 2 == 0}
        services.label_assets(classifier_id=row.id, labels=labels)
    return row


def run(party, job: Job) -> Job:
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        return Job.objects.get(pk=job.id)


def train(party, row: Classifier, **options) -> ClassifierVersion:
    with tenant_scope(party.id):
        version, job = services.train(classifier_id=row.id, **options)
    done = run(party, job)
    assert done.state == "succeeded", done.error
    with tenant_scope(party.id):
        return ClassifierVersion.objects.get(pk=version.pk)


def promote(party, row: Classifier, number: int) -> ClassifierVersion:
    with tenant_scope(party.id):
        version, job = services.promote(classifier_id=row.id, number=number)
    done = run(party, job)
    assert done.state == "succeeded", done.error
    with tenant_scope(party.id):
        return ClassifierVersion.objects.get(pk=version.pk)


def found(party, **conditions) -> set:
    with tenant_scope(party.id):
        parsed = filters.parse(conditions or {"classifier.damaged.probability": {"gte": 0.5}})
        return set(filters.matching_ids(parsed))


def test_from_examples_to_a_filter(party, texts, damaged) -> None:
    version = train(party, damaged)
    assert (version.number, version.state, version.source, version.model) == (
        1,
        "candidate",
        "examples",
        model_routing.default_model(),
    )
    assert version.report["figures"]["auc"]["value"] == 1.0
    assert (version.report["n"], version.report["positive"], version.report["without_vectors"]) == (20, 8, 0)
    with pytest.raises(Invalid, match="No classifier answers"):
        found(party)
    version = promote(party, damaged, 1)
    assert version.state == "live"
    # Those that were labelled and those that were not.
    assert found(party) == {asset.id for asset in texts[:YES]}
    assert found(party, **{"classifier.damaged.probability": {"exists": False}}) == set()
    with tenant_scope(party.id):
        shape = selectors.describe(damaged.__class__.objects.get(pk=damaged.pk))
        assert (shape.state, shape.live, shape.examples.yes, shape.examples.no) == ("live", 1, 8, 12)
        verbs = set(AuditEvent.objects.values_list("verb", flat=True))
        assert {
            "classifier.created",
            "classifier.labelled",
            "classifier.trained",
            "classifier.promoted",
        } <= verbs
    with pytest.raises(Invalid, match="compared by"):
        found(party, **{"classifier.damaged.probability": 0.5})


def test_what_comes_later_is_scored_as_it_becomes_ready(party, texts, damaged) -> None:
    train(party, damaged)
    promote(party, damaged, 1)
    with tenant_scope(party.id):
        late = add_asset(dataset_id=texts[0].dataset_id, text="late").asset
        embed(late, vector(99, True))
    assert late.id in found(party)
    with tenant_scope(party.id):
        # Its metadata is another matter.
        update_asset(asset_id=late.id, values={"colour": "red"})
    assert late.id in found(party)
    with tenant_scope(party.id):
        embed(late, vector(99, False))
    assert late.id not in found(party)


@pytest.mark.guard
def test_a_promotion_that_is_killed_goes_on_and_an_older_version_can_come_back(
    party, texts, damaged, monkeypatch
) -> None:
    train(party, damaged)
    promote(party, damaged, 1)
    monkeypatch.setattr(scoring, "BATCH", 7)
    with tenant_scope(party.id):
        # Now the others are a yes.
        turned = {asset.id: n >= YES for n, asset in enumerate(texts) if n % 2 == 0}
        services.label_assets(classifier_id=damaged.id, labels=turned)
    second = train(party, damaged)
    key = scoring.facet_key(second.pk)
    with tenant_scope(party.id):
        _, job = services.promote(classifier_id=damaged.id, number=2)
    written = scoring._report

    def killed(claimed, scored):
        written(claimed, scored)
        raise MemoryError

    monkeypatch.setattr(scoring, "_report", killed)
    run(party, job)
    with tenant_scope(party.id):
        before = dict(Facet.objects.filter(key=key).values_list("asset_id", "pk"))
    assert len(before) == 7
    # Half of the new scores are there, and filters do not see them.
    assert found(party) == {asset.id for asset in texts[:YES]}
    monkeypatch.setattr(scoring, "_report", written)
    assert run(party, job).state == "succeeded"
    with tenant_scope(party.id):
        after = dict(Facet.objects.filter(key=key).values_list("asset_id", "pk"))
        assert len(after) == N
        assert before.items() <= after.items()
        assert ClassifierVersion.objects.get(number=1).state == "retired"
        forget = Job.objects.get(kind=scoring.FORGET)
    assert found(party) == {asset.id for asset in texts[YES:]}
    assert run(party, forget).result == {"facets": N}
    promote(party, damaged, 1)
    assert found(party) == {asset.id for asset in texts[:YES]}


def test_a_cancelled_promotion_leaves_the_version_before(party, texts, damaged) -> None:
    train(party, damaged)
    with tenant_scope(party.id):
        _, job = services.promote(classifier_id=damaged.id, number=1)
        with pytest.raises(Conflict, match="being trained or promoted"):
            services.promote(classifier_id=damaged.id, number=1)
        jobs.cancel(job_id=job.id)
        version = ClassifierVersion.objects.get()
        assert (version.state, version.error["type"]) == ("candidate", "cancelled")


def test_another_model_makes_it_stale_and_trains_it_again(party, texts, damaged, tmp_path) -> None:
    train(party, damaged)
    promote(party, damaged, 1)
    model = switch_model(party, texts, tmp_path)
    with tenant_scope(party.id):
        services.follow_model(model)
        job = Job.objects.get(kind=training.JOB, state="queued")
    with pytest.raises(Stale):
        found(party)
    with tenant_scope(party.id):
        assert selectors.describe(damaged).state == "stale"
        with pytest.raises(Stale):
            services.promote(classifier_id=damaged.id, number=1)
        assert [one.stale for one in selectors.describe(damaged).versions] == [False, True]
    assert run(party, job).state == "succeeded"
    with tenant_scope(party.id):
        scored = Job.objects.get(kind=scoring.JOB, state="queued")
    assert run(party, scored).state == "succeeded"
    assert found(party) == {asset.id for asset in texts[:YES]}
    with tenant_scope(party.id):
        assert ComputedField.objects.get().model == model
        assert selectors.describe(damaged).state == "live"


def switch_model(party, texts, tmp_path) -> str:
    model = keep_turned(party.id, tmp_path)
    model_routing.begin_dual_write(model, tenant_id=party.id)
    with tenant_scope(party.id):
        for n, asset in enumerate(texts):
            both = [
                NewVector("text", vector(n, n < YES), model=model_routing.default_model()),
                NewVector("text", vector(n, n >= YES, seed=1), model=model),
            ]
            replace_vectors(asset=asset, vectors=both, made_for=[model_routing.default_model(), model])
        model_routing.switch(model)
    return model


def test_a_stale_version_is_not_applied_anew(party, texts, damaged, tmp_path) -> None:
    train(party, damaged)
    with tenant_scope(party.id):
        _, job = services.promote(classifier_id=damaged.id, number=1)
    switch_model(party, texts, tmp_path)
    failed = run(party, job)
    assert (failed.state, failed.error["type"]) == ("failed", "classifier-stale")
    with tenant_scope(party.id):
        with pytest.raises(Stale, match="Train it again"):
            jobs.retry(job_id=job.id)
        assert Job.objects.get(pk=job.id).state == "failed"
        assert ClassifierVersion.objects.get().state == "candidate"


def test_what_was_trained_for_the_model_before_is_not_applied_when_it_is_done(
    party, texts, damaged, tmp_path, monkeypatch
) -> None:
    with tenant_scope(party.id):
        _, job = services.train(classifier_id=damaged.id, promote=True)
    fit = classification.fit

    def fit_while_the_model_changes(*args, **options):
        switch_model(party, texts, tmp_path)
        return fit(*args, **options)

    monkeypatch.setattr(classification, "fit", fit_while_the_model_changes)
    assert run(party, job).state == "succeeded"
    with tenant_scope(party.id):
        version = ClassifierVersion.objects.get()
        assert (version.state, version.error["type"]) == ("candidate", "classifier-stale")
        assert not Job.objects.filter(kind=scoring.JOB).exists()


def test_from_metadata(party, texts) -> None:
    with tenant_scope(party.id):
        for n, asset in enumerate(texts[::2]):
            update_asset(asset_id=asset.id, values={"broken": 2 * n < YES})
        row = services.create_classifier(name="白色连衣裙", metadata_key="broken", metadata_value=True)
    version = train(party, row)
    assert (version.source, version.report["n"], version.report["positive"]) == ("metadata", 20, 8)
    promote(party, row, 1)
    assert found(party, **{"classifier.白色连衣裙.probability": {"gt": 0.5}}) == {a.id for a in texts[:YES]}


class Words:
    """A space that knows one word."""

    def embed_texts(self, texts):
        return np.stack(
            [vector(7, True) if text == "broken" else vector(n, n % 2) for n, text in enumerate(texts)]
        )


def test_from_words_alone(party, texts, monkeypatch) -> None:
    monkeypatch.setattr(training.model_routing, "space", lambda model, tenant_id: Words())
    with tenant_scope(party.id):
        row = services.create_classifier(name="broken", words="broken")
    version = train(party, row)
    assert version.report["tier"] == classification.ESTIMATED
    assert version.report["modalities"] == ["text"]
    promote(party, row, 1)
    with tenant_scope(party.id):
        ranked = Facet.objects.filter(key=scoring.facet_key(version.pk)).order_by("-number")
        best = set(ranked.values_list("asset_id", flat=True)[:YES])
    assert best == {asset.id for asset in texts[:YES]}


def test_words_need_something_to_be_judged_by(party, monkeypatch) -> None:
    monkeypatch.setattr(training.model_routing, "space", lambda model, tenant_id: Words())
    with tenant_scope(party.id):
        row = services.create_classifier(name="broken", words="broken")
        _, job = services.train(classifier_id=row.id)
    error = run(party, job).error
    assert (error["type"], "20 assets" in error["detail"]) == ("classifier-untrainable", True)
    with tenant_scope(party.id):
        assert ClassifierVersion.objects.get().error == error


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({}, "0 examples of yes and 0 of no"),
        ({0: True, 1: True, 2: True, 3: True, 4: True}, "of one answer"),
        ({0: True, 30: False, 31: False}, "1 examples of yes and 2 of no"),
    ],
)
def test_what_nothing_can_be_learnt_from_is_refused_at_once(party, texts, labels, said) -> None:
    with tenant_scope(party.id):
        row = services.create_classifier(name="x")
        services.label_assets(classifier_id=row.id, labels={texts[n].id: yes for n, yes in labels.items()})
        with pytest.raises(Untrainable, match=said):
            services.train(classifier_id=row.id, source="examples")
        assert not ClassifierVersion.objects.exists()


def test_the_same_content_labelled_both_ways_is_named(party, texts, damaged) -> None:
    with tenant_scope(party.id):
        again = add_asset(dataset_id=texts[0].dataset_id, text="text 0").asset
        services.label_assets(classifier_id=damaged.id, labels={again.id: False})
        with pytest.raises(Untrainable, match="labelled yes and no: 2 assets") as caught:
            services.train(classifier_id=damaged.id)
        assert set(caught.value.extra["assets"]) == {str(again.id), str(texts[0].id)}
        # Taken back, it is none.
        services.label_assets(classifier_id=damaged.id, labels={again.id: None})
        services.train(classifier_id=damaged.id)


def test_assets_without_vectors_are_left_out_and_told(party, texts, damaged) -> None:
    with tenant_scope(party.id):
        bare = [add_asset(dataset_id=texts[0].dataset_id, text=f"bare {n}").asset for n in range(6)]
        labels = {asset.id: n % 2 == 0 for n, asset in enumerate(bare)}
        services.label_assets(classifier_id=damaged.id, labels=labels)
        alone = services.create_classifier(name="alone")
        services.label_assets(classifier_id=alone.id, labels=labels)
        _, job = services.train(classifier_id=alone.id)
    assert train(party, damaged).report["without_vectors"] == 6
    assert "6 examples were left out" in run(party, job).error["detail"]


def test_examples_are_the_tenants_own_and_not_too_many(party, stranger, texts, damaged, monkeypatch) -> None:
    with tenant_scope(stranger.id):
        other = services.create_classifier(name="damaged")
        with pytest.raises(NotFound):
            services.label_assets(classifier_id=other.id, labels={texts[0].id: True})
        with pytest.raises(NotFound):
            services.label_assets(classifier_id=damaged.id, labels={})
        assert not ClassifierExample.objects.exists()
    monkeypatch.setattr(services, "MAX_EXAMPLES", 20)
    with tenant_scope(party.id):
        with pytest.raises(Conflict, match="at most 20"):
            services.label_assets(classifier_id=damaged.id, labels={texts[1].id: True})
        assert ClassifierExample.objects.count() == 20


@pytest.mark.parametrize("name", ["", "two words", "a.b", "-x", "x" * 61, "a/b", "x\n", "\ud800", "a\x00"])
def test_what_is_no_name_is_refused(party, name) -> None:
    with tenant_scope(party.id), pytest.raises(Invalid):
        services.create_classifier(name=name)


def test_names_collide_without_case_with_metadata_and_by_number(party, texts, damaged, monkeypatch) -> None:
    with tenant_scope(party.id):
        with pytest.raises(Conflict, match="already"):
            services.create_classifier(name="DAMAGED")
        update_asset(asset_id=texts[0].id, values={"classifier.taken.probability": 1})
        with pytest.raises(Conflict, match="metadata"):
            services.create_classifier(name="taken")
    # What was there before is filtered by as before.
    assert found(party, **{"classifier.taken.probability": 1}) == {texts[0].id}
    monkeypatch.setattr(services, "MOST", 1)
    with tenant_scope(party.id), pytest.raises(QuotaExceeded):
        services.create_classifier(name="second")


def test_a_source_that_it_does_not_have_and_a_version_that_is_not_there(party, damaged) -> None:
    with tenant_scope(party.id):
        for source in ("words", "metadata"):
            with pytest.raises(Invalid):
                services.train(classifier_id=damaged.id, source=source)
        with pytest.raises(NotFound):
            services.promote(classifier_id=damaged.id, number=1)
        services.train(classifier_id=damaged.id)
        with pytest.raises(NotReady):
            services.promote(classifier_id=damaged.id, number=1)
        with pytest.raises(NotReady):
            suggestions.suggest(damaged, 5)


def test_what_to_label_next_is_not_labelled_and_in_doubt(party, texts, damaged) -> None:
    train(party, damaged)
    with tenant_scope(party.id):
        dataset = texts[0].dataset_id
        doubtful = add_asset(dataset_id=dataset, text="doubtful").asset
        values = np.zeros(256, np.float32)
        values[5] = 1
        embed(doubtful, values)
        labelled = set(ClassifierExample.objects.values_list("asset_id", flat=True))
        first = suggestions.suggest(damaged, 4)
    promote(party, damaged, 1)
    with tenant_scope(party.id):
        second = suggestions.suggest(damaged, 4)
    assert first[0].asset_id == second[0].asset_id == doubtful.id
    for found_now in (first, second):
        margins = [one.margin for one in found_now]
        assert margins == sorted(margins)
        assert margins == [round(abs(one.probability - 0.5), 4) for one in found_now]
    assert len(first) == len(second) == 4
    assert not labelled & {one.asset_id for one in [*first, *second]}


def test_it_goes_with_its_examples_and_scores_and_an_erased_asset_with_its_label(
    party, texts, damaged
) -> None:
    train(party, damaged)
    promote(party, damaged, 1)
    with tenant_scope(party.id):
        erasure.erase_asset(asset_id=texts[0].id)
        assert not ClassifierExample.objects.filter(asset_id=texts[0].id).exists()
        assert not Facet.objects.filter(asset_id=texts[0].id).exists()
        key = scoring.facet_key(ClassifierVersion.objects.get().pk)
        services.delete_classifier(classifier_id=damaged.id)
        for model in (Classifier, ClassifierExample, ClassifierVersion, ComputedField):
            assert not model.objects.exists()
        job = Job.objects.get(kind=scoring.FORGET)
    with pytest.raises(Invalid, match="No classifier"):
        found(party)
    assert run(party, job).result == {"facets": N - 1}
    with tenant_scope(party.id):
        assert not Facet.objects.filter(key=key).exists()


def test_a_classifier_that_is_deleted_while_it_is_trained_is_told(party, damaged) -> None:
    with tenant_scope(party.id):
        _, job = services.train(classifier_id=damaged.id)
        services.delete_classifier(classifier_id=damaged.id)
    assert run(party, job).error["type"] == "conflict"


# --- In policies -----------------------------------------------------------------------------------------

SURE = "has(classifier.damaged.probability) && classifier.damaged.probability >= 0.8"


def decided(asset: Asset) -> tuple[str, object]:
    """What a policy with a rule about it decides, and what it knew."""
    decides = InForce(uuid.uuid4(), uuid.uuid4(), 1, document(rule("damaged", SURE)), "", "shadow")
    request = AuditRequest(asset=asset, modality="text")
    case = auditing.Case(request, asset, asset.blob, (), decides)
    shown, decision = auditing.assess(case, Examination({}, (), 0.0))
    return decision.decision, shown.get("classifier")


def test_rules_read_what_is_known_of_an_asset_and_nothing_else(party, texts, damaged) -> None:
    with tenant_scope(party.id):
        assert decided(texts[0]) == ("allow", None)
    train(party, damaged)
    promote(party, damaged, 1)
    with tenant_scope(party.id):
        decision, known = decided(texts[0])
        assert (decision, known["damaged"]["version"]) == ("review", 1)
        assert known["damaged"]["probability"] > 0.8
        assert decided(texts[YES])[0] == "allow"
        bare = add_asset(dataset_id=texts[0].dataset_id, text="bare").asset
        assert decided(bare) == ("allow", {"damaged": {"state": "not_examined"}})
        ClassifierVersion.objects.update(model="other:1")
        assert decided(texts[0]) == ("allow", {"damaged": {"state": "stale"}})


@pytest.mark.parametrize(("when", "asked"), [(SURE, 1), ("item.bytes > 1", 0)])
def test_an_upload_is_audited_again_once_it_is_scored(party, texts, damaged, when, asked) -> None:
    train(party, damaged)
    promote(party, damaged, 1)
    with tenant_scope(party.id):
        policy = new_policy(rule("r", when), audit_uploads=True)
        policies.activate(policy_id=policy.id, number=1, mode="enforce")
        added = add_asset(dataset_id=texts[0].dataset_id, text="new")
        first = set(AuditRequest.objects.values_list("pk", flat=True))
    run(party, added.job)
    with tenant_scope(party.id):
        later = AuditRequest.objects.exclude(pk__in=first)
        assert [one.asset_id for one in later] == [added.asset.id] * asked


def test_what_no_head_can_score_ends_a_promotion_instead_of_going_round(
    party, texts, damaged, monkeypatch
) -> None:
    train(party, damaged)
    with tenant_scope(party.id):
        _, job = services.promote(classifier_id=damaged.id, number=1)
    monkeypatch.setattr(scoring, "_write", lambda version, modalities: 0)
    assert "cannot be scored" in run(party, job).error["detail"]
    with tenant_scope(party.id):
        assert ClassifierVersion.objects.get().state == "candidate"


def test_of_many_versions_the_newest_and_the_live_one_are_read(party, damaged) -> None:
    """By as many statements for two classifiers as for one, and no row that is not shown."""
    with tenant_scope(party.id):
        other = services.create_classifier(name="other")
        for row, count in ((damaged, 45), (other, 2)):
            ClassifierVersion.objects.bulk_create(
                ClassifierVersion(classifier=row, number=n + 1, source="examples", state="retired", head=b"x")
                for n in range(count)
            )
        damaged.versions.filter(number=3).update(state="live")
        damaged.live = 3
        damaged.save()
        shown = {damaged.id: [*range(45, 25, -1), 3], other.id: [2, 1]}
        read = selectors._shown_versions([damaged.id, other.id])
        assert len(read) == 23
        assert all(one.get_deferred_fields() == {"head"} for one in read)
        for rows in ([damaged], [damaged, other]):
            with CaptureQueriesContext(connection) as made:
                shapes = selectors.describe_all(rows)
            assert len([one for one in made if "classifier" in one["sql"]]) == 2, made.captured_queries
            assert [[version.number for version in one.versions] for one in shapes] == [
                shown[row.id] for row in rows
            ]
        assert [one.live for one in shapes] == [3, None]


def test_an_asset_is_answered_for_by_all_live_classifiers_at_once(party, texts, damaged) -> None:
    with tenant_scope(party.id), CaptureQueriesContext(connection) as made:
        assert scoring.answers_about(texts[0].id) == []
    assert len([one for one in made if "classifier" in one["sql"] or "facet" in one["sql"]]) == 1
    train(party, damaged)
    promote(party, damaged, 1)
    with tenant_scope(party.id):
        for n in range(3):
            row = services.create_classifier(name=f"later-{n}")
            ClassifierVersion.objects.create(
                classifier=row, number=4, source="words", state="live", model=model_routing.default_model()
            )
        with CaptureQueriesContext(connection) as made:
            first, *rest = scoring.answers_about(texts[0].id)
        assert len([one for one in made if "classifier" in one["sql"] or "facet" in one["sql"]]) == 2
        assert (first.name, first.version, first.state, first.classifier) == (
            "damaged",
            1,
            "examined",
            str(damaged.id),
        )
        assert first.probability is not None and first.probability > 0.8
        assert first.tier == "estimated, not calibrated"
        assert [(one.name, one.version, one.state, one.probability) for one in rest] == [
            (f"later-{n}", 4, "not_examined", None) for n in range(3)
        ]
        ClassifierVersion.objects.update(model="other:1")
        assert [(one.state, one.probability) for one in scoring.answers_about(texts[0].id)] == [
            ("stale", None)
        ] * 4
