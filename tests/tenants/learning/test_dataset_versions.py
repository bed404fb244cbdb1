"""Versions of a dataset: what they list, what leaves them, what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import IntegrityError, connection

from tenants.datasets.models import Asset, Dataset, DatasetVersion, DatasetVersionAsset
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, Invalid, NotFound, NotReady
from tenants.events.models import AuditEvent
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning import dataset_versions as versions
from tenants.learning import finetuning, services
from tenants.learning.dataset_versions import Chosen, VersionInUse
from tenants.learning.models import LearntModel
from tenants.pipeline.assets.services import add_asset, delete_dataset, update_asset
from tenants.pipeline.care.erasure import erase_asset
from tenants.scope import Narrowing, narrowed, tenant_scope
from tests.conftest import Party
from tests.tenants.learning.world import add_pairs, new_dataset
from workers.base import run_job


@pytest.fixture
def dataset(party: Party) -> Any:
    """Four texts, of which two have the tag `new` and three a price."""
    with tenant_scope(party.id):
        made: Any = create_dataset(name=uuid.uuid4().hex)
        made.made = []
        for number in range(4):
            values = {"price": number, "tags": ["new"]} if number > 1 else {"price": 0} if number else {}
            made.made.append(add_asset(dataset_id=made.id, text=f"text {number}", values=values).asset)
    return made


def make(dataset: Any, name: str = "v1", **chosen: Any) -> DatasetVersion:
    """In the tenant's scope."""
    row, job = versions.make_version(dataset_id=dataset.id, name=name, chosen=Chosen(**chosen), actor="key:x")
    assert job is None
    return row


def places(dataset: Any, row: DatasetVersion) -> list[int]:
    known = {asset.id: place for place, asset in enumerate(dataset.made)}
    return sorted(known[asset.id] for asset in versions.assets_of(row))


def digest_of(*contents: tuple[bytes, list[str]]) -> str:
    """As the module says, by other means."""
    each = [
        hashlib.sha256(
            f"{hashlib.sha256(data).hexdigest()}\n{json.dumps(captions, ensure_ascii=False)}".encode()
        ).digest()
        for data, captions in contents
    ]
    return hashlib.sha256(b"".join(sorted(each))).hexdigest()


def test_a_version_lists_the_whole_dataset_or_what_meets_the_conditions(party: Party, dataset: Any) -> None:
    with tenant_scope(party.id):
        whole = make(dataset)
        assert (whole.asset_count, whole.kinds, whole.gone, whole.state) == (4, {"text": 4}, 0, "ready")
        assert whole.made_from == {}
        assert whole.digest == digest_of(*((f"text {n}".encode(), []) for n in range(4)))
        assert places(dataset, make(dataset, "tagged", tag="new")) == [2, 3]
        dear = make(dataset, "dear", filter={"price": {"gt": 2}})
        assert (places(dataset, dear), dear.made_from) == ([3], {"filter": {"price": {"gt": 2}}})
        both = make(
            dataset, "both", modality="text", status="pending", filter={"price": {"lt": 3}}, tag="new"
        )
        assert places(dataset, both) == [2]
        named = make(dataset, "named", assets=[dataset.made[at].id for at in (0, 3, 0)])
        assert (places(dataset, named), named.made_from) == ([0, 3], {"assets": 2})
        # What comes later is in none of them.
        add_asset(dataset_id=dataset.id, text="text 4")
        assert places(dataset, whole) == [0, 1, 2, 3]
        assert list(versions.list_versions(dataset.id).values_list("name", flat=True)) == [
            "named", "both", "dear", "tagged", "v1",
        ]  # fmt: skip
        event = AuditEvent.objects.get(verb="dataset.version_made", target=str(whole.id))
        assert (event.actor, event.details["name"], event.details["assets"]) == ("key:x", "v1", 4)


