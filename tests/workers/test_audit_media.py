"""Odd and hostile media through the whole audit: a verdict, or a person has to look. Never a silent pass."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from standalone.config import DEMO_FILES
from tenants.errors import Invalid, UnsupportedMedia
from tenants.jobs.models import Job
from tenants.moderation import policies
from tenants.moderation.models import Audit, Evidence
from tenants.pipeline.assets import uploads
from tenants.pipeline.audits import audit_requests
from tenants.scope import tenant_scope
from tests.flows.pictures import huge_png, jpeg
from tests.ml import recordings
from workers.base import run_job

pytestmark = pytest.mark.slow

SPOKEN = DEMO_FILES / "spoken" / "yellow-bananas.wav"


@pytest.fixture
def audited(party):
    """Audit this content under a policy without rules: what comes out is only what could not be looked at."""
    with tenant_scope(party.id):
        policy, version = policies.create_policy(name="p", document={"rules": []})
        policies.activate(policy_id=policy.id, number=version.number, mode="enforce")

    def audit(content: bytes) -> tuple[Audit, dict[str, Any]]:
        upload = uploads.check_upload(io.BytesIO(content), "")
        with tenant_scope(party.id):
            asked = audit_requests.request_audit(upload=upload)
        run_job(str(asked.job.id), str(party.id))
        with tenant_scope(party.id):
            assert Job.objects.get(pk=asked.job.id).state == "succeeded"
            audit = Audit.objects.get(pk=asked.request.id)
            return audit, Evidence.objects.get(audit=audit).document

    return audit


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, kind, **options)
    return sink.getvalue()


def photo(size: int = 200) -> Image.Image:
    return Image.open(io.BytesIO(jpeg(11, size)))


def deep() -> bytes:
    return saved(Image.fromarray((np.arange(40_000, dtype=np.uint16) * 7 % 65_535).reshape(200, 200)), "PNG")


def moving() -> bytes:
    frames = [Image.open(io.BytesIO(jpeg(seed, 120))) for seed in range(4)]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)


GOOD: dict[str, Callable[[], bytes]] = {
    "CMYK": lambda: saved(photo().convert("CMYK"), "JPEG"),
    "grey": lambda: saved(photo().convert("L"), "JPEG"),
    "16 bit": deep,
    "transparent": lambda: saved(photo().convert("RGBA"), "PNG"),
    "palette": lambda: saved(photo().convert("P"), "PNG"),
    "animated": moving,
    "one pixel": lambda: saved(photo().resize((1, 1)), "PNG"),
    "a line": lambda: saved(photo().resize((900, 2)), "PNG"),
    "WebP": lambda: saved(photo(), "WEBP"),
    "AVIF": lambda: saved(photo(), "AVIF"),
    "HEIC": lambda: (Path(__file__).parent.parent / "ml" / "heic" / "gps.heic").read_bytes(),
}


@pytest.mark.parametrize("name", GOOD)
def test_unusual_pictures_get_a_verdict(audited, name: str) -> None:
    audit, document = audited(GOOD[name]())
    failed = [d for d in document["detectors"] if d["state"] == "failed"]
    assert (audit.decision, failed) == ("allow", [])
    # Something looked at it, and nothing for generation.
    assert document["authenticity"]["tiers"]["declared"] == "no_evidence"
    assert audit.verdict in ("not_examined", "likely_manipulated")


def test_a_bomb_is_refused_and_a_person_has_to_look(audited) -> None:
    audit, document = audited(huge_png(60_000, 60_000))
    assert audit.decision == "review"
    assert "decoding" in document["could_not_look"]


@pytest.mark.parametrize("seed", range(6))
def test_damaged_pictures_get_a_verdict_or_a_person(audited, seed: int) -> None:
    rng = random.Random(seed)
    content = bytearray(jpeg(seed, 300))
    for _ in range(20):
        content[rng.randrange(30, len(content))] = rng.randrange(256)
    audit, document = audited(bytes(content[: len(content) * rng.randrange(5, 11) // 10]))
    assert (audit.decision == "review") == bool(document["could_not_look"])


def test_nothing_is_refused_at_the_door(audited) -> None:
    with pytest.raises(Invalid, match="empty"):
        audited(b"")
    with pytest.raises((Invalid, UnsupportedMedia)):
        audited(b"MZ" + bytes(100))


def film(path: Path, **options: Any) -> bytes:
    pictures = [recordings.plain(20 * (n % 10)) for n in range(30)]
    return recordings.write(path / "film.mp4", "mp4", pictures=pictures, **options).read_bytes()


@pytest.mark.parametrize("name", ["silent", "odd times", "sound only", "with sound"])
def test_films_get_a_verdict(audited, tmp_path: Path, name: str) -> None:
    content = {
        "silent": lambda: film(tmp_path),
        "odd times": lambda: film(tmp_path, times=[n * n // 4 for n in range(2, 62, 2)]),
        "sound only": lambda: recordings.write(
            tmp_path / "s.mp4", "mp4", sound=recordings.tone(2, 48_000)
        ).read_bytes(),
        "with sound": lambda: film(tmp_path, sound=recordings.tone(3, 48_000)),
    }[name]()
    audit, document = audited(content)
    assert [d for d in document["detectors"] if d["state"] == "failed"] == []
    assert audit.decision == "allow"
    assert audit.modality == ("audio" if name == "sound only" else "video")


def test_a_thousand_streams_end_with_a_verdict_or_a_person(audited, tmp_path: Path) -> None:
    audit, document = audited(recordings.write_many_streams(tmp_path / "m.mp4", 1_000).read_bytes())
    assert (audit.decision == "review") == bool(document["could_not_look"])


def test_speech_is_read(audited) -> None:
    _, document = audited(SPOKEN.read_bytes())
    spoken = " ".join(words["text"] for words in document["words"] if words["origin"] == "transcript")
    assert "banana" in spoken.lower()
    assert document["categories"]["abuse"]["state"] == "examined"
