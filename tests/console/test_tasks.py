"""Pages of tasks and the gate, the weights of a search, and what people think of its results."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from console.search.forms import read_query
from console.search.refinements import Refinements
from tenants.errors import NotFound
from tenants.jobs.models import Job
from tenants.retrieval.models import Feedback, SearchTask
from tenants.retrieval.query import feedback, fusion_weights
from tenants.retrieval.query.fusion_weights import Traced
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.test_models import post, read
from tests.console.test_pages import EVIL
from tests.tenants.learning.world import add_pairs, new_dataset

GOOD = {
    "slug": "furniture",
    "description": "Chairs",
    "weight-text": "1",
    "weight-image": "3",
    "dynamic": "on",
}
HX = {"hx-request": "true"}


def own(party: Party) -> list[SearchTask]:
    with tenant_scope(party.id):
        return list(fusion_weights.list_tasks())


# --- Tasks -----------------------------------------------------------------------------------------------


def test_the_built_in_tasks_are_shown_with_weights_and_rules(
    owner: Client, person: Callable[..., Client]
) -> None:
    page = read(owner, "/tasks")
    for words in ("medical", "“nodule”", "No tasks of your own yet", "built in", "<strong>0</strong> of 50"):
        assert words in page
    assert 'href="/models" aria-current="page"' in page
    viewer = read(person("viewer"), "/tasks")
    assert "medical" in viewer and "/tasks/new" not in viewer


def test_a_task_is_made_changed_and_deleted(party: Party, owner: Client) -> None:
    rule = {"rule-1-when": "nodule, lesion", "rule-1-image": "0.8", "rule-1-text": "0.2"}
    assert owner.post("/tasks/new", {**GOOD, **rule})["Location"] == "/tasks"
    [row] = own(party)
    assert (row.weights, row.dynamic) == ({"text": 1.0, "image": 3.0}, True)
    assert row.rules == [{"when": ["nodule", "lesion"], "weights": {"text": 0.2, "image": 0.8}}]
    assert "75 %" in read(owner, "/tasks")
    page = read(owner, "/tasks/furniture")
    assert 'value="nodule, lesion"' in page and 'name="weight-image" value="3"' in page
    owner.post("/tasks/furniture", {"weight-text": "1", "slug": "other"})
    [row] = own(party)
    assert (row.slug, row.weights, row.rules, row.dynamic) == ("furniture", {"text": 1.0}, [], False)
    post(owner, "/tasks/furniture/delete", {"name": "x"}, 422)
    owner.post("/tasks/furniture/delete", {"name": "furniture"})
    assert own(party) == []


def test_a_copy_begins_with_what_it_is_of(owner: Client, party: Party) -> None:
    page = read(owner, "/tasks/new?from=medical")
    assert 'name="weight-image" value="0.6"' in page and "nodule, lesion" in page
    for odd in ("zzz", "%00", EVIL):
        read(owner, f"/tasks/new?from={odd}")


def test_what_the_form_does_not_show_is_kept(party: Party, owner: Client) -> None:
    with tenant_scope(party.id):
        fusion_weights.create_task(slug="own", weights={"text": 1, "vector": 0.5})
    owner.post("/tasks/own", {"weight-text": "2"})
    assert own(party)[0].weights == {"text": 2.0, "vector": 0.5}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"slug": ""}, "required"),
        ({"slug": "Furniture"}, "A slug has up to"),
        ({"slug": EVIL[:40]}, "A slug has up to"),
        ({"slug": "x\x00"}, "Null characters"),
        ({"slug": "medical"}, "is built in"),
        ({"weight-text": "-1"}, "from 0 to 1000"),
        ({"weight-text": "nan"}, "from 0 to 1000"),
        ({"weight-text": "1e9"}, "from 0 to 1000"),
        ({"weight-text": "much"}, "from 0 to 1000"),
        ({"weight-text": "0", "weight-image": "0"}, "above 0"),
        ({"weight-text": "", "weight-image": ""}, "above 0"),
        ({"description": "x" * 1001}, "at most 1000"),
        ({"rule-0-when": "nodule"}, "above 0"),
        ({"rule-0-image": "1"}, "Name the words"),
        ({"rule-0-when": "x" * 61, "rule-0-image": "1"}, "of 60 characters"),
        ({"rule-0-when": "x\x00", "rule-0-image": "1"}, "of 60 characters"),
        ({"rule-7-when": "a", "rule-7-image": "-1"}, "from 0 to 1000"),
    ],
)
def test_an_odd_task_is_told_at_its_field(
    fields: dict[str, str], said: str, party: Party, owner: Client
) -> None:
    page = post(owner, "/tasks/new", {**GOOD, **fields}, 422)
    assert said in page.partition('class="field-error"')[2]
    assert own(party) == []


def test_a_name_is_taken_once_and_others_are_absent(party: Party, stranger: Party, owner: Client) -> None:
    owner.post("/tasks/new", GOOD)
    assert "There is a task" in post(owner, "/tasks/new", GOOD, 422)
    with tenant_scope(stranger.id):
        fusion_weights.create_task(slug="theirs", weights={"text": 1})
    for address in ("/tasks/theirs", "/tasks/medical", "/tasks/zzz"):
        read(owner, address, 404)


# --- The gate --------------------------------------------------------------------------------------------


def test_the_gate_says_what_it_lacks_how_far_it_is_and_how_it_did(
    party: Party, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Train your own" not in read(owner, "/tasks")
    assert "are needed" in owner.post("/gate/train", follow=True).content.decode()
    monkeypatch.setattr(feedback, "usable", lambda: 60)
    assert "Train your own" in read(owner, "/tasks")
    owner.post("/gate/train")
    with tenant_scope(party.id):
        job = Job.objects.get(kind="train_gate")
    assert f'data-job="{job.id}"' in read(owner, "/tasks")
    assert "being trained" in owner.post("/gate/train", follow=True).content.decode()
    figures = {"own": 0.4, "built_in": 0.5, "fixed": 0.3}
    report = {"searches": 60, "judged_on": 20, "mean_reciprocal_rank": figures, "taken": False}
    with tenant_scope(party.id):
        Job.objects.filter(pk=job.pk).update(state="succeeded", result=report, finished_at=job.queued_at)
    part = read(owner, "/tasks", headers=HX)
    assert "it was not adopted" in part and "0.400" in part and "<html" not in part


def test_a_gate_of_its_own_is_shown_and_given_up(party: Party, owner: Client) -> None:
    from tenants.retrieval.models import SearchGate

    figures = {"own": 0.61, "built_in": 0.5, "fixed": 0.3}
    report = {"searches": 60, "judged_on": 20, "mean_reciprocal_rank": figures, "taken": True}
    with tenant_scope(party.id):
        SearchGate.objects.create(number=1, live=True, content=b"x", report=report)
    page = read(owner, "/tasks")
    assert "your own, number 1" in page and "0.610" in page
    owner.post("/gate/retire")
    with tenant_scope(party.id):
        assert feedback.fusion_as_dict()["source"] == "built-in"


# --- Searching -------------------------------------------------------------------------------------------


def test_the_task_of_the_form_weighs_unless_the_slider_was_moved(party: Party, owner: Client) -> None:
    from django.http import QueryDict
    from django.utils.datastructures import MultiValueDict

    def asked(form: str) -> Any:
        return read_query(QueryDict(form), MultiValueDict(), {}, Refinements())

    picture = f"text=tea&image_asset={uuid.uuid4()}"
    assert asked(picture).task == "general"
    moved = "weigh=on&weight_text=70&weight_image=30"
    assert (asked(f"{picture}&task=own").task, asked(f"{picture}&task=own").weights) == ("own", {})
    assert asked(f"{picture}&{moved}").weights == {"text": 0.7, "image": 0.3}
    assert asked(f"{picture}&{moved}&proposed=on").weights == {}


def test_the_search_page_offers_own_tasks_and_keeps_the_choice(party: Party, owner: Client) -> None:
    owner.post("/tasks/new", GOOD)
    page = read(owner, "/search")
    assert '<option value="furniture">' in page
    chosen = read(owner, "/search?task=furniture")
    assert '<option value="furniture" selected>' in chosen
    sent = owner.post("/search/results", {"text": "tea", "task": "furniture"})
    assert sent["Location"] == "/search?q=tea&task=furniture&group=off"
    for odd in ("zzz", "%00"):
        assert "Unknown task" in read(owner, f"/search?q=tea&task={odd}", 422)


# --- Feedback --------------------------------------------------------------------------------------------


@pytest.fixture
def shown(party: Party, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Assets that a search has shown, and its id."""
    with tenant_scope(party.id):
        assets = add_pairs(new_dataset(), 2)
    search_id = uuid.uuid4()

    def trace_of(tenant_id: uuid.UUID, asked: uuid.UUID) -> Traced:
        if (tenant_id, asked) != (party.id, search_id):
            raise NotFound("No such search was made in the last 24 hours.")
        return Traced("general", "prior:1", [asset.id for asset in assets])

    monkeypatch.setattr(feedback, "trace_of", trace_of)
    return {"search": str(search_id), "asset": str(assets[1].id)}


