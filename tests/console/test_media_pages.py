"""Sound and film on their pages: players, waveforms, transcripts, moments."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from django.test import Client
from django.utils import translation

from console.datasets.assets import read_moment
from console.presenters import asset_card
from console.templatetags.console_tags import clock, language_names, waveform
from tenants.datasets import storage
from tenants.datasets.models import Asset, Blob, TranscriptSegment
from tenants.datasets.services import create_dataset
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.browsing import SPOKEN
from tests.console.pages import faults_of

DETAILS = {
    "duration_s": 83.4,
    "has_sound": True,
    "has_picture": False,
    "peaks": [0, 50, 100],
    "examined": {"speech": "found"},
}


@pytest.fixture
def recording(party: Party) -> Asset:
    """As a worker leaves it, with words that try to be markup."""
    with tenant_scope(party.id):
        dataset = create_dataset(name="media")
        asset = add_asset(dataset_id=dataset.id, file=io.BytesIO(SPOKEN.read_bytes())).asset
        Blob.objects.filter(pk=asset.blob_id).update(details=DETAILS, has_thumbnail=True)
        Asset.objects.filter(pk=asset.pk).update(status="ready", excerpt="Show me")
        lines = ((0.5, 2.0, "Show <me> some"), (61.25, 63.0, "yellow bananas"))
        TranscriptSegment.objects.bulk_create(
            TranscriptSegment(asset=asset, start_s=a, end_s=b, text=text) for a, b, text in lines
        )
        return asset


def change(party: Party, asset: Asset, **details: Any) -> None:
    with tenant_scope(party.id):
        Blob.objects.filter(pk=asset.blob_id).update(details={**DETAILS, **details})


def test_a_recording_plays_and_its_words_lead_to_moments(
    party: Party, recording: Asset, owner: Client
) -> None:
    text = owner.get(f"/assets/{recording.id}").content.decode()
    assert faults_of(text) == []
    assert f'<audio controls preload="metadata" src="/assets/{recording.id}/content"' in text
    assert '<path d="M0 49' in text
    assert "Recording without a caption" in text
    assert "Show &lt;me&gt; some" in text
    assert re.findall(r'href="\?t=([\d.]+)"', text) == ["0.50", "61.25"]
    assert "1:01" in text
    assert "<dd>1:23</dd>" in text
    at = owner.get(f"/assets/{recording.id}?t=61.25").content.decode()
    assert f'src="/assets/{recording.id}/content#t=61.25"' in at
    evil = owner.get(f"/assets/{recording.id}", {"t": '1"><script>'}).content.decode()
    assert f'src="/assets/{recording.id}/content"' in evil


def test_silence_is_said(party: Party, recording: Asset, owner: Client) -> None:
    with tenant_scope(party.id):
        TranscriptSegment.objects.all().delete()
    assert "No speech was found." in owner.get(f"/assets/{recording.id}").content.decode()
    change(party, recording, has_sound=False)
    assert "It has no sound track." in owner.get(f"/assets/{recording.id}").content.decode()


def test_a_film_has_a_poster(party: Party, recording: Asset, owner: Client) -> None:
    with tenant_scope(party.id):
        Asset.objects.filter(pk=recording.pk).update(modality="video")
        Blob.objects.filter(pk=recording.blob_id).update(width=640, height=360, media_type="video/mp4")
    text = owner.get(f"/assets/{recording.id}").content.decode()
    assert faults_of(text) == []
    assert f'poster="/assets/{recording.id}/thumbnail" width="640" height="360"' in text
    assert "<audio" not in text


def test_what_was_not_decoded_is_not_played(party: Party, recording: Asset, owner: Client) -> None:
    with tenant_scope(party.id):
        Asset.objects.filter(pk=recording.pk).update(status="pending")
        Blob.objects.filter(pk=recording.blob_id).update(details=None)
    text = owner.get(f"/assets/{recording.id}").content.decode()
    assert "Being checked" in text
    assert "<audio" not in text
    assert owner.get(f"/assets/{recording.id}/content").status_code == 409


def test_players_can_seek(party: Party, recording: Asset, owner: Client) -> None:
    raw = SPOKEN.read_bytes()
    answer = owner.get(f"/assets/{recording.id}/content", headers={"range": "bytes=100-199"})
    assert (answer.status_code, b"".join(answer)) == (206, raw[100:200])
    assert answer["Content-Type"] == "audio/wav"
    assert answer["Content-Disposition"].startswith("inline;")
    assert answer["X-Content-Type-Options"] == "nosniff"
    whole = owner.get(f"/assets/{recording.id}/content")
    assert (whole["Accept-Ranges"], int(whole["Content-Length"])) == ("bytes", len(raw))
    assert b"".join(whole) == raw


def test_a_waveform_is_served_as_its_picture(party: Party, recording: Asset, owner: Client) -> None:
    with tenant_scope(party.id):
        storage.put(storage.path_of(party.id, recording.blob.sha256, "thumbnail"), b"RIFFwebp")
    answer = owner.get(f"/assets/{recording.id}/thumbnail")
    assert (answer.status_code, b"".join(answer)) == (200, b"RIFFwebp")


def test_tiles_tell_the_moment(recording: Asset, party: Party, owner: Client) -> None:
    tile = owner.get(f"/assets/{recording.id}/tile").content.decode()
    assert "“Show me”" in tile
    assert "1:23" in tile
    with tenant_scope(party.id):
        asset = Asset.objects.select_related("blob").get(pk=recording.pk)
    found = asset_card(asset, score=0.5, matched="text", segment={"start_s": 61.25, "end_s": 63})
    assert (found.matched, found.at) == ("words", 61.25)
    assert asset_card(asset, score=0.5, matched="text").matched == "caption"
    from django.template.loader import render_to_string

    html = render_to_string("console/parts/tile.html", {"card": found})
    assert f'href="/assets/{recording.id}?t=61.25"' in html
    assert "by words at 1:01" in html


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.9, "0:59"), (83, "1:23"), (3723, "1:02:03"), (None, "")]
)
def test_moments_as_people_read_them(seconds: float | None, shown: str) -> None:
    assert clock(seconds) == shown


def test_a_waveform_as_a_path() -> None:
    assert waveform([0, 100]) == "M0 49h.7v2h-.7zM1 0.0h.7v100.0h-.7z"


@pytest.mark.parametrize(
    ("text", "read"), [("83", "83"), ("1.25", "1.25"), ("-1", ""), ("1e9", ""), ("²", ""), ("1" * 9, "")]
)
def test_only_plain_seconds_are_a_moment(text: str, read: str) -> None:
    assert read_moment(text) == read


@pytest.mark.parametrize(
    ("language", "codes", "shown"),
    [
        ("en", ["zh", "en", "haw"], "Chinese, English, haw"),
        ("zh-hans", ["zh", "en", "yue"], "中文, 英语, 粤语"),
        ("en", "de", "German"),
        ("en", [], ""),
    ],
)
def test_languages_have_names(language: str, codes: str | list[str], shown: str) -> None:
    with translation.override(language):
        assert language_names(codes) == shown
