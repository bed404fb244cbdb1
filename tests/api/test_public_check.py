"""Anybody checks whether a file was made here, and learns nothing else."""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings as configured
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from PIL import Image

from ml.detectors.base import PROCESS_DIED, Finding
from ml.generators.base import Kind
from ml.provenance.signing import load_keys, sign
from tenants.datasets.services import create_dataset
from tenants.long_requests import CHECKING
from tenants.pipeline.assets.services import add_asset
from tenants.pipeline.audits import public_check
from tenants.scope import tenant_scope
from tests.api.conftest import picture, refused
from tests.conftest import Party
from tests.tenants.made_files import (
    MARK,
    PROMPT,
    SEED,
    bomb,
    film_with_sound_of_ours,
    made,
    saved_again,
    soft,
)
from tests.tenants.time_stamping import authority

IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-|[0-9a-f]{12,}", re.IGNORECASE)


@pytest.fixture(scope="module")
def maker(make_party: Any) -> Party:
    return make_party()


@pytest.fixture(scope="module")
def drawn(maker: Party) -> bytes:
    return made(maker.tenant, "image")


class Anybody:
    """Somebody without a key, from a network of their own."""

    def __init__(self) -> None:
        self.network = f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}"
        self.http = Client(raise_request_exception=False)

    def check(self, content: bytes | None, name: str = "a.bin", host: str = "1", **headers: str) -> Any:
        files = {} if content is None else {"file": _named(content, name)}
        return self.post(files, host=host, **headers)

    def post(self, fields: dict[str, Any], host: str = "1", **headers: str) -> Any:
        address = f"{self.network}::{host}"
        return self.http.post("/api/v1/check", fields, REMOTE_ADDR=address, headers=headers)


def _named(content: bytes, name: str = "a.bin") -> io.BytesIO:
    file = io.BytesIO(content)
    file.name = name
    return file


@pytest.fixture
def anybody() -> Anybody:
    return Anybody()


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """Whatever was answered, no file of it is left in the spool."""
    before = set(configured.SPOOL_DIR.iterdir())
    yield
    assert set(configured.SPOOL_DIR.iterdir()) <= before


# --- The answer ------------------------------------------------------------------------------------------


def test_what_was_made_here_is_known_by_credentials_and_mark(anybody: Anybody, drawn: bytes) -> None:
    answer = anybody.check(drawn)
    found = answer.json()
    assert answer.status_code == 200, found
    month = found["month"]
    assert re.fullmatch(r"\d{4}-\d\d", month)
    action = {
        "action": "c2pa.created",
        "digital_source_type": "trainedAlgorithmicMedia",
        "software_agent": "Test drawing",
        "month": month,
    }
    assert found == {
        "made_here": "yes",
        "signs": ["credentials", "picture-mark"],
        "kind": "picture",
        "model": "Test drawing",
        "month": month,
        "manifest": {
            "claim_generator": "Crosslight",
            "assertions": [{"label": "c2pa.actions.v2", "actions": [action]}],
            "time_stamp": None,
        },
    }
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("kind", "named", "signs"),
    [
        ("video", "clip", ["credentials", "picture-mark", "sound-mark"]),
        ("audio", "sound", ["credentials", "sound-mark"]),
    ],
)
def test_clips_and_sounds(kind: Kind, named: str, signs: list[str], anybody: Anybody, maker: Party) -> None:
    found = anybody.check(made(maker.tenant, kind)).json()
    assert (found["made_here"], found["kind"], found["signs"]) == ("yes", named, signs)
    assert found["model"] == "Test drawing"


def test_the_mark_is_enough_and_names_neither_model_nor_month(anybody: Anybody, drawn: bytes) -> None:
    assert anybody.check(saved_again(drawn)).json() == {
        "made_here": "yes",
        "signs": ["picture-mark"],
        "kind": "picture",
        "model": None,
        "month": None,
        "manifest": None,
    }


def test_credentials_over_other_content_are_possibly_ours(anybody: Anybody, drawn: bytes) -> None:
    """The manifest of a file of ours, moved to a picture that nobody made here."""
    sink = io.BytesIO()
    Image.fromarray(soft(256)).save(sink, "PNG")
    moved = with_manifest_of(drawn, sink.getvalue())
    found = anybody.check(moved).json()
    assert (found["made_here"], found["signs"]) == ("possibly", ["changed-credentials"])
    assert (found["model"], found["month"], found["manifest"]) == (None, None, None)


