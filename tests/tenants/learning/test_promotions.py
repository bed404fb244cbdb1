"""A model comes to serve searches: beside, compared, switched to, back; and what keeps one that is worse from it."""

from __future__ import annotations

import pytest

from tenants.errors import Conflict, NotFound, NotReady
from tenants.events.models import AuditEvent
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning import golden, promotions, selectors, services
from tenants.learning.models import LearntModel, Promotion
from tenants.pipeline.assets import backfill_embeddings
from tenants.retrieval import model_routing
from tenants.scope import tenant_scope
from tests.tenants.learning.world import add_picture, drawing, embed, new_dataset, new_model, unit, with_files
from workers.base import run_job

CLOSE, FAR = unit(1, 0.1), unit(0, 0, 1)


@pytest.fixture
def pictures(party):
    """Three pictures: to the product's space the second is like the first, and the third is not."""
    with tenant_scope(party.id):
        dataset = new_dataset()
        made = [add_picture(dataset, drawing("small red circle", n)) for n in range(3)]
        for asset, values in zip(made, (unit(1), CLOSE, FAR), strict=True):
            embed(asset, model_routing.default_model(), values)
        golden.add_golden_query(asset_id=made[0].id, relevant=[made[1].id])
    return made


@pytest.fixture
def model(party, tmp_path):
    return with_files(new_model(party.id), tmp_path)


def begin(party, model, **options):
    with tenant_scope(party.id):
        return promotions.promote(model=model, actor="key:x", **options)


def embed_all(party, pictures, model, *vectors):
    with tenant_scope(party.id):
        for asset, values in zip(pictures, vectors, strict=True):
            embed(asset, model.space, values)


def finish(party, promotion):
    run_job(str(promotion.job_id), str(party.id))
    with tenant_scope(party.id):
        job = Job.objects.get(pk=promotion.job_id)
        assert job.error is None
        return Promotion.objects.get(pk=promotion.pk), job


def promoted(party, pictures, model, *vectors, **options):
    row = begin(party, model, **options)
    embed_all(party, pictures, model, *vectors)
    return finish(party, row)


def state_of(party, model):
    with tenant_scope(party.id):
        return LearntModel.objects.get(pk=model.pk).state, model_routing.live()


def test_a_model_that_is_not_worse_serves_once_everything_is_embedded(party, pictures, model):
    row = begin(party, model)
    assert (row.state, row.replaces) == ("embedding", "prior:2")
    assert state_of(party, model) == ("candidate", "prior:2")
    embed_all(party, pictures, model, unit(1), CLOSE, FAR)
    row, job = finish(party, row)
    assert row.state == "switched"
    assert row.report["overlap"] == {"at_10": 1.0, "queries": 1}
    assert row.report["golden"]["before"]["mrr"] == row.report["golden"]["after"]["mrr"] == 1.0
    assert row.report["worse"] == []
    assert (job.state, job.result["state"]) == ("succeeded", "switched")
    assert state_of(party, model) == ("live", model.space)
    with tenant_scope(party.id):
        verbs = set(AuditEvent.objects.filter(target=str(model.id)).values_list("verb", flat=True))
    assert verbs == {"model.promotion_started", "model.promoted"}


def test_a_fall_on_golden_queries_waits_for_a_decision(party, pictures, model):
    row, job = promoted(party, pictures, model, unit(1), FAR, CLOSE)
    assert (row.state, job.state) == ("ready", "succeeded")
    assert row.report["golden"]["after"]["mrr"] == 0.5
    assert row.report["golden"]["change"]["mrr"]["difference"] == -0.5
    assert "golden queries" in row.report["worse"][0]
    assert state_of(party, model) == ("candidate", "prior:2")
    with pytest.raises(promotions.WorseModel) as refused:
        begin(party, model)
    assert refused.value.extra["reasons"] == row.report["worse"]
    assert begin(party, model, override_reason="We know.").state == "switched"
    assert state_of(party, model) == ("live", model.space)
    with tenant_scope(party.id):
        assert AuditEvent.objects.get(verb="model.promoted").details["override"] == "We know."


