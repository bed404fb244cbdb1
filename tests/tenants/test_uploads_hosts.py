"""Uploads in parts over several hosts, which share a database and a bucket and nothing else."""

from __future__ import annotations

import hashlib
import io
import secrets
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from tenants.accounts import keys, rate_counter
from tenants.datasets import resumable, storage, tus, upload_bytes
from tenants.datasets.models import ResumableUpload
from tenants.datasets.services import create_dataset
from tenants.errors import NotFound
from tenants.pipeline.assets.services import Added, add_asset
from tenants.pipeline.assets.uploads import check_upload
from tenants.pipeline.care import tenant_erasure
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.host_process import HostProcess
from tests.waiting import until

MIB = 2**20
PATCH = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
PICTURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def other_host(bucket: str, s3_endpoint: str, tmp_path: Path) -> Iterator[HostProcess]:
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    where = {"STORAGE_URL": f"s3://{bucket}/prefix", "AWS_ENDPOINT_URL": s3_endpoint}
    with HostProcess(tmp_path / "other", **where, **keys) as running:
        yield running


def begin(party: Party, length: int) -> uuid.UUID:
    upload_id = uuid.uuid4()
    with tenant_scope(party.id):
        expires = timezone.now() + timedelta(hours=1)
        resumable.begin(upload_id=upload_id, length=length, metadata={}, expires_at=expires)
    return upload_id


def send(party: Party, upload_id: uuid.UUID, body: bytes, offset: int) -> tus.Reply:
    headers = {**PATCH, "Upload-Offset": str(offset)}
    call = tus.TusRequest(party.id, "PATCH", "/uploads", headers, upload_id)
    return tus.receive(call, io.BytesIO(body), len(body))


def there(party: Party, upload_id: uuid.UUID, body: bytes = b"", offset: int = 0) -> dict[str, Any]:
    """A request for another host (its command `tus`): where the upload stands, or a PATCH from `offset` on."""
    headers = {**PATCH, "Upload-Offset": str(offset)} if body else {"Tus-Resumable": "1.0.0"}
    about = {"tenant": str(party.id), "upload": str(upload_id), "headers": headers}
    return {**about, "method": "PATCH" if body else "HEAD", "body": body.hex()}


def row_of(party: Party, upload_id: uuid.UUID) -> ResumableUpload:
    with tenant_scope(party.id):
        return ResumableUpload.objects.get(pk=upload_id)


def left_of(party: Party) -> tuple[int, list[str], int]:
    """Rows, stored files and multipart uploads."""
    with tenant_scope(party.id):
        rows = ResumableUpload.objects.count()
    files = list(storage.files_below(f"{party.id}/{upload_bytes.KIND}"))
    return rows, files, resumable.unfinished(party.id)


def use(party: Party, upload_id: uuid.UUID) -> Added:
    with tenant_scope(party.id):
        dataset = create_dataset(name=secrets.token_hex(4))
    with resumable.file_of(party.id, None, str(upload_id), at_most=2**30) as file:
        checked = check_upload(file, "")
        with tenant_scope(party.id):
            return add_asset(dataset_id=dataset.id, upload=checked)


def stored_bytes(added: Added) -> bytes:
    with storage.open_blob(storage.path_of(added.asset.tenant_id, added.asset.blob.sha256)) as stream:
        return stream.read()


@pytest.mark.proof(9)
def test_begun_on_one_host_and_ended_on_another(party: Party, other_host: HostProcess) -> None:
    content = PICTURE + secrets.token_bytes(19 * MIB + 3)
    upload_id = begin(party, len(content))
    # Two parts of it in the bucket, and some MiB that wait.
    assert send(party, upload_id, content[: 17 * MIB + 5], 0).status == 204
    row = row_of(party, upload_id)
    assert ([number for number, _ in row.parts], sum(n for _, n in row.pieces)) == ([1, 2], MIB + 5)
    assert other_host.ask("tus", **there(party, upload_id)) == {"status": 200, "offset": 17 * MIB + 5}
    rest = there(party, upload_id, body=content[17 * MIB + 5 :], offset=17 * MIB + 5)
    assert other_host.ask("tus", **rest) == {"status": 204, "offset": len(content)}
    added = use(party, upload_id)
    assert added.asset.blob.sha256 == hashlib.sha256(content).hexdigest()
    assert stored_bytes(added) == content
    assert left_of(party) == (0, [], 0)


