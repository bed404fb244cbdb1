"""Classifiers by the API: what odd requests are answered, and what filters say of one that does not answer."""

from __future__ import annotations

import uuid

from tenants.learning.models import ClassifierVersion
from tenants.retrieval.computed_fields import set_field
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party
from tests.tenants.learning.test_classifiers import damaged, promote, texts, train

__all__ = ["damaged", "texts"]


def test_odd_requests_are_told_what_is_wrong(party: Party, texts) -> None:
    api = Api(party.token)
    for body in (
        {"name": "two words"},
        {"name": 5},
        {"name": "x", "labels": []},
        {"name": "x", "words": "y" * 201},
        {"name": "x", "decisions": {}},
        {"name": "x", "decisions": {"rule": "", "label": ""}},
        {"name": "x", "decisions": {"rule": 5}},
        {"name": "x", "decisions": {"rule": "y" * 101}},
        {"name": "x", "decisions": {"policy": "y"}},
    ):
        refused(api.post("/classifiers", body), 422, "invalid")
    made = api.post("/classifiers", {"name": "damaged", "metadata": {"key": "broken", "value": False}}).json()
    assert (made["state"], made["metadata"]) == ("draft", {"key": "broken", "value": False})
    refused(api.post("/classifiers", {"name": "Damaged"}), 409, "conflict")
    at, one = f"/classifiers/{made['id']}", str(texts[0].id)
    for examples in (
        [],
        [{"asset": one}],
        [{"asset": one, "label": "yes"}],
        [{"asset": one, "label": True}] * 2,
        [{"asset": str(uuid.uuid4()), "label": True}] * 10_000,
    ):
        refused(api.post(f"{at}/examples", {"examples": examples}), 422, "invalid")
    refused(
        api.post(f"{at}/examples", {"examples": [{"asset": str(uuid.uuid4()), "label": True}]}),
        404,
        "not-found",
    )
    refused(api.post(f"{at}/train", {"source": "guesses"}), 422, "invalid")
    refused(api.post(f"{at}/train", {"source": "examples"}), 409, "classifier-untrainable")
    for number in ("1", "x", "0", "99999999999"):
        refused(api.post(f"{at}/versions/{number}/promote"), 404, "not-found")
    for query in ("limit=0", "limit=x", "limit=101", "cursor=x", "size=1"):
        refused(api.get(f"{at}/suggestions?{query}"), 422, "invalid")
    refused(api.get(f"{at}/suggestions"), 409, "not-ready")


def test_one_is_made_from_decisions_that_are_not_there_yet(party: Party, texts) -> None:
    api = Api(party.token)
    made = api.post("/classifiers", {"name": "rude", "decisions": {"rule": "insults"}}).json()
    assert (made["decisions"], made["metadata"]) == ({"rule": "insults", "label": None}, None)
    at = f"/classifiers/{made['id']}"
    for body in (None, {"source": "decisions"}):
        problem = refused(api.post(f"{at}/train", body), 409, "classifier-untrainable")
        assert "Reviewers have decided nothing yet" in problem["detail"]
    refused(api.post(f"{at}/train", {"source": "words"}), 422, "invalid")
    assert api.post("/classifiers", {"name": "plain"}).json()["decisions"] is None


def test_the_same_content_labelled_both_ways_is_named(party: Party, texts) -> None:
    api = Api(party.token)
    at = f"/classifiers/{api.post('/classifiers', {'name': 'damaged'}).json()['id']}"
    dataset = str(texts[0].dataset_id)
    again = api.form(f"/datasets/{dataset}/assets", {"text": "text 0"}).json()["asset"]["id"]
    labels = [{"asset": str(asset.id), "label": n < 3} for n, asset in enumerate(texts[:6])]
    api.post(f"{at}/examples", {"examples": [*labels, {"asset": again, "label": False}]})
    problem = refused(api.post(f"{at}/train"), 409, "classifier-untrainable")
    assert set(problem["assets"]) == {again, str(texts[0].id)}
    listed = api.get(f"{at}/examples?limit=2").json()
    assert (len(listed["results"]), listed["next"] is None) == (2, False)


def test_a_filter_by_what_does_not_answer_is_refused(party: Party, texts) -> None:
    api = Api(party.token)
    asked = {"text": "text", "filter": {"classifier.damaged.probability": {"gte": 0.5}}}
    refused(api.post("/search", asked), 422, "invalid")
    with tenant_scope(party.id):
        set_field(key="classifier.damaged.probability", facet_key="\x1fx", model="other:1")
        assert not ClassifierVersion.objects.exists()
    refused(api.post("/search", asked), 409, "classifier-stale")


def test_an_asset_is_shown_with_what_classifiers_say(party: Party, texts, damaged) -> None:
    api, at = Api(party.token), f"/assets/{texts[0].id}"
    assert "classifiers" not in api.get(at).json()
    train(party, damaged)
    promote(party, damaged, 1)
    [said] = api.get(at).json()["classifiers"]
    assert said.pop("probability") > 0.8
    assert said == {
        "classifier": str(damaged.id),
        "name": "damaged",
        "version": 1,
        "state": "examined",
        "tier": "estimated, not calibrated",
    }
    # Of lists it would be another question for each.
    listed = api.get(f"/datasets/{texts[0].dataset_id}/assets?limit=1").json()["results"]
    assert ["classifiers" in one for one in listed] == [False]
    new = api.post(f"/datasets/{texts[0].dataset_id}/assets", {"text": "new"}).json()["asset"]["id"]
    [said] = api.get(f"/assets/{new}").json()["classifiers"]
    assert (said["state"], said["probability"]) == ("not_examined", None)