def test_captions_are_part_of_the_digest_and_of_the_comparison(party: Party, dataset: Any) -> None:
    with tenant_scope(party.id):
        first = make(dataset)
        captions = ['a "quoted"\tkäse\n', "梨\\\u007f"]
        asset = dataset.made[0]
        asset.captions = captions
        asset.save()
        second = make(dataset, "v2", assets=[asset.id])
        assert second.digest == digest_of((b"text 0", captions))
        assert versions.count_changed(first.id) == 1
        assert versions.compare(first, second) == versions.Comparison(0, 3, 1, 0)
        assert versions.compare(second, first) == versions.Comparison(3, 0, 1, 0)
        assert versions.compare(first, first) == versions.Comparison(0, 0, 0, 4)
        ids = {
            change: {one.id for one in versions.page_of(versions.changes_of(second, first, change), None, 9)}
            for change in versions.CHANGES
        }
        others = {one.id for one in dataset.made[1:]}
        assert ids == {"added": others, "removed": set(), "changed": {asset.id}}
        # The same content and captions under other ids: the same digest.
        other = create_dataset(name=uuid.uuid4().hex)
        copy = add_asset(dataset_id=other.id, text="text 0").asset
        copy.captions = captions
        copy.save()
        assert make(other).digest == second.digest


def test_what_is_erased_leaves_every_version_and_is_counted(party: Party, dataset: Any) -> None:
    with tenant_scope(party.id):
        whole, part = make(dataset), make(dataset, "part", tag="new")
        digest = whole.digest
        receipt = erase_asset(asset_id=dataset.made[3].id, actor="x")
        assert receipt.removed["rows"]["dataset_version_asset"] == 2
        for row in (whole, part):
            row.refresh_from_db()
        assert (whole.asset_count, whole.gone, whole.digest) == (4, 1, digest)
        assert (part.asset_count, part.gone, part.kinds) == (2, 1, {"text": 2})
        assert places(dataset, whole) == [0, 1, 2]
        assert versions.count_changed(whole.id) == 0
        assert versions.compare(whole, part) == versions.Comparison(0, 2, 0, 1)
        # A version of all that is left has a digest of its own.
        assert make(dataset, "left").digest != digest


def test_what_a_version_lists_is_not_changed_in_the_database_either(party: Party, dataset: Any) -> None:
    with tenant_scope(party.id):
        row = make(dataset)
    with pytest.raises(IntegrityError, match="not changed"), tenant_scope(party.id):
        versions.lines_of(row.id).update(digest=b"other")


def test_a_dataset_goes_with_its_versions(party: Party, dataset: Any) -> None:
    with tenant_scope(party.id):
        row = make(dataset)
        job = delete_dataset(dataset_id=dataset.id)
        assert not versions.list_versions(dataset.id).exists()
        with pytest.raises(NotFound):
            versions.get_version(dataset.id, row.id)
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert not Dataset.objects.filter(pk=dataset.id).exists()
        assert not DatasetVersion.objects.exists()
        assert not DatasetVersionAsset.objects.exists()


def test_what_cannot_be_listed_is_refused_and_leaves_nothing(
    party: Party, stranger: Party, dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenant_scope(stranger.id):
        theirs = create_dataset(name="theirs")
        foreign = add_asset(dataset_id=theirs.id, text="theirs").asset.id
    with tenant_scope(party.id):
        other = create_dataset(name=uuid.uuid4().hex)
        beside = add_asset(dataset_id=other.id, text="x").asset.id
        mine = dataset.made[0].id
        for ids in ([foreign], [mine, beside], [mine, uuid.uuid4()], [mine, None]):
            with pytest.raises(NotFound, match="This asset is not in the dataset"):
                make(dataset, assets=ids)
        for chosen in ({"assets": []}, {"tag": "none"}, {"filter": {"price": {"gt": 99}}}):
            with pytest.raises(Invalid):
                make(dataset, **chosen)
        with pytest.raises(Invalid, match="10000 characters"):
            make(dataset, filter={"price": {"in": ["9" * 200] * 60}})
        with pytest.raises(Invalid):
            make(create_dataset(name=uuid.uuid4().hex))
        for name in ("", "   ", "n" * 101, "a\0"):
            with pytest.raises(Invalid):
                make(dataset, name)
        with pytest.raises(NotFound):
            versions.make_version(dataset_id=theirs.id, name="v1")
        monkeypatch.setattr(versions, "MOST_NAMED", 1)
        with pytest.raises(Invalid, match="1 to 1 assets"):
            make(dataset, assets=[one.id for one in dataset.made])
        monkeypatch.setattr(versions, "MOST_ASSETS", 3)
        with pytest.raises(Invalid, match="at most 3 assets"):
            make(dataset)
        assert not DatasetVersion.objects.exists()
        monkeypatch.setattr(versions, "MOST_ASSETS", 4)
        make(dataset)
        with pytest.raises(Conflict, match="a version 'v1' already"):
            make(dataset)
        monkeypatch.setattr(versions, "MOST_LINES", 7)
        with pytest.raises(Conflict, match="at most 7 assets in total"):
            make(dataset, "v2")
        monkeypatch.setattr(versions, "MOST_VERSIONS", 1)
        with pytest.raises(Conflict, match="at most 1 versions"):
            make(dataset, "v2")
        assert DatasetVersion.objects.count() == 1
        assert DatasetVersionAsset.objects.count() == 4
        assert AuditEvent.objects.filter(verb="dataset.version_made").count() == 1


def test_of_two_at_once_under_one_name_one_is_made(party: Party, dataset: Any) -> None:
    def once(_: int) -> str:
        try:
            with tenant_scope(party.id):
                make(dataset, "both")
            return "made"
        except Conflict as error:
            return error.slug
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(once, range(2))) == ["conflict", "made"]
    with tenant_scope(party.id):
        assert DatasetVersionAsset.objects.count() == 4


