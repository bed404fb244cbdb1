"""A tenant goes over to a model of its own and back, while it is searched, filled and emptied."""

from __future__ import annotations

import io
import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants.accounts import quotas
from tenants.datasets import storage
from tenants.datasets.models import Asset, TranscriptSegment
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, CursorExpired, ModelUnavailable, NotFound, NotReady
from tenants.jobs.models import Job
from tenants.jobs.services import cancel, enqueue
from tenants.pipeline.assets import backfill_embeddings, embedding, reembed, services
from tenants.retrieval import model_routing
from tenants.retrieval.index import lifecycle
from tenants.retrieval.models import IndexGeneration, IndexPointer, Vector, VectorClock, VectorGap
from tenants.retrieval.query.result_page import HYDRATED
from tenants.retrieval.query.searcher import Answer, Query, search
from tenants.scope import tenant_scope
from tests.flows.pictures import jpeg
from tests.ml import provenance_files as films
from tests.tenants.second_model import keep_turned
from tests.waiting import pause
from workers.base import run_job

pytestmark = pytest.mark.slow
OLD = model_routing.default_model()


class Shop:
    """A tenant with texts that are each found by their own words."""

    def __init__(self, party: Any, folder: Path) -> None:
        self.party, self.id, self.folder = party, party.id, folder
        with tenant_scope(self.id):
            self.dataset = create_dataset(name="d")

    def add(self, text: str = "", file: bytes | None = None) -> Asset:
        with tenant_scope(self.id):
            stream = None if file is None else io.BytesIO(file)
            added = services.add_asset(dataset_id=self.dataset.id, file=stream, text=text)
        run_job(str(added.job.id), str(self.id))
        with tenant_scope(self.id):
            asset = Asset.objects.select_related("blob").get(pk=added.asset.id)
        assert asset.status == "ready"
        return asset

    def fill(self, count: int, first: int = 0) -> list[Asset]:
        return [self.add(words(number)) for number in range(first, first + count)]

    def find(self, text: str, **more: Any) -> Answer:
        return search(tenant_id=self.id, query=Query(text=text, **more), read=HYDRATED)

    def model(self, seed: int = 1) -> str:
        return keep_turned(self.id, self.folder, seed)

    def begin(self, model: str) -> Job:
        with tenant_scope(self.id):
            model_routing.begin_dual_write(model)
            return enqueue(
                kind="embed_beside",
                arguments={"model": model},
                total=max(1, model_routing.missing(model)),
                reserve={},
            )

    def run(self, job: Job) -> Job:
        run_job(str(job.id), str(self.id))
        with tenant_scope(self.id):
            return Job.objects.get(pk=job.id)

    def go_over(self, model: str) -> None:
        assert self.run(self.begin(model)).state == "succeeded"
        self.switch(model)

    def switch(self, model: str) -> None:
        with tenant_scope(self.id):
            model_routing.switch(model)

    def missing(self, model: str) -> int:
        with tenant_scope(self.id):
            return model_routing.missing(model)

    def count(self, model: str) -> int:
        with tenant_scope(self.id):
            return Vector.objects.filter(model=model).count()

    @property
    def used(self) -> float:
        with tenant_scope(self.id):
            return quotas.summary()["vectors"]["used"]


WORDS = ("apple", "bicycle", "castle", "dolphin", "engine", "forest", "guitar", "hammer", "island", "jacket")


def words(number: int) -> str:
    first, second, third = number % 10, number // 10 % 10, number // 100 % 10
    return f"{WORDS[first]} and {WORDS[second]} beside {WORDS[third]} number {number}"


@pytest.fixture
def shop(party, tmp_path) -> Shop:
    return Shop(party, tmp_path)


def best(answer: Answer) -> tuple[str, float, str]:
    asset, hit = answer.results[0]
    return asset.excerpt, round(hit.score, 2), answer.meta["model"]["id"]


# --- There and back --------------------------------------------------------------------------------------


