"""Files at rest: what is stored, what is read, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.test import Client, override_settings
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from tenants.accounts import key_rotation, keyring
from tenants.datasets import encrypted_files, storage
from tenants.datasets.encrypted_files import HEADER_BYTES, FileDamaged, Header
from tenants.datasets.services import create_dataset
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.keys import another_master_key

SEGMENT = 1 << encrypted_files.SEGMENT_BITS
LENGTHS = (0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT, 40 * SEGMENT + 7)


@pytest.fixture(autouse=True)
def _encrypting(settings: Any) -> Iterator[None]:
    """Nothing damaged is left in the storage, which the tests of backups read."""
    settings.ENCRYPT_FILES = True
    root = Path(storage.as_stored().path(""))
    before = set(root.iterdir()) if root.exists() else set()
    yield
    for folder in set(root.iterdir()) - before if root.exists() else ():
        shutil.rmtree(folder)


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """The wrapper over each kind of storage."""
    if request.param == "folder":
        yield "folder"
        return
    request.getfixturevalue("bucket")
    from django.conf import settings

    inner = settings.STORAGES["default"]
    wrapped = {"BACKEND": "tenants.datasets.encrypted_files.EncryptedStorage", "OPTIONS": {"inner": inner}}
    with override_settings(STORAGES={"default": wrapped, "staticfiles": wrapped}):
        yield "bucket"


def bytes_of(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def put(tenant: uuid.UUID, content: bytes, kind: str = "original") -> str:
    path = storage.path_of(tenant, hashlib.sha256(content).hexdigest(), kind)
    storage.put(path, content)
    return path


def stored(path: str) -> bytes:
    with storage.as_stored().open(path, "rb") as file:
        return bytes(file.read())


def overwrite(path: str, content: bytes) -> None:
    Path(storage.as_stored().path(path)).write_bytes(content)


def read(path: str) -> bytes:
    with storage.open_blob(path) as file:
        return file.read()


@pytest.mark.parametrize("length", LENGTHS)
def test_content_comes_back_with_its_length_and_is_not_stored_as_it_is(store: str, length: int) -> None:
    tenant, content = uuid.uuid4(), bytes_of(length)
    path = put(tenant, content)
    held = stored(path)
    assert held != content
    # Single bytes stand in what is random, too.
    assert length < 32 or content[:32] not in held
    assert len(held) == HEADER_BYTES + length + 16 * max(1, -(-length // SEGMENT))
    assert default_storage.size(path) == length
    assert read(path) == content
    with storage.open_blob(path) as file:
        assert (file.size, file.seek(0, 2)) == (length, length)
    # Again: it is there in full.
    put(tenant, content)
    assert stored(path) == held


@pytest.mark.parametrize("kind", ["path", "spooled", "copy"])
def test_large_files_from_a_path_or_a_stream(store: str, tmp_path: Path, kind: str) -> None:
    tenant, content = uuid.uuid4(), bytes_of(40 * SEGMENT + 7)
    source, path = tmp_path / "file", f"{tenant}/export/x"
    source.write_bytes(content)
    if kind == "path":
        storage.put(path, source)
    elif kind == "copy":
        storage.put_copy(path, source)
        assert source.read_bytes() == content
    else:
        with source.open("rb") as stream:
            storage.put(path, stream)
    assert read(path) == content
    with storage.local(path, tmp_path) as local:
        assert local.read_bytes() == content
    assert not local.exists()
    storage.fetch(path, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == content
    with pytest.raises(storage.Encrypted):
        storage.link_to(path, 60)
    from django.conf import settings

    assert not list(settings.SPOOL_DIR.glob("sealed-*"))


CONTENT = bytes_of(5 * SEGMENT + 100)


@limits(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(CONTENT) + 10), st.integers(0, 3 * SEGMENT)), min_size=1, max_size=6
    )
)
def test_any_part_in_any_order(parts: list[tuple[int, int]]) -> None:
    owner, sealed = OWNER, io.BytesIO()
    encrypted_files.encrypt(io.BytesIO(CONTENT), sealed, owner=owner, name="x")
    header = Header.read(sealed.getvalue())
    assert header is not None
    reader = encrypted_files._Content(encrypted_files._Segments(sealed, header, "x"))
    for start, length in parts:
        assert reader.seek(start) == start
        assert reader.read(length) == CONTENT[start : start + length]


OWNER = uuid.uuid4()


def test_plain_files_are_read_beside_encrypted_ones(settings: Any, tmp_path: Path) -> None:
    tenant = uuid.uuid4()
    settings.ENCRYPT_FILES = False
    plain = put(tenant, b"plain")
    assert stored(plain) == b"plain"
    settings.ENCRYPT_FILES = True
    assert (read(plain), default_storage.size(plain)) == (b"plain", 5)
    with storage.local(plain, tmp_path) as local:
        assert local == storage.local_path(plain)
    sealed = put(tenant, b"sealed")
    settings.ENCRYPT_FILES = False
    assert read(sealed) == b"sealed"


def test_a_plain_file_that_looks_encrypted_is_encrypted(settings: Any) -> None:
    settings.ENCRYPT_FILES = False
    content = bytes(Header(uuid.uuid4(), b"s" * 16, b"p" * 7)) + b"not so"
    path = put(uuid.uuid4(), content)
    assert stored(path) != content
    assert read(path) == content


def test_a_half_written_file_is_written_anew() -> None:
    tenant, content = uuid.uuid4(), bytes_of(3 * SEGMENT)
    path = put(tenant, content)
    for length in (0, 10, HEADER_BYTES, HEADER_BYTES + 5, HEADER_BYTES + SEGMENT + 16, len(stored(path)) - 1):
        overwrite(path, stored(path)[:length])
        put(tenant, content)
        assert read(path) == content


def tampered(held: bytes, how: str) -> bytes:
    whole = SEGMENT + 16
    first, second = (
        held[HEADER_BYTES : HEADER_BYTES + whole],
        held[HEADER_BYTES + whole : HEADER_BYTES + 2 * whole],
    )
    rest = held[HEADER_BYTES + 2 * whole :]
    flipped = {
        "salt": 30,
        "prefix": 44,
        "content": HEADER_BYTES + 5,
        "tag": HEADER_BYTES + whole - 1,
        "last byte": len(held) - 1,
    }
    if how in flipped:
        at = flipped[how]
        return held[:at] + bytes([held[at] ^ 1]) + held[at + 1 :]
    return {
        "swapped": held[:HEADER_BYTES] + second + first + rest,
        "cut between segments": held[: HEADER_BYTES + 2 * whole],
        "cut inside a segment": held[:-3],
        "header alone": held[:HEADER_BYTES],
        "longer": held + b"\0",
        "segment twice": held[: HEADER_BYTES + whole] + first + second + rest,
        "segment size": held[: HEADER_BYTES - 1] + bytes([15]) + held[HEADER_BYTES:],
        "huge segments": held[: HEADER_BYTES - 1] + bytes([255]) + held[HEADER_BYTES:],
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        *(
            "salt",
            "prefix",
            "content",
            "tag",
            "last byte",
            "swapped",
            "cut between segments",
            "cut inside a segment",
        ),
        *("header alone", "longer", "segment twice", "segment size", "huge segments"),
    ],
)
def test_changed_files_are_named_and_never_read(how: str) -> None:
    tenant, content = uuid.uuid4(), bytes_of(2 * SEGMENT + 500)
    path = put(tenant, content)
    overwrite(path, tampered(stored(path), how))
    with pytest.raises(FileDamaged, match=path):
        read(path)


def test_a_file_in_anothers_place_is_not_read() -> None:
    mine, other, content = uuid.uuid4(), uuid.uuid4(), b"mine"
    path, theirs = put(mine, content), put(other, content)
    another = put(mine, b"another")
    for place, held in ((theirs, stored(path)), (another, stored(path))):
        overwrite(place, held)
        with pytest.raises(FileDamaged, match=place):
            read(place)


def test_without_the_key_nothing_is_read(tmp_path: Path) -> None:
    tenant = uuid.uuid4()
    path = put(tenant, b"secret")
    with another_master_key(tmp_path), pytest.raises(keyring.KeyMissing):
        read(path)
    assert read(path) == b"secret"
    keyring.destroy_keys(tenant)
    with pytest.raises(keyring.KeyDestroyed):
        read(path)
    with pytest.raises(keyring.KeyDestroyed):
        put(tenant, b"new")


def test_encrypting_what_is_there(store: str, settings: Any) -> None:
    tenant, content = uuid.uuid4(), bytes_of(40 * SEGMENT)
    settings.ENCRYPT_FILES = False
    path = put(tenant, content)
    before = default_storage.get_modified_time(path)
    settings.ENCRYPT_FILES = True
    real: Any = default_storage
    assert real.encrypt_again(path, dry_run=True)
    assert stored(path) == content
    with storage.open_blob(path) as reading:
        half = reading.read(SEGMENT)
        assert real.encrypt_again(path)
        # Who reads goes on with what it had opened.
        assert half + reading.read() == content
    assert not real.encrypt_again(path)
    assert read(path) == content
    if store == "folder":
        assert default_storage.get_modified_time(path) == before
    first = Header.read(stored(path))
    key_rotation.new_version(tenant)
    assert read(path) == content
    assert real.encrypt_again(path)
    second = Header.read(stored(path))
    assert first is not None
    assert second is not None
    assert (second.key_id, second.key_id == first.key_id) == (keyring.active_key(tenant).id, False)
    assert read(path) == content


def test_over_the_api_bytes_lengths_and_ranges_are_those_of_the_content(party: Party) -> None:
    text = b"Ein Text. " * 9_900
    with tenant_scope(party.id):
        dataset = create_dataset(name="files")
        asset = add_asset(dataset_id=dataset.id, file=io.BytesIO(text)).asset
    assert stored(storage.path_of(party.id, hashlib.sha256(text).hexdigest())).startswith(
        encrypted_files.MAGIC
    )
    client, url = Client(), f"/api/v1/assets/{asset.id}/content"
    whole: Any = client.get(url, **party.auth)
    assert (whole.status_code, whole["Content-Length"]) == (200, str(len(text)))
    assert b"".join(whole.streaming_content) == text
    part: Any = client.get(url, HTTP_RANGE="bytes=65530-90000", **party.auth)
    assert (part.status_code, part["Content-Range"]) == (206, f"bytes 65530-90000/{len(text)}")
    assert b"".join(part.streaming_content) == text[65530:90001]


def test_compressed_streams_are_read_through_it() -> None:
    tenant = uuid.uuid4()
    path = put(tenant, gzip.compress(CONTENT))
    with storage.open_blob(path) as file, gzip.open(file) as stream:
        assert stream.read() == CONTENT


def test_the_command_encrypts_what_is_there_and_goes_on(party: Party, settings: Any) -> None:
    settings.ENCRYPT_FILES = False
    contents = [bytes_of(length) for length in (10, 70_000, 2_000_000)]
    paths = [put(party.id, content) for content in contents]
    part = Path(storage.as_stored().path(f"{party.id}/upload/x.part"))
    part.parent.mkdir(parents=True)
    part.write_bytes(b"grows")
    with pytest.raises(CommandError, match="Set ENCRYPT_FILES=1"):
        call_command("encrypt_files", party.tenant.slug)
    settings.ENCRYPT_FILES = True
    said = io.StringIO()
    real: Any = default_storage
    real.encrypt_again(paths[0])
    for arguments in (["--dry-run"], [], []):
        call_command("encrypt_files", party.tenant.slug, *arguments, stdout=said)
    slug = party.tenant.slug
    wanted = ["2 of 3 files would be encrypted", "2 of 3 files were encrypted", "0 of 3 files were encrypted"]
    assert said.getvalue().splitlines() == [f"{slug}: {line}" for line in wanted]
    assert [read(path) for path in paths] == contents
    assert part.read_bytes() == b"grows"
    with pytest.raises(CommandError, match="There is no tenant 'nobody'"):
        call_command("encrypt_files", "nobody")


def test_files_go_over_to_a_new_key_and_damaged_ones_are_named(party: Party) -> None:
    contents = [bytes_of(length) for length in (10, 70_000)]
    paths, damaged = [put(party.id, content) for content in contents], put(party.id, b"damaged")
    overwrite(damaged, stored(damaged)[:-1] + b"x")
    said, wrong = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError, match="1 are left under a former key"):
        call_command("rotate_keys", "tenant", party.tenant.slug, stdout=said, stderr=wrong)
    assert damaged in wrong.getvalue()
    now = keyring.active_key(party.id)
    assert now.version == 2
    for path, content in zip(paths, contents, strict=True):
        header = Header.read(stored(path))
        assert header is not None
        assert (header.key_id, read(path)) == (now.id, content)
    storage.drop(damaged)
    call_command("rotate_keys", "tenant", party.tenant.slug, stdout=said, stderr=wrong)
    assert keyring.active_key(party.id).version == 3
