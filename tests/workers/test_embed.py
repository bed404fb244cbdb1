"""The embed task's body on the real database and the real models, without a broker between."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from django.core.files.storage import default_storage
from PIL import Image

from tenants.accounts import quotas
from tenants.datasets import content_responses, storage
from tenants.datasets.models import Asset
from tenants.datasets.services import create_dataset
from tenants.errors import Invalid
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.pipeline.assets import embedding, services
from tenants.retrieval.models import Vector
from tenants.retrieval.query.searcher import Query, search
from tenants.scope import tenant_scope
from tests.flows.pictures import jpeg, with_location
from tests.waiting import pause
from workers.base import run_job

pytestmark = pytest.mark.slow


@pytest.fixture
def dataset(party):
    with tenant_scope(party.id):
        return create_dataset(name="d")


def _add(party, dataset, **kwargs) -> services.Added:
    with tenant_scope(party.id):
        return services.add_asset(dataset_id=dataset.id, **kwargs)


def _run(party, added: services.Added) -> tuple[Job, Asset | None]:
    run_job(str(added.job.id), str(party.id))
    with tenant_scope(party.id):
        return Job.objects.get(pk=added.job.id), Asset.objects.filter(pk=added.asset.id).first()


def test_a_picture_with_a_caption_gets_two_vectors_a_thumbnail_and_a_cost(party, dataset) -> None:
    added = _add(party, dataset, file=io.BytesIO(jpeg(1, 500)), text="coloured boxes")
    job, asset = _run(party, added)
    assert (job.state, job.attempts, asset.status) == ("succeeded", 1, "ready")
    assert job.cost_cpu_s > 0.01
    with tenant_scope(party.id):
        stored = Vector.objects.filter(asset=asset).order_by("seq")
        assert [(v.modality, v.seq, len(bytes(v.data))) for v in stored] == [
            ("image", 1, 1024),
            ("text", 2, 1024),
        ]
        assert quotas.summary()["vectors"] == {"used": 2, "reserved": 0, "limit": 600_000}
        blob = asset.blob
    assert (blob.width, blob.height, blob.has_thumbnail, blob.clean_type) == (500, 500, True, "")
    with storage.open_blob(storage.path_of(party.id, blob.sha256, "thumbnail")) as stream:
        assert stream.read(4) == b"\xff\xd8\xff\xe0"


@pytest.mark.guard
def test_running_a_job_twice_changes_nothing(party, dataset) -> None:
    added = _add(party, dataset, text="once")
    _run(party, added)
    job, _ = _run(party, added)
    assert job.attempts == 1
    with tenant_scope(party.id):
        assert Vector.objects.count() == 1


def test_a_long_text_gets_a_vector_for_each_passage(party, dataset) -> None:
    text = "Words about apples. " * 100
    _run(party, _add(party, dataset, text=text))
    with tenant_scope(party.id):
        segments = [v.segment for v in Vector.objects.order_by("seq")]
    assert [s["start_char"] for s in segments] == [0] + [s["end_char"] for s in segments[:-1]]
    assert segments[-1]["end_char"] == len(text)


def test_a_hit_in_a_long_text_names_the_passage(party, dataset) -> None:
    text = (
        "The garden is green. " * 60 + "The safe opens with the code of the old piano. " + "Rain fell. " * 90
    )
    _run(party, _add(party, dataset, text=text))
    (asset, hit), *_ = search(tenant_id=party.id, query=Query(text="How does the safe open?")).results
    assert asset.excerpt == text[:500]
    assert "old piano" in text[hit.segment["start_char"] : hit.segment["end_char"]]


def test_a_picture_with_a_location_gets_a_rendition_without_it(party, dataset) -> None:
    _, asset = _run(party, _add(party, dataset, file=io.BytesIO(with_location(2))))
    with tenant_scope(party.id):
        blob = asset.blob
    assert (blob.width, blob.height, blob.clean_type) == (40, 80, "image/jpeg")
    with storage.open_blob(storage.path_of(party.id, blob.sha256, "clean")) as stream:
        assert b"Exif" not in stream.read()


def test_a_photo_of_a_telephone_is_found_and_handed_out_as_a_jpeg(party, dataset) -> None:
    photo = (Path(__file__).parent.parent / "ml" / "heic" / "rotated.heic").read_bytes()
    job, asset = _run(party, _add(party, dataset, file=io.BytesIO(photo)))
    assert (job.state, asset.status, asset.modality) == ("succeeded", "ready", "image")
    with tenant_scope(party.id):
        blob = asset.blob
        content = content_responses.content_of(asset)
    assert (blob.media_type, blob.width, blob.height, blob.has_thumbnail) == ("image/heic", 96, 144, True)
    assert content.media_type == "image/jpeg"
    with storage.open_blob(content.path) as stream, Image.open(stream) as shown:
        assert (shown.format, shown.size, dict(shown.getexif())) == ("JPEG", (96, 144), {})
    with storage.open_blob(storage.path_of(party.id, blob.sha256)) as stream:
        assert stream.read() == photo


def test_an_asset_deleted_before_its_turn_ends_its_job_and_holds_no_quota(party, dataset) -> None:
    added = _add(party, dataset, text="short-lived")
    with tenant_scope(party.id):
        services.delete_asset(asset_id=added.asset.id)
    job, asset = _run(party, added)
    assert (job.state, asset) == ("succeeded", None)
    assert "deleted" in job.result["note"]
    with tenant_scope(party.id):
        assert Vector.objects.count() == 0
        assert quotas.summary()["vectors"] == {"used": 0, "reserved": 0, "limit": 600_000}


@pytest.mark.guard
def test_an_asset_deleted_while_it_is_encoded_leaves_nothing(party, dataset, monkeypatch) -> None:
    added = _add(party, dataset, file=io.BytesIO(jpeg(3)))
    prepare = embedding.prepare

    def prepare_and_delete(*args):
        prepared = prepare(*args)
        with tenant_scope(party.id):
            services.delete_asset(asset_id=added.asset.id)
        return prepared

    monkeypatch.setattr(embedding, "prepare", prepare_and_delete)
    job, asset = _run(party, added)
    assert (job.state, asset) == ("succeeded", None)
    with tenant_scope(party.id):
        assert Vector.objects.count() == 0
    for kind in storage.KINDS:
        assert not default_storage.exists(storage.path_of(party.id, added.asset.blob.sha256, kind))


def test_an_asset_deleted_while_it_is_decoded_is_no_damaged_file(party, dataset, monkeypatch) -> None:
    added = _add(party, dataset, file=io.BytesIO(jpeg(3)))
    prepare = embedding.prepare

    def delete_first(*args):
        with tenant_scope(party.id):
            services.delete_asset(asset_id=added.asset.id)
        return prepare(*args)

    monkeypatch.setattr(embedding, "prepare", delete_first)
    job, asset = _run(party, added)
    assert (job.state, job.error, asset) == ("succeeded", None, None)


def test_content_at_fault_is_not_tried_again(party, dataset) -> None:
    job, asset = _run(party, _add(party, dataset, file=io.BytesIO(jpeg(4)[:300])))
    assert (job.state, job.attempts, job.error["type"]) == ("failed", 1, "corrupt")
    assert (asset.status, asset.error) == ("failed", job.error)


def test_an_error_of_ours_is_tried_again(party, dataset) -> None:
    added = _add(party, dataset, text="x")

    def broken(claimed: jobs.Claim) -> None:
        raise ZeroDivisionError

    run_job(str(added.job.id), str(party.id), broken)
    with tenant_scope(party.id):
        job = Job.objects.get(pk=added.job.id)
    assert (job.state, job.attempts, job.error["type"]) == ("queued", 1, "internal-error")
    assert "ZeroDivisionError" in job.error["detail"]
    job, asset = _run(party, added)
    assert (job.state, job.attempts, asset.status, job.error) == ("succeeded", 2, "ready", None)


def test_the_heartbeat_keeps_a_slow_job_alive(party, dataset) -> None:
    added = _add(party, dataset, text="slow")
    second: list = []

    def slow(claimed: jobs.Claim) -> None:
        pause(6, "longer than the lease of the tests, 4 s by the clock of the database")
        second.append(jobs.claim(job_id=added.job.id, tenant_id=party.id))
        jobs.succeed(claimed, result={}, cpu_s=0, gpu_s=0, used={})

    thread = threading.Thread(target=run_job, args=(str(added.job.id), str(party.id), slow))
    thread.start()
    thread.join()
    assert second == [None]
    with tenant_scope(party.id):
        assert Job.objects.get(pk=added.job.id).state == "succeeded"


def test_what_a_job_said_is_done_is_found(party, dataset) -> None:
    for text in ("how to return a broken kettle", "opening hours of the museum", "a recipe for bread"):
        _run(party, _add(party, dataset, text=text))
        best = search(tenant_id=party.id, query=Query(text=text)).results[0]
        with (
            tenant_scope(party.id),
            storage.open_blob(storage.path_of(party.id, best[0].blob.sha256)) as stream,
        ):
            assert stream.read().decode() == text
    answer = search(
        tenant_id=party.id, query=Query(text="my kettle does not work, I want my money back", top_k=1)
    )
    assert answer.meta["total_candidates"] == 3
    assert answer.results[0][1].score > 0.4


def test_hybrid_search_finds_a_word_that_means_nothing_to_the_encoder(party, dataset) -> None:
    texts = (
        "a spare part, order number KX-7719Q",
        "order numbers and how to read them",
        "我想退货",
        "发货时间",
    )
    ids = [_run(party, _add(party, dataset, text=text))[1].id for text in texts]

    def best(text: str, **more) -> list:
        answer = search(tenant_id=party.id, query=Query(text=text, top_k=1, **more))
        return [asset.id for asset, _ in answer.results]

    assert best("KX 7719Q", hybrid=True) == [ids[0]]
    assert best("退货", hybrid=True) == [ids[2]]
    with tenant_scope(party.id):
        services.delete_asset(asset_id=ids[2])
    assert best("退货", hybrid=True) != [ids[2]]
    answer = search(tenant_id=party.id, query=Query(text="spare part", hybrid=True))
    assert answer.results[0][1].score == pytest.approx(2 / 61)
    assert "lexical" in answer.timings
    with pytest.raises(Invalid, match="words"):
        search(tenant_id=party.id, query=Query(vector=np.eye(1, 256, dtype="f4")[0], hybrid=True))