def test_a_tenant_goes_over_and_back(shop: Shop) -> None:
    shop.fill(5)
    model = shop.model()
    name = model.removesuffix(":1")
    assert best(shop.find(words(3))) == (words(3), 1.0, "prior")
    job = shop.begin(model)
    assert shop.missing(model) == 5
    between = shop.add(words(5))
    assert shop.missing(model) == 5
    job = shop.run(job)
    assert (job.state, job.result, job.progress_done) == ("succeeded", {"model": model, "gaps": 0}, 5)
    assert job.cost_cpu_s > 0
    assert (shop.count(OLD), shop.count(model), shop.used) == (6, 6, 6)
    assert best(shop.find(words(5))) == (words(5), 1.0, "prior")
    shop.switch(model)
    assert best(shop.find(words(5))) == (words(5), 1.0, name)
    after = shop.add(words(6))
    assert best(shop.find(words(6))) == (words(6), 1.0, name)
    with tenant_scope(shop.id):
        services.delete_asset(asset_id=between.id)
        now = model_routing.roll_back()
    assert (now.live, now.previous, now.beside) == (OLD, model, (model,))
    assert best(shop.find(words(6))) == (words(6), 1.0, "prior")
    assert str(between.id) not in [asset.id for asset, _ in shop.find(words(5)).results]
    with tenant_scope(shop.id):
        services.delete_asset(asset_id=after.id)
    assert (shop.count(OLD), shop.count(model), shop.used) == (5, 5, 5)


def test_it_is_no_matter_how_often_it_is_said(shop: Shop) -> None:
    shop.fill(1)
    model = shop.model()
    with tenant_scope(shop.id):
        assert model_routing.begin_dual_write(model) == model_routing.begin_dual_write(model)
    assert shop.run(shop.begin(model)).state == "succeeded"
    with tenant_scope(shop.id):
        assert model_routing.switch(model) == model_routing.switch(model)
        with pytest.raises(Conflict):
            model_routing.begin_dual_write(model)
        with pytest.raises(Conflict):
            model_routing.end_dual_write(model)
        model_routing.end_dual_write(OLD)
        model_routing.end_dual_write(OLD)
        with pytest.raises(NotFound):
            model_routing.roll_back()


def test_nobody_switches_to_what_has_not_seen_everything(shop: Shop) -> None:
    shop.fill(3)
    model = shop.model()
    with tenant_scope(shop.id):
        with pytest.raises(Conflict, match="not written"):
            model_routing.switch(model)
        model_routing.begin_dual_write(model)
        with pytest.raises(model_routing.Missing, match="3 assets") as refused:
            model_routing.switch(model)
        assert refused.value.extra == {"missing": 3}
        assert model_routing.live() == OLD
    assert best(shop.find(words(1)))[2] == "prior"


def test_a_new_tenant_may_begin_with_a_model_of_its_own(shop: Shop) -> None:
    model = shop.model()
    shop.go_over(model)
    shop.fill(2)
    assert best(shop.find(words(1))) == (words(1), 1.0, model.removesuffix(":1"))
    assert shop.count(OLD) == 2


def test_two_tenants_with_two_models(shop: Shop, stranger, tmp_path) -> None:
    other = Shop(stranger, tmp_path / "other")
    shop.fill(3)
    other.fill(3)
    mine, theirs = shop.model(1), other.model(2)
    for one, model in ((shop, mine), (other, theirs)):
        one.go_over(model)
    for _ in range(3):
        assert best(shop.find(words(2))) == (words(2), 1.0, mine.removesuffix(":1"))
        assert best(other.find(words(2))) == (words(2), 1.0, theirs.removesuffix(":1"))
    with tenant_scope(shop.id):
        with pytest.raises(ModelUnavailable):
            model_routing.begin_dual_write(theirs)
        assert model_routing.live() == mine