def test_a_large_one_is_made_by_a_job(party: Party, dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "AT_ONCE", 3)
    with tenant_scope(party.id):
        row, job = versions.make_version(dataset_id=dataset.id, name="v1", chosen=Chosen(modality="text"))
        assert job is not None
        assert (row.state, row.job_id, row.asset_count, row.digest) == ("making", job.id, 4, "")
        with pytest.raises(NotReady, match="still being made"):
            versions.compare(row, row)
        with pytest.raises(Conflict):
            versions.make_version(dataset_id=dataset.id, name="v1")
        erase_asset(asset_id=dataset.made[0].id, actor="x")
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        row.refresh_from_db()
        # What was erased before it was written down was never in it.
        assert (row.state, row.asset_count, row.gone, row.kinds) == ("ready", 3, 0, {"text": 3})
        assert Job.objects.get(pk=job.id).result == {
            "version": str(row.id), "assets": 3, "digest": row.digest,
        }  # fmt: skip
        # A second run of the same job changes nothing: it has ended.
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert DatasetVersionAsset.objects.count() == 3


def test_a_job_that_finds_nothing_says_so_at_the_version(
    party: Party, dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "AT_ONCE", 0)
    with tenant_scope(party.id):
        row, job = versions.make_version(dataset_id=dataset.id, name="v1", chosen=Chosen(tag="new"))
        assert job is not None
        for asset in dataset.made[2:]:
            erase_asset(asset_id=asset.id, actor="x")
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        row.refresh_from_db()
        assert (row.state, Job.objects.get(pk=job.id).state) == ("failed", "failed")
        with pytest.raises(NotReady, match="was not made"):
            versions.require_made(row)
        update_asset(asset_id=dataset.made[0].id, add_tags=["new"])
        jobs.retry(job_id=job.id)
        row.refresh_from_db()
        assert row.state == "making"
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert places(dataset, row) == [0]
        versions.delete_version(dataset_id=dataset.id, version_id=row.id)
        assert not DatasetVersionAsset.objects.exists()


def test_a_narrowed_member_sees_versions_of_their_datasets_alone(party: Party, dataset: Any) -> None:
    with tenant_scope(party.id):
        row = make(dataset)
        other: Any = create_dataset(name=uuid.uuid4().hex)
        other.made = [add_asset(dataset_id=other.id, text="x").asset]
        hidden = make(other)
    with narrowed(Narrowing((dataset.id,))), tenant_scope(party.id):
        assert [one.id for one in DatasetVersion.objects.all()] == [row.id]
        assert DatasetVersionAsset.objects.count() == 4
        with pytest.raises(NotFound):
            versions.get_version(other.id, hidden.id)


def test_another_tenants_version_is_not_there(party: Party, stranger: Party, dataset: Any) -> None:
    with tenant_scope(party.id):
        row = make(dataset)
    with tenant_scope(stranger.id):
        for act in (versions.get_version, versions.hold_version):
            with pytest.raises(NotFound):
                act(dataset.id, row.id)
        with pytest.raises(NotFound):
            versions.delete_version(dataset_id=dataset.id, version_id=row.id)
    with tenant_scope(party.id):
        assert versions.get_version(dataset.id, row.id) == row