def test_with_an_override_from_the_start_nothing_waits(party, pictures, model):
    row, _ = promoted(party, pictures, model, unit(1), FAR, CLOSE, override_reason="We know.")
    assert (row.state, row.override_reason) == ("switched", "We know.")


def change(low, high):
    ways = {"text>image": {"mrr": {"difference": (low + high) / 2, "interval": [low, high]}}}
    return {"domain": {"differences": {"parent": ways}}}


def test_a_model_worse_than_its_parent_is_refused_before_anything_is_embedded(party, pictures, tmp_path):
    worse, unclear = (
        with_files(new_model(party.id, metrics=change(low, high)), tmp_path)
        for low, high in ((-0.2, -0.1), (-0.2, 0.01))
    )
    with pytest.raises(promotions.WorseModel, match=r"text>image is -0\.150"):
        begin(party, worse)
    with tenant_scope(party.id):
        assert not Promotion.objects.exists()
        assert model_routing.written(party.id).beside == ()
    assert begin(party, unclear).state == "embedding"


def test_back_is_instant_and_the_model_may_come_again(party, pictures, model):
    promoted(party, pictures, model, unit(1), CLOSE, FAR)
    with tenant_scope(party.id):
        now = promotions.roll_back(model=model, actor="key:x")
    assert now.space == "prior:2"
    assert state_of(party, model) == ("retired", "prior:2")
    with tenant_scope(party.id), pytest.raises(Conflict):
        promotions.roll_back(model=model)
    row, _ = finish(party, begin(party, model))
    assert (row.state, *state_of(party, model)) == ("switched", "live", model.space)


def test_the_next_one_retires_the_one_before(party, pictures, model, tmp_path):
    promoted(party, pictures, model, unit(1), CLOSE, FAR)
    other = with_files(new_model(party.id), tmp_path)
    promoted(party, pictures, other, unit(1), CLOSE, FAR)
    assert state_of(party, model) == ("retired", other.space)
    assert model_routing.written(party.id).previous == model.space
    with tenant_scope(party.id):
        now = promotions.roll_back(model=other)
        assert now == LearntModel.objects.get(pk=model.pk)
    assert state_of(party, model) == ("live", model.space)


def test_a_built_in_space_is_promoted_as_any_other(party, pictures, model):
    promoted(party, pictures, model, unit(1), CLOSE, FAR)
    with tenant_scope(party.id):
        prior = selectors.find_model("prior-2")
        assert selectors.describe(prior).state == "candidate"
    row, _ = finish(party, begin(party, prior))
    assert (row.state, row.model) == ("switched", None)
    assert state_of(party, model) == ("retired", "prior:2")


def test_what_cannot_be_promoted(party, pictures, model, tmp_path):
    draft = new_model(party.id, state="draft")
    with pytest.raises(NotReady):
        begin(party, draft)
    with tenant_scope(party.id), pytest.raises(Conflict):
        promotions.promote(model=selectors.find_model("prior-2"))
    begin(party, model)
    for again in (model, with_files(new_model(party.id), tmp_path)):
        with pytest.raises(Conflict):
            begin(party, again)
    with tenant_scope(party.id), pytest.raises(Conflict, match="being promoted"):
        services.delete_model(model=model)


def test_a_cancelled_job_ends_the_promotion_and_a_retry_takes_it_up(party, pictures, model):
    row = begin(party, model)
    with tenant_scope(party.id):
        jobs.cancel(job_id=row.job_id)
        row.refresh_from_db()
        assert (row.state, model_routing.written(party.id).beside) == ("abandoned", ())
        jobs.retry(job_id=row.job_id)
        row.refresh_from_db()
        assert (row.state, model_routing.written(party.id).beside) == ("embedding", (model.space,))


