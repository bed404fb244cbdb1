"""Stored files that a disk or a person has changed: never served, no hindrance to others, and mended by an upload."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tenants.datasets import storage
from tenants.datasets.encrypted_files import FileDamaged
from tests.conftest import Party
from workers.base import run_job

TEXT = "a lighthouse on a cliff, " * 60
OTHER = "a lighthouse on an island, " * 60
Upload = Callable[[str], dict[str, Any]]


@pytest.fixture(params=["plain", "encrypted"], autouse=True)
def _kept(request: pytest.FixtureRequest, settings: Any) -> Iterator[None]:
    """Either way of keeping files; nothing damaged is left for tests of backups."""
    settings.ENCRYPT_FILES = request.param == "encrypted"
    root = Path(storage.as_stored().path(""))
    before = set(root.iterdir()) if root.exists() else set()
    yield
    for folder in set(root.iterdir()) - before if root.exists() else ():
        shutil.rmtree(folder)


@pytest.fixture
def upload(party: Party) -> Upload:
    dataset = post(party, "/datasets", {"name": "damaged"})["id"]

    def send(text: str) -> dict[str, Any]:
        added = post(party, f"/datasets/{dataset}/assets", {"text": text})
        return {**added["asset"], "job": added["job"]["id"]}

    return send


def post(party: Party, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = Client().post(f"/api/v1{path}", body, content_type="application/json", **party.auth)
    assert answer.status_code in (201, 202), answer.content
    return answer.json()


def damage(party: Party, text: str) -> Path:
    path = stored(party, text)
    path.chmod(0o600)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return path


def stored(party: Party, text: str) -> Path:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Path(storage.as_stored().path(storage.path_of(party.id, sha256)))


def content(party: Party, asset: dict[str, Any], **headers: str) -> tuple[int, bytes]:
    answer: Any = Client().get(f"/api/v1/assets/{asset['id']}/content", **party.auth, **headers)
    return answer.status_code, b"".join(answer.streaming_content) if answer.streaming else answer.content


def test_a_damaged_file_is_answered_with_an_error_that_names_it(party: Party, upload: Upload) -> None:
    asset = upload(TEXT)
    assert content(party, asset) == (200, TEXT.encode())
    damage(party, TEXT)
    for headers in ({}, {"HTTP_RANGE": "bytes=0-9"}):
        status, told = content(party, asset, **headers)
        assert status == 503
        assert b"file-damaged" in told
        assert asset["sha256"].encode() in told
    with pytest.raises(FileDamaged):
        storage.copy_to(storage.path_of(party.id, asset["sha256"]), stored(party, TEXT).with_suffix(".copy"))


def test_the_same_content_uploaded_again_mends_it(party: Party, upload: Upload) -> None:
    asset = upload(TEXT)
    damage(party, TEXT)
    again = upload(TEXT)
    assert again["sha256"] == asset["sha256"]
    assert content(party, asset) == content(party, again) == (200, TEXT.encode())


def test_a_search_shows_what_else_it_found(party: Party, upload: Upload) -> None:
    """Words of a long text are shown from its file, which one result of several may have lost."""
    damaged, whole = upload(TEXT), upload(OTHER)
    for asset in (damaged, whole):
        run_job(asset["job"], str(party.id))
    damage(party, TEXT)
    body = {"text": "lighthouse", "highlight": True}
    found = Client().post("/api/v1/search", body, content_type="application/json", **party.auth)
    assert found.status_code == 200, found.content
    shown = {result["asset"]["id"]: result["highlights"] for result in found.json()["results"]}
    assert [one["field"] for one in shown[whole["id"]]] == ["passage"]
    assert "passage" not in [one["field"] for one in shown[damaged["id"]]]
