"""The map's page and what its script asks for."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse

from ml.alignment.relevance import Curve, Relevance
from tenants.accounts.models import Membership
from tenants.datasets.models import Asset, Facet
from tenants.datasets.services import create_dataset
from tenants.errors import Invalid, ModelUnavailable
from tenants.learning.models import GoldenQuery
from tenants.retrieval import map_points, map_topics, model_routing
from tenants.retrieval.index.vectors import NewVector, add_vectors
from tenants.retrieval.models import EmbeddingMap, VectorClock
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.learning.world import unit
from tests.tenants.people import new_member
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


# --- Topics, outliers, the best of a search ------------------------------------------------------------------


def test_topics_are_called_by_the_words_of_what_lies_in_them(party: Party, owner: Client) -> None:
    words = {
        0: ("Lost my credit card", "The credit card was lost", "Credit card lost in Paris"),
        1: ("糖尿病患者的饮食", "糖尿病怎么治疗", "糖尿病饮食注意事项"),
        2: ("Red kettle for the stove", "Kettle with a whistle", "Old kettle"),
    }
    with tenant_scope(party.id):
        dataset = create_dataset(name="shelf")
        for n in range(24):
            at = n % 3
            values = unit(*(1 if place == at else 0.1 * np.sin(n + place) for place in range(3)))
            place(party, ("text", values), dataset=dataset, caption=words[at][n // 3 % 3])
    points = owner.get("/map/points").json()
    found = owner.get("/map/topics").json()
    assert found["stamp"] == points["stamp"]
    assert sorted(set(points["columns"]["topic"]["codes"])) == [0, 1, 2]
    told = {one["words"][0]: one for one in found["topics"]}
    assert {word.casefold() for word in told} == {"credit card", "糖尿病", "kettle"}
    assert not any(one["guessed"] for one in found["topics"])
    assert all(len(one["examples"]) == 3 for one in found["topics"])


def test_words_of_what_was_deleted_or_held_back_name_nothing(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="shelf")
        made = [
            place(
                party,
                ("text", unit(1, 0.01 * n)),
                dataset=dataset,
                caption=f"{'secretive' if n < 8 else 'harmless'} things",
            )
            for n in range(16)
        ]
    assert "secretive" in str(owner.get("/map/topics").json())
    with tenant_scope(party.id):
        Asset.objects.filter(pk__in=[one.pk for one in made[:8]]).update(moderation="quarantined")
    found = str(owner.get("/map/topics").json())
    assert "secretive" not in found
    assert not {str(one.pk) for one in made[:8]} & set(found.replace("'", " ").split())


def test_captions_with_markup_and_control_characters_are_words_only(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="odd")
        for n in range(20):
            caption = f"<script>alert({n})</script> \u202eevil\u0007 kettle"
            place(party, ("text", unit(1, 0.1 * n)), dataset=dataset, caption=caption)
    answer = owner.get("/map/topics")
    assert answer.status_code == 200
    words = [word for one in answer.json()["topics"] for word in one["words"]]
    assert not any(set("<>()\u202e\u0007") & set(word) for word in words)


def test_few_points_have_no_topics_and_unknown_maps_are_told(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        circle(party, 4)
    assert owner.get("/map/topics").json()["topics"] == []
    assert owner.get(f"/map/topics?map={uuid.uuid4()}").status_code == 404
    assert owner.get("/map/topics?model=cman-gone:1").status_code == 409


def test_topics_without_words_have_numbers_where_the_model_is_gone(
    party: Party, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="pictures")
        for n in range(20):
            made = place(party, ("image", unit(1, 0.1 * n)), dataset=dataset, modality="image")
            Asset.objects.filter(pk=made.pk).update(excerpt="", caption="", filename=f"IMG_{n:04}.jpg")

    def gone(*_: Any) -> None:
        raise ModelUnavailable("gone")

    monkeypatch.setattr(map_topics.model_store, "space", gone)
    found = owner.get("/map/topics").json()["topics"]
    assert [one["words"] for one in found] == [[], [], []]
    assert not any(one["guessed"] for one in found)


def test_topics_without_words_are_called_by_what_likely_lies_in_them(
    party: Party, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing of the vocabulary is likely, a topic has a number: it is most like something, whatever it is."""
    with tenant_scope(party.id):
        dataset = create_dataset(name="pictures")
        model = model_routing.live()
        space = map_topics.model_store.space(model, party.id)
        milk, boats = space.embed_texts(["milk", "boats"])
        middles = milk, boats, np.random.default_rng(7).normal(size=len(milk)).astype(np.float32)
        for n in range(24):
            values = middles[n % 3] / np.linalg.norm(middles[n % 3])
            values = values + 0.002 * np.random.default_rng(n).normal(size=len(values)).astype(np.float32)
            values = values / np.linalg.norm(values)
            made = place(party, ("image", values), dataset=dataset, modality="image")
            Asset.objects.filter(pk=made.pk).update(excerpt="", caption="", filename=f"IMG_{n:04}.jpg")
    curve = Curve(30.0, 0.5)
    calibrated = Relevance(0.5, 0.9, {("text", "image"): curve})
    monkeypatch.setattr(space, "relevance", calibrated)
    found = owner.get("/map/topics").json()["topics"]
    assert sorted(one["words"][:1] for one in found) == [[], ["boats"], ["milk"]]
    assert sorted(one["guessed"] for one in found) == [False, True, True]


