"""Labelling in place: right or wrong for the words of a search, captions, agreement, and what becomes of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tenants.datasets.models import Asset
from tenants.jobs.models import Job
from tenants.learning import result_labels, selectors
from tenants.learning.models import GoldenQuery, ResultLabel
from tenants.learning.result_labels import key_of
from tenants.retrieval import model_routing
from tenants.retrieval.models import Feedback, RelevanceCorrection
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.auditing import audited, flag_of
from tests.console.test_models import post, read
from tests.console.test_pages import EVIL
from tests.console.test_tasks import HX, shown  # noqa: F401
from tests.tenants.learning.test_relevance_calibration import agree as agree_many
from tests.tenants.learning.world import add_pairs, new_dataset
from tests.tenants.reviewing import make_world


@pytest.fixture
def assets(party: Party) -> list[Asset]:
    with tenant_scope(party.id):
        return add_pairs(new_dataset(), 3)


def say(client: Client, asset: Asset, verdict: str, text: str = "a red kettle") -> Any:
    return client.post("/models/labels/label", {"asset": str(asset.id), "text": text, "verdict": verdict})


def stored(party: Party) -> list[tuple[str, uuid.UUID, bool]]:
    with tenant_scope(party.id):
        rows = ResultLabel.objects.order_by("created_at", "id")
        return list(rows.values_list("text", "asset_id", "right"))


# --- On a result -----------------------------------------------------------------------------------------


def test_a_judgement_labels_the_result_for_its_words(
    party: Party,
    shown: dict[str, str],  # noqa: F811
    owner: Client,
    person: Callable[..., Client],
) -> None:
    sent = {**shown, "kind": "relevant", "words": "x", "labelled": " a red  kettle"}
    part = owner.post("/search/feedback", sent, headers=HX).content.decode()
    assert "One opinion of two" in part and 'value="relevant" aria-pressed="true"' in part
    assert stored(party) == [("a red  kettle", uuid.UUID(shown["asset"]), True)]
    viewer = person("viewer")
    part = viewer.post("/search/feedback", {**sent, "kind": "irrelevant"}, headers=HX).content.decode()
    assert "Others disagree" in part
    # Words without case and space are the same query; who changes their mind has one label.
    turned = {**sent, "labelled": "A RED KETTLE"}
    assert "Agreed: relevant" in viewer.post("/search/feedback", turned, headers=HX).content.decode()
    assert [right for _text, _asset, right in stored(party)] == [True, True]
    with tenant_scope(party.id):
        assert Feedback.objects.filter(kind="relevant").count() == 1


def test_clicks_and_searches_without_words_label_nothing(
    party: Party,
    shown: dict[str, str],  # noqa: F811
    owner: Client,
) -> None:
    owner.post("/search/feedback", {**shown, "kind": "click", "labelled": "a kettle"}, headers=HX)
    owner.post("/search/feedback", {**shown, "kind": "relevant", "labelled": ""}, headers=HX)
    assert stored(party) == []
    for odd in ("x\x00", "x" * 1001):
        sent = {**shown, "kind": "irrelevant", "labelled": odd}
        assert owner.post("/search/feedback", sent, headers=HX).status_code == 422
    assert stored(party) == []
    with tenant_scope(party.id):
        assert set(Feedback.objects.values_list("kind", flat=True)) == {"click", "relevant"}


# --- Agreement -------------------------------------------------------------------------------------------


def test_two_who_say_the_same_agree_and_a_third_settles(
    party: Party, assets: list[Asset], owner: Client, person: Callable[..., Client]
) -> None:
    one, other = person("editor"), person("viewer")
    first, second = assets[:2]
    assert "Nothing to show yet" in read(owner, "/models/labels")
    say(one, first, "right")
    page = read(owner, "/models/labels")
    assert "Waiting for a second opinion" in page and "1 relevant, 0 not" not in page
    # Not by whom it was said first.
    assert "Waiting for a second opinion" not in read(one, "/models/labels")
    say(other, first, "wrong")
    page = read(owner, "/models/labels")
    assert "Disagreements" in page and "1 relevant, 1 not" in page
    say(owner, first, "right")
    say(one, second, "wrong"), say(other, second, "wrong")
    page = read(owner, "/models/labels")
    assert "Disagreements" not in page and page.count("Make a golden query</button>") == 1
    with tenant_scope(party.id):
        [query] = result_labels.agreed_queries()
    assert (query.text, query.right, query.wrong) == ("a red kettle", [first.id], [second.id])
    say(owner, first, "none")
    assert "Disagreements" in read(owner, "/models/labels")
    say(other, first, "none"), say(one, first, "none")
    assert "Make a golden query</button>" not in read(owner, "/models/labels")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"asset": "zzz"}, 404),
        ({"asset": "\x00"}, 404),
        ({"asset": str(uuid.uuid4())}, 404),
        ({"verdict": ""}, 404),
        ({"verdict": "agreed"}, 404),
        ({"text": ""}, 422),
        ({"text": " \t"}, 422),
        ({"text": "x\x00"}, 422),
        ({"text": "x" * 1001}, 422),
    ],
)
def test_an_odd_label_is_refused(
    fields: dict[str, str], status: int, party: Party, assets: list[Asset], owner: Client
) -> None:
    sent = {"asset": str(assets[0].id), "text": "kettle", "verdict": "right", **fields}
    assert owner.post("/models/labels/label", sent).status_code == status
    assert stored(party) == []


def test_assets_of_others_are_not_labelled(
    party: Party, stranger: Party, assets: list[Asset], owner: Client
) -> None:
    with tenant_scope(stranger.id):
        [theirs] = add_pairs(new_dataset(), 1)
    assert say(owner, theirs, "right").status_code == 404
    assert stored(party) == stored(stranger) == []


def test_there_is_an_end_to_labels(
    party: Party, assets: list[Asset], owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_labels, "MAX_LABELS", 1)
    say(owner, assets[0], "right"), say(owner, assets[1], "right")
    assert "There are 1 labels already" in read(owner, "/models/labels")
    # What somebody said can still be turned.
    say(owner, assets[0], "wrong")
    assert stored(party) == [("a red kettle", assets[0].id, False)]


# --- What becomes of it ----------------------------------------------------------------------------------


def agree(assets: list[Asset], *people: Client, text: str = "a red kettle") -> dict[str, str]:
    for client in people:
        for asset in assets:
            say(client, asset, "right", text)
    return {"key": key_of(text)}


def test_a_query_that_is_agreed_becomes_a_golden_query_and_teaches_no_more(
    party: Party, assets: list[Asset], owner: Client, person: Callable[..., Client]
) -> None:
    named = agree(assets[:2], owner, person("viewer"))
    owner.post("/models/labels/golden", named)
    with tenant_scope(party.id):
        row = GoldenQuery.objects.get()
        found = selectors.answers_of([row.id])[row.id]
    assert (row.text, set(found)) == ("a red kettle", {assets[0].id, assets[1].id})
    page = read(owner, "/models/labels")
    assert ">evaluates models<" in page and "Make training pairs</button>" not in page
    owner.post("/models/labels/golden", named), owner.post("/models/labels/teach", named)
    page = read(owner, "/models/labels")
    assert "It is a golden query already." in page and "would be evaluated on what it was trained on" in page
    with tenant_scope(party.id):
        assert GoldenQuery.objects.count() == 1
        assert "a red kettle" not in Asset.objects.get(pk=assets[0].id).captions


def test_a_query_that_is_agreed_becomes_captions_and_judges_no_more(
    party: Party, assets: list[Asset], owner: Client, person: Callable[..., Client]
) -> None:
    named = agree(assets[:2], owner, person("viewer"))
    owner.post("/models/labels/teach", named)
    page = read(owner, "/models/labels")
    assert "2 training pairs were added." in page and ">trains models<" in page
    with tenant_scope(party.id):
        captions = [Asset.objects.get(pk=one.id).captions for one in assets]
    assert [found[-1] for found in captions[:2]] == ["a red kettle"] * 2
    assert len(captions[0]) == 2 and "a red kettle" not in captions[2]
    # Once is enough, and it is not judged by.
    owner.post("/models/labels/teach", named), owner.post("/models/labels/golden", named)
    assert "would be evaluated on what it was trained on" in read(owner, "/models/labels")
    with tenant_scope(party.id):
        assert [Asset.objects.get(pk=one.id).captions for one in assets] == captions
        assert not GoldenQuery.objects.exists()


@pytest.mark.parametrize("name", ["golden", "teach", "forget"])
@pytest.mark.parametrize("key", ["", "zzz", "\x00", "a" * 64, "9" * 5000])
def test_what_is_not_agreed_becomes_nothing(
    name: str, key: str, party: Party, assets: list[Asset], owner: Client
) -> None:
    say(owner, assets[0], "right")
    assert owner.post(f"/models/labels/{name}", {"key": key}).status_code == 404
    if name != "forget":
        assert owner.post(f"/models/labels/{name}", {"key": key_of("a red kettle")}).status_code == 404
    assert len(stored(party)) == 1
    with tenant_scope(party.id):
        assert not GoldenQuery.objects.exists()


def test_labels_of_a_query_are_deleted_at_once(party: Party, assets: list[Asset], owner: Client) -> None:
    say(owner, assets[0], "right"), say(owner, assets[1], "right", "tea")
    owner.post("/models/labels/forget", {"key": key_of("a red kettle")})
    assert [text for text, _asset, _right in stored(party)] == ["tea"]


def test_hostile_words_are_shown_as_words(
    party: Party, assets: list[Asset], owner: Client, person: Callable[..., Client]
) -> None:
    agree(assets[:1], owner, person("viewer"), text=EVIL)
    assert ">evaluates models<" not in read(owner, "/models/labels")
    for odd in ("-1", "zzz", "9" * 400, "%00", "%C2%B2"):
        read(owner, f"/models/labels?page={odd}")


# --- Captions --------------------------------------------------------------------------------------------


def test_a_caption_is_written_where_the_asset_is_shown(
    party: Party, assets: list[Asset], owner: Client, person: Callable[..., Client]
) -> None:
    address = f"/assets/{assets[0].id}/caption"
    part = owner.post(address, {"caption": EVIL}, headers=HX).content.decode()
    assert "Saved" in part and " open>" in part and EVIL not in part
    back = owner.post(address, {"caption": "A blue pot"}, headers={"referer": "http://testserver/search?q=a"})
    assert back["Location"] == "http://testserver/search?q=a"
    away = owner.post(address, {"caption": "A blue pot"}, headers={"referer": "https://evil.example/"})
    assert away["Location"] == f"/assets/{assets[0].id}"
    for odd in ("x\x00", "x" * 100_000):
        assert owner.post(address, {"caption": odd}, headers=HX).status_code == 422
    assert person("viewer").post(address, {"caption": "no"}).status_code == 403
    with tenant_scope(party.id):
        assert Asset.objects.get(pk=assets[0].id).caption == "A blue pot"


def test_a_review_offers_the_caption_of_a_picture_to_who_may_write(
    party: Party, assets: list[Asset], owner: Client, person: Callable[..., Client]
) -> None:
    world = make_world(party)
    words = flag_of(world, audited(world, ("rude", "naked")))
    picture = flag_of(world, audited(world, ("rude", "naked"), asset=assets[0]))
    address = f"/assets/{assets[0].id}/caption"
    assert address in read(owner, f"/reviews/{picture.id}")
    assert address not in read(person("reviewer"), f"/reviews/{picture.id}")
    assert "/caption" not in read(owner, f"/reviews/{words.id}")


def test_the_caption_of_nothing_is_not_there(owner: Client) -> None:
    post(owner, f"/assets/{uuid.uuid4()}/caption", {"caption": "x"}, 404)


# --- Relevance -------------------------------------------------------------------------------------------


def test_relevance_is_calibrated_once_enough_is_agreed(
    party: Party, owner: Client, person: Callable[..., Client]
) -> None:
    assert "0 of 60 results that have to be agreed" in read(owner, "/models/labels")
    assert "60 results have to be agreed" in _said(owner, "/models/labels/calibrate")
    with tenant_scope(party.id):
        agree_many(20, shift=0.0)
    page = read(owner, "/models/labels")
    assert "Learn from the labels" in page and "that have to be agreed" not in page
    assert "Learn from the labels" not in read(person("viewer"), "/models/labels")
    assert "Relevance is being calibrated." in _said(owner, "/models/labels/calibrate")
    with tenant_scope(party.id):
        job = Job.objects.get(kind="calibrate_relevance")
    page = read(owner, "/models/labels")
    assert f'data-job="{job.id}" data-panel="/models/labels"' in page and "Learn from the labels" not in page
    part = read(owner, "/models/labels", headers=HX)
    assert "<html" not in part and "Relevance is being calibrated." in part
    assert "wait for it" in _said(owner, "/models/labels/calibrate")
    report = {"labels": 100, "queries": 20, "log_loss": {"curves": 0.61, "corrected": 0.6}, "taken": False}
    with tenant_scope(party.id):
        Job.objects.filter(pk=job.pk).update(state="succeeded", result=report, finished_at=job.queued_at)
    assert "log loss 0.6, the model’s own 0.61" in read(owner, "/models/labels")


def test_a_correction_is_stated_and_given_up(party: Party, owner: Client) -> None:
    report = {"labels": 100, "queries": 20, "log_loss": {"curves": 0.61, "corrected": 0.52}, "taken": True}
    with tenant_scope(party.id):
        RelevanceCorrection.objects.create(
            number=1, live=True, model=model_routing.live(), steepness=1.2, shift=-1, report=report
        )
    page = read(owner, "/models/labels")
    assert "from 100 results of 20 queries" in page and "0.61 by the model alone, 0.52 corrected" in page
    assert "come from the model again" in _said(owner, "/models/labels/retire")
    assert "by the model alone" not in read(owner, "/models/labels")
    with tenant_scope(party.id):
        assert not RelevanceCorrection.objects.filter(live=True).exists()


def _said(client: Client, address: str) -> str:
    return client.post(address, follow=True).content.decode()
