"""Sources of streams by the API: made, shown, changed, paused, and their dead letters; nothing of anybody else's."""

from __future__ import annotations

from typing import Any

import pytest

from tenants.datasets.models import StreamDeadLetter
from tenants.pipeline.streams.sources import MOST
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party

SOURCE = {"name": "Orders", "kind": "redis", "url": "rediss://ann:s3cret@broker.example/2", "topic": "orders"}


@pytest.fixture
def source(api: Api, dataset: str) -> dict[str, Any]:
    return api.post("/stream-sources", {**SOURCE, "dataset": dataset}).json()


def test_a_source_is_made_once_and_never_shows_its_password(api: Api, dataset: str) -> None:
    wanted = {**SOURCE, "dataset": dataset}
    first, again = (api.call("POST", "/stream-sources", wanted, {"Idempotency-Key": "one"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    made = first.json()
    assert first.headers["Location"] == f"/api/v1/stream-sources/{made['id']}"
    assert made["url"] == "rediss://broker.example:6379/2" and made["has_credentials"]
    assert (made["state"], made["problem"], made["dead_letters"]) == ("active", None, 0)
    assert made["mapping"] == {"id": "id", "text": "text", "metadata": "metadata", "key": "key"}
    for text in (first.content, api.get("/stream-sources").content, api.get("/audit-log").content):
        assert b"s3cret" not in text
    assert api.get(f"/jobs/{made['job']}").json()["kind"] == "read_stream"
    refused(api.post("/stream-sources", wanted), 409, "conflict")


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"url": "redis://broker.example"}, "/url"),
        ({"url": "amqps://broker.example"}, "/url"),
        ({"url": "rediss://broker.example:22"}, "/url"),
        ({"url": "rediss://broker.example/0?ssl_cert_reqs=none"}, "/url"),
        ({"kind": "mqtt"}, "/kind"),
        ({"mapping": {"id": "id"}}, "/mapping/text"),
        ({"mapping": {"text": "t", "colour": "c"}}, "/mapping"),
        ({"topic": ""}, "/topic"),
        ({"on_change": "merge"}, "/on_change"),
    ],
)
def test_what_cannot_be_read_is_refused(
    api: Api, dataset: str, changed: dict[str, Any], pointer: str
) -> None:
    refused(api.post("/stream-sources", {**SOURCE, "dataset": dataset, **changed}), 422, "invalid", pointer)
    assert api.get("/stream-sources").json()["results"] == []


def test_a_source_is_changed_paused_resumed_and_deleted(api: Api, source: dict[str, Any]) -> None:
    path = f"/stream-sources/{source['id']}"
    changed = api.call("PATCH", path, {"on_change": "replace", "url": "rediss://other.example"}).json()
    assert (changed["on_change"], changed["url"]) == ("replace", "rediss://other.example:6379")
    assert not changed["has_credentials"]
    refused(api.call("PATCH", path, {"topic": "other"}), 422, "invalid")
    assert api.post(f"{path}/pause").json()["state"] == "paused"
    resumed = api.post(f"{path}/resume").json()
    # The job that waits goes on.
    assert (resumed["state"], resumed["job"]) == ("active", source["job"])
    assert api.call("DELETE", path).status_code == 204
    refused(api.get(path), 404, "not-found")


def test_there_are_only_so_many(api: Api, dataset: str) -> None:
    for number in range(MOST):
        answer = api.post("/stream-sources", {**SOURCE, "dataset": dataset, "name": f"s{number}"})
        assert answer.status_code == 201
    refused(api.post("/stream-sources", {**SOURCE, "dataset": dataset}), 409, "conflict")


def test_dead_letters_are_listed_and_deleted(api: Api, party: Party, source: dict[str, Any]) -> None:
    path = f"/stream-sources/{source['id']}/dead-letters"
    with tenant_scope(party.id):
        for number in range(3):
            StreamDeadLetter.objects.create(
                source_id=source["id"],
                dataset_id=source["dataset"],
                position=f"{number}-0",
                slug="invalid",
                reason="Send the text of the item.",
                body='{"id": "a"}',
            )
    listed = api.get(path).json()["results"]
    assert [one["position"] for one in listed] == ["2-0", "1-0", "0-0"]
    first = listed[0]
    assert (first["type"], first["body"], first["replayable"]) == ("invalid", '{"id": "a"}', True)
    # By the mapping of now; they have no text either.
    done = api.post(f"{path}/replay", {"dead_letters": [first["id"]]}).json()
    assert done == {"stored": 0, "left": 1}
    refused(api.post(f"{path}/replay", {"dead_letters": [source["id"]]}), 404, "not-found")
    assert api.call("DELETE", f"{path}/{first['id']}").status_code == 204
    assert api.call("DELETE", path).json() == {"deleted": 2}


def test_nothing_of_another_workspace_is_there(other: Api, source: dict[str, Any]) -> None:
    path = f"/stream-sources/{source['id']}"
    for answer in (
        other.get(path),
        other.call("PATCH", path, {"name": "mine"}),
        other.call("DELETE", path),
        other.post(f"{path}/pause"),
        other.post(f"{path}/resume"),
        other.get(f"{path}/dead-letters"),
        other.call("DELETE", f"{path}/dead-letters"),
        other.post(f"{path}/dead-letters/replay", {}),
        other.post("/stream-sources", {**SOURCE, "dataset": source["dataset"]}),
    ):
        refused(answer, 404, "not-found")
    assert other.get("/stream-sources").json()["results"] == []
