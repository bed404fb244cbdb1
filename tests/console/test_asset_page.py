"""An asset's page beyond what it shows of the file: neighbours, history, the time line."""

from __future__ import annotations

import datetime as dt
import io
import re
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from django.test import Client

from console.datasets import presenters
from tenants.datasets.models import Asset
from tenants.datasets.services import create_dataset
from tenants.datasets.shapes import TranscriptSegment
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import add_asset, update_asset
from tenants.pipeline.assets.uploads import check_upload
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.query import encoding
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.flows.pictures import jpeg

HX = {"hx-request": "true"}


def place(party: Party, dataset: Any, degrees: float, words: str) -> Asset:
    """An asset whose vector points so many degrees away from the first axis."""
    values = np.zeros(256, np.float32)
    values[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    asset = add_asset(dataset_id=dataset.id, text=words).asset
    replace_vectors(asset=asset, model=encoding.model_id(), vectors=[NewVector("text", values)])
    Asset.objects.filter(pk=asset.pk).update(status="ready")
    return asset


def test_the_nearest_ten_stand_in_their_order_without_itself(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        seed = place(party, dataset, 0, "seed")
        others = [place(party, dataset, 3 * at, f"words {at} <b>") for at in range(1, 13)]
    part = owner.get(f"/assets/{seed.id}/neighbours", headers=HX).content.decode()
    assert faults_of(part) == []
    shown = re.findall(r'<li><a href="/assets/([0-9a-f-]+)"', part)
    assert shown == [str(one.id) for one in others[:10]]
    scores = [float(score) for score in re.findall(r'class="score"[^>]*>([\d.]+)<', part)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(np.cos(np.radians(3)), abs=0.002)
    assert "words 1 &lt;b&gt;" in part


def test_without_vectors_there_are_no_neighbours(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        asset = add_asset(dataset_id=create_dataset(name="d").id, text="new").asset
    part = owner.get(f"/assets/{asset.id}/neighbours", headers=HX).content.decode()
    assert "It has no vectors yet." in part
    with tenant_scope(party.id):
        # As a recording in which nobody speaks.
        Asset.objects.filter(pk=asset.pk).update(status="ready")
    answer = owner.get(f"/assets/{asset.id}/neighbours", headers=HX)
    assert answer.status_code == 200
    assert "It has no vectors, or" in answer.content.decode()


def test_captions_and_name_of_a_file(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        upload = check_upload(io.BytesIO(jpeg(1)), "", filename="the <bike>.jpg")
        asset = add_asset(dataset_id=create_dataset(name="d").id, upload=upload).asset
    page = owner.get(f"/assets/{asset.id}").content.decode()
    assert faults_of(page) == []
    assert '<h1 class="clamp">the &lt;bike&gt;.jpg</h1>' in page
    answer = owner.post(f"/assets/{asset.id}/edit", {"caption": ["one", "two\nlines", ""], "metadata": ""})
    assert answer.status_code == 302
    with tenant_scope(party.id):
        assert Asset.objects.get(pk=asset.pk).captions == ["one", "two\nlines"]
    page = owner.get(f"/assets/{asset.id}").content.decode()
    assert faults_of(page) == []
    assert '<h1 class="clamp">one</h1>' in page
    assert "<li>two\nlines</li>" in page
    too_many = {"caption": [f"caption {n}" for n in range(21)], "metadata": ""}
    refused = owner.post(f"/assets/{asset.id}/edit", too_many)
    assert refused.status_code == 422
    assert "caption 20</textarea>" in refused.content.decode()


def test_the_history_names_who_did_what(party: Party, owner: Client, person: Callable[..., Client]) -> None:
    actor = str(owner.user.pk)
    with tenant_scope(party.id):
        asset = add_asset(dataset_id=create_dataset(name="d").id, text="tea", actor=actor).asset
        update_asset(asset_id=asset.id, values={"a": 1}, actor=actor)
    page = owner.get(f"/assets/{asset.id}").content.decode()
    assert faults_of(page) == []
    history = page[page.index('id="history-title"') :]
    assert history.index("Asset updated") < history.index("Asset added")
    assert owner.user.email in history
    assert "Embed an asset" in history
    # The log is for those who may read it.
    viewer = person("viewer").get(f"/assets/{asset.id}").content.decode()
    assert "Embed an asset" in viewer
    assert "Asset added" not in viewer


def test_jobs_are_found_early_and_late_without_reading_all(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presenters, "NEWEST_SEARCHED", 3)
    with tenant_scope(party.id):
        asset = add_asset(dataset_id=create_dataset(name="d").id, text="tea").asset
        first = Job.objects.get(arguments__asset=str(asset.id))
        later = dt.timedelta(hours=1)
        about = {"asset": str(asset.id)}
        lost = Job(id=_after(asset.id, later), kind="embed_asset", arguments=about)
        others = [
            Job(id=_after(asset.id, 2 * later + dt.timedelta(seconds=at)), kind="import_assets", arguments={})
            for at in range(2)
        ]
        late = Job(id=_after(asset.id, 3 * later), kind="embed_asset", arguments=about)
        Job.objects.bulk_create([lost, *others, late])
        assert [job.pk for job in presenters.jobs_about(asset)] == [late.pk, first.pk]


def _after(first: uuid.UUID, span: dt.timedelta) -> uuid.UUID:
    return presenters._id_after(first, span)


def test_the_index_is_told_by_model_and_kind(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        asset = place(party, create_dataset(name="d"), 0, "tea")
        model = encoding.model_id()
    page = owner.get(f"/assets/{asset.id}").content.decode()
    assert f'1 vector of text, by <span class="mono">{model}</span>' in page


def test_what_was_said_lies_over_the_waveform() -> None:
    details = {"duration_s": 10.0, "peaks": [0] * 100}
    lines = [
        TranscriptSegment(start_s=1.0, end_s=2.5, text="a", confidence=1.0),
        TranscriptSegment(start_s=11.0, end_s=12.0, text="past", confidence=1.0),
    ]
    [region] = presenters.regions_of(lines, details)
    assert (region.x, region.width, region.text) == (10.0, 15.0, "a")
    assert presenters.regions_of(lines, None) == []
    assert presenters.regions_of(lines, {"duration_s": 0, "peaks": [1]}) == []


def test_frames_are_spread_over_the_film() -> None:
    assert presenters.frames_of({"duration_s": 16}) == [1, 3, 5, 7, 9, 11, 13, 15]
    assert presenters.frames_of(None) == []