def test_a_search_that_knew_the_model_before_asks_once_more_and_then_no_more(shop: Shop) -> None:
    shop.fill(3)
    model = shop.model()
    shop.go_over(model)
    shop.find(words(0))
    with CaptureQueriesContext(connection) as queries:
        shop.find(words(0))
    # What the words name, and the results.
    assert len(queries) == 2
    model_routing.note(shop.id, OLD)
    with CaptureQueriesContext(connection) as queries:
        assert best(shop.find(words(1)))[2] == model.removesuffix(":1")
    assert len(queries) <= 6
    with tenant_scope(shop.id):
        model_routing.end_dual_write(OLD)
    model_routing.forget_retired(shop.id)
    with tenant_scope(shop.id):
        asset = Asset.objects.order_by("pk").first()
    model_routing.note(shop.id, OLD)
    # Vectors of the model that this process knew are gone, those of the asset that is named among them.
    answer = search(tenant_id=shop.id, query=Query(like=[asset.id]), read=HYDRATED)
    assert answer.meta["model"]["id"] == model.removesuffix(":1") and len(answer.results) == 2


def test_a_page_after_the_switch_is_of_the_model_before_while_that_is_whole(shop: Shop) -> None:
    shop.fill(6)
    model = shop.model()
    first, other = shop.find(words(0), top_k=2), shop.find(words(1), top_k=2)
    shop.go_over(model)
    second = search(tenant_id=shop.id, query=Query(cursor=first.next, top_k=2), read=HYDRATED)
    assert second.meta["model"]["id"] == "prior"
    shown = [asset.id for answer in (first, second) for asset, _ in answer.results]
    assert len(shown) == len(set(shown)) == 4
    with tenant_scope(shop.id):
        model_routing.end_dual_write(OLD)
    with pytest.raises(CursorExpired):
        search(tenant_id=shop.id, query=Query(cursor=other.next, top_k=2), read=HYDRATED)


def test_damaged_files_are_an_answer_of_503_and_nobody_elses_model(shop: Shop) -> None:
    shop.fill(2)
    model = shop.model()
    shop.go_over(model)
    model_routing.drop_space(tenant_id=shop.id, model=model)
    with pytest.raises(ModelUnavailable) as refused:
        shop.find(words(1))
    assert (refused.value.status, refused.value.slug) == (503, "model-unavailable")
    with tenant_scope(shop.id):
        model_routing.roll_back()
    assert best(shop.find(words(1))) == (words(1), 1.0, "prior")
    # And what comes in is embedded, whatever became of the one beside.
    shop.add(words(2))
    assert (best(shop.find(words(2)))[0], shop.missing(model)) == (words(2), 1)


# --- Writers ---------------------------------------------------------------------------------------------


def test_what_is_embedded_while_the_model_is_switched_is_embedded_again(shop: Shop, monkeypatch) -> None:
    shop.fill(1)
    model = shop.model()
    prepare, times = embedding.prepare, itertools.count()

    def switch_meanwhile(*args: Any) -> Any:
        prepared = prepare(*args)
        if next(times) == 0:
            # Begun, embedded and switched to while one upload was encoded for the old model only.
            shop.go_over(model)
        return prepared

    monkeypatch.setattr(embedding, "prepare", switch_meanwhile)
    shop.add(words(1))
    assert best(shop.find(words(1))) == (words(1), 1.0, model.removesuffix(":1"))
    assert (shop.count(OLD), shop.count(model), shop.used) == (2, 2, 2)


def test_what_was_begun_before_the_model_was_written_is_found_by_the_job(shop: Shop, monkeypatch) -> None:
    shop.fill(1)
    model = shop.model()
    prepare, times, jobs = embedding.prepare, itertools.count(), []

    def begin_meanwhile(*args: Any) -> Any:
        prepared = prepare(*args)
        if next(times) == 0:
            jobs.append(shop.begin(model))
        return prepared

    monkeypatch.setattr(embedding, "prepare", begin_meanwhile)
    shop.add(words(1))
    assert shop.missing(model) == 2
    assert shop.run(jobs[0]).state == "succeeded"
    assert (shop.missing(model), shop.count(model)) == (0, 2)