@pytest.mark.parametrize("running", [False, True])
def test_one_that_embeds_is_given_up_by_a_roll_back_and_can_then_be_deleted(party, pictures, model, running):
    row = begin(party, model)
    claimed = jobs.claim(job_id=row.job_id, tenant_id=party.id) if running else None
    with tenant_scope(party.id):
        with pytest.raises(Conflict, match="roll it back first"):
            services.delete_model(model=model)
        assert promotions.roll_back(model=model, actor="key:x").space == "prior:2"
        row.refresh_from_db()
        job = Job.objects.get(pk=row.job_id)
        assert (row.state, model_routing.written(party.id).beside) == ("abandoned", ())
        assert (job.state, job.cancel_requested) == ("running" if running else "cancelled", True)
        verbs = AuditEvent.objects.filter(target=str(model.id)).order_by("id").values_list("verb", flat=True)
        assert list(verbs) == ["model.promotion_started", "model.promotion_abandoned"]
        services.delete_model(model=model)
    if claimed is not None:
        # What the worker finds that was in the middle of it.
        with pytest.raises(Conflict, match="given up"):
            promotions.embedded(claimed)
    assert model_routing.written(party.id) == model_routing.Written()


def test_a_roll_back_in_the_middle_stops_the_job(party, pictures, model, monkeypatch):
    row = begin(party, model)
    real = backfill_embeddings.Backfill._store

    def taken_back(run, items):
        with tenant_scope(party.id):
            promotions.roll_back(model=model)
        real(run, items)

    monkeypatch.setattr(backfill_embeddings.Backfill, "_store", taken_back)
    run_job(str(row.job_id), str(party.id))
    with tenant_scope(party.id):
        assert Job.objects.get(pk=row.job_id).state in ("cancelled", "failed")
        row.refresh_from_db()
        assert (row.state, model_routing.live(), model_routing.written(party.id).beside) == (
            "abandoned",
            "prior:2",
            (),
        )


def test_a_model_that_reads_no_chinese_needs_an_override_where_searches_understand_it(
    party, pictures, model, tmp_path
):
    english = with_files(new_model(party.id), tmp_path, chinese=False)
    with tenant_scope(party.id):
        prior_1 = selectors.find_model("prior-1")
    for poorer in (prior_1, english):
        with pytest.raises(promotions.WorseModel, match="Chinese") as refused:
            begin(party, poorer)
        assert "`override`" in refused.value.detail
        with tenant_scope(party.id):
            assert not Promotion.objects.exists()
    row = begin(party, english, override_reason="We only speak English.")
    embed_all(party, pictures, english, unit(1), CLOSE, FAR)
    assert finish(party, row)[0].state == "switched"
    # Nothing is lost from here on, and nothing by going back.
    begin(party, prior_1)
    with tenant_scope(party.id):
        promotions.roll_back(model=prior_1)
    assert begin(party, model).state == "embedding"


def test_the_one_to_go_back_to_stays_so_when_its_promotion_is_cancelled(party, pictures, model):
    promoted(party, pictures, model, unit(1), CLOSE, FAR)
    with tenant_scope(party.id):
        row = promotions.promote(model=selectors.find_model("prior-2"))
        jobs.cancel(job_id=row.job_id)
        assert model_routing.written(party.id).previous == "prior:2"
        assert promotions.roll_back(model=model).space == "prior:2"


def test_one_that_waits_is_given_up_by_a_roll_back_or_for_another(party, pictures, model, tmp_path):
    row, _ = promoted(party, pictures, model, unit(1), FAR, CLOSE)
    with tenant_scope(party.id):
        assert promotions.roll_back(model=model).space == "prior:2"
        row.refresh_from_db()
        assert (row.state, model_routing.written(party.id).beside) == ("abandoned", ())
    row, _ = finish(party, begin(party, model))
    assert row.state == "ready"
    begin(party, with_files(new_model(party.id), tmp_path))
    with tenant_scope(party.id):
        row.refresh_from_db()
    assert row.state == "abandoned"


def test_the_end_of_the_job_may_come_twice(party, pictures, model):
    row = begin(party, model)
    embed_all(party, pictures, model, unit(1), CLOSE, FAR)
    claimed = jobs.claim(job_id=row.job_id, tenant_id=party.id)
    first, second = promotions.embedded(claimed), promotions.embedded(claimed)
    assert first == second == {"promotion": str(row.id), "state": "switched", "worse": []}
    with tenant_scope(party.id):
        assert AuditEvent.objects.filter(verb="model.promoted").count() == 1


def test_nobody_promotes_what_is_another_tenants(party, stranger, model):
    with tenant_scope(stranger.id), pytest.raises(NotFound):
        selectors.find_model(str(model.id))
