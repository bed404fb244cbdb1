"""Adding, changing and deleting assets, up to the job; embedding itself is in tests/flows."""

from __future__ import annotations

import errno
import io
import itertools
import threading
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from config.uploads import CappedUploadHandler
from ml.passages import MAX_PASSAGES, PASSAGE, passages
from tenants.accounts import quotas
from tenants.datasets import selectors, storage
from tenants.datasets.models import Asset, Blob, Facet
from tenants.datasets.services import collect_orphans, create_dataset
from tenants.errors import Conflict, Invalid, NotFound, QuotaExceeded, StorageFull, UnsupportedMedia
from tenants.jobs.models import Job
from tenants.pipeline.assets import services
from tenants.scope import tenant_scope

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63f8cfc0f01f0005000201a5f645400000000049454e44ae426082"
)


@pytest.fixture
def dataset(party):
    with tenant_scope(party.id):
        return create_dataset(name="d")


def _png(extra: bytes = b"") -> io.BytesIO:
    return io.BytesIO(PNG + extra)


def test_equal_bytes_share_a_blob_but_never_an_asset(party, dataset) -> None:
    with tenant_scope(party.id):
        first = services.add_asset(dataset_id=dataset.id, file=_png()).asset
        second = services.add_asset(dataset_id=dataset.id, file=_png(), text="a dot").asset
        assert first.id != second.id
        blob = Blob.objects.get()
        assert (blob.references, blob.bytes, blob.media_type) == (2, len(PNG), "image/png")
        assert quotas.summary()["bytes"]["used"] == 2 * len(PNG)


def test_two_tenants_never_share_a_blob(party, stranger, dataset) -> None:
    paths = []
    for owner in (party, stranger):
        with tenant_scope(owner.id):
            own = create_dataset(name="own")
            asset = services.add_asset(dataset_id=own.id, file=_png()).asset
            paths.append(storage.path_of(asset.tenant_id, asset.blob.sha256))
    assert paths[0] != paths[1]
    assert all(default_storage.exists(path) for path in paths)
    assert all(str(owner.id) in path for owner, path in zip((party, stranger), paths, strict=True))


def test_an_external_id_is_unique_in_its_dataset(party, dataset) -> None:
    with tenant_scope(party.id):
        first = services.add_asset(dataset_id=dataset.id, text="one", external_id="x")
        again = services.add_asset(dataset_id=dataset.id, text="one", external_id="x")
        assert (again.created, again.job, again.asset.id) == (False, None, first.asset.id)
        with pytest.raises(Conflict, match="stands for other content"):
            services.add_asset(dataset_id=dataset.id, text="two", external_id="x")
        other = create_dataset(name="other")
        assert services.add_asset(dataset_id=other.id, text="two", external_id="x").created
        assert Asset.objects.count() == 2
        assert Job.objects.count() == 2


def test_one_of_many_equal_uploads_wins(party, dataset) -> None:
    outcomes: list[bool | str] = []

    def upload() -> None:
        try:
            with tenant_scope(party.id):
                outcomes.append(
                    services.add_asset(dataset_id=dataset.id, text="one", external_id="x").created
                )
        except Conflict:
            outcomes.append("conflict")
        connection.close()

    threads = [threading.Thread(target=upload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(True) == 1
    assert outcomes.count(False) == 7
    with tenant_scope(party.id):
        assert Asset.objects.count() == 1


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", Invalid),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnsupportedMedia),
        (b"PK\x03\x04\x14\x00\x00\x00", UnsupportedMedia),
        (b"\x7fELF\x02\x01\x01\x00", UnsupportedMedia),
        (b"\x00\x01\x02\x03", UnsupportedMedia),
        (b"RIFF\x24\x00\x00\x00AVI LIST", UnsupportedMedia),
    ],
)
def test_the_content_decides_what_is_accepted(party, dataset, content, error) -> None:
    with tenant_scope(party.id):
        with pytest.raises(error):
            services.add_asset(dataset_id=dataset.id, file=io.BytesIO(content))
        assert Asset.objects.count() == Blob.objects.count() == Job.objects.count() == 0


@pytest.mark.parametrize("text", ["", "   \n", "\x00", "a\ud800", "x" * 100_001])
def test_texts_that_cannot_be_kept_are_refused(party, dataset, text) -> None:
    with tenant_scope(party.id), pytest.raises(Invalid):
        services.add_asset(dataset_id=dataset.id, text=text)


def test_deleting_removes_everything_and_returns_the_quota(party, dataset) -> None:
    with tenant_scope(party.id):
        asset = services.add_asset(dataset_id=dataset.id, file=_png(), values={"k": "v"}).asset
        path = storage.path_of(party.id, asset.blob.sha256)
    with tenant_scope(party.id):
        services.delete_asset(asset_id=asset.id)
    assert not default_storage.exists(path)
    with tenant_scope(party.id):
        assert Asset.objects.count() == Blob.objects.count() == Facet.objects.count() == 0
        summary = quotas.summary()
        assert (summary["assets"]["used"], summary["bytes"]["used"]) == (0, 0)
        with pytest.raises(NotFound):
            services.delete_asset(asset_id=asset.id)