def test_a_judgement_is_kept_and_can_be_turned(party: Party, shown: dict[str, str], owner: Client) -> None:
    def judged() -> list[tuple[str, int]]:
        with tenant_scope(party.id):
            return list(Feedback.objects.order_by("kind").values_list("kind", "rank"))

    answer = owner.post("/search/feedback", {**shown, "kind": "relevant", "words": EVIL}, headers=HX)
    part = answer.content.decode()
    assert 'value="relevant" aria-pressed="true"' in part and EVIL not in part
    assert judged() == [("relevant", 2)]
    owner.post("/search/feedback", {**shown, "kind": "irrelevant"}, headers=HX)
    assert judged() == [("irrelevant", 2)]
    assert owner.post("/search/feedback", {**shown, "kind": "click"}).status_code == 204
    assert judged() == [("click", 2), ("irrelevant", 2)]
    plain = owner.post(
        "/search/feedback", {**shown, "kind": "relevant"}, headers={"referer": "http://testserver/search?q=a"}
    )
    assert plain["Location"] == "http://testserver/search?q=a"
    away = owner.post(
        "/search/feedback", {**shown, "kind": "relevant"}, headers={"referer": "https://evil.example/"}
    )
    assert away["Location"] == "/search"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"kind": "zzz"}, 422),
        ({"kind": ""}, 422),
        ({"search": ""}, 404),
        ({"search": "zzz"}, 404),
        ({"search": str(uuid.uuid4())}, 404),
        ({"asset": "\x00"}, 404),
        ({"asset": str(uuid.uuid4())}, 404),
    ],
)
def test_odd_feedback_is_refused(
    fields: dict[str, str], status: int, party: Party, shown: dict[str, str], owner: Client
) -> None:
    response = owner.post("/search/feedback", {**shown, "kind": "relevant", **fields}, headers=HX)
    assert response.status_code == status
    assert response["HX-Retarget"] == "#problem"
    with tenant_scope(party.id):
        assert not Feedback.objects.exists()
