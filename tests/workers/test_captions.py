"""Several captions of one file, its name, and duplicates: embedded, searched and imported with the real models."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections import Counter

import pytest

from tenants.accounts import quotas
from tenants.datasets.models import Asset, ImportRow
from tenants.datasets.services import create_dataset, update_dataset
from tenants.errors import Conflict, NotFound
from tenants.jobs.models import Job
from tenants.moderation.audits import selectors
from tenants.moderation.models import Audit
from tenants.pipeline.assets import services
from tenants.pipeline.assets.uploads import check_upload
from tenants.pipeline.care import subject_erasure
from tenants.pipeline.transfer import merging
from tenants.retrieval.models import LexicalEntry, Vector
from tenants.retrieval.query.result_page import HYDRATED
from tenants.retrieval.query.searcher import Query, search
from tenants.scope import tenant_scope
from tests.flows.pictures import jpeg
from workers.base import run_job

pytestmark = pytest.mark.slow


def _zip(manifest: str, table: list[dict] | str, *pictures: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        rows = table if isinstance(table, str) else "\n".join(map(json.dumps, table))
        archive.writestr(manifest, rows)
        for seed in pictures:
            archive.writestr(f"photos/{seed}.jpg", jpeg(seed))
    return out.getvalue()


def _receipt(party, job: Job) -> list[tuple[str, str]]:
    with tenant_scope(party.id):
        rows = ImportRow.objects.filter(job_import__job_id=job.id).order_by("row")
        return [(row.outcome, row.reason) for row in rows]


def _assets(party) -> list[Asset]:
    with tenant_scope(party.id):
        return list(Asset.objects.order_by("id"))


def _embed_all(party) -> None:
    with tenant_scope(party.id):
        waiting = list(Job.objects.filter(kind="embed_asset", state="queued").order_by("id"))
    for job in waiting:
        run_job(str(job.id), str(party.id))


def _parts(party) -> list[tuple[str, dict | None]]:
    with tenant_scope(party.id):
        return [(v.modality, v.segment) for v in Vector.objects.order_by("seq")]


def test_each_caption_is_found_and_the_asset_is_one_hit(party, dataset) -> None:
    captions = ["a bicycle leans on a wall", "early morning in a quiet street"]
    with tenant_scope(party.id):
        upload = check_upload(io.BytesIO(jpeg(1)), "", captions=captions, filename="IMG_2041-tandem_ride.JPG")
        added = services.add_asset(dataset_id=dataset.id, upload=upload)
        services.add_asset(dataset_id=dataset.id, text="something about tax law")
    _embed_all(party)
    with tenant_scope(party.id):
        result = Job.objects.get(pk=added.job.id).result
    assert result == {"asset": str(added.asset.id), "vectors": 3, "filename": "IMG_2041-tandem_ride.JPG"}
    assert _parts(party)[:3] == [("image", None), ("text", None), ("text", {"caption": 1})]
    with tenant_scope(party.id):
        assert quotas.summary()["vectors"]["used"] == 4
    for place, caption in enumerate(captions):
        found = search(tenant_id=party.id, query=Query(text=caption, highlight=True), read=HYDRATED)
        (asset, hit), *others = found.results
        assert (asset.id, asset.captions) == (str(added.asset.id), captions)
        assert (hit.modality, hit.segment) == ("text", {"caption": place} if place else None)
        assert str(added.asset.id) not in [other.id for other, _ in others]
        assert found.highlights[added.asset.id][0].text == caption
    # Nothing says so but the name of its file.
    for words in ("tandem ride", "IMG_2041-tandem_ride.JPG"):
        named = search(
            tenant_id=party.id, query=Query(text=words, hybrid=True, highlight=True), read=HYDRATED
        )
        assert named.results[0][0].filename == "IMG_2041-tandem_ride.JPG"
        fields = [one.field for one in named.highlights[added.asset.id]]
        assert "filename" in fields


def test_a_name_is_erased_with_its_asset(party, dataset, start, run) -> None:
    run(start(_zip("manifest.csv", "id,file_name,person\na,photos/1.jpg,ann\n", 1), "pictures.zip"))
    _copies(party, dataset, [["one", "two"]], values={"person": "ann"})
    _embed_all(party)
    with tenant_scope(party.id):
        kept = [row.result for row in Job.objects.filter(kind="embed_asset")]
        assert kept[0]["filename"] == "the name.jpg"
        _, job = subject_erasure.request_erasure(
            criteria=subject_erasure.check_criteria(values={"person": "ann"})
        )
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert not Asset.objects.exists()
        assert not LexicalEntry.objects.exists()
        left = [
            *Job.objects.values_list("result", flat=True),
            *ImportRow.objects.values_list("name", "reason"),
        ]
        assert "name.jpg" not in str(left)
        assert "1.jpg" not in str(left)


def test_rows_with_one_file_and_one_id_are_one_asset(party, dataset, start, run) -> None:
    rows = [
        {"id": f"p{n}", "file_name": f"photos/{n}.jpg", "text": f"caption {m} of {n}", "price": n}
        for n in (1, 2, 3, 4)
        for m in range(5)
    ]
    job = run(start(_zip("metadata.jsonl", rows, 1, 2, 3, 4), "pictures.zip"))
    assert (job.state, job.result["imported"], job.result["merged"]) == ("succeeded", 4, 16)
    assert (job.result["duplicate"], job.result["failed"], job.progress_done) == (0, 0, 20)
    assert _receipt(party, job)[:2] == [("imported", ""), ("merged", "Captions of line 1.")]
    assets = _assets(party)
    assert [one.captions for one in assets] == [
        [f"caption {m} of {n}" for m in range(5)] for n in (1, 2, 3, 4)
    ]
    assert [(one.filename, one.status) for one in assets] == [(f"{n}.jpg", "ready") for n in (1, 2, 3, 4)]
    # All of it is embedded by the import itself, although a batch holds fewer pictures.
    assert len(_parts(party)) == 24
    with tenant_scope(party.id):
        assert not Job.objects.exclude(pk=job.pk).exists()
        assert {name: quotas.summary()[name]["used"] for name in ("assets", "vectors")} == {
            "assets": 4,
            "vectors": 24,
        }
    again = run(start(_zip("metadata.jsonl", rows, 1, 2, 3, 4), "pictures.zip"))
    assert (again.result["imported"], again.result["merged"], again.result["duplicate"]) == (0, 0, 20)


def test_captions_come_to_an_asset_that_is_there(party, dataset, start, run) -> None:
    table = "id,file_name,text\na,photos/1.jpg,one\nb,photos/2.jpg,x\na,photos/1.jpg,two\nb,photos/1.jpg,y\n"
    run(start(_zip("manifest.csv", "id,file_name,text\na,photos/1.jpg,zero\n", 1), "first.zip"))
    job = run(start(_zip("manifest.csv", table, 1, 2), "second.zip"))
    assert [outcome for outcome, _ in _receipt(party, job)] == ["merged", "imported", "merged", "failed"]
    assert job.result["failures"][0]["reason"] == "The id 'b' stands for other content in line 3."
    first, second = _assets(party)
    assert (first.captions, first.status, second.captions) == (["zero", "one", "two"], "pending", ["x"])
    _embed_all(party)
    with tenant_scope(party.id):
        assert Vector.objects.filter(asset=first).count() == 4
        assert Asset.objects.get(pk=first.pk).status == "ready"
        assert quotas.summary()["vectors"] == {"used": 6, "reserved": 0, "limit": 600_000}


def test_after_a_death_rows_come_together_one_by_one(party, dataset, start, run) -> None:
    rows = [{"id": "a", "file": "photos/1.jpg", "text": f"caption {n}"} for n in range(3)]
    job = start(_zip("manifest.jsonl", rows, 1), "pictures.zip")
    with tenant_scope(party.id):
        Job.objects.filter(pk=job.pk).update(attempts=1)
    job = run(job)
    assert (job.result["imported"], job.result["merged"], job.result["failed"]) == (1, 2, 0)
    assert _assets(party)[0].captions == ["caption 0", "caption 1", "caption 2"]


@pytest.mark.parametrize(
    ("manifest", "table"),
    [
        ("manifest.jsonl", '{"file": "photos/1.jpg", "captions": ["one", "two, three"], "n": 1}\n'),
        ("manifest.jsonl", '{"file": "photos/1.jpg", "text": "one", "captions": ["two, three"], "n": 1}\n'),
        ("manifest.jsonl", '{"file": "photos/1.jpg", "caption": ["one", "two, three"], "n": 1}\n'),
        ("manifest.csv", 'file,captions,n\nphotos/1.jpg,"[""one"", ""two, three""]",1\n'),
    ],
)
def test_a_column_of_captions(party, dataset, start, run, manifest: str, table: str) -> None:
    job = run(start(_zip(manifest, table, 1), "pictures.zip"))
    assert job.result["failures"] == []
    (asset,) = _assets(party)
    assert (asset.captions, asset.metadata) == (["one", "two, three"], {"n": 1})


def test_captions_beside_a_file(party, dataset, start, run) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/one.jpg", jpeg(1))
        archive.writestr("a/one.json", '{"captions": ["red", "blue"], "n": 2}')
        archive.writestr("notes.txt", "words")
    run(start(out.getvalue(), "files.zip"))
    picture, text = _assets(party)
    assert (picture.captions, picture.metadata, picture.filename) == (["red", "blue"], {"n": 2}, "one.jpg")
    assert (text.captions, text.filename) == ([], "notes.txt")


def test_too_many_captions_fail_alone(party, dataset, start, run) -> None:
    rows = [{"id": "a", "file": "photos/1.jpg", "text": f"caption {n}"} for n in range(22)]
    job = run(start(_zip("manifest.jsonl", rows, 1), "pictures.zip"))
    assert (job.result["imported"], job.result["merged"], job.result["failed"]) == (1, 19, 2)
    assert "at most 20 captions" in job.result["failures"][0]["reason"]


def test_a_dataset_that_skips_counts_what_it_has(party, dataset, start, run) -> None:
    table = "id,file_name\na,photos/1.jpg\nb,photos/1.jpg\nc,photos/2.jpg\n"
    kept = run(start(_zip("manifest.csv", table, 1, 2), "kept.zip"))
    assert (kept.result["imported"], kept.result["duplicate"]) == (3, 0)
    with tenant_scope(party.id):
        update_dataset(dataset_id=dataset.id, duplicates="skip")
        before = quotas.summary()["bytes"]["used"]
    table = "id,file_name\nd,photos/1.jpg\ne,photos/3.jpg\nf,photos/3.jpg\n"
    job = run(start(_zip("manifest.csv", table, 1, 2, 3), "skipped.zip"))
    assert _receipt(party, job) == [
        ("duplicate", ""),
        ("imported", ""),
        ("duplicate", "The same as line 3."),
    ]
    assert (job.result["imported"], job.result["duplicate"]) == (1, 2)
    assert [one.external_id for one in _assets(party)] == ["a", "b", "c", "e"]
    with tenant_scope(party.id):
        assert quotas.summary()["bytes"]["used"] == before + len(jpeg(3))


def _copies(party, dataset, captions: list[list[str]], **fields) -> list[Asset]:
    added = []
    with tenant_scope(party.id):
        for mine in captions:
            upload = check_upload(io.BytesIO(jpeg(1)), "", captions=mine, filename="the name.jpg")
            added.append(services.add_asset(dataset_id=dataset.id, upload=upload, **fields).asset)
    return added


def _merge(party, dataset, plan: Job | None = None) -> Job:
    with tenant_scope(party.id):
        job = merging.start_merge(dataset_id=dataset.id, plan=plan.id if plan else None)
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        return Job.objects.get(pk=job.id)


def test_copies_are_merged_as_a_look_has_said(party, dataset) -> None:
    long = "a long caption. " * 100
    first, second, third = _copies(party, dataset, [["one"], ["two", long], ["one", "three"]])
    (priced,) = _copies(party, dataset, [["five"]], values={"price": 1})
    _embed_all(party)
    with tenant_scope(party.id):
        Asset.objects.filter(pk=second.pk).update(external_id="s")
        Asset.objects.filter(pk=third.pk).update(external_id="t")
        before = {
            (v.model, bytes(v.data)) for v in Vector.objects.all() if v.asset_id in {first.id, second.id}
        }
    plan = _merge(party, dataset)
    assert plan.result == {
        "dataset": str(dataset.id),
        "dry_run": True,
        "files": 1,
        "assets": 2,
        "captions": 3,
        "external_ids": 1,
        "kept_apart": {"other_metadata": 1},
        "examples": [{"asset": str(first.id), "merges": [str(second.id), str(third.id)]}],
    }
    assert len(_assets(party)) == 4
    # What comes in after the plan stays.
    (late,) = _copies(party, dataset, [["late"]])
    _embed_all(party)
    done = _merge(party, dataset, plan)
    assert (done.state, done.result["assets"], done.result["dry_run"]) == ("succeeded", 2, False)
    kept, *others = _assets(party)
    assert [one.id for one in others] == [priced.id, late.id]
    assert (kept.id, kept.captions, kept.external_id) == (
        first.id,
        ["one", "two", long.strip(), "three"],
        "s",
    )
    with tenant_scope(party.id):
        rows = list(Vector.objects.filter(asset=kept).order_by("seq"))
        # Nothing was encoded anew, and what the first and second had is there.
        assert before - {(row.model, bytes(row.data)) for row in rows} == set()
        places = [(row.segment or {}).get("caption", 0) for row in rows if row.modality == "text"]
        assert places == [0, 1, 2, 2, 3]
        usage = quotas.summary()
        assert usage["assets"]["used"] == 3
        assert usage["vectors"]["used"] == Vector.objects.count()
    found = search(tenant_id=party.id, query=Query(text="three", top_k=1), read=HYDRATED).results
    assert (found[0][0].id, found[0][1].segment) == (str(kept.id), {"caption": 3})
    by_words = search(
        tenant_id=party.id, query=Query(text="three", hybrid=True, top_k=1), read=HYDRATED
    ).results
    assert by_words[0][0].id == str(kept.id)
    # Again it finds nothing to do.
    again = _merge(party, dataset, plan)
    assert (again.state, again.result["assets"]) == ("succeeded", 0)


def test_a_plan_is_of_its_dataset_and_made_to_its_end(party, dataset) -> None:
    with tenant_scope(party.id):
        other = create_dataset(name="other")
        plan = merging.start_merge(dataset_id=dataset.id)
        with pytest.raises(Conflict):
            merging.start_merge(dataset_id=dataset.id, plan=plan.id)
        with pytest.raises(NotFound):
            merging.start_merge(dataset_id=other.id, plan=plan.id)
        with pytest.raises(NotFound):
            merging.start_merge(dataset_id=dataset.id, plan=uuid.uuid4())


def test_what_is_held_back_is_not_merged() -> None:
    def made(**fields) -> Asset:
        return Asset(id=uuid.uuid4(), status="ready", **fields)

    apart: Counter[str] = Counter()
    many = [f"caption {n}" for n in range(15)]
    rows = [
        made(caption="a"),
        made(caption="b", moderation="block"),
        made(caption="c", moderation="review"),
        made(caption="d", generation_id=uuid.uuid4()),
        made(caption=many[0], more_captions=many[1:]),
        made(caption="other 0", more_captions=[f"other {n}" for n in range(1, 15)]),
    ]
    rows.append(Asset(id=uuid.uuid4(), status="pending", caption="e"))
    (merge,) = merging.planned(rows, apart)
    assert (merge.copies, merge.captions) == ([rows[4]], ["a", *many])
    assert apart == {"held_back": 2, "generated": 1, "too_many_captions": 1, "not_ready": 1}


def test_an_audit_reads_every_caption(party, dataset) -> None:
    from tenants.pipeline.audits import audit_requests

    with tenant_scope(party.id):
        upload = check_upload(
            io.BytesIO(jpeg(1)), "", captions=["a nice picture", "write to ann.lee@gmail.com"]
        )
        asset = services.add_asset(dataset_id=dataset.id, upload=upload).asset
        asked = audit_requests.request_audit(asset_id=asset.id)
    run_job(str(asked.job.id), str(party.id))
    with tenant_scope(party.id):
        shown = selectors.audit_shape(Audit.objects.get(pk=asked.request.id))
    assert shown.categories["personal_data"]["flagged"], shown.categories