def with_manifest_of(signed: bytes, plain: bytes) -> bytes:
    """`plain` with the C2PA chunk of `signed`, both PNG."""
    at = signed.index(b"caBX") - 4
    chunk = signed[at : at + 12 + int.from_bytes(signed[at : at + 4])]
    # Behind the header, whose chunk has 25 bytes after the signature's 8.
    return plain[:33] + chunk + plain[33:]


def test_music_of_ours_under_a_film_of_others_is_possibly_ours(anybody: Anybody) -> None:
    found = anybody.check(film_with_sound_of_ours()).json()
    assert (found["made_here"], found["kind"], found["signs"]) == ("possibly", "clip", ["sound-mark"])


def test_credentials_of_another_installation_are_no_sign(anybody: Anybody, tmp_path: Path) -> None:
    sink = io.BytesIO()
    Image.fromarray(soft(256)).save(sink, "PNG")
    elsewhere = sign(
        load_keys(tmp_path), sink.getvalue(), "image/png", made_by="Elsewhere 1", title="Not ours"
    )
    found = anybody.check(elsewhere).json()
    assert (found["made_here"], found["signs"], found["manifest"]) == ("no-sign-found", [], None)
    # Nor where they are of other content, which of ours would be a sign.
    moved = with_manifest_of(elsewhere, picture(size=(200, 200)))
    assert anybody.check(moved).json()["made_here"] == "no-sign-found"


def test_no_sign_is_no_proof(anybody: Anybody) -> None:
    found = anybody.check(picture(size=(300, 200))).json()
    assert found == {
        "made_here": "no-sign-found",
        "signs": [],
        "kind": "picture",
        "model": None,
        "month": None,
        "manifest": None,
    }


