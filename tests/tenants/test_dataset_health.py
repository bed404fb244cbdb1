"""What an examination of a dataset finds, keeps and forgets; its page, and the lists that it leads to."""

from __future__ import annotations

import re
import uuid
from typing import Any

import numpy as np
import pytest
from django.test import Client

from tenants.datasets.metadata import given_facets
from tenants.datasets.models import Asset, Facet
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, NotFound
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import update_asset
from tenants.pipeline.care.erasure import erase_asset
from tenants.retrieval import dataset_health
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.test_maps import place
from workers.base import run_job


@pytest.fixture
def pictures(party: Party) -> Any:
    """A dataset of 60 pictures near each other: two that are the same, three that are, one far from all, two without
    captions and one without vectors."""
    chance = np.random.default_rng(5)
    rows = np.zeros((59, 256), np.float32)
    rows[:, 0] = 1
    rows[:, 1:] = chance.normal(size=(59, 255)) * 0.05
    rows[11], rows[21], rows[22] = rows[10], rows[20], rows[20]
    rows[58] = 0
    rows[58, 200] = 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with tenant_scope(party.id):
        dataset = create_dataset(name=uuid.uuid4().hex)
        named = {"modality": "image", "caption": "pear"}
        made = [place(party, ("image", row), dataset=dataset, **named) for row in rows]
        made.append(place(party, dataset=dataset, **named))
        Asset.objects.filter(pk__in=[made[0].pk, made[1].pk]).update(caption="")
    dataset.made = made
    return dataset


def examined(party: Party, dataset: Any) -> Job:
    with tenant_scope(party.id):
        job = dataset_health.examine(dataset_id=dataset.id)
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        job.refresh_from_db()
    return job


def kept(dataset: Any) -> dict[str, list[int]]:
    """Places of the assets that findings stand at, in their order. In a scope."""
    places = {asset.id: at for at, asset in enumerate(dataset.made)}
    return {
        finding: [places[row.asset_id] for row in dataset_health.found(dataset.id, finding)]
        for finding in dataset_health.MOST_KEPT
    }


def test_what_is_amiss_is_found_and_stands_at_the_assets(party: Party, pictures: Any) -> None:
    job = examined(party, pictures)
    assert (job.state, job.error) == ("succeeded", None)
    figures = job.result
    assert figures["counts"] == {"duplicate": 5, "outlier": 1, "unindexed": 1, "uncaptioned": 2}
    assert (figures["total"], figures["compared"], figures["groups"]) == (60, 59, 2)
    assert figures["kinds"] == {"image": 60}
    assert not re.search("[0-9a-f]{8}-", str(figures))
    with tenant_scope(party.id):
        # The largest group first.
        assert kept(pictures) == {"duplicate": [20, 21, 22, 10, 11], "outlier": [58], "unindexed": [59]}
        made = pictures.made
        # Changed metadata leaves them, an erasure takes them, a second examination replaces them.
        update_asset(asset_id=made[11].id, values={"a": 1})
        assert given_facets([made[11].id]).count() == 1
        erase_asset(asset_id=made[58].id, actor="x")
        assert kept(pictures)["outlier"] == []
        assert kept(pictures)["duplicate"] == [20, 21, 22, 10, 11]
        erase_asset(asset_id=made[10].id, actor="x")
    second = examined(party, pictures)
    assert (second.result["groups"], second.result["counts"]["duplicate"]) == (1, 3)
    with tenant_scope(party.id):
        assert kept(pictures) == {"duplicate": [20, 21, 22], "outlier": [], "unindexed": [59]}
        assert Facet.objects.filter(key=dataset_health.FACET).count() == 4


def test_of_what_is_too_much_a_part_is_kept_and_all_is_counted(
    party: Party, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(dataset_health.MOST_KEPT, dataset_health.DUPLICATE, 3)
    # As many as there are: of fewer a sample by id, which leaves one of the five out in a run of twelve.
    monkeypatch.setattr(dataset_health, "MOST_COMPARED", 60)
    figures = examined(party, pictures).result
    assert figures["counts"]["duplicate"] == 5
    with tenant_scope(party.id):
        assert kept(pictures)["duplicate"] == [20, 21, 22]


def test_one_examination_at_a_time_of_a_dataset_that_is_there(
    party: Party, stranger: Party, pictures: Any
) -> None:
    with tenant_scope(party.id):
        dataset_health.examine(dataset_id=pictures.id)
        with pytest.raises(Conflict):
            dataset_health.examine(dataset_id=pictures.id)
        assert Job.objects.filter(kind=dataset_health.KIND).count() == 1
    with tenant_scope(stranger.id):
        with pytest.raises(NotFound):
            dataset_health.examine(dataset_id=pictures.id)
        assert not Job.objects.filter(kind=dataset_health.KIND).exists()
        assert not dataset_health.found(pictures.id, "duplicate").exists()


def test_the_page_leads_to_the_assets_of_each_finding(party: Party, pictures: Any) -> None:
    client = Client()
    client.force_login(party.owner)

    def read(address: str) -> str:
        answer = client.get(address)
        assert answer.status_code == 200
        return answer.content.decode()

    def shown(page: str) -> list[int]:
        places = {str(asset.id): at for at, asset in enumerate(pictures.made)}
        return [places[one] for one in re.findall(r'<tr id="asset-([0-9a-f-]{36})"', page)]

    here = f"/datasets/{pictures.id}"
    assert "Not examined yet." in read(f"{here}/health")
    answer = client.post(f"{here}/health/examine", follow=True)
    assert "An examination is in progress." in answer.content.decode()
    with tenant_scope(party.id):
        job = Job.objects.get(kind=dataset_health.KIND)
    run_job(str(job.id), str(party.id))
    page = read(f"{here}/health")
    assert re.findall(r"finding=(\w+)&amp;view=table", page) == [
        *("duplicate", "outlier", "uncaptioned", "unindexed")
    ]
    assert "59 of 60 ready assets were compared" in page
    assert shown(read(f"{here}?finding=duplicate&view=table")) == [20, 21, 22, 10, 11]
    ticked = re.findall(r'value="([0-9a-f-]{36})" checked', read(f"{here}?finding=duplicate&copies=1"))
    assert ticked == [str(pictures.made[at].id) for at in (21, 22, 11)]
    behind = read(f"{here}?finding=duplicate&copies=1&before=2")
    assert shown(behind) == [22, 10, 11]
    assert len(re.findall(r'value="[0-9a-f-]{36}" checked', behind)) == 2
    assert shown(read(f"{here}?finding=outlier")) == [58]
    assert shown(read(f"{here}?finding=uncaptioned")) == [1, 0]
    assert shown(read(f"{here}?finding=unindexed")) == [59]
    for odd in ("finding=x", "finding=duplicate&before=x", "finding=duplicate&before=99999"):
        read(f"{here}?{odd}")
    told = client.post(f"{here}/assets/delete", {"asset": ticked, "finding": "duplicate"}, follow=True)
    assert told.redirect_chain[-1][0] == f"{here}?finding=duplicate"
    assert shown(told.content.decode()) == [20, 10]