def test_an_upload_over_quota_leaves_no_file(make_party) -> None:
    party = make_party(plan="starter")
    with tenant_scope(party.id):
        own = create_dataset(name="own")
        quotas.charge(amounts={"vectors": 20_000})
        with pytest.raises(QuotaExceeded):
            services.add_asset(dataset_id=own.id, file=_png(b"over quota"))
        assert Asset.objects.count() == Blob.objects.count() == 0
        assert quotas.summary()["assets"]["used"] == 0
    sha256, _ = storage.digest(_png(b"over quota"))
    assert not default_storage.exists(storage.path_of(party.id, sha256))


def test_a_full_disk_keeps_nothing(party, dataset, monkeypatch) -> None:
    def no_room(path, content) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "put", no_room)
    with tenant_scope(party.id):
        with pytest.raises(StorageFull, match="make room"):
            services.add_asset(dataset_id=dataset.id, file=_png())
        assert Asset.objects.count() == Blob.objects.count() == Job.objects.count() == 0
        assert quotas.summary()["bytes"]["used"] == 0


def test_a_full_disk_under_an_upload_says_so() -> None:
    handler = CappedUploadHandler()
    with Path("/dev/full").open("wb", buffering=0) as handler.file, pytest.raises(StorageFull):
        handler.receive_data_chunk(b"x", 0)


def test_a_file_without_a_row_is_found_and_removed(party, dataset) -> None:
    with tenant_scope(party.id):
        kept = services.add_asset(dataset_id=dataset.id, file=_png()).asset.blob.sha256
        orphan = kept[:2] + "f" * 62
        storage.put(storage.path_of(party.id, orphan), b"left by a crash")
        assert collect_orphans(shard=kept[:2], older_than_s=3600) == 0
        assert collect_orphans(shard=kept[:2], older_than_s=-1) == 1
        assert not default_storage.exists(storage.path_of(party.id, orphan))
        assert default_storage.exists(storage.path_of(party.id, kept))
        assert collect_orphans(shard="zz", older_than_s=-1) == 0


def test_out_of_cpu_seconds_nothing_more_is_accepted(make_party) -> None:
    party = make_party(plan="starter")
    with tenant_scope(party.id):
        own = create_dataset(name="own")
        services.add_asset(dataset_id=own.id, file=_png())
        assert quotas.summary()["cpu_s"] == {"used": 0, "reserved": 0.3, "limit": 36_000}
        quotas.charge(amounts={"cpu_s": 35_999.6})
        with pytest.raises(QuotaExceeded, match="cpu_s"):
            services.add_asset(dataset_id=own.id, file=_png())


def test_a_blob_stays_while_another_asset_uses_it(party, dataset) -> None:
    with tenant_scope(party.id):
        first = services.add_asset(dataset_id=dataset.id, file=_png()).asset
        services.add_asset(dataset_id=dataset.id, file=_png())
    with tenant_scope(party.id):
        services.delete_asset(asset_id=first.id)
    assert default_storage.exists(storage.path_of(party.id, first.blob.sha256))


def test_another_tenants_asset_is_not_found(party, stranger, dataset) -> None:
    with tenant_scope(party.id):
        asset = services.add_asset(dataset_id=dataset.id, text="mine").asset
    with tenant_scope(stranger.id):
        with pytest.raises(NotFound):
            services.delete_asset(asset_id=asset.id)
        with pytest.raises(NotFound):
            services.update_asset(asset_id=asset.id, caption="theirs")
        with pytest.raises(NotFound):
            services.add_asset(dataset_id=dataset.id, text="x")
        with pytest.raises(NotFound):
            services.delete_dataset(dataset_id=dataset.id)
    with tenant_scope(party.id):
        assert selectors.get_asset(asset.id).caption == ""


def test_a_deleted_dataset_is_hidden_at_once_and_its_name_is_free(party, dataset) -> None:
    with tenant_scope(party.id):
        asset = services.add_asset(dataset_id=dataset.id, text="mine").asset
        services.delete_dataset(dataset_id=dataset.id)
        with pytest.raises(NotFound):
            selectors.get_dataset(dataset.id)
        with pytest.raises(NotFound):
            selectors.get_asset(asset.id)
        with pytest.raises(NotFound):
            services.add_asset(dataset_id=dataset.id, text="late")
        assert create_dataset(name="d").id != dataset.id
        assert services.erase_some(dataset_id=dataset.id, count=10) == 0
        assert Asset.objects.count() == 0


def test_a_new_caption_queues_a_new_embedding(party, dataset) -> None:
    with tenant_scope(party.id):
        asset = services.add_asset(dataset_id=dataset.id, file=_png(), text="a dot").asset
        changed = services.update_asset(asset_id=asset.id, caption="a small dot")
        assert (changed.asset.revision, changed.asset.status) == (2, "pending")
        assert changed.job.arguments == {"asset": str(asset.id), "revision": 2}
        assert services.update_asset(asset_id=asset.id, caption="a small dot").job is None
        text = services.add_asset(dataset_id=dataset.id, text="words").asset
        with pytest.raises(Invalid):
            services.update_asset(asset_id=text.id, caption="no")


@given(st.text(max_size=5000))
def test_passages_cover_the_text_in_order(text) -> None:
    ranges = passages(text)
    assert all(end - start <= PASSAGE for start, end in ranges)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ranges))
    covered = "".join(text[start:end] for start, end in ranges)
    assert "".join(covered.split()) == "".join(text.split())


def test_passages_end_at_sentences_and_are_bounded() -> None:
    text = "One sentence of words. " * 100
    assert all(text[:end].rstrip().endswith(".") for _, end in passages(text))
    assert len(passages("word " * 100_000)) == MAX_PASSAGES
    assert passages("") == []