# --- Trainings -------------------------------------------------------------------------------------------


@pytest.fixture
def shapes(party: Party) -> Any:
    """A dataset of six pairs, of which a version lists the first four."""
    with tenant_scope(party.id):
        made: Any = new_dataset("shapes")
        add_pairs(made, 6)
        made.made = list(Asset.objects.filter(dataset=made).order_by("id"))
        made.version = make(made, "first four", assets=[one.id for one in made.made[:4]])
    return made


def learn(shapes: Any, **options: Any) -> tuple[LearntModel, Job]:
    return services.start_finetune(dataset_id=shapes.id, version_id=shapes.version.id, **options)


def test_a_training_reads_what_the_version_lists_and_keeps_its_name(party: Party, shapes: Any) -> None:
    with tenant_scope(party.id):
        row, job = learn(shapes)
        said = {
            "id": str(shapes.version.id), "name": "first four", "digest": shapes.version.digest,
            "assets": 4, "gone": 0,
        }  # fmt: skip
        assert row.data["datasets"] == [{"id": str(shapes.id), "name": "shapes", "version": said}]
        assert row.estimate["pairs"] == 4
        assert [one.id for one in versions.models_of(shapes.version.id)] == [row.id]
        erase_asset(asset_id=shapes.made[0].id, actor="x")
        asset = shapes.made[1]
        asset.captions = ["another"]
        asset.save()
    attempt = finetuning.TrainingAttempt(jobs.Claim(job.id, party.id, job.kind, job.arguments, 0, 1), row)
    read = {picture.asset_id for picture in attempt._pairs(0).after(None)}
    assert read == {one.id for one in shapes.made[1:4]}
    with tenant_scope(party.id):
        assert attempt._describe_version(0) == {"version": {**said, "gone": 1, "changed": 1}}


def test_a_version_that_models_learnt_from_goes_only_when_that_is_meant(party: Party, shapes: Any) -> None:
    version = shapes.version.id
    with tenant_scope(party.id):
        row, job = learn(shapes)
        # Whatever was confirmed: the job reads it.
        for confirmed in (False, True):
            with pytest.raises(VersionInUse, match="model 1 is learning from this version"):
                versions.delete_version(dataset_id=shapes.id, version_id=version, confirmed=confirmed)
        jobs.cancel(job_id=job.id)
        with pytest.raises(VersionInUse, match="model 1 was trained on this version"):
            versions.delete_version(dataset_id=shapes.id, version_id=version)
        assert versions.lines_of(version).count() == 4
        versions.delete_version(dataset_id=shapes.id, version_id=version, confirmed=True, actor="key:x")
        assert not versions.lines_of(version).exists()
        row.refresh_from_db()
        assert row.data["datasets"][0]["version"]["name"] == "first four"
        event = AuditEvent.objects.get(verb="dataset.version_deleted")
        assert (event.actor, event.details["digest"]) == ("key:x", shapes.version.digest)
        # Tried again it says why it cannot learn the same, and learns nothing else.
        jobs.retry(job_id=job.id)
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        row.refresh_from_db()
        assert row.error is not None
        assert "was to learn from was deleted" in row.error["detail"]
        assert row.data["datasets"][0]["version"]["digest"] == shapes.version.digest


def test_a_version_without_pairs_or_of_another_dataset_is_refused(party: Party, shapes: Any) -> None:
    with tenant_scope(party.id):
        other: Any = create_dataset(name=uuid.uuid4().hex)
        add_asset(dataset_id=other.id, text="x")
        other.version = make(other)
        with pytest.raises(Invalid, match="in the version 'v1'") as refused:
            learn(other)
        assert refused.value.errors[0]["pointer"] == "/version"
        with pytest.raises(NotFound):
            services.start_finetune(dataset_id=shapes.id, version_id=other.version.id)
        DatasetVersion.objects.filter(pk=shapes.version.id).update(state="making")
        with pytest.raises(NotReady):
            learn(shapes)
        assert not LearntModel.objects.exists()


def test_a_version_of_a_picture_has_it_by_kind(party: Party, shapes: Any) -> None:
    with tenant_scope(party.id):
        add_asset(dataset_id=shapes.id, file=io.BytesIO(b"plain words"))
        assert make(shapes, "all").kinds == {"image": 6, "text": 1}