def test_a_new_caption_is_of_both_models(shop: Shop) -> None:
    asset = shop.add("a plain caption", jpeg(3, 200))
    model = shop.model()
    shop.go_over(model)
    with tenant_scope(shop.id):
        updated = services.update_asset(asset_id=asset.id, caption="another caption entirely")
    run_job(str(updated.job.id), str(shop.id))
    for name in (model.removesuffix(":1"), "prior"):
        answer = shop.find("another caption entirely")
        assert (round(answer.results[0][1].score, 2), answer.meta["model"]["id"]) == (1.0, name)
        with tenant_scope(shop.id):
            model_routing.roll_back()
    assert shop.used == 2


# --- The job ---------------------------------------------------------------------------------------------


def test_pictures_and_moments_get_what_a_new_upload_would_get(shop: Shop) -> None:
    model = shop.model()
    asset = shop.add("a caption", jpeg(5, 300))
    # As a recording whose words were heard when it came in.
    spoken = shop.add("placeholder")
    with tenant_scope(shop.id):
        Asset.objects.filter(pk=spoken.id).update(modality="audio")
        for start in (0.0, 40.0):
            TranscriptSegment.objects.create(
                asset=spoken, start_s=start, end_s=start + 5, text=f"we speak at {start}", confidence=0.9
            )
    shop.go_over(model)
    again = shop.add("a caption", jpeg(5, 300))
    with tenant_scope(shop.id):
        mine = Vector.objects.filter(model=model)

        def stored(one: Asset) -> dict[str, Any]:
            return {v.modality: np.frombuffer(v.data, "<f4") for v in mine.filter(asset=one)}

        first, second = stored(asset), stored(again)
        assert first.keys() == second.keys() == {"image", "text"}
        for modality in first:
            # Texts that are read in another batch differ in the last bits.
            np.testing.assert_allclose(first[modality], second[modality], atol=1e-5)
        moments = [v.segment for v in mine.filter(asset=spoken, modality="audio").order_by("seq")]
    assert moments == [{"start_s": 0.0, "end_s": 5.0}, {"start_s": 40.0, "end_s": 45.0}]


def test_a_film_gets_its_moments_again(shop: Shop) -> None:
    film = shop.add("a film", films.film(seed=3))
    assert film.modality == "video"
    model = shop.model()
    shop.go_over(model)
    with tenant_scope(shop.id):
        rows = Vector.objects.filter(asset=film).order_by("seq")
        parts = {one: [(v.modality, v.segment) for v in rows.filter(model=one)] for one in (OLD, model)}
    assert parts[OLD] == parts[model] and [part for part, _ in parts[model]][-1] == "text"
    assert "video" in dict(parts[model])
    assert best(shop.find("a film"))[1:] == (1.0, model.removesuffix(":1"))


def test_words_find_what_the_model_could_not_see(shop: Shop) -> None:
    gone = shop.add("an unmistakable caption", jpeg(1, 100))
    model = shop.model()
    default_storage.delete(storage.path_of(shop.id, gone.blob.sha256))
    shop.go_over(model)
    assert shop.find("an unmistakable caption").results == []
    found = shop.find("an unmistakable caption", hybrid=True).results
    assert [asset.id for asset, _ in found] == [str(gone.id)]


def test_a_file_that_is_gone_or_damaged_is_reported_and_holds_nothing_up(shop: Shop) -> None:
    whole, gone, damaged = (shop.add(f"picture {n}", jpeg(n, 200)) for n in range(3))
    model = shop.model()
    default_storage.delete(storage.path_of(shop.id, gone.blob.sha256))
    default_storage.delete(storage.path_of(shop.id, damaged.blob.sha256))
    storage.put(storage.path_of(shop.id, damaged.blob.sha256), b"no picture at all")
    job = shop.run(shop.begin(model))
    assert (job.state, job.result["gaps"], job.progress_failed) == ("succeeded", 2, 2)
    with tenant_scope(shop.id):
        reasons = dict(VectorGap.objects.values_list("asset_id", "reason"))
    assert reasons[gone.id] == "The file is not there." and reasons.keys() == {gone.id, damaged.id}
    assert shop.used == 6
    shop.switch(model)
    # Each asset counts with its vectors of the model that answers.
    assert shop.used == 2
    assert [asset.id for asset, _ in shop.find("picture 0").results] == [str(whole.id)]
    with tenant_scope(shop.id):
        services.delete_asset(asset_id=gone.id)
        model_routing.roll_back()
    assert shop.used == 4
    with tenant_scope(shop.id):
        services.delete_asset(asset_id=whole.id)
    assert shop.used == 2