def test_who_is_narrowed_sees_no_map(party: Party) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="theirs")
    member = new_member(party.tenant, "editor")
    Membership.objects.filter(tenant=party.tenant, user=member).update(datasets=[dataset.id])
    client = Client()
    client.force_login(member)
    for address in ("/map", "/map/points", "/map/topics"):
        assert client.get(address).status_code == 403
    for name in ("map-names", "map-tag-assets", "map-golden", "map-delete-assets"):
        assert post(client, name, []).status_code == 403


# --- What is done with a selection ---------------------------------------------------------------------------


def test_a_selection_is_tagged_and_what_changed_is_told(
    party: Party, stranger: Party, person: Callable[..., Client]
) -> None:
    with tenant_scope(party.id):
        one, other = circle(party, 2)
        Asset.objects.filter(pk=one.pk).update(metadata={"tags": ["seen"]})
    with tenant_scope(stranger.id):
        [foreign] = circle(stranger, 1)
    editor, ids = person("editor"), [str(one.id), str(other.id)]
    told = post(editor, "map-tag-assets", {"ids": [*ids, str(foreign.id)], "add": "seen, later"}).json()
    assert (told["changed"], told["refused"], told["left"]) == (2, 1, 0)
    # By which it is undone: the one had a tag before.
    assert {tag: sorted(found) for tag, found in told["tags"].items()} == {
        "later": sorted(ids),
        "seen": [ids[1]],
    }
    for tag, found in told["tags"].items():
        post(editor, "map-tag-assets", {"ids": found, "remove": tag})
    with tenant_scope(party.id):
        known = dict(Asset.objects.filter(pk__in=ids).values_list("pk", "metadata"))
    assert known == {one.pk: {"tags": ["seen"]}, other.pk: {}}
    with tenant_scope(stranger.id):
        foreign.refresh_from_db()
        assert "tags" not in foreign.metadata


def test_tags_that_cannot_be_are_refused(party: Party, person: Callable[..., Client]) -> None:
    with tenant_scope(party.id):
        [made] = circle(party, 1)
    editor, ids = person("editor"), [str(made.id)]
    for body in (
        {"ids": ids},
        {"ids": ids, "add": " , "},
        {"ids": ids, "add": "x" * 65},
        {"ids": ids, "add": "a\x07b"},
        {"ids": ids, "add": ["x"]},
        {"ids": ["x"] * 501, "add": "x"},
        {"add": "x"},
        [],
    ):
        assert post(editor, "map-tag-assets", body).status_code == 422
    assert post(person("viewer"), "map-tag-assets", {"ids": ids, "add": "x"}).status_code == 403
    with tenant_scope(party.id):
        made.refresh_from_db()
        assert "tags" not in made.metadata


