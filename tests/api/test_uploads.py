"""Uploads in parts: the protocol's rules, whose they are, and what becomes of them."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings as live_settings
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone

from tenants.accounts.models import Plan
from tenants.datasets import resumable, tus
from tenants.datasets.models import ResumableUpload
from tenants.long_requests import Threads
from tenants.scope import tenant_scope
from tests.api.conftest import Api, picture, refused, upload
from tests.conftest import Party

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}


def begin(api: Api, length: int, filename: str = "", **headers: str) -> str:
    """The path of a new upload, below /api/v1."""
    metadata = {"Upload-Metadata": f"filename {encoded(filename)}"} if filename else {}
    answer = api.call(
        "POST", "/uploads", headers={**TUS, "Upload-Length": str(length), **metadata, **headers}
    )
    assert answer.status_code == 201, answer.content
    return answer.headers["Location"].removeprefix("/api/v1")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def send(api: Api, path: str, body: bytes, offset: int = 0, **headers: str) -> Any:
    return api.call("PATCH", path, body, {**BYTES, "Upload-Offset": str(offset), **headers})


def offset_of(api: Api, path: str) -> int:
    answer = api.call("HEAD", path, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


def put(api: Api, content: bytes, filename: str = "") -> str:
    """The id of a finished upload."""
    path = begin(api, len(content), filename)
    assert send(api, path, content).status_code == 204
    return path.rpartition("/")[2]


def folder_of(party: Party) -> Path:
    return Path(default_storage.path(f"{party.id}/upload"))


def test_what_the_server_knows(api: Api) -> None:
    answer = api.call("OPTIONS", "/uploads")
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Extension"] == "creation,expiration,termination,checksum"
    assert answer.headers["Tus-Max-Size"] == str(20 * 1024**3)
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"


def test_a_file_in_parts_becomes_an_asset(api: Api, party: Party, dataset: str) -> None:
    content = picture(size=(300, 200)) + secrets.token_bytes(2 * tus.PIECE)
    path = begin(api, len(content), "../../etc/bad\u202ename.png")
    upload_id = path.rpartition("/")[2]
    first = tus.PIECE + 1
    assert send(api, path, content[:first]).headers["Upload-Offset"] == str(first)
    head = api.call("HEAD", path, headers=TUS)
    assert (head.headers["Upload-Offset"], head.headers["Upload-Length"]) == (str(first), str(len(content)))
    assert head.headers["Cache-Control"] == "no-store"
    assert "Upload-Expires" in head.headers
    unfinished = api.post(f"/datasets/{dataset}/assets", {"upload": upload_id})
    assert f"{first} of {len(content)}" in refused(unfinished, 409, "not-ready")["detail"]
    assert send(api, path, content[first:], first).status_code == 204
    assert sorted(p.name for p in folder_of(party).iterdir()) == [f"{upload_id}.part"]
    body = {"upload": upload_id, "text": "a caption", "metadata": {"a": 1}, "external_id": "x"}
    added = api.post(f"/datasets/{dataset}/assets", body, Idempotency_Key="one")
    assert added.status_code == 202
    asset = added.json()["asset"]
    assert (asset["sha256"], asset["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (asset["modality"], asset["caption"], asset["metadata"]) == ("image", "a caption", {"a": 1})
    # Moved, not copied; and the same request again is answered from memory.
    assert list(folder_of(party).iterdir()) == []
    again = api.post(f"/datasets/{dataset}/assets", body, Idempotency_Key="one")
    assert (again.status_code, again.content) == (202, added.content)
    refused(api.post(f"/datasets/{dataset}/assets", {"upload": upload_id}), 404, "not-found")


def test_a_refused_asset_leaves_the_upload(api: Api, dataset: str) -> None:
    upload_id = put(api, b"\x7fELF not a picture")
    refused(api.post(f"/datasets/{dataset}/assets", {"upload": upload_id}), 415, "unsupported-media-type")
    assert offset_of(api, f"/uploads/{upload_id}") == 18


def test_an_upload_that_is_used_up_while_another_opens_it(
    api: Api, party: Party, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id, lock = uuid.UUID(put(api, b"some words")), fcntl.flock

    def late(stream: Any, how: int) -> None:
        resumable.discard(party.id, upload_id)
        lock(stream, how)

    monkeypatch.setattr(fcntl, "flock", late)
    refused(api.post(f"/datasets/{dataset}/assets", {"upload": str(upload_id)}), 404, "not-found")


def test_an_upload_and_a_file_are_not_one_asset(api: Api, dataset: str) -> None:
    upload_id = put(api, picture())
    answer = api.form(f"/datasets/{dataset}/assets", {"upload": upload_id, "text": "x"})
    assert answer.status_code == 202
    upload_id = put(api, picture("blue"))
    both = {"upload": upload_id, "file": upload(picture("green"))}
    refused(api.form(f"/datasets/{dataset}/assets", both), 422, "invalid", "/upload")


@pytest.mark.parametrize("name", ["x", "%2e%2e%2fx", "..%2F..%2Fx", "0" * 400])
def test_an_address_that_is_no_id(api: Api, name: str) -> None:
    for method in ("HEAD", "PATCH", "DELETE"):
        assert api.call(method, f"/uploads/{name}", headers=BYTES).status_code == 404


def test_anothers_upload_is_absent(api: Api, other: Api, party: Party, stranger: Party) -> None:
    path = begin(api, 4)
    nowhere = f"/uploads/{uuid.uuid4()}"
    theirs = other.post("/datasets", {"name": "theirs"}).json()["id"]
    for method, headers in (("PATCH", {**BYTES, "Upload-Offset": "0"}), ("DELETE", TUS), ("PATCH", {})):
        details = {
            refused(other.call(method, p, b"evil" if method == "PATCH" else None, headers), 404, "not-found")[
                "detail"
            ]
            for p in (path, nowhere)
        }
        assert len(details) == 1, "an answer tells what exists elsewhere"
    assert other.call("HEAD", path, headers=TUS).status_code == 404
    assert send(api, path, b"mine").status_code == 204
    upload_id = path.rpartition("/")[2]
    refused(other.post(f"/datasets/{theirs}/assets", {"upload": upload_id}), 404, "not-found")
    assert (folder_of(party) / f"{upload_id}.part").read_bytes() == b"mine"
    assert not folder_of(stranger).exists()


def test_wrong_offsets_and_lengths(api: Api, party: Party) -> None:
    path = begin(api, 10)
    assert send(api, path, b"01234").status_code == 204
    refused(send(api, path, b"01234", 0), 409, "offset-mismatch")
    refused(send(api, path, b"89", 8), 409, "offset-mismatch")
    refused(send(api, path, b"x", -1), 400, "malformed")
    refused(api.call("PATCH", path, b"x", BYTES), 400, "malformed")
    refused(api.call("PATCH", path, b"x", {**TUS, "Upload-Offset": "5"}), 415, "unsupported-media-type")
    refused(send(api, path, b"567890", 5), 413, "too-large")
    # From where the upload does not stand, the length says nothing: the client is told the offset.
    refused(send(api, path, b"0123456789x", 0), 409, "offset-mismatch")
    assert offset_of(api, path) == 5
    assert send(api, path, b"56789", 5).status_code == 204
    refused(send(api, path, b"more", 10), 403, "upload-complete")
    assert (folder_of(party) / f"{path.rpartition('/')[2]}.part").read_bytes() == b"0123456789"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Upload-Length": "x"}, 400),
        ({"Upload-Length": "-1"}, 400),
        ({"Upload-Defer-Length": "1"}, 400),
        ({"Upload-Length": "1", "Upload-Metadata": "filename ###"}, 400),
        ({"Upload-Length": "1", "Upload-Metadata": "a YQ==,a YQ=="}, 400),
        ({"Upload-Length": str(20 * 1024**3 + 1)}, 413),
        ({"Upload-Length": "1", "Tus-Resumable": "0.2.2"}, 412),
    ],
)
def test_beginnings_that_are_refused(api: Api, party: Party, headers: dict, status: int) -> None:
    answer = api.call("POST", "/uploads", headers={**TUS, **headers})
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert list(folder_of(party).glob("*")) == []


def test_methods_cannot_be_smuggled(api: Api) -> None:
    path = begin(api, 4)
    override = {**TUS, "X-HTTP-Method-Override": "DELETE", "Upload-Length": "1"}
    assert api.call("POST", path, headers=override).status_code == 405
    assert api.call("POST", "/uploads", headers=override).status_code == 201
    assert offset_of(api, path) == 0


def test_checksums(api: Api) -> None:
    content = secrets.token_bytes(2 * tus.PIECE + 5)
    path = begin(api, len(content))

    def checksum(of: bytes, name: str = "sha256") -> dict[str, str]:
        return {"Upload-Checksum": f"{name} {base64.b64encode(hashlib.new(name, of).digest()).decode()}"}

    problem = refused(send(api, path, content, **checksum(content + b"!")), 460, "checksum-mismatch")
    assert problem["title"] == "The bytes are not those that were sent"
    assert offset_of(api, path) == 0
    refused(send(api, path, content, **{"Upload-Checksum": "sha256"}), 400, "malformed")
    refused(send(api, path, content, **checksum(content, "md5")), 400, "malformed")
    half = content[: tus.PIECE]
    assert send(api, path, half, **checksum(half, "sha1")).status_code == 204
    rest = content[tus.PIECE :]
    assert send(api, path, rest, tus.PIECE, **checksum(rest)).headers["Upload-Offset"] == str(len(content))


def test_a_body_that_ends_early_keeps_what_came(api: Api, party: Party) -> None:
    class Broken:
        left = tus.PIECE + 10

        def read(self, size: int) -> bytes:
            if self.left <= 10:
                raise ConnectionResetError("gone")
            self.left -= size
            return b"x" * size

    path = begin(api, 4 * tus.PIECE)
    upload_id = uuid.UUID(path.rpartition("/")[2])
    call = tus.TusRequest(party.id, "PATCH", "/api/v1/uploads", {**BYTES, "Upload-Offset": "0"}, upload_id)
    with pytest.raises(ConnectionResetError):
        tus.receive(call, Broken(), 4 * tus.PIECE)
    assert offset_of(api, path) == tus.PIECE


def test_two_at_once_cannot_mix(api: Api, party: Party) -> None:
    size = 8 * tus.PIECE
    bodies = [bytes([letter]) * size for letter in b"AB"]
    path = begin(api, size)
    start = threading.Barrier(2)

    def race(body: bytes) -> int:
        start.wait()
        return send(Api(api.token, Client(raise_request_exception=False)), path, body).status_code

    with ThreadPoolExecutor(2) as pool:
        statuses = sorted(pool.map(race, bodies))
    data = (folder_of(party) / f"{path.rpartition('/')[2]}.part").read_bytes()
    # One wins from some offset on; nothing is written twice, and nothing is beyond the end.
    assert statuses in ([204, 409], [409, 409], [204, 403])
    assert len(data) == offset_of(api, path) <= size
    pieces = [data[at : at + tus.PIECE] for at in range(0, len(data), tus.PIECE)]
    assert all(piece in {body[: tus.PIECE] for body in bodies} for piece in pieces)


def test_a_second_writer_is_told_while_the_first_writes(
    api: Api, party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tus, "LOCK_WAIT_S", 0.05)
    path = begin(api, 4)
    with resumable.locked(party.id, uuid.UUID(path.rpartition("/")[2])):
        refused(send(api, path, b"1234"), 423, "upload-locked")
    assert send(api, path, b"1234").status_code == 204


def test_used_by_one_request_at_a_time(api: Api, party: Party, dataset: str) -> None:
    upload_id = put(api, b"some words")
    with resumable.locked(party.id, uuid.UUID(upload_id)):
        refused(api.post(f"/datasets/{dataset}/assets", {"upload": upload_id}), 409, "conflict")
    assert api.post(f"/datasets/{dataset}/assets", {"upload": upload_id}).status_code == 202


def test_places_are_limited(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    path = begin(api, 4)
    monkeypatch.setattr(tus, "UPLOADING", Threads(1))
    with tus.UPLOADING.taken():
        answer = send(api, path, b"1234")
        refused(answer, 503, "unavailable")
        assert answer.headers["Retry-After"] == "5"
    assert send(api, path, b"1234").status_code == 204


def test_termination(api: Api, party: Party) -> None:
    path = begin(api, 4)
    assert api.call("DELETE", path, headers=TUS).status_code == 204
    assert api.call("HEAD", path, headers=TUS).status_code == 404
    refused(api.call("DELETE", path, headers=TUS), 404, "not-found")
    assert list(folder_of(party).iterdir()) == []


def test_expiry(api: Api, party: Party, settings: Any) -> None:
    settings.UPLOAD_EXPIRY_S = -1
    path = begin(api, 4)
    detail = refused(send(api, path, b"1234"), 404, "not-found")["detail"]
    assert detail.startswith("This upload does not exist.")
    settings.UPLOAD_EXPIRY_S = 3600
    kept = begin(api, 4)
    assert sweep(party) == 0, "a request may still be at work"
    with tenant_scope(party.id):
        rows = ResumableUpload.objects.filter(pk=path.rpartition("/")[2])
        rows.update(expires_at=timezone.now() - timedelta(seconds=3700))
    assert sweep(party) == 1
    assert [p.stem for p in folder_of(party).glob("*.part")] == [kept.rpartition("/")[2]]


def sweep(party: Party) -> int:
    return resumable.discard_expired(party.id)


@pytest.fixture
def small(make_party: Callable[..., Party]) -> Api:
    """A client whose plan holds 100 bytes."""
    slug = f"p-{secrets.token_hex(6)}"
    Plan.objects.create(slug=slug, name=slug, limits={"bytes": 100})
    return Api(make_party(plan=slug).token)


def test_quota(small: Api) -> None:
    def begun(length: int) -> Any:
        return small.call("POST", "/uploads", headers={**TUS, "Upload-Length": str(length)})

    assert refused(begun(101), 403, "quota-exceeded")["resource"] == "bytes"
    first = begun(60)
    assert first.status_code == 201
    refused(begun(41), 403, "quota-exceeded")
    assert begun(40).status_code == 201
    small.call("DELETE", first.headers["Location"].removeprefix("/api/v1"), headers=TUS)
    assert begun(60).status_code == 201


def test_too_many_begun(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "MAX_PARTIAL", 2)
    first, _ = begin(api, 1), begin(api, 1)
    answer = api.call("POST", "/uploads", headers={**TUS, "Upload-Length": "1"})
    assert "were started" in refused(answer, 403, "quota-exceeded")["detail"]
    api.call("DELETE", first, headers=TUS)
    begin(api, 1)


def test_a_full_disk_is_explained(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 3

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    answer = api.call("POST", "/uploads", headers={**TUS, "Upload-Length": "4"})
    assert "disk of this installation is full" in refused(answer, 507, "storage-full")["detail"]


def test_memory_stays_flat(api: Api, party: Party) -> None:
    """A body of 64 MiB is never held: neither whole nor with a checksum."""

    class Zeros:
        left = 64 * 2**20

        def read(self, size: int) -> bytes:
            self.left -= (taken := min(size, self.left))
            return bytes(taken)

    digest = base64.b64encode(hashlib.sha256(bytes(Zeros.left)).digest()).decode()
    for extra in ({}, {"Upload-Checksum": f"sha256 {digest}"}):
        path = begin(api, Zeros.left)
        upload_id = uuid.UUID(path.rpartition("/")[2])
        headers = {**BYTES, "Upload-Offset": "0", **extra}
        before = private_bytes()
        call = tus.TusRequest(party.id, "PATCH", "/x", headers, upload_id)
        assert tus.receive(call, Zeros(), Zeros.left).status == 204
        assert private_bytes() - before < 16 * 2**20
        api.call("DELETE", path, headers=TUS)


def private_bytes() -> int:
    return psutil.Process().memory_full_info().uss


def test_one_that_a_former_release_began_is_finished(api: Api, party: Party, dataset: str) -> None:
    """Its facts and its bytes lie in UPLOADS_DIR; the bytes stay there until it is used."""
    upload_id, folder = uuid.uuid4(), live_settings.UPLOADS_DIR / str(party.id)
    folder.mkdir(parents=True)
    told = {"bytes": 10, "metadata": {"filename": "old.txt"}, "expires_at": time.time() + 3600}
    (folder / f"{upload_id}.json").write_text(json.dumps(told))
    (folder / f"{upload_id}.part").write_bytes(b"some ")
    path = f"/uploads/{upload_id}"
    assert offset_of(api, path) == 5
    assert send(api, path, b"words", 5).status_code == 204
    added = api.post(f"/datasets/{dataset}/assets", {"upload": str(upload_id)})
    assert added.status_code == 202
    assert added.json()["asset"]["sha256"] == hashlib.sha256(b"some words").hexdigest()
    assert list(folder.iterdir()) == []
    assert api.call("HEAD", path, headers=TUS).status_code == 404


def test_what_a_power_cut_took_is_asked_for_again(api: Api, party: Party, dataset: str) -> None:
    path = begin(api, 10)
    assert send(api, path, b"some word").status_code == 204
    os.truncate(folder_of(party) / f"{path.rpartition('/')[2]}.part", 5)
    assert offset_of(api, path) == 5
    assert send(api, path, b"words", 5).headers["Upload-Offset"] == "10"
    added = api.post(f"/datasets/{dataset}/assets", {"upload": path.rpartition("/")[2]})
    assert added.json()["asset"]["sha256"] == hashlib.sha256(b"some words").hexdigest()


def test_what_was_written_and_not_counted_is_written_over(api: Api, party: Party) -> None:
    path = begin(api, 10)
    assert send(api, path, b"some").status_code == 204
    file = folder_of(party) / f"{path.rpartition('/')[2]}.part"
    file.write_bytes(b"some of a killed process")
    assert offset_of(api, path) == 4
    assert send(api, path, b" words", 4).status_code == 204
    assert file.read_bytes() == b"some words"