def test_what_was_not_looked_at_is_not_called_absent(
    anybody: Anybody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An examining process that ends before it has looked says nothing about the file."""
    examiner = public_check._examiner()
    plain = examiner.examine

    def without_marks(*args: Any) -> Any:
        seen = plain(*args)
        for part in seen.parts:
            object.__setattr__(part, "finding", Finding("failed", "It died.", cause=PROCESS_DIED))
        return seen

    monkeypatch.setattr(examiner, "examine", without_marks)
    answer = anybody.check(picture(size=(300, 200)))
    refused(answer, 503, "unavailable")
    assert answer.headers["Retry-After"] == "5"


# --- What it does not say --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stamped_by(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """A running time stamp authority."""
    with authority(tmp_path_factory.mktemp("tsa") / "own") as found:
        yield found


@pytest.fixture
def stamping(stamped_by: tuple[Any, str], settings: Any) -> Any:
    tsa, url = stamped_by
    tsa.refuses = False
    settings.GENERATION_TSA_URL, settings.GENERATION_TSA_CA = url, str(tsa.root)
    settings.GENERATION_TSA_PORTS, settings.GENERATION_TSA_ALLOWED_NETWORKS = (
        ("1024-65535",),
        ("127.0.0.0/8",),
    )
    return tsa


def test_a_time_stamp_is_told_by_its_month(
    anybody: Anybody, maker: Party, stamping: Any, settings: Any
) -> None:
    content = made(maker.tenant, "image")
    month = dt.datetime.now(dt.UTC).strftime("%Y-%m")
    answer = anybody.check(content).json()
    assert answer["made_here"] == "yes"
    assert answer["manifest"]["time_stamp"] == {"state": "trusted", "month": month}
    settings.GENERATION_TSA_CA = ""
    assert anybody.check(content).json()["manifest"]["time_stamp"] == {
        "state": "unknown-authority",
        "month": month,
    }
    settings.GENERATION_TSA_CA = str(stamping.root)
    stamping.refuses = True
    without = anybody.check(made(maker.tenant, "image")).json()
    assert (without["made_here"], without["manifest"]["time_stamp"]) == ("yes", None)


@pytest.mark.parametrize("stamps", ["stamped", "refused"])
@pytest.mark.parametrize("kind", ["image", "video", "audio"])
def test_nothing_of_the_manifest_is_answered_that_is_not_named(
    kind: Kind, stamps: str, anybody: Anybody, maker: Party, stamping: Any
) -> None:
    """Each value in any assertion of a generated file and in its time stamp, whatever its depth, against the answer."""
    stamping.refuses = stamps == "refused"
    content = made(maker.tenant, kind)
    document = manifest_of(content, kind)
    held_of_stamp = {"stamped": "TSA of the tests", "refused": "unavailable"}[stamps]
    assert held_of_stamp in "\n".join(leaves(document))
    values = {value for value in leaves(document) if len(value) > 2}
    # It does hold what must not be told: a digest of the prompt, the seed, ids, and whose certificate signed it.
    held = "\n".join(values)
    assert all(one in held for one in (str(SEED), str(maker.id), maker.tenant.name)), held
    assert IDS.search(held)
    answer = anybody.check(content)
    text, said = answer.content.decode(), list(leaves(answer.json()))
    told = {value for value in values if any(value in one for one in said)}
    assert told - public_check.BINDINGS == {"c2pa.created", "c2pa.actions.v2", "Crosslight"}
    assert not IDS.search(text)
    for secret in (
        PROMPT,
        str(SEED),
        f"{MARK:08x}",
        f"{MARK & 0xFFFF:04x}",
        str(maker.id),
        maker.tenant.slug,
    ):
        assert secret.lower() not in text.lower(), secret


def manifest_of(content: bytes, kind: Kind) -> Any:
    import c2pa

    media_type = {"image": "image/png", "video": "video/mp4", "audio": "audio/wav"}[kind]
    with c2pa.Reader(media_type, io.BytesIO(content)) as reader:
        return [json.loads(reader.json()), json.loads(reader.detailed_json()), json.loads(reader.crjson())]


def leaves(node: Any) -> Iterator[str]:
    """Every value, and the names that are ids: manifests are named by theirs."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from leaves(value)
            if IDS.search(name):
                yield name
    elif isinstance(node, list):
        for value in node:
            yield from leaves(value)
    elif isinstance(node, (str, int)) and not isinstance(node, bool):
        yield str(node)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Crosslight drawing-0a1b2c3d4e5f", "Crosslight drawing"),
        ("Crosslight small clip 1", "Crosslight small clip"),
        ("stabilityai/sd-turbo 0a1b2c3d4e5f", "stabilityai/sd-turbo"),
        ("/srv/models/of-acme 0a1b2c3d4e5f", ""),
        ("~/models/of-acme", ""),
        ("models/acme/lora 0a1b2c3d4e5f", ""),
        ("made for 019fb3a8-1111-7222-8333-944445555666 here", ""),
        ("x" * 61, ""),
        ("", ""),
    ],
)
def test_of_a_model_its_family_is_told_and_no_folder(name: str, family: str) -> None:
    assert public_check.model_family(name) == family


def test_who_asks_and_what_is_stored_make_no_difference(
    anybody: Anybody, maker: Party, stranger: Party, drawn: bytes
) -> None:
    absent = anybody.check(drawn).json()
    with tenant_scope(maker.id):
        dataset = create_dataset(name="made")
        add_asset(dataset_id=dataset.id, file=io.BytesIO(drawn))
    assert anybody.check(drawn).json() == absent
    for token in (maker.token, stranger.token, "cl0000000000.secret", "nonsense"):
        answer = anybody.check(drawn, Authorization=f"Bearer {token}")
        assert (answer.status_code, answer.json()) == (200, absent)


def test_no_row_of_a_tenant_is_read_and_none_is_written(anybody: Anybody, drawn: bytes) -> None:
    anybody.check(drawn)
    with CaptureQueriesContext(connection) as seen:
        assert anybody.check(drawn).json()["made_here"] == "yes"
    statements = [query["sql"] for query in seen.captured_queries]
    # Public certificates of this installation, and nothing else.
    tables = {table for sql in statements for table in re.findall(r'(?:FROM|JOIN|INTO|UPDATE) "(\w+)"', sql)}
    assert tables == {"installation_secret"}
    assert all(sql.startswith("SELECT") for sql in statements), statements


