"""What pages show, that hostile words stay words, and that no page needs more than its strict policy allows."""

from __future__ import annotations

import html
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from django.db import OperationalError
from django.test import Client

from tenants.accounts import services as accounts
from tenants.datasets import selectors, services
from tenants.datasets.models import Asset, Blob
from tenants.jobs.models import Job
from tenants.jobs.services import cancel
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tenants.valkey import Unavailable as ValkeyUnavailable
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.flows.pictures import jpeg

EVIL = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>{{ 7|add:1 }}"""


class Full:
    """A tenant in which every text that a person can choose is hostile."""

    def __init__(self, party: Party) -> None:
        from io import BytesIO

        with tenant_scope(party.id):
            self.dataset = services.create_dataset(name=EVIL, description=EVIL)
            values = {EVIL[:90]: EVIL, "price": 3}
            picture = add_asset(
                dataset_id=self.dataset.id, file=BytesIO(jpeg(secrets.randbits(32))), text=EVIL, values=values
            )
            words = add_asset(dataset_id=self.dataset.id, text=EVIL, external_id=EVIL)
            self.picture, self.words, self.job = picture.asset, words.asset, picture.job
            cancel(job_id=words.job.id)
            Job.objects.filter(pk=words.job.id).update(
                state="failed", error={"type": EVIL, "detail": EVIL}, result={EVIL: EVIL}
            )
            Asset.objects.filter(pk=words.asset.id).update(
                status="failed", error={"type": "x", "detail": EVIL}
            )
            Blob.objects.filter(pk=picture.asset.blob_id).update(width=64, height=64, has_thumbnail=True)
            self.failed_job = words.job

    @property
    def addresses(self) -> list[str]:
        return [
            *("/", "/datasets", "/search", f"/search?q={EVIL}", f"/search?asset={self.picture.id}", "/jobs"),
            *(f"/datasets/{self.dataset.id}", f"/datasets/{self.dataset.id}?status=failed", "/keys"),
            *(
                f"/datasets/{self.dataset.id}/fields",
                f"/datasets/{self.dataset.id}/fields?field={quote(EVIL)}",
            ),
            *(f"/assets/{self.picture.id}", f"/assets/{self.words.id}", f"/assets/{self.words.id}/tile"),
            *(f"/jobs/{self.job.id}", f"/jobs/{self.failed_job.id}", "/jobs?state=failed"),
        ]


@pytest.fixture
def full(party: Party) -> Full:
    return Full(party)


def check(response: Any, address: str) -> str:
    page = response.content.decode()
    assert faults_of(page) == [], address
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src 'self';" in f"{policy};"
    return page


@pytest.mark.parametrize("role", ["owner", "viewer"])
def test_hostile_words_stay_words_on_every_page(role: str, full: Full, person: Callable[..., Client]) -> None:
    client = person(role)
    accounts.create_user(email=f"{secrets.token_hex(4)}@x.example", password="x", name=EVIL)
    for address in full.addresses:
        if role == "viewer" and address == "/keys":
            continue
        response = client.get(address)
        # Nothing can be compared with a picture before it is indexed: the page says so.
        assert response.status_code == (422 if "asset=" in address else 200), address
        check(response, address)
        assert response["Cache-Control"] == "no-store"
        assert response["Permissions-Policy"].startswith("microphone=(self)")


def test_names_are_shown_as_they_were_written(full: Full, owner: Client) -> None:
    assert html.escape(EVIL) in check(owner.get(f"/datasets/{full.dataset.id}"), "dataset")
    assert html.escape(EVIL) in check(owner.get(f"/assets/{full.words.id}"), "asset")


@pytest.mark.parametrize("address", ["/", "/datasets", "/search", "/jobs"])
def test_an_empty_tenant_is_told_what_to_do(address: str, person: Callable[..., Client]) -> None:
    for role in ("owner", "viewer"):
        page = check(person(role).get(address), address)
        assert 'class="panel empty"' in page or 'class="checklist"' in page


def test_pages_before_a_tenant_are_strict_too(
    party: Party, stranger: Party, person: Callable[..., Client]
) -> None:
    check(Client().get("/login"), "login")
    check(Client().get("/nothing-here"), "404")
    two = person("viewer", tenants=(party.tenant, stranger.tenant))
    check(two.get("/workspace"), "choose")
    assert check(person("viewer").get("/keys"), "403").count("admin") >= 1


def test_a_server_error_is_a_page_of_ours(owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    owner.raise_request_exception = False
    monkeypatch.setattr("console.home._counts", lambda *a: 1 / 0)
    response = owner.get("/")
    assert response.status_code == 500
    assert "went wrong on our side" in check(response, "500")


@pytest.mark.parametrize("error", [OperationalError("the server closed the connection"), ValkeyUnavailable()])
def test_a_database_that_is_away_is_said_and_when_to_try_again(
    owner: Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever asks it first: middleware, a view, or what a page shows beside."""
    owner.raise_request_exception = False

    def away(*args: Any, **kwargs: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("config.middleware.BrowserPeople.process_request", away)
        for path in ("/", "/operator/", "/login"):
            response = owner.get(path)
            assert (response.status_code, response["Retry-After"]) == (503, "5")
            assert "Back in a moment" in response.content.decode()
    for place in ("console.home._counts", "console.access.workspace_of"):
        with monkeypatch.context() as patch:
            patch.setattr(place, away)
            response = owner.get("/?from=%22%3E")
            assert (response.status_code, response["Retry-After"]) == (503, "5")
            page = check(response, "503")
            assert "Back in a moment" in page
            assert 'href="/?from=%22%3E"' in page
            part = owner.get("/", headers={"hx-request": "true"})
            assert (part.status_code, part["HX-Retarget"]) == (503, "#problem")
            assert "<html" not in part.content.decode()
            told = owner.get("/", headers={"accept": "application/json"})
            assert (told.status_code, told.json()["type"]) == (503, "unavailable")
    monkeypatch.setattr("console.access.workspace_of", away)
    sent = owner.post("/datasets/new", {"name": "x"})
    assert sent.status_code == 503
    assert "may not have been saved" in sent.content.decode()


def test_creating_and_renaming_a_dataset(party: Party, owner: Client) -> None:
    made = owner.post("/datasets/new", {"name": "  Kettles ", "description": "Red ones"})
    dataset_id = made["Location"].rpartition("/")[2]
    again = owner.post("/datasets/new", {"name": "Kettles"})
    assert again.status_code == 422
    page = check(again, "datasets")
    assert "There is a dataset &#x27;Kettles&#x27; already." in page
    assert "data-open-now" in page
    assert owner.post("/datasets/new", {"name": " "}).status_code == 422
    owner.post(f"/datasets/{dataset_id}/edit", {"name": "Pots", "description": ""})
    with tenant_scope(party.id):
        names = [d.name for d in selectors.list_datasets()]
    assert names == ["Pots"]


def test_a_dataset_is_deleted_only_when_its_name_was_typed(party: Party, full: Full, owner: Client) -> None:
    address = f"/datasets/{full.dataset.id}/delete"
    refused = owner.post(address, {"name": "something else"})
    assert refused.status_code == 422
    assert "Type the name exactly" in check(refused, address)
    with tenant_scope(party.id):
        assert selectors.get_dataset(full.dataset.id).asset_count == 2
    assert owner.post(address, {"name": EVIL})["Location"] == "/datasets"
    assert owner.get(f"/datasets/{full.dataset.id}").status_code == 404
    assert owner.get(f"/assets/{full.picture.id}").status_code == 404


def test_editing_an_asset(party: Party, full: Full, owner: Client) -> None:
    address = f"/assets/{full.picture.id}/edit"
    for bad in ("{", "[1]", '{"a": NaN}', "[" * 100_000):
        response = owner.post(address, {"caption": "x", "metadata": bad})
        assert response.status_code == 422
        check(response, bad[:10])
    owner.post(address, {"caption": "A kettle", "metadata": '{"colour": "red"}'})
    owner.post(f"/assets/{full.words.id}/edit", {"metadata": '{"n": 1}'})
    with tenant_scope(party.id):
        changed, words = selectors.get_asset(full.picture.id), selectors.get_asset(full.words.id)
    assert (changed.caption, changed.metadata, changed.revision) == ("A kettle", {"colour": "red"}, 2)
    assert (words.metadata, words.revision) == ({"n": 1}, 1)


def test_deleting_an_asset(full: Full, owner: Client) -> None:
    assert owner.post(f"/assets/{full.words.id}/delete")["Location"] == f"/datasets/{full.dataset.id}"
    assert owner.get(f"/assets/{full.words.id}").status_code == 404


def test_cancelling_and_retrying_a_job(party: Party, full: Full, owner: Client) -> None:
    assert full.failed_job is not None
    again = owner.post(f"/jobs/{full.failed_job.id}/retry", follow=True)
    assert "The job was queued again." in check(again, "retry")
    refused = owner.post(f"/jobs/{full.failed_job.id}/retry", follow=True)
    assert "Only a failed or cancelled job" in check(refused, "retry twice")


def test_a_key_is_shown_once(owner: Client) -> None:
    made = owner.post("/keys", {"name": EVIL, "scopes": ["read", "search"], "lifetime": "30"})
    assert made.status_code == 201
    page = check(made, "keys")
    token = page.partition('id="token" tabindex="0">')[2].partition("<")[0]
    assert len(token.split(".")[1]) == 43
    assert token not in owner.get("/keys").content.decode()
    response = Client().get("/api/v1/me", headers={"authorization": f"Bearer {token}"})
    assert response.status_code == 200


def test_a_key_needs_a_name_and_scopes(owner: Client) -> None:
    before = owner.get("/keys").content.decode().count('data-open="revoke-')
    for fields in ({"name": ""}, {"name": "x"}, {"name": "x", "scopes": ["everything"]}):
        response = owner.post("/keys", fields)
        assert response.status_code == 422
        assert "data-open-now" in check(response, "keys")
    assert owner.get("/keys").content.decode().count('data-open="revoke-') == before


def test_long_lists_are_paged(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        dataset = services.create_dataset(name="many")
        for number in range(30):
            add_asset(dataset_id=dataset.id, text=f"text {number}")
    first = owner.get(f"/datasets/{dataset.id}").content.decode()
    assert first.count('class="tile"') == 24
    more = first.partition('class="more"')[2].partition('hx-get="')[2].partition('"')[0].replace("&amp;", "&")
    rest = owner.get(more, headers={"hx-request": "true"}).content.decode()
    assert rest.count('class="tile"') == 6
    assert "<html" not in rest
    assert "Load more" not in rest
    jobs = owner.get("/jobs").content.decode()
    assert jobs.count("<strong>Embed text ") == 25
    assert "Older jobs" in jobs