def test_it_gives_its_place_to_what_waits_for_that_and_not_to_films(shop: Shop, monkeypatch) -> None:
    shop.fill(6)
    model = shop.model()
    job = shop.begin(model)
    monkeypatch.setattr(backfill_embeddings, "FULL", 2)
    monkeypatch.setattr(backfill_embeddings, "TURN_S", 0.0)
    # Sound and film have places of their own, however many of them wait.
    waiting = {"media", "embed"}
    monkeypatch.setattr(backfill_embeddings.fair_queue, "is_waiting", lambda queue: queue in waiting)
    store, portions = backfill_embeddings.Backfill._store, []

    def come_between(self: backfill_embeddings.Backfill, items: Any) -> None:
        store(self, items)
        portions.append(len(items))
        waiting.update({"import"} if len(portions) == 2 else ())

    monkeypatch.setattr(backfill_embeddings.Backfill, "_store", come_between)
    job = shop.run(job)
    assert (job.state, job.progress_done, portions) == ("queued", 4, [2, 2])
    waiting.discard("import")
    job = shop.run(job)
    assert (job.state, job.progress_done, portions) == ("succeeded", 6, [2, 2, 2])


class Killed(BaseException):
    """As a process that ends: nothing catches it."""


@pytest.mark.guard
@pytest.mark.parametrize("line", ["_locked", "_turn_is_over", "_page"])
def test_a_job_that_is_killed_goes_on_where_it_stopped(shop: Shop, monkeypatch, line: str) -> None:
    shop.fill(6)
    model, times = shop.model(), itertools.count()
    job = shop.begin(model)
    monkeypatch.setattr(backfill_embeddings, "FULL", 2)
    method = getattr(backfill_embeddings.Backfill, line)

    def die(self: backfill_embeddings.Backfill, *args: Any) -> Any:
        if next(times) == 1:
            raise Killed
        return method(self, *args)

    monkeypatch.setattr(backfill_embeddings.Backfill, line, die)
    with pytest.raises(Killed):
        shop.run(job)
    done = shop.count(model)
    assert done < 6 or line == "_page"
    with tenant_scope(shop.id):
        Job.objects.filter(pk=job.id).update(lease_until="2020-01-01T00:00Z")
    job = shop.run(job)
    assert (job.state, shop.count(model), shop.missing(model)) == ("succeeded", 6, 0)
    with tenant_scope(shop.id):
        assert not VectorGap.objects.exists()


@pytest.mark.guard
def test_what_kills_the_worker_is_passed_over(shop: Shop, monkeypatch) -> None:
    assets = [shop.add(f"picture {n}", jpeg(n, 100)) for n in range(3)]
    model = shop.model()
    job, see = shop.begin(model), reembed.reembed

    def die(item: reembed.Item, *args: Any) -> None:
        if item.asset.id == assets[1].id:
            raise Killed
        see(item, *args)

    monkeypatch.setattr(backfill_embeddings, "reembed", die)
    for _ in range(2):
        with pytest.raises(Killed):
            shop.run(job)
        with tenant_scope(shop.id):
            Job.objects.filter(pk=job.id).update(lease_until="2020-01-01T00:00Z")
    job = shop.run(job)
    assert (job.state, job.result["gaps"]) == ("succeeded", 1)
    with tenant_scope(shop.id):
        assert VectorGap.objects.get().asset_id == assets[1].id


