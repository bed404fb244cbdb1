"""Versions of a dataset in the console: made, looked at, compared, trained on, deleted."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tenants.datasets.models import Asset, DatasetVersion
from tenants.datasets.services import create_dataset
from tenants.jobs import services as jobs
from tenants.learning import dataset_versions as versions
from tenants.learning.models import LearntModel
from tenants.pipeline.assets.services import add_asset
from tenants.pipeline.care.erasure import erase_asset
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.tenants.learning.world import add_pairs, new_dataset
from workers.base import run_job


@pytest.fixture
def shelf(party: Party) -> Any:
    """Three texts, of which the last has a tag."""
    with tenant_scope(party.id):
        made: Any = create_dataset(name="shelf")
        made.made = [
            add_asset(
                dataset_id=made.id, text=f"text {n}", values={"tags": ["a & b"]} if n == 2 else {}
            ).asset
            for n in range(3)
        ]
    return made


@pytest.fixture
def owner(party: Party) -> Client:
    client = Client()
    client.force_login(party.owner)
    return client


def read(client: Client, address: str, status: int = 200, **headers: str) -> str:
    answer = client.get(address, headers=headers or None)
    assert answer.status_code == status
    page = answer.content.decode()
    assert faults_of(page) == []
    return page


def shown(page: str) -> list[str]:
    return re.findall(r'id="asset-([0-9a-f-]{36})"', page)


def only(party: Party) -> DatasetVersion:
    with tenant_scope(party.id):
        return DatasetVersion.objects.get()


def test_a_version_of_what_the_list_was_narrowed_to(party: Party, shelf: Any, owner: Client) -> None:
    base = f"/datasets/{shelf.id}/versions"
    assert "No versions yet" in read(owner, base)
    page = read(owner, f"{base}?status=&tag=a%20%26%20b")
    assert '<option value="a &amp; b" selected>' in page
    answer = owner.post(f"{base}/new", {"name": "tagged", "note": "n<b>", "tag": "a & b"})
    row = only(party)
    assert answer["Location"] == f"{base}/{row.id}"
    page = read(owner, answer["Location"])
    assert shown(page) == [str(shelf.made[2].id)]
    assert "All with tag “a &amp; b”" in page
    assert "n&lt;b&gt;" in page
    assert row.digest in page
    page = read(owner, base)
    assert ("tagged" in page, row.digest[:12] in page) == (True, True)
    assert 'id="tab-versions"' in read(owner, f"/datasets/{shelf.id}")


def test_a_version_of_ticked_assets(party: Party, shelf: Any, owner: Client) -> None:
    base = f"/datasets/{shelf.id}/versions"
    ticked = [str(one.id) for one in shelf.made[:2]]
    # As the table sends it, with its own fields beside.
    sent = {"ticked": "1", "asset": ticked, "name": "two", "status": "ready", "sort": "newest", "tag": ""}
    refused = owner.post(f"{base}/new", {**sent, "name": ""})
    assert refused.status_code == 422
    page = refused.content.decode()
    assert "It lists the 2 assets that you ticked." in page
    assert all(f'<input type="hidden" name="asset" value="{one}">' in page for one in ticked)
    assert owner.post(f"{base}/new", {**sent, "asset": []}).status_code == 422
    assert owner.post(f"{base}/new", {**sent, "asset": [str(uuid.uuid4())]}).status_code == 404
    assert owner.post(f"{base}/new", sent).status_code == 302
    again = owner.post(f"{base}/new", sent)
    assert (again.status_code, "a version &#x27;two&#x27; already" in again.content.decode()) == (409, True)
    row = only(party)
    assert row.asset_count == 2
    assert "chosen one by one" in read(owner, f"{base}/{row.id}")


def test_what_was_erased_or_changed_since_is_told(party: Party, shelf: Any, owner: Client) -> None:
    with tenant_scope(party.id):
        row, _ = versions.make_version(dataset_id=shelf.id, name="all")
        erase_asset(asset_id=shelf.made[0].id, actor="x")
        Asset.objects.filter(pk=shelf.made[1].id).update(caption="other")
    address = f"/datasets/{shelf.id}/versions/{row.id}"
    assert "1; 2 are left" in read(owner, address)
    assert owner.get(f"{address}?changed=1").content.decode().startswith("1 asset<div")
    with tenant_scope(party.id):
        for one in shelf.made[1:]:
            erase_asset(asset_id=one.id, actor="x")
    assert "None of its assets is left" in read(owner, address)


def test_two_versions_are_compared(party: Party, shelf: Any, owner: Client) -> None:
    first, last = ([shelf.made[at].id for at in places] for places in ((0, 1), (1, 2)))
    with tenant_scope(party.id):
        one, _ = versions.make_version(dataset_id=shelf.id, name="one", chosen=versions.Chosen(assets=first))
        two, _ = versions.make_version(dataset_id=shelf.id, name="two", chosen=versions.Chosen(assets=last))
    base = f"/datasets/{shelf.id}/versions"
    assert f'<option value="{one.id}">one</option>' in read(owner, f"{base}/{two.id}")
    address = f"{base}/{two.id}/compare?with={one.id}"
    assert shown(read(owner, address)) == [str(shelf.made[2].id)]
    assert shown(read(owner, f"{address}&change=removed")) == [str(shelf.made[0].id)]
    assert "Nothing of this is different" in read(owner, f"{address}&change=changed")
    assert "same digest" in read(owner, f"{base}/{one.id}/compare?with={one.id}")
    assert owner.get(f"{base}/{two.id}/compare?with=x").status_code == 404


def test_a_large_one_is_followed_while_it_is_made(
    party: Party, shelf: Any, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "AT_ONCE", 2)
    base = f"/datasets/{shelf.id}/versions"
    address = owner.post(f"{base}/new", {"name": "all"})["Location"]
    row = only(party)
    page = read(owner, address)
    assert f'data-job="{row.job_id}"' in page
    assert "being made" in read(owner, base)
    assert "Make the version all of shelf" in read(owner, f"/jobs/{row.job_id}")
    run_job(str(row.job_id), str(party.id))
    assert len(shown(read(owner, address, HX_Request="true"))) == 3
    assert "data-job" not in read(owner, address)


def test_a_fine_tune_starts_from_a_version_and_its_page_names_it(
    party: Party, owner: Client, person: Callable[..., Client]
) -> None:
    with tenant_scope(party.id):
        made = new_dataset("shapes")
        add_pairs(made, 4)
        ids = list(Asset.objects.filter(dataset=made).values_list("pk", flat=True)[:3])
        row, _ = versions.make_version(dataset_id=made.id, name="three", chosen=versions.Chosen(assets=ids))
    address = f"/datasets/{made.id}/versions/{row.id}"
    link = f"/models/finetune?dataset={made.id}&version={row.id}"
    assert link.replace("&", "&amp;") in read(owner, address)
    form = read(owner, link)
    assert f'<option value="{made.id}/{row.id}" selected>shapes, version three (3 assets)</option>' in form
    assert re.search(r"Training pairs</dt><dd>3</dd>", form)
    fields = {"base": "", "stage": "adapt", "method": "heads", "epochs": "3", "name": "ours"}
    for wrong, status in ((f"{made.id}/x", 422), ("x", 422), (f"{made.id}/{uuid.uuid4()}", 404)):
        assert owner.post("/models/finetune", {**fields, "dataset": wrong}).status_code == status
    answer = owner.post("/models/finetune", {**fields, "dataset": f"{made.id}/{row.id}"})
    assert answer.status_code == 302
    with tenant_scope(party.id):
        model = LearntModel.objects.get()
    assert f'<a href="{address}">version three</a>' in read(owner, f"/models/{model.id}")
    assert f'<a href="/models/{model.id}">ours</a>' in read(owner, address)
    # It is read now, whatever was typed.
    assert owner.post(f"{address}/delete", {"name": "three"})["Location"] == address
    assert "is learning from this version" in read(owner, address)
    with tenant_scope(party.id):
        jobs.cancel(job_id=model.job_id)
    assert owner.post(f"{address}/delete", {"name": "thre"}).status_code == 422
    assert person("viewer").post(f"{address}/delete", {"name": "three"}).status_code == 403
    assert only(party) == row
    assert owner.post(f"{address}/delete", {"name": "three"})["Location"] == f"/datasets/{made.id}/versions"
    assert "version three, deleted since" in read(owner, f"/models/{model.id}")
