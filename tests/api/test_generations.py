"""`/generations` over HTTP: shapes, problems, idempotency, tenants apart."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from tenants.accounts import keys
from tenants.datasets.models import Asset
from tenants.events.models import AuditEvent
from tenants.generation import previews
from tenants.generation.models import Generation, GenerationOutput
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused


def made(api: Api, **body: Any) -> dict[str, Any]:
    answer = api.post("/generations", {"prompt": "a red cat", **body})
    assert answer.status_code == 202, answer.content
    return answer.json()


def test_a_request_answers_with_its_job(api) -> None:
    answer = api.post("/generations", {"prompt": "a red cat", "outputs": ["image", "audio"], "seed": 7})
    assert answer.status_code == 202
    body = answer.json()
    row = body["generation"]
    assert answer["Location"] == f"/api/v1/jobs/{body['job']['id']}"
    assert (body["job"]["kind"], body["job"]["state"]) == ("generate", "queued")
    assert (row["state"], row["prompt"], row["outputs"]) == ("queued", "a red cat", ["image", "audio"])
    assert (row["seed"], row["steps"], row["guidance"], row["results"]) == (7, 25, 3.0, [])
    assert api.get(f"/generations/{row['id']}").json() == row
    assert api.get("/generations").json() == {"results": [row], "next": None}
    assert api.get("/me").json()["quotas"]["generations"] == {"used": 0, "reserved": 1, "limit": 100_000}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/prompt"),
        ({"prompt": ""}, "/prompt"),
        ({"prompt": "x" * 2001}, "/prompt"),
        ({"prompt": "a\u0000b"}, "/prompt"),
        ({"prompt": 7}, "/prompt"),
        ({"prompt": "x", "outputs": []}, "/outputs"),
        ({"prompt": "x", "outputs": ["smell"]}, "/outputs/0"),
        ({"prompt": "x", "outputs": "image"}, "/outputs"),
        ({"prompt": "x", "width": 4096}, "/width"),
        ({"prompt": "x", "height": 257}, "/height"),
        ({"prompt": "x", "steps": 10_000}, "/steps"),
        ({"prompt": "x", "steps": 2.5}, "/steps"),
        ({"prompt": "x", "seconds": 3600}, "/seconds"),
        ({"prompt": "x", "guidance": -1}, "/guidance"),
        ({"prompt": "x", "seed": -1}, "/seed"),
        ({"prompt": "x", "watermark": False}, "/watermark"),
    ],
)
def test_what_cannot_be_made_is_pointed_at(api, party, body, pointer) -> None:
    problem = refused(api.post("/generations", body), 422, "invalid")
    assert pointer in [one["pointer"] for one in problem["errors"]]
    with tenant_scope(party.id):
        assert not Generation.objects.exists()


def test_a_kind_that_is_off_is_a_problem_that_says_what_to_set(api, settings) -> None:
    settings.GENERATORS = {"image": "small-picture", "video": "", "audio": "rules-music"}
    problem = refused(api.post("/generations", {"prompt": "x", "outputs": ["video"]}), 409, "not-ready")
    assert "GENERATOR_VIDEO" in problem["detail"]


def test_words_of_which_nothing_is_known_are_a_problem_of_their_own(api) -> None:
    problem = refused(api.post("/generations", {"prompt": "happiness"}), 422, "nothing-known")
    assert problem["errors"][0]["pointer"] == "/prompt" and "red apple" in problem["detail"]
    refused(api.post("/generations", {"prompt": "happiness", "anyway": "yes"}), 422, "invalid")
    made = api.post("/generations", {"prompt": "happiness", "anyway": True})
    assert made.status_code == 202
    again = api.post("/generations", {"variation_of": made.json()["generation"]["id"]})
    assert again.status_code == 202


def test_the_same_key_and_body_replay(api) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = api.call("POST", "/generations", {"prompt": "a cat"}, key)
    again = api.call("POST", "/generations", {"prompt": "a cat"}, key)
    assert first.json()["generation"]["id"] == again.json()["generation"]["id"]
    assert api.call("POST", "/generations", {"prompt": "a dog"}, key).status_code == 422
    assert len(api.get("/generations").json()["results"]) == 1


def test_variations_and_filters(api) -> None:
    first = made(api, steps=5)["generation"]
    other = api.post("/generations", {"variation_of": first["id"]}).json()["generation"]
    assert (other["variation_of"], other["prompt"], other["steps"]) == (first["id"], "a red cat", 5)
    assert other["seed"] != first["seed"]
    named = api.post("/generations", {"variation_of": first["id"], "seed": 3, "prompt": "a dog"}).json()
    assert (named["generation"]["seed"], named["generation"]["prompt"]) == (3, "a dog")
    found = api.get(f"/generations?variation_of={first['id']}&limit=1").json()
    assert [row["id"] for row in found["results"]] == [named["generation"]["id"]]
    assert found["next"] is not None
    assert api.post(f"/generations/{other['id']}/cancel").status_code == 200
    stopped = api.get("/generations?state=cancelled").json()["results"]
    assert [row["id"] for row in stopped] == [other["id"]]
    refused(api.get("/generations?state=maybe"), 422, "invalid")
    refused(api.get("/generations?variation_of=x"), 422, "invalid")
    refused(api.get("/generations?colour=red"), 422, "invalid")
    assert api.post(f"/generations/{other['id']}/retry").json()["generation"]["state"] == "queued"
    refused(api.post(f"/generations/{other['id']}/retry"), 409, "conflict")


def test_a_remix_of_an_asset(api, party) -> None:
    row = made(api)["generation"]
    with tenant_scope(party.id):
        asset = add_asset(dataset_id=uuid.UUID(row["dataset"]), text="a boat").asset
    remix = api.post("/generations", {"remix_of": str(asset.id)}).json()["generation"]
    assert (remix["remix_of"], remix["prompt"]) == (str(asset.id), "a boat")
    both = {"remix_of": str(asset.id), "variation_of": row["id"]}
    refused(api.post("/generations", both), 422, "invalid")


def test_previews_are_pictures_while_there_is_one(api, party) -> None:
    row = made(api)["generation"]
    assert api.get(f"/generations/{row['id']}/preview").status_code == 204
    previews.keep(party.id, uuid.UUID(row["id"]), b"\x89PNG")
    answer = api.get(f"/generations/{row['id']}/preview")
    assert (answer.status_code, answer["Content-Type"], answer.content) == (200, "image/png", b"\x89PNG")
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_results_say_what_was_made_and_how_it_is_marked(api, party) -> None:
    row = made(api)["generation"]
    with tenant_scope(party.id):
        asset = add_asset(dataset_id=uuid.UUID(row["dataset"]), text="x").asset
        GenerationOutput.objects.create(
            generation_id=uuid.UUID(row["id"]),
            kind="image",
            asset=asset,
            score=0.25,
            scores=[0.1, 0.25],
            how="model",
            model="small-picture 1",
            provenance={"c2pa": {"state": "trusted"}},
        )
    [result] = api.get(f"/generations/{row['id']}").json()["results"]
    assert result == {
        "kind": "image",
        "asset": str(asset.id),
        "score": 0.25,
        "scores": [0.1, 0.25],
        "how": "model",
        "model": "small-picture 1",
        "provenance": {"c2pa": {"state": "trusted"}},
        "audit": None,
        "decision": None,
        "moderation": None,
    }


def test_ids_of_others_are_absent_also_inside_bodies(api, stranger) -> None:
    theirs = made(Api(stranger.token))["generation"]
    with tenant_scope(stranger.id):
        asset = add_asset(dataset_id=uuid.UUID(theirs["dataset"]), text="theirs").asset
    previews.keep(stranger.id, uuid.UUID(theirs["id"]), b"\x89PNG")
    for body in (
        {"prompt": "x", "dataset": theirs["dataset"]},
        {"prompt": "x", "variation_of": theirs["id"]},
        {"prompt": "x", "remix_of": str(asset.id)},
        {"prompt": "x", "dataset": "none"},
    ):
        refused(api.post("/generations", body), 404, "not-found")
    refused(api.get(f"/generations/{theirs['id']}/preview"), 404, "not-found")
    assert api.get(f"/generations?variation_of={theirs['id']}").json()["results"] == []


def test_deleting(api, party) -> None:
    body = made(api)
    path = f"/generations/{body['generation']['id']}"
    assert api.call("DELETE", path).status_code == 204
    refused(api.get(path), 404, "not-found")
    with tenant_scope(party.id):
        assert Job.objects.get(pk=body["job"]["id"]).state == "cancelled"


def with_assets(party: Any, row: dict[str, Any], *texts: str) -> list[Asset]:
    """As if the job had made them."""
    kinds = ("image", "audio", "video")
    with tenant_scope(party.id):
        generation = Generation.objects.get(pk=row["id"])
        assets = [add_asset(dataset_id=generation.dataset_id, text=text).asset for text in texts]
        Asset.objects.filter(pk__in=[asset.id for asset in assets]).update(generation_id=generation.id)
        for kind, asset in zip(kinds, assets, strict=False):
            GenerationOutput.objects.create(
                generation=generation, kind=kind, asset=asset, how="model", model="m"
            )
    return assets


def ids_of(party: Any) -> tuple[set[uuid.UUID], set[uuid.UUID]]:
    with tenant_scope(party.id):
        generations = Generation.objects.values_list("pk", flat=True)
        return set(generations), set(Asset.objects.values_list("pk", flat=True))


def test_deleting_keeps_what_was_made_unless_it_is_said(api, party) -> None:
    kept, gone, still = (made(api)["generation"] for _ in range(3))
    [stays], went, [other] = (
        with_assets(party, kept, "kept"),
        with_assets(party, gone, "a", "b"),
        with_assets(party, still, "still"),
    )
    answer = api.call("DELETE", f"/generations/{kept['id']}?assets=false")
    assert (answer.status_code, "Link" in answer) == (204, False)
    answer = api.call("DELETE", f"/generations/{gone['id']}?assets=true")
    assert (answer.status_code, answer.content) == (204, b"")
    assert ids_of(party) == ({uuid.UUID(still["id"])}, {stays.id, other.id})
    links = re.findall(r'</api/v1(/erasures/[^>]+)>; rel="describedby"', answer["Link"])
    receipts = [api.get(path).json() for path in links]
    assert {receipt["target"] for receipt in receipts} == {str(asset.id) for asset in went}
    assert {receipt["kind"] for receipt in receipts} == {"asset"}
    for asset in went:
        refused(api.get(f"/assets/{asset.id}"), 404, "not-found")
    refused(api.call("DELETE", f"/generations/{gone['id']}?assets=true"), 404, "not-found")


def test_deleting_with_assets_where_there_are_none_is_deleting(api, party) -> None:
    body = made(api)
    answer = api.call("DELETE", f"/generations/{body['generation']['id']}?assets=true")
    assert (answer.status_code, "Link" in answer) == (204, False)
    with tenant_scope(party.id):
        assert not Generation.objects.exists()
        assert Job.objects.get(pk=body["job"]["id"]).state == "cancelled"


def test_deleting_assets_needs_the_scope_for_that_too(api, party) -> None:
    row = made(api)["generation"]
    with_assets(party, row, "mine")
    before = ids_of(party)
    for scopes, lacks in ((["generate"], "write"), (["write"], "generate"), (["read"], "generate")):
        with tenant_scope(party.id):
            _, token = keys.create_key(name="narrow", scopes=scopes)
        path = f"/generations/{row['id']}?assets=true"
        assert refused(Api(token).call("DELETE", path), 403, "missing-scope")["scope"] == lacks
    assert ids_of(party) == before


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("assets=yes", "/assets"),
        ("assets=", "/assets"),
        ("assets=TRUE", "/assets"),
        ("assets=true%00", "/assets"),
        ("asset=true", "/asset"),
        ("assets=true&force=1", "/force"),
    ],
)
def test_an_unclear_deletion_deletes_nothing(api, party, query, pointer) -> None:
    row = made(api)["generation"]
    with_assets(party, row, "mine")
    before = ids_of(party)
    problem = refused(api.call("DELETE", f"/generations/{row['id']}?{query}"), 422, "invalid")
    assert [one["pointer"] for one in problem["errors"]] == [pointer]
    assert ids_of(party) == before


def test_nobody_deletes_what_another_tenant_made(api, party, stranger) -> None:
    row = made(Api(stranger.token))["generation"]
    with_assets(stranger, row, "theirs")
    before = ids_of(stranger)
    refused(api.call("DELETE", f"/generations/{row['id']}?assets=true"), 404, "not-found")
    assert ids_of(stranger) == before


# --- What people see and hear ----------------------------------------------------------------------------


def test_a_workspace_chooses_what_people_see_and_hear(api, party, settings) -> None:
    settings.GENERATION_ICON, settings.GENERATION_NOTICE = "on", "off"
    untouched = {
        "icon": {"installation": "on", "chosen": None, "in_force": True},
        "notice": {"installation": "off", "chosen": None, "in_force": False},
    }
    assert api.get("/generations/disclosure").json() == untouched
    answer = api.call("PATCH", "/generations/disclosure", {"icon": False, "notice": True})
    chosen = {
        "icon": {"installation": "on", "chosen": False, "in_force": False},
        "notice": {"installation": "off", "chosen": True, "in_force": True},
    }
    assert (answer.status_code, answer.json()) == (200, chosen)
    assert api.get("/generations/disclosure").json() == chosen
    assert api.call("PATCH", "/generations/disclosure", {"icon": None, "notice": None}).json() == untouched
    with tenant_scope(party.id):
        lines = AuditEvent.objects.filter(verb="generation.disclosure_changed").order_by("id")
        assert [line.details for line in lines] == [
            {"icon": [None, False], "notice": [None, True]},
            {"icon": [False, None], "notice": [True, None]},
        ]


def test_what_is_enforced_cannot_be_turned_off(api, other, settings) -> None:
    settings.GENERATION_ICON, settings.GENERATION_NOTICE = "off", "enforced"
    refused(
        api.call("PATCH", "/generations/disclosure", {"icon": True, "notice": False}),
        422,
        "invalid",
        "/notice",
    )
    kept = api.get("/generations/disclosure").json()
    assert kept["icon"] == {"installation": "off", "chosen": None, "in_force": False}
    assert kept["notice"] == {"installation": "enforced", "chosen": None, "in_force": True}
    assert api.call("PATCH", "/generations/disclosure", {"notice": True}).json()["notice"]["in_force"] is True
    for body in ({"icon": "on"}, {"notice": 1}, {"watermark": False}):
        refused(api.call("PATCH", "/generations/disclosure", body), 422, "invalid", f"/{next(iter(body))}")
    # What was turned off before it was enforced is on all the same.
    settings.GENERATION_NOTICE = "on"
    assert (
        api.call("PATCH", "/generations/disclosure", {"notice": False}).json()["notice"]["in_force"] is False
    )
    settings.GENERATION_NOTICE = "enforced"
    assert api.get("/generations/disclosure").json()["notice"]["in_force"] is True
    # Nobody else's workspace changed.
    assert other.get("/generations/disclosure").json()["notice"]["chosen"] is None
