"""Sound and film through the embedding job: real decoder, real models, found by what is said and seen."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from standalone.config import DEMO_FILES
from tenants.datasets import content_responses, selectors, storage
from tenants.datasets.models import Asset, TranscriptSegment
from tenants.datasets.services import create_dataset
from tenants.errors import NotReady
from tenants.jobs.models import Job
from tenants.pipeline.assets import audio_video, services
from tenants.retrieval.models import Vector
from tenants.retrieval.query.searcher import Query, search
from tenants.scope import tenant_scope
from tests.ml import recordings
from workers.base import run_job

pytestmark = pytest.mark.slow

SPOKEN = DEMO_FILES / "spoken" / "yellow-bananas.wav"
RATE = 48_000
SCENES = ("train_banana_001.jpg", "conference_iconic.jpg")


@pytest.fixture
def dataset(party):
    with tenant_scope(party.id):
        return create_dataset(name="d")


@pytest.fixture
def put(party, dataset):
    """Add a file and run its job; the job and the asset."""

    def add(path: Path, **fields) -> tuple[Job, Asset]:
        with tenant_scope(party.id), path.open("rb") as file:
            added = services.add_asset(dataset_id=dataset.id, file=file, **fields)
        assert added.job.kind == "embed_media"
        run_job(str(added.job.id), str(party.id))
        with tenant_scope(party.id):
            return Job.objects.get(pk=added.job.id), selectors.get_asset(added.asset.id)

    return add


def _spoken() -> np.ndarray:
    with wave.open(str(SPOKEN)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        step = file.getframerate() / RATE
    return np.interp(np.arange(0, len(samples), step), np.arange(len(samples)), samples)


def _scenes(seconds: int, rate: int):
    for name in SCENES:
        with Image.open(DEMO_FILES / "grocery" / name) as image:
            pixels = np.asarray(image.convert("RGB").resize((320, 240)))
        yield from [pixels] * (seconds * rate)


def test_a_recording_is_found_by_its_words(party, put) -> None:
    job, asset = put(SPOKEN)
    assert (job.state, asset.status, asset.modality, job.cost_cpu_s > 0.05) == (
        "succeeded",
        "ready",
        "audio",
        True,
    )
    assert "banana" in asset.excerpt
    shape = selectors.asset_shape(asset)
    assert (shape.has_sound, shape.truncated) == (True, False)
    assert shape.examined == {"words": "found", "sounds": "not_examined"}
    assert shape.languages == ["en"]
    assert 1 < shape.duration_s < 5
    assert len(asset.blob.details["peaks"]) == 240
    answer = search(tenant_id=party.id, query=Query(text="bananas", top_k=1))
    (found, hit) = answer.results[0]
    assert (found.id, hit.modality) == (asset.id, "audio")
    assert 0 <= hit.segment["start_s"] < hit.segment["end_s"] <= shape.duration_s
    with tenant_scope(party.id):
        (segment,) = selectors.transcript_of(asset)
        assert segment.text == asset.excerpt
    hybrid = search(tenant_id=party.id, query=Query(text="banana", hybrid=True))
    assert [found.id for found, _ in hybrid.results] == [asset.id]


def test_a_film_is_found_by_what_is_seen_and_when(party, put, tmp_path) -> None:
    path = tmp_path / "film.mp4"
    sound = np.concatenate([_spoken(), np.zeros(2 * RATE)])
    recordings.write(path, "mp4", pictures=_scenes(4, 10), rate=10, sound=sound)
    job, asset = put(path, text="a tour of the shelves")
    assert (job.state, asset.status, asset.modality) == ("succeeded", "ready", "video")
    assert (asset.blob.width, asset.blob.height, asset.blob.has_thumbnail) == (320, 240, True)
    with tenant_scope(party.id):
        kinds = sorted(Vector.objects.filter(asset=asset).values_list("modality", flat=True))
        # Two scenes, whose frames look the same, so two moments; one passage; one caption.
        assert kinds == ["audio", "text", "video", "video"]
        second = Vector.objects.filter(asset=asset, modality="video").order_by("seq")[1]
        assert second.segment["start_s"] == pytest.approx(4, abs=1)
        assert second.segment["end_s"] == pytest.approx(8, abs=1)
        pear = np.frombuffer(bytes(second.data), "<f4")
    hit = search(tenant_id=party.id, query=Query(vector=pear)).results[0][1]
    assert (hit.modality, hit.segment) == ("video", second.segment)
    assert (
        search(tenant_id=party.id, query=Query(text="x", modalities=["video"])).results[0][0].id == asset.id
    )
    with tenant_scope(party.id):
        assert content_responses.content_of(asset).media_type == "video/mp4"
        services.delete_asset(asset_id=asset.id)
        assert TranscriptSegment.objects.count() == Vector.objects.count() == 0


def test_sounds_without_words_are_said_not_to_be_examined(party, put, tmp_path) -> None:
    path = tmp_path / "tone.flac"
    recordings.write(path, "flac", sound=recordings.tone(3, RATE))
    job, asset = put(path)
    assert (job.state, asset.status, job.result["vectors"]) == ("succeeded", "ready", 0)
    assert selectors.asset_shape(asset).examined == {"words": "none", "sounds": "not_examined"}


def test_a_film_without_picture_is_a_recording(party, put, tmp_path) -> None:
    path = recordings.write(tmp_path / "sound.mp4", "mp4", sound=_spoken())
    job, asset = put(path)
    assert (job.state, asset.modality, asset.blob.media_type) == ("succeeded", "audio", "audio/mp4")
    found = search(tenant_id=party.id, query=Query(text="bananas", modalities=["audio"])).results
    assert [(found.id, hit.modality) for found, hit in found] == [(asset.id, "audio")]


def test_where_a_film_was_taken_is_not_served(party, put, tmp_path) -> None:
    path = tmp_path / "phone.mov"
    recordings.write(
        path, "mov", pictures=_scenes(1, 10), rate=10, metadata={"location": "+48.8577+002.2950/"}
    )
    assert b"+48.8577" in path.read_bytes()
    _, asset = put(path)
    assert asset.status == "ready"
    with tenant_scope(party.id):
        rendition = content_responses.content_of(asset)
        with storage.open_blob(rendition.path) as stream:
            served = stream.read()
    assert b"+48.8577" not in served
    assert len(served) > 1000


def test_before_it_is_decoded_nothing_is_served(party, dataset) -> None:
    with tenant_scope(party.id), SPOKEN.open("rb") as file:
        asset = services.add_asset(dataset_id=dataset.id, file=file).asset
        with pytest.raises(NotReady):
            content_responses.content_of(asset)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty film", b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00isommp42", "corrupt"),
        ("cut sound", b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00", "corrupt"),
    ],
)
def test_damaged_media_fail_with_a_reason(party, put, tmp_path, name, content, code) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(content)
    job, asset = put(path)
    assert (job.state, job.attempts, job.error["type"]) == ("failed", 1, code)
    assert (asset.status, asset.error) == ("failed", job.error)
    assert len(job.error["detail"]) > 10


def test_a_long_recording_is_cancelled_while_it_plays(party, dataset, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(audio_video, "REPORT_S", 0.0)
    path = tmp_path / "long.wav"
    recordings.write(path, "wav", sound=recordings.tone(200, RATE))
    with tenant_scope(party.id):
        added = services.add_asset(dataset_id=dataset.id, file=io.BytesIO(path.read_bytes()))
    tell = audio_video.Progress._report_if_due

    def cancel_then_tell(self):
        with tenant_scope(party.id):
            Job.objects.filter(pk=added.job.id).update(cancel_requested=True)
        tell(self)

    monkeypatch.setattr(audio_video.Progress, "_report_if_due", cancel_then_tell)
    run_job(str(added.job.id), str(party.id))
    with tenant_scope(party.id):
        job = Job.objects.get(pk=added.job.id)
        assert (job.state, Asset.objects.get(pk=added.asset.id).status) == ("cancelled", "failed")
        assert (job.progress_done, job.progress_total) == (60, 200)