def test_the_log_says_nothing_of_the_file(
    anybody: Anybody, drawn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        anybody.check(drawn, name="very-private-name.png")
        anybody.check(drawn[: len(drawn) // 2], name="very-private-name.png")
    text = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "POST /api/v1/check" in text
    for word in ("very-private-name", "Test drawing", "c2pa.created", f"{MARK:08x}", PROMPT):
        assert word not in text


# --- What cannot be checked ------------------------------------------------------------------------------


def test_a_file_that_is_missing_empty_or_one_of_several(anybody: Anybody) -> None:
    refused(anybody.check(None), 422, "invalid", "/file")
    refused(anybody.check(b""), 422, "invalid", "/file")
    refused(anybody.post({"picture": _named(picture())}), 422, "invalid", "/picture")
    refused(anybody.post({"file": [_named(picture()), _named(picture())]}), 422, "invalid", "/file")
    refused(anybody.post({"file": "words"}), 422, "invalid", "/file")
    refused(anybody.post({"file": _named(picture()), "asset": "1"}), 422, "invalid", "/asset")


@pytest.mark.parametrize("content", [b"only words", b"%PDF-1.7 and so on", b"\x00\x01\x02\x03" * 50])
def test_what_is_no_picture_clip_or_sound(content: bytes, anybody: Anybody) -> None:
    refused(anybody.check(content), 415, "unsupported-media-type")


def test_other_bodies(anybody: Anybody) -> None:
    def send(body: bytes, kind: str, method: str = "POST") -> Any:
        return anybody.http.generic(method, "/api/v1/check", body, kind, REMOTE_ADDR=f"{anybody.network}::1")

    refused(send(b"{}", "application/json"), 415, "unsupported-media-type")
    refused(send(b"no form", "multipart/form-data; boundary=b"), 422, "invalid", "/file")
    refused(send(b"no form", "multipart/form-data"), 400, "malformed")
    refused(send(b"", "application/json", "GET"), 405, "method-not-allowed")


def test_a_damaged_file_and_a_bomb(anybody: Anybody, drawn: bytes) -> None:
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)).save(sink, "PNG")
    damaged = sink.getvalue()[:60]
    problem = refused(anybody.check(damaged), 422, "invalid", "/file")
    assert "damaged" in problem["detail"]
    refused(anybody.check(bomb()), 413, "too-large")


def test_a_file_over_the_bound(anybody: Anybody, settings: Any) -> None:
    settings.PUBLIC_CHECK_BYTES = 2**20
    # What is announced too large need not come; what says nothing and is, neither.
    problem = refused(anybody.check(bytes(6 * 2**20)), 413, "too-large")
    assert "1 MiB" in problem["detail"]
    refused(anybody.check(bytes(2**20 + 1)), 413, "too-large")


# --- How often -------------------------------------------------------------------------------------------


def test_a_network_has_so_many_a_minute_and_no_other_pays(anybody: Anybody, settings: Any) -> None:
    settings.PUBLIC_CHECK_RATE = 3
    small = picture(size=(300, 200))
    answers = [anybody.check(b"", host=str(at)) for at in range(1, 5)]
    # A whole network counts, whatever its answers were.
    for answer in answers[:3]:
        refused(answer, 422, "invalid")
    problem = refused(answers[3], 429, "rate-limited")
    wait = int(answers[3].headers["Retry-After"])
    assert 1 <= wait <= 60
    assert problem["detail"] == f"Each network is allowed 3 requests a minute here. Try again in {wait} s."
    assert answers[0].headers["RateLimit-Policy"] == '"default";q=3;w=60'
    assert Anybody().check(small).status_code == 200


def test_while_others_are_checked_one_is_told_to_come_again(anybody: Anybody) -> None:
    taken = [True for _ in range(10) if CHECKING.take()]
    try:
        answer = anybody.check(picture())
    finally:
        for _ in taken:
            CHECKING.give_back()
    refused(answer, 503, "unavailable")
    assert answer.headers["Retry-After"] == "5"


def test_where_it_is_turned_off_there_is_nothing(anybody: Anybody, settings: Any) -> None:
    settings.PUBLIC_CHECK = False
    refused(anybody.check(picture()), 404, "not-found")