def test_what_changes_or_goes_while_it_is_read_is_left_to_its_own_job(shop: Shop, monkeypatch) -> None:
    changed, gone = shop.add("a caption", jpeg(1, 100)), shop.add(words(1))
    model = shop.model()
    job, page = shop.begin(model), backfill_embeddings.page_of

    def meanwhile(*args: Any, **more: Any) -> list[reembed.Item]:
        items = page(*args, **more)
        if items and not updates:
            with tenant_scope(shop.id):
                updates.append(services.update_asset(asset_id=changed.id, caption="other words"))
                services.delete_asset(asset_id=gone.id)
        return items

    updates: list[services.Added] = []
    monkeypatch.setattr(backfill_embeddings, "page_of", meanwhile)
    tasks_run = shop.run(job)
    # The asset still has the vectors of its old caption, and so lacks some of the new model: another pass saw to it.
    assert (tasks_run.state, shop.missing(model)) == ("succeeded", 0)
    run_job(str(updates[0].job.id), str(shop.id))
    assert (shop.count(OLD), shop.count(model)) == (2, 2)
    shop.switch(model)
    assert shop.find("other words").results[0][1].score > 0.99
    assert len(shop.find(words(1)).results) == 1


def test_a_cancelled_job_stops_and_leaves_the_live_model(shop: Shop, monkeypatch) -> None:
    shop.fill(4)
    model = shop.model()
    job = shop.begin(model)
    monkeypatch.setattr(backfill_embeddings, "FULL", 2)
    store = backfill_embeddings.Backfill._store

    def cancel(self: backfill_embeddings.Backfill, items: Any) -> None:
        with tenant_scope(shop.id):
            Job.objects.filter(pk=job.id).update(cancel_requested=True)
        store(self, items)

    monkeypatch.setattr(backfill_embeddings.Backfill, "_store", cancel)
    assert shop.run(job).state == "cancelled"
    assert (shop.count(model), best(shop.find(words(1)))[2]) == (2, "prior")


def test_a_job_whose_model_is_given_up_ends(shop: Shop) -> None:
    shop.fill(2)
    model = shop.model()
    job = shop.begin(model)
    with tenant_scope(shop.id):
        model_routing.end_dual_write(model)
    job = shop.run(job)
    assert (job.state, job.error["type"], shop.count(model)) == ("failed", "promotion-ended", 0)


# --- What is left of a model -----------------------------------------------------------------------------


def test_vectors_of_a_retired_model_go_by_and_by(shop: Shop, monkeypatch) -> None:
    shop.fill(5)
    model = shop.model()
    shop.go_over(model)
    monkeypatch.setattr(model_routing, "BATCH", 2)
    with tenant_scope(shop.id):
        model_routing.end_dual_write(OLD)
        assert VectorClock.objects.get().retired == [OLD]
    assert model_routing.forget_retired(shop.id, until=time.monotonic()) == 0
    assert model_routing.forget_retired(shop.id) == 5
    assert model_routing.forget_retired(shop.id) == 0
    assert (shop.count(OLD), shop.count(model), shop.used) == (0, 5, 5)
    with tenant_scope(shop.id):
        assert VectorClock.objects.get().retired == []
    assert best(shop.find(words(1)))[:2] == (words(1), 1.0)


def test_a_model_that_comes_back_before_its_vectors_are_gone_keeps_the_rest(shop: Shop, monkeypatch) -> None:
    assets = shop.fill(5)
    model = shop.model()
    shop.go_over(model)
    monkeypatch.setattr(model_routing, "BATCH", 2)
    with tenant_scope(shop.id):
        model_routing.end_dual_write(OLD)
    assert model_routing._forget_some(shop.id) == 2
    with tenant_scope(shop.id):
        services.delete_asset(asset_id=assets[4].id)
    shop.go_over(OLD)
    assert model_routing.forget_retired(shop.id) == 0
    assert (shop.count(OLD), shop.count(model)) == (4, 4)
    assert best(shop.find(words(3))) == (words(3), 1.0, "prior")