def test_a_host_that_is_killed_in_the_middle_of_a_part(
    party: Party, other_host: HostProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had stored and not yet counted is not there; its lease lapses, and nobody has to free it."""
    monkeypatch.setattr(upload_bytes, "PART_BYTES", 5 * MIB)
    content = PICTURE + secrets.token_bytes(12 * MIB)
    upload_id = begin(party, len(content))
    assert send(party, upload_id, content[: 7 * MIB], 0).status == 204
    other_host.ask("stall_uploads")
    lost = there(party, upload_id, body=content[7 * MIB : 8 * MIB], offset=7 * MIB)
    assert other_host.ask("tus", **lost) == "stalled"
    monkeypatch.setattr(tus, "LOCK_WAIT_S", 0.0)
    assert send(party, upload_id, content[7 * MIB :], 7 * MIB).status == 423
    other_host.kill()
    with tenant_scope(party.id):
        ResumableUpload.objects.filter(pk=upload_id).update(held_until=timezone.now() - timedelta(seconds=1))
    found = resumable.look_up(party.id, upload_id)
    assert found is not None
    assert found.offset == 7 * MIB
    assert send(party, upload_id, content[7 * MIB :], 7 * MIB).status == 204
    assert stored_bytes(use(party, upload_id)) == content
    assert left_of(party) == (0, [], 0)


def test_a_writer_that_was_too_slow_changes_nothing(
    party: Party, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease lapsed while it stored a part; another has gone on meanwhile, with other bytes."""
    monkeypatch.setattr(upload_bytes, "PART_BYTES", 5 * MIB)
    content = PICTURE + secrets.token_bytes(6 * MIB)
    upload_id = begin(party, len(content))
    client = storage.bucket_client

    class Slow:
        def __getattr__(self, name: str) -> Any:
            call = getattr(client(), name)
            return call if name != "upload_part" else lambda **what: overtaken(call, what)

    def overtaken(call: Any, what: dict[str, Any]) -> Any:
        monkeypatch.setattr(storage, "bucket_client", client)
        with tenant_scope(party.id):
            past = timezone.now() - timedelta(seconds=1)
            ResumableUpload.objects.filter(pk=upload_id).update(held_until=past)
        assert send(party, upload_id, content[4 * MIB :], 4 * MIB).status == 204
        return call(**what)

    monkeypatch.setattr(storage, "bucket_client", Slow)
    with pytest.raises(resumable.Conflict):
        send(party, upload_id, content[: 4 * MIB] + bytes(MIB), 0)
    assert stored_bytes(use(party, upload_id)) == content
    assert left_of(party) == (0, [], 0)


def test_a_lease_lasts_as_long_as_its_holder_needs(
    party: Party, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_bytes, "LEASE_S", 0.3)
    upload_id = begin(party, 4)
    with resumable.locked(party.id, upload_id) as held:
        assert held is not None
        first = row_of(party, upload_id).held_until
        until(lambda: row_of(party, upload_id).held_until != first, message="the lease was not renewed")
        with resumable.locked(party.id, upload_id) as second:
            assert second is None
    with resumable.locked(party.id, upload_id) as after:
        assert after is not None


def test_short_ones_need_no_multipart_upload(party: Party, bucket: str) -> None:
    upload_id = begin(party, 10)
    assert send(party, upload_id, b"some ", 0).status == 204
    assert send(party, upload_id, b"words", 5).status == 204
    assert row_of(party, upload_id).multipart == ""
    assert stored_bytes(use(party, upload_id)) == b"some words"
    assert left_of(party) == (0, [], 0)


def test_a_refused_use_leaves_the_upload_for_another(party: Party, bucket: str) -> None:
    content = secrets.token_bytes(9 * MIB)
    upload_id = begin(party, len(content))
    assert send(party, upload_id, content, 0).status == 204
    for _ in range(2):
        with (
            pytest.raises(ZeroDivisionError),
            resumable.claimed(party.id, upload_id, at_most=2**30) as file,
        ):
            assert file.read() == content
            raise ZeroDivisionError
    found = resumable.look_up(party.id, upload_id)
    assert found is not None
    assert found.complete


def test_expired_and_abandoned_ones_leave_nothing_in_the_bucket(party: Party, bucket: str) -> None:
    upload_id = begin(party, 20 * MIB)
    assert send(party, upload_id, bytes(9 * MIB), 0).status == 204
    rows, files, multiparts = left_of(party)
    assert (rows, len(files), multiparts) == (1, 1, 1)
    with tenant_scope(party.id):
        ResumableUpload.objects.update(expires_at=timezone.now() - timedelta(seconds=10))
    assert resumable.look_up(party.id, upload_id) is None
    assert resumable.discard_expired(party.id) == 0, "a request may still be at work"
    with tenant_scope(party.id):
        ResumableUpload.objects.update(expires_at=timezone.now() - timedelta(hours=2))
    assert resumable.discard_expired(party.id) == 1
    assert left_of(party) == (0, [], 0)


def test_one_that_a_restored_database_knows_and_the_bucket_does_not(party: Party, bucket: str) -> None:
    upload_id = begin(party, 20 * MIB)
    assert send(party, upload_id, bytes(9 * MIB), 0).status == 204
    for path in list(storage.files_below(f"{party.id}/{upload_bytes.KIND}")):
        default_storage.delete(path)
    with pytest.raises(NotFound):
        send(party, upload_id, bytes(8 * MIB), 9 * MIB)


def test_erasing_a_tenant_ends_its_uploads_in_the_bucket(
    party: Party, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No other process remembers this tenant.
    monkeypatch.setattr(keys, "RECENT_S", 0)
    monkeypatch.setattr(rate_counter, "FRESH_S", 0)
    upload_id = begin(party, 20 * MIB)
    assert send(party, upload_id, bytes(9 * MIB), 0).status == 204
    assert tenant_erasure.find_traces(party.id)["uploads"] == 1
    tenant_erasure.erase_tenant(slug=party.tenant.slug)
    assert tenant_erasure.find_traces(party.id) == {}
    assert resumable.unfinished(party.id) == 0