def test_a_selection_becomes_a_golden_query(party: Party, person: Callable[..., Client]) -> None:
    with tenant_scope(party.id):
        made = circle(party, 3)
    editor, ids = person("editor"), [str(one.id) for one in made]
    assert post(editor, "map-golden", {"ids": ids, "text": ""}).status_code == 422
    assert post(editor, "map-golden", {"ids": [], "text": "x"}).status_code == 422
    assert post(editor, "map-golden", {"ids": [str(uuid.uuid4())], "text": "x"}).status_code == 404
    assert post(person("viewer"), "map-golden", {"ids": ids, "text": "x"}).status_code == 403
    answer = post(editor, "map-golden", {"ids": ids, "text": "round things"})
    assert (answer.status_code, answer.json()["url"]) == (201, "/models/golden-queries")
    with tenant_scope(party.id):
        [query] = GoldenQuery.objects.all()
        assert query.text == "round things"
        assert {str(one) for one in query.answers.values_list("asset_id", flat=True)} == set(ids)


# --- As bytes --------------------------------------------------------------------------------------------------


def unpacked(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """As `packed.ts` reads it."""
    length = int.from_bytes(content[:4], "little")
    head = json.loads(content[4 : 4 + length])
    arrays, at = {}, 4 + length
    for name, kind, size in head["arrays"]:
        assert at % 4 == 0
        held = np.frombuffer(content, f"<{kind}", size, at)
        arrays[name], at = held, at + -(-held.nbytes // 4) * 4
    assert at == len(content)
    return head, arrays


def test_points_as_bytes_say_what_they_say_as_json(
    party: Party, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenant_scope(party.id):
        made = circle(party, 20)
        Facet.objects.create(asset=made[0], key="price", number=2.5)
    plain = owner.get("/map/points?key=price").json()
    answer = owner.get("/map/points?key=price&packed=1")
    assert answer["Content-Type"] == "application/octet-stream"
    head, arrays = unpacked(answer.content)
    assert (head["count"], head["stamp"], head["total"]) == (20, plain["stamp"], 20)
    assert map_points.ids_of(arrays["ids"].reshape(-1, 16)) == plain["ids"]
    assert head["arrays"][-1][0] == "ids"
    assert np.allclose(arrays["x"], plain["x"], atol=1e-4)
    assert arrays["topic.codes"].tolist() == plain["columns"]["topic"]["codes"]
    known = [None if np.isnan(one) else float(one) for one in arrays["field.numbers"]]
    assert known == plain["columns"]["field"]["numbers"]
    # Many have places of sixteen bits, and as JSON every second comes.
    monkeypatch.setattr(map_points, "MOST_AT_ONCE", 10)
    monkeypatch.setattr(map_points, "MOST_FIELDS", 5)
    map_points.forget_points()
    assert len(owner.get("/map/points").json()["ids"]) <= 10
    points = map_points.Points(
        arrays["ids"].reshape(-1, 16), np.stack([arrays["x"], arrays["y"]], axis=1), 20, "umap", "m"
    )
    with tenant_scope(party.id):
        found = map_points.shown(points)
        with pytest.raises(Invalid, match="show one dataset"):
            map_points.shown(points, key="price")
        assert len(map_points.shown(points, most=10).ids) == 10
    head, small = unpacked(map_points.as_packed(points, found))
    assert head["arrays"][0] == ["x", "u2", 20]
    least, most = head["extent"]
    assert np.allclose(least[0] + small["x"] / 65_535 * (most[0] - least[0]), arrays["x"], atol=1e-4)


def test_no_points_are_bytes_too(owner: Client) -> None:
    head, arrays = unpacked(owner.get("/map/points?packed=1").content)
    assert (head["count"], len(arrays["x"]), len(arrays["ids"])) == (0, 0, 0)