def test_of_the_models_before_one_is_kept(shop: Shop) -> None:
    shop.fill(2)
    first, second = shop.model(1), shop.model(2)
    shop.go_over(first)
    shop.go_over(second)
    with tenant_scope(shop.id):
        assert model_routing.written(shop.id) == model_routing.Written(second, (first,), first)
        assert VectorClock.objects.get().retired == [OLD]


# --- Large tenants ---------------------------------------------------------------------------------------


def test_a_large_tenant_has_its_index_before_the_switch(shop: Shop, settings) -> None:
    settings.INDEX_FLAT_MAX, settings.INDEX_EXACT_MAX = 10, 10
    shop.fill(24)
    with tenant_scope(shop.id):
        job = lifecycle.build(model=OLD)
    run_job(str(job.id), str(shop.id))
    assert shop.find(words(1)).meta["index"]["kind"] != "flat"
    model = shop.model()
    job = shop.run(shop.begin(model))
    # It waits for the index, which a job of its own builds.
    assert (job.state, shop.count(model)) == ("queued", 24)
    with tenant_scope(shop.id):
        with pytest.raises(NotReady, match="index"):
            model_routing.switch(model)
        build = Job.objects.get(kind="build_index", state="queued")
    assert build.arguments["model"] == model
    assert shop.run(job).state == "queued"
    run_job(str(build.id), str(shop.id))
    assert shop.run(job).state == "succeeded"
    shop.switch(model)
    answer = shop.find(words(7))
    assert best(answer) == (words(7), 1.0, model.removesuffix(":1"))
    assert answer.meta["index"]["kind"] != "flat"
    with tenant_scope(shop.id):
        model_routing.roll_back()
        model_routing.end_dual_write(model)
        assert IndexPointer.objects.get(model=model).current_id is None
        assert set(IndexGeneration.objects.filter(model=model).values_list("state", flat=True)) == {"retired"}
    assert shop.find(words(7)).meta["index"]["kind"] != "flat"


def test_what_is_embedded_beside_makes_no_index_of_the_live_model_due(shop: Shop, settings) -> None:
    settings.INDEX_FLAT_MAX = 10
    shop.fill(16)
    with tenant_scope(shop.id):
        job = lifecycle.build(model=OLD)
    run_job(str(job.id), str(shop.id))
    model = shop.model()
    shop.run(shop.begin(model))
    with tenant_scope(shop.id):
        assert VectorClock.objects.get().last == 32
        assert not lifecycle.is_due(OLD)
        # Its first index is the business of the job that embeds.
        assert lifecycle.indexed_models() == [OLD]


# --- All at once -----------------------------------------------------------------------------------------


@contextmanager
def going_on(work: Callable[[], None], threads: int, failures: list[BaseException]) -> Iterator[None]:
    stop = threading.Event()

    def repeat() -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        for _ in range(threads):
            pool.submit(repeat)
        try:
            yield
        finally:
            stop.set()


def test_searches_never_notice(shop: Shop) -> None:
    """Uploads, deletions and searches in threads, while the tenant goes over to a model, back, and to another one."""
    ready, lock = {asset.id: asset.excerpt for asset in shop.fill(12)}, threading.Lock()
    deleted: set[uuid.UUID] = set()
    numbers, seen = itertools.count(12), set()
    failures: list[BaseException] = []
    models = [shop.model(1), shop.model(2)]

    def look() -> None:
        with lock:
            asset_id, text = list(ready.items())[next(turns) % len(ready)]
            gone = set(deleted)
        answer = shop.find(text)
        found = {uuid.UUID(asset.id): hit.score for asset, hit in answer.results}
        seen.add(answer.meta["model"]["id"])
        assert not gone & found.keys()
        with lock:
            if asset_id in deleted:
                return
        # Of one model both: the vector of a query of another one has next to nothing in common with the text's own.
        assert found.get(asset_id, 0) > 0.99, (answer.meta, found)

    def write() -> None:
        asset = shop.add(words(next(numbers)))
        with lock:
            ready[asset.id] = asset.excerpt
            victim = next(iter(ready))
            del ready[victim]
            deleted_next = victim
        with tenant_scope(shop.id):
            services.delete_asset(asset_id=deleted_next)
        with lock:
            deleted.add(victim)
        pause(0.05, "searches come between two writes")

    turns = itertools.count()
    with going_on(look, 2, failures), going_on(write, 1, failures):
        for model in (models[0], None, models[1], models[0]):
            _go_on_to(shop, model)
            pause(0.3, "searches with this model")
    assert failures == []
    assert seen == {"prior", *(model.removesuffix(":1") for model in models)}
    with tenant_scope(shop.id):
        live = model_routing.live()
        kept = set(Asset.objects.values_list("pk", flat=True))
        assert set(Vector.objects.filter(model=live).values_list("asset_id", flat=True)) == kept
        assert quotas.summary()["vectors"]["used"] == len(kept)


