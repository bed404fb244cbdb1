"""The same blobs in a bucket, through an S3 server on loopback."""

from __future__ import annotations

import io

import pytest
from django.core.files.storage import default_storage

from tenants.datasets import storage
from tenants.datasets.models import Asset
from tenants.datasets.services import create_dataset
from tenants.pipeline.assets.services import add_asset, delete_asset
from tenants.pipeline.care import tenant_erasure
from tenants.retrieval.index import generation_files, lifecycle, memory
from tenants.scope import tenant_scope
from tests.tenants.test_generation_files import comes_back, fall_quiet
from tests.tenants.test_index_lifecycle import MODEL, Library


def test_blobs_live_in_a_bucket(bucket: str, party, tmp_path) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        asset = add_asset(dataset_id=dataset.id, text="0123456789").asset
    path = storage.path_of(party.id, asset.blob.sha256)
    assert default_storage.bucket_name == bucket
    assert default_storage.exists(path)
    assert b"".join(storage.chunks(storage.open_blob(path), 3, 4)) == b"3456"
    storage.copy_to(path, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"0123456789"
    with tenant_scope(party.id):
        delete_asset(asset_id=asset.id)
        assert Asset.objects.count() == 0
    assert not default_storage.exists(path)


def test_a_half_written_blob_is_written_anew(bucket: str, party) -> None:
    path = storage.path_of(party.id, "ab" * 32)
    storage.put(path, b"half")
    storage.put(path, io.BytesIO(b"the whole"))
    with storage.open_blob(path) as stream:
        assert stream.read() == b"the whole"


@pytest.mark.slow
def test_an_idle_index_goes_to_the_bucket_and_comes_back(bucket: str, party, settings) -> None:
    settings.INDEX_FLAT_MAX = 10
    library = Library(party)
    library.fill(12)
    library.build()
    generation = fall_quiet(library)
    lifecycle.tidy_local(party.id)
    assert library.folders == set()
    assert default_storage.exists(generation_files.path_of(party.id, generation.pk, "columns/owners.npy"))
    library.cached = memory.TenantVectors(MODEL)
    comes_back(library, generation)
    lifecycle.remove_copy(party.id, generation.pk)
    assert not [path for path in tenant_erasure.files_of(party.id) if f"/{generation_files.KIND}/" in path]
