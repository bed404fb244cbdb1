"""The map's page and what its script asks for."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tenants.datasets.models import Asset
from tenants.datasets.services import create_dataset
from tenants.retrieval import map_points, model_routing
from tenants.retrieval.index.vectors import NewVector, add_vectors
from tenants.retrieval.models import EmbeddingMap, VectorClock
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.learning.world import unit
from tests.tenants.test_maps import circle, place


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    map_points.forget_points()


def post(client: Client, name: str, body: Any) -> Any:
    return client.post(reverse(f"console:{name}"), json.dumps(body), content_type="application/json")


def test_an_empty_workspace_has_a_page_and_no_points(owner: Client) -> None:
    shown = owner.get("/map")
    assert shown.status_code == 200
    assert b"None yet." in shown.content
    found = owner.get("/map/points").json()
    assert (found["ids"], found["x"], found["total"]) == ([], [], 0)


def test_points_have_columns_of_one_length(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="shelf")
        made = circle(party, 12, dataset)
    found = owner.get(f"/map/points?dataset={dataset.id}&key=colour").json()
    assert set(found["ids"]) == {str(one.id) for one in made}
    assert len(found["x"]) == len(found["y"]) == 12
    assert found["columns"]["dataset"] == {"kind": "category", "values": [str(dataset.id)], "codes": [0] * 12}
    assert found["columns"]["field"]["codes"] == [-1] * 12


def test_an_unknown_dataset_map_or_model_is_told(owner: Client) -> None:
    assert owner.get(f"/map/points?dataset={uuid.uuid4()}").status_code == 404
    assert owner.get("/map/points?map=nothing").status_code == 404
    assert owner.get("/map/points?modality=smell").status_code == 422
    assert owner.get("/map/points?model=cman-gone:1").status_code == 409


def test_two_models_are_compared_where_both_have_vectors(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        made = circle(party, 10)
        for n, asset in enumerate(made):
            vector = NewVector("text", unit(1, n % 3, n))
            add_vectors(model="other:1", vectors=[(asset, [vector])])
        VectorClock.objects.update(beside=["other:1"])
        live = model_routing.live()
    found = owner.get(f"/map/points?model={live}&other=other:1").json()
    assert len(found["x2"]) == len(found["moved"]) == len(found["ids"]) == 10
    assert found["most_moved"][0] == found["ids"][found["moved"].index(max(found["moved"]))]
    assert b"data-between" in owner.get("/map?other=other:1").content


def test_names_leave_out_what_is_held_back_and_what_is_foreign(
    party: Party, stranger: Party, owner: Client
) -> None:
    with tenant_scope(party.id):
        seen, blocked = circle(party, 2)
        Asset.objects.filter(pk=blocked.pk).update(moderation="block")
        Asset.objects.filter(pk=seen.pk).update(caption="A kettle")
    with tenant_scope(stranger.id):
        [foreign] = circle(stranger, 1)
    found = post(owner, "map-names", [str(one.id) for one in (seen, blocked, foreign)]).json()["assets"]
    assert list(found) == [str(seen.id)]
    assert found[str(seen.id)]["name"] == "A kettle"
    assert found[str(seen.id)]["url"] == f"/assets/{seen.id}"


@pytest.mark.parametrize("body", [{}, "x", [1], [None], ["x"] * 201])
def test_bodies_that_are_no_list_of_ids_are_refused(owner: Client, body: Any) -> None:
    assert post(owner, "map-names", body).status_code == 422
    assert post(owner, "map-delete-assets", body).status_code == 422


def test_the_matrix_has_names(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        made = [place(party, ("text", unit(*one))) for one in ((1,), (1, 1))]
    found = post(owner, "map-similarity", [str(one.id) for one in made]).json()
    assert found["matrix"][0][1] == pytest.approx(0.7071, abs=1e-3)
    assert set(found["names"]) == set(found["assets"])
    assert post(owner, "map-similarity", [str(made[0].id)]).status_code == 422
    assert post(owner, "map-similarity", [str(made[0].id), str(uuid.uuid4())]).status_code == 404


def test_writers_delete_a_selection_and_others_see_no_button(
    party: Party, person: Callable[..., Client]
) -> None:
    with tenant_scope(party.id):
        made = circle(party, 3)
    viewer, editor = person("viewer"), person("editor")
    for offered in (b"data-delete-dialog", b"/map/new"):
        assert offered not in viewer.get("/map").content
        assert offered in editor.get("/map").content
    assert post(viewer, "map-delete-assets", [str(made[0].id)]).status_code == 403
    wanted = [str(one.id) for one in made[:2]]
    assert post(editor, "map-delete-assets", wanted).json() == {"deleted": 2}
    assert post(editor, "map-delete-assets", wanted).json() == {"deleted": 0}
    assert editor.get("/map/points").json()["ids"] == [str(made[2].id)]


def test_a_map_is_kept_shown_and_deleted(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        circle(party, 4)
    given = {"name": "all", "method": "pca", "neighbours": 15, "min_dist": 0.1}
    answer = owner.post("/map/new", given)
    with tenant_scope(party.id):
        row = EmbeddingMap.objects.get()
    assert answer["Location"] == f"/map?map={row.id}"
    assert b"all" in owner.get(answer["Location"]).content
    assert len(owner.get(f"/map/points?map={row.id}").json()["ids"]) == 4
    owner.post(f"/map/{row.id}/delete")
    assert owner.get(f"/map/points?map={row.id}").status_code == 404


def test_a_form_that_cannot_be_drawn_says_why(owner: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"name": "x", "method": "umap", "neighbours": 1, "min_dist": 0.1}
    assert owner.post("/map/new", given).status_code == 422
    monkeypatch.setattr("tenants.accounts.flags.enabled", lambda flag, tenant_id: False)
    refused = owner.post("/map/new", {**given, "neighbours": 15})
    assert refused.status_code == 403
    assert b"turned off" in refused.content