def _go_on_to(shop: Shop, model: str | None) -> None:
    if model is None:
        with tenant_scope(shop.id):
            model_routing.roll_back()
        return
    with tenant_scope(shop.id):
        now = model_routing.written(shop.id)
    for other in now.beside:
        if other not in (model, now.previous):
            with tenant_scope(shop.id):
                model_routing.end_dual_write(other)
    job = shop.begin(model)
    for _ in range(20):
        assert shop.run(job).state == "succeeded"
        try:
            shop.switch(model)
            return
        except model_routing.Missing:
            job = shop.begin(model)
    raise AssertionError("the switch was never made")


# --- In parts --------------------------------------------------------------------------------------------


@pytest.fixture
def parted(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> tuple[Job, list[Job]]:
    """A job over five assets that has queued its parts, of two assets each."""
    monkeypatch.setattr(backfill_embeddings, "SHARD", 2)
    shop.fill(5)
    job = shop.run(shop.begin(shop.model()))
    assert job.state == "queued"
    with tenant_scope(shop.id):
        return job, list(Job.objects.filter(parent_id=job.id).order_by("pk"))


def test_more_than_a_shard_is_embedded_in_parts(shop: Shop, parted: tuple[Job, list[Job]]) -> None:
    job, parts = parted
    model = job.arguments["model"]
    assert [(part.kind, part.progress_total) for part in parts] == [
        ("embed_shard", 2),
        ("embed_shard", 2),
        ("embed_shard", 1),
    ]
    # In any order, and one of them twice.
    for part in (parts[2], parts[0], parts[0]):
        assert shop.run(part).state == "succeeded"
    assert shop.count(model) == 3
    job = shop.run(job)
    assert (job.state, job.progress_done) == ("queued", 3)
    assert shop.run(parts[1]).state == "succeeded"
    assert shop.count(model) == 5
    job = shop.run(job)
    assert (job.state, job.progress_done, job.progress_total) == ("succeeded", 5, 5)
    with tenant_scope(shop.id):
        assert Job.objects.filter(parent_id=job.id).count() == 3


def test_what_a_failed_part_left_the_job_does_itself(shop: Shop, parted: tuple[Job, list[Job]]) -> None:
    job, parts = parted
    with tenant_scope(shop.id):
        Job.objects.filter(pk=parts[1].pk).update(state=Job.State.FAILED)
    shop.run(parts[0])
    shop.run(parts[2])
    assert shop.count(job.arguments["model"]) == 3
    assert shop.run(job).state == "succeeded"
    assert shop.count(job.arguments["model"]) == 5


def test_parts_end_with_their_job_and_with_the_model(shop: Shop, parted: tuple[Job, list[Job]]) -> None:
    job, parts = parted
    with tenant_scope(shop.id):
        model_routing.end_dual_write(job.arguments["model"])
    ended = shop.run(parts[0])
    assert (ended.state, ended.error["type"]) == ("failed", "promotion-ended")
    with tenant_scope(shop.id):
        cancel(job_id=job.id)
        states = Job.objects.filter(parent_id=job.id).order_by("pk").values_list("state", flat=True)
        assert list(states) == ["failed", "cancelled", "cancelled"]
