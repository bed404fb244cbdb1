"""Narrowing what was found: facets, examples, marked words, folded duplicates; and searches as addresses."""

from __future__ import annotations

import html
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import QueryDict
from django.template.loader import render_to_string
from django.test import Client

from console.search.forms import MAX_ADDRESS, address_of, form_of
from console.search.refinements import Refinements, groups_of, label_of, read_refinements
from console.templatetags.console_tags import marked
from tenants.datasets import services
from tenants.datasets.models import Asset
from tenants.errors import Invalid, NotFound
from tenants.pipeline.assets.services import add_asset, delete_asset
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.query import encoding
from tenants.retrieval.query.lexical import Highlight
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of

HX = {"hx-request": "true"}
HOSTILE = '<script>alert(1)</script> red "apple" & <b onclick=x>more</b>'
ONE, TWO = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))

Put = Callable[..., str]


@pytest.fixture
def put(party: Party) -> Put:
    """Add a text that points in a direction, given in degrees; its id."""
    with tenant_scope(party.id):
        dataset = services.create_dataset(name="things")

    def put(degrees: float, text: str = "", **metadata: Any) -> str:
        vector = np.zeros(256, np.float32)
        vector[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        with tenant_scope(party.id):
            asset = add_asset(dataset_id=dataset.id, text=text or f"at {degrees}", values=metadata).asset
            replace_vectors(asset=asset, model=encoding.model_id(), vectors=[NewVector("text", vector)])
            Asset.objects.filter(pk=asset.id).update(status="ready")
        return str(asset.id)

    return put


def ask(client: Client, **fields: Any) -> str:
    """What the script is answered."""
    answer = client.post("/search/results", {"group": "duplicates", **fields}, headers=HX)
    page = answer.content.decode()
    assert answer.status_code == 200, page
    assert faults_of(page) == []
    return page


def tiles(page: str) -> list[str]:
    return re.findall(r'id="asset-([0-9a-f-]{36})"', page)


def chips(page: str) -> list[tuple[str, str]]:
    """Names and values of what is chosen."""
    hidden = re.findall(r'<input type="hidden" name="(like|unlike|only)" value="([^"]*)"', page)
    return [(name, html.unescape(value)) for name, value in hidden]


def offered(page: str) -> dict[str, tuple[str, bool]]:
    """What can be narrowed to: label to (count, chosen)."""
    buttons = re.findall(
        r'name="toggle"[^>]*aria-pressed="(\w+)"><span class="clip">(.*?)</span> <span class="count">([\d,]+)',
        page,
    )
    return {html.unescape(label): (count, pressed == "true") for pressed, label, count in buttons}


def only(**conditions: Any) -> str:
    return json.dumps(conditions)


# --- Facets ----------------------------------------------------------------------------------------------


@pytest.fixture
def shop(put: Put) -> dict[str, str]:
    """Assets by name, in the order in which they are found for the first one."""
    return {
        "seed": put(0, colour="grey", price=1),
        "red": put(10, colour="red", price=10),
        "crimson": put(30, colour="red", price=20),
        "blue": put(50, colour="blue", price=30, organic=True),
    }


def test_a_value_narrows_and_is_taken_away_again(owner: Client, shop: dict[str, str]) -> None:
    page = ask(owner, like=shop["seed"])
    assert tiles(page) == [shop["red"], shop["crimson"], shop["blue"]]
    assert (offered(page)["red"], offered(page)["blue"]) == (("2", False), ("1", False))
    red = only(colour={"eq": "red"})
    page = ask(owner, like=shop["seed"], toggle=red)
    assert tiles(page) == [shop["red"], shop["crimson"]]
    assert offered(page)["red"] == ("2", True)
    # What else could be chosen stays in sight, with what it would add.
    assert offered(page)["blue"] == ("1", False)
    assert chips(page) == [("like", shop["seed"]), ("only", red)]
    assert "colour: red" in page
    both = [red, only(colour={"eq": "blue"})]
    page = ask(owner, like=shop["seed"], only=both)
    assert tiles(page) == [shop["red"], shop["crimson"], shop["blue"]]
    assert (offered(page)["red"], offered(page)["blue"]) == (("2", True), ("1", True))
    # Pressed again, or its cross.
    for button in ("toggle", "drop"):
        page = ask(owner, like=shop["seed"], only=red, **{button: red})
        assert tiles(page) == [shop["red"], shop["crimson"], shop["blue"]]
        assert chips(page) == [("like", shop["seed"])]


def test_a_range_narrows(owner: Client, shop: dict[str, str]) -> None:
    page = ask(owner, like=shop["seed"], toggle=only(price={"gte": 15, "lt": 30}))
    assert tiles(page) == [shop["crimson"]]
    assert "price: 15 – 30" in page
    # Another one takes its place.
    before = only(price={"gte": 15, "lt": 30})
    page = ask(owner, like=shop["seed"], only=before, toggle=only(price={"gte": 30, "lte": 45}))
    assert tiles(page) == [shop["blue"]]
    assert ("only", before) not in chips(page)


def test_values_of_several_keys_are_joined_by_and(owner: Client, shop: dict[str, str]) -> None:
    chosen = [only(colour={"eq": "red"}), only(price={"lt": 15})]
    assert tiles(ask(owner, like=shop["seed"], only=chosen)) == [shop["red"]]
    page = ask(owner, like=shop["seed"], only=chosen, toggle=only(organic={"eq": True}))
    assert tiles(page) == []
    assert "No assets match these conditions" in page
    # What leads out of it is still there.
    assert len(chips(page)) == 4


@pytest.mark.parametrize(
    ("counts", "total", "shown"),
    [
        ({"a": 3, "b": 1}, 4, True),
        ({"a": 3}, 4, True),
        # All have it, so it tells nothing apart.
        ({"a": 4}, 4, False),
        ({}, 4, False),
        # Nearly each has its own.
        ({str(n): 1 for n in range(20)}, 100, False),
        ({str(n): 3 for n in range(20)}, 100, True),
        ({str(n): 1 for n in range(8)}, 100, True),
    ],
)
def test_keys_that_tell_nothing_apart_are_left_out(counts: dict[str, int], total: int, shown: bool) -> None:
    values = [{"value": value, "count": count} for value, count in counts.items()]
    groups = groups_of({"key": {"type": "text", "values": values}}, {"key": "Label"}, [], total)
    assert [group.label for group in groups] == (["Label"] if shown else [])


def test_counts_that_are_at_least_so_high_say_so() -> None:
    facets = {"key": {"type": "text", "values": [{"value": "a", "count": 4}], "estimated": True}}
    [group] = groups_of(facets, {}, [], 9)
    assert [choice.estimated for choice in group.choices] == [True]
    shown = render_to_string(
        "console/parts/facet_value.html", {"choice": replace(group.choices[0], count=4_321)}
    )
    assert '<span class="count">4,321+</span>' in shown


def test_what_is_chosen_is_always_shown() -> None:
    facets = {"key": {"type": "text", "values": [{"value": "a", "count": 4}]}}
    [group] = groups_of(facets, {}, [only(key={"eq": "a"})], 4)
    assert [(choice.label, choice.chosen) for choice in group.choices] == [("a", True)]


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("red", "red"),
        (True, "yes"),
        (False, "no"),
        ({"gte": 1000, "lt": 2000.5}, "1,000 – 2,000.5"),
        ({"gte": 3, "lte": 3}, "3"),
        ({"gte": "2026-01-01T00:00:00Z", "lt": "2026-02-01T12:30:00Z"}, "2026-01 – 2026-02-01 12:30:00"),
    ],
)
def test_values_in_words(value: Any, label: str) -> None:
    assert label_of(value) == label


# --- Examples --------------------------------------------------------------------------------------------


def test_more_and_less_like_this_become_chips(owner: Client, put: Put) -> None:
    left, near, far, bad = put(0), put(20), put(-35), put(60)
    page = ask(owner, more=left)
    assert tiles(page) == [near, far, bad]
    assert chips(page) == [("like", left)]
    page = ask(owner, like=left, less=bad)
    assert sorted(tiles(page)) == sorted([near, far])
    assert chips(page) == [("like", left), ("unlike", bad)]
    assert "<b>Not like</b> at 60" in page
    page = ask(owner, like=left, unlike=bad, drop=bad)
    assert tiles(page) == [near, far, bad]
    # Who changes their mind need not take it away first.
    assert chips(ask(owner, like=left, unlike=bad, more=bad)) == [("like", left), ("like", bad)]


def test_taking_the_last_example_away_leaves_the_empty_page(owner: Client, put: Put) -> None:
    page = ask(owner, like=(one := put(0)), drop=one)
    assert "Text, a picture or your voice" in page
    assert 'data-address="/search"' in page
    assert chips(page) == []


def test_an_example_that_is_gone_can_be_taken_away(owner: Client, party: Party, put: Put) -> None:
    kept, gone, other = put(0), put(10), put(20)
    with tenant_scope(party.id):
        delete_asset(asset_id=uuid.UUID(gone))
    address = f"/search?like={kept}&like={gone}"
    answer = owner.get(address)
    page = answer.content.decode()
    assert answer.status_code == 404
    assert "An example no longer exists" in page
    assert chips(page) == [("like", kept), ("like", gone)]
    assert tiles(ask(owner, like=[kept, gone], drop=gone)) == [other]


def test_examples_of_other_tenants_are_gone_too(owner: Client, stranger: Party) -> None:
    with tenant_scope(stranger.id):
        dataset = services.create_dataset(name="theirs")
        asset = add_asset(dataset_id=dataset.id, text="their secret words").asset
    for name in ("like", "unlike", "more", "less", "asset"):
        answer = owner.get("/search", {"q": "x", name: str(asset.id)})
        assert answer.status_code == 404
        assert "secret" not in answer.content.decode()


# --- Words that were found -------------------------------------------------------------------------------


def test_marks_are_the_only_markup() -> None:
    shown = marked(Highlight("caption", HOSTILE, [(26, 29), (31, 36)]))
    assert shown == html.escape(HOSTILE).replace("red", "<mark>red</mark>").replace(
        "apple", "<mark>apple</mark>"
    )
    assert marked(Highlight("caption", "<>", [(0, 2)])) == "<mark>&lt;&gt;</mark>"


def test_hostile_words_are_shown_and_not_obeyed(owner: Client, put: Put) -> None:
    put(0, HOSTILE, label="<img src=x onerror=alert(1)> apple", **{"<i>key": "<u>apple</u>"})
    put(80)
    page = ask(owner, text="apple", hybrid="on")
    assert "<mark>apple</mark>" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    for tag in ("<script", "<img src=x", "<i>key", "<u>", "<b onclick"):
        assert tag not in page
    # Nor as what can be chosen, in a chip and in the address.
    page = ask(owner, text="apple", toggle=only(label={"eq": "<img src=x onerror=alert(1)> apple"}))
    assert "<img src=x" not in page
    assert len(tiles(page)) == 1


# --- Near-duplicates -------------------------------------------------------------------------------------


def test_near_duplicates_are_folded_and_unfolded(owner: Client, put: Put) -> None:
    seed = put(-40)
    best, *copies = (put(degrees / 10, f"copy {degrees}") for degrees in range(9))
    other = put(60)
    page = ask(owner, like=seed)
    assert tiles(page) == [best, other]
    assert "8 near-duplicates" in page
    assert all(f"/assets/{one}" in page for one in copies[:6])
    assert "2 more</a>" in page
    assert f"/search?like={best}&amp;group=off" in page
    page = ask(owner, like=seed, group="")
    assert tiles(page) == [best, *copies, other]
    assert "near-duplicate" not in page


# --- Addresses -------------------------------------------------------------------------------------------


def test_everything_asked_for_is_in_the_address_and_comes_back() -> None:
    form = QueryDict(mutable=True)
    form.update({"text": "tea & söup", "image_asset": ONE, "unlike_text": "coffee"})
    form.update({"weigh": "on", "weight_text": "70", "weight_image": "30"})
    form.update({"hybrid": "on", "key": "price", "operator": "lt", "value": "3"})
    form.setlist("modality", ["image", "text"])
    form.setlist("dataset", [ONE, TWO])
    refined = Refinements([uuid.UUID(ONE)], [uuid.UUID(TWO)], [only(a={"eq": "x"})])
    address = address_of(form, refined, "tea & söup")
    assert urlsplit(address).path == "/search"
    again = form_of(QueryDict(urlsplit(address).query))
    assert read_refinements(again) == refined
    assert "group" not in again
    assert {name: again.getlist(name) for name in form} == {name: form.getlist(name) for name in form}
    assert address_of(again, refined, again["text"]) == address


def test_what_is_usual_is_left_out_of_the_address() -> None:
    form = form_of(QueryDict("q=tea"))
    assert form["group"] == "duplicates"
    form["weight_text"] = "50"
    assert address_of(form, Refinements(), "tea") == "/search?q=tea"
    assert address_of(QueryDict("group=duplicates"), Refinements(), "") == "/search"
    assert address_of(form, Refinements(), "x" * MAX_ADDRESS) == ""


def test_an_address_shows_what_the_script_showed(owner: Client, shop: dict[str, str]) -> None:
    part = ask(owner, like=shop["seed"], unlike=shop["blue"], toggle=only(colour={"eq": "red"}))
    [address] = re.findall(r'data-address="([^"]+)"', part)
    answer = owner.get(html.unescape(address))
    page = answer.content.decode()
    assert answer.status_code == 200
    assert faults_of(page) == []
    assert (tiles(page), chips(page)) == (tiles(part), chips(part))
    assert tiles(page) == [shop["red"], shop["crimson"]]


def test_without_a_script_a_search_leads_to_its_address(owner: Client, shop: dict[str, str]) -> None:
    fields = {"like": shop["seed"], "more": shop["red"], "group": "duplicates"}
    answer = owner.post("/search/results", fields)
    assert answer.status_code == 302
    assert parse_qs(urlsplit(answer["Location"]).query) == {"like": [shop["seed"], shop["red"]]}
    page = owner.post("/search/results", fields, follow=True).content.decode()
    assert tiles(page) == [shop["crimson"], shop["blue"]]


def test_without_a_script_a_picture_is_answered_by_the_whole_page(owner: Client) -> None:
    picture = SimpleUploadedFile("x.jpg", b"\xff\xd8\xff no picture")
    answer = owner.post("/search/results", {"text": "kept words", "image": picture})
    page = answer.content.decode()
    assert answer.status_code in (415, 422)
    assert faults_of(page) == []
    assert 'value="kept words"' in page


def test_more_results_without_a_script(owner: Client, put: Put) -> None:
    seed, *others = (put(3 * n) for n in range(27))
    fields = {"like": seed, "group": ""}
    [cursor] = re.findall(r'name="cursor" value="([^"]+)"', ask(owner, **fields))
    page = owner.post("/search/results", {**fields, "cursor": cursor}).content.decode()
    assert tiles(page) == others[24:]
    assert chips(page) == [("like", seed)]


# --- Odd addresses ---------------------------------------------------------------------------------------

LONG = json.dumps({"a": {"eq": "x" * 3000}})
ODD: list[tuple[str, int, str]] = [
    ("like=x", 404, "This example does not exist"),
    ("like=%00", 404, "This example does not exist"),
    (f"like={ONE}&unlike={ONE}", 422, "wanted or not"),
    ("&".join(f"like={uuid.UUID(int=n)}" for n in range(1, 22)), 422, "At most 20 examples"),
    (f"like={ONE}", 404, "An example no longer exists"),
    (f"q=x&unlike={ONE}", 404, "An example no longer exists"),
    ("q=x&only=nonsense", 422, "no choice that the results offer"),
    ("q=x&only=[]", 422, "no choice"),
    ("q=x&only={}", 422, "no choice"),
    ('q=x&only={"a":1}', 422, "no choice"),
    ('q=x&only={"a":{},"b":{}}', 422, "no choice"),
    ('q=x&only={"a":{}}', 422, "Name an operator"),
    ('q=x&only={"a":{"near":1}}', 422, "Operators are"),
    ('q=x&only={"a":{"eq":"%00"}}', 422, ""),
    ('q=x&only={"a\\u0000":{"eq":1}}', 422, ""),
    ('q=x&only={"a":{"lt":NaN}}', 422, ""),
    ('q=x&only={"a":{"lt":1e999}}', 422, ""),
    ("q=x&only=" + "[" * 1900, 422, "no choice"),
    (f"q=x&only={LONG}", 422, "no choice"),
    ("&".join(["q=x", *(f'only={{"a{n}":{{"eq":1}}}}' for n in range(11))]), 422, "At most 10 values"),
    ("q=x&modality=smell", 422, "Unknown modality"),
    ("q=x&dataset=x", 404, "This dataset does not exist"),
    (f"q=x&dataset={ONE}", 404, "This dataset does not exist"),
    ("asset=x", 404, "This picture does not exist"),
    (f"asset={ONE}", 404, "This asset does not exist"),
    ("q=x&key=a&operator=near&value=1", 422, "Operators are"),
    ("q=x&key=a%00&operator=eq&value=1", 422, ""),
    ("q=" + "x" * 10_001, 422, "at most 10000 characters"),
    ("q=x&unlike_text=" + "x" * 10_001, 422, "at most 10000 characters"),
    ("cursor=nonsense", 422, "not a cursor"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "status", "words"), ODD, ids=range(len(ODD)))
def test_odd_addresses_say_what_is_wrong(owner: Client, query: str, status: int, words: str) -> None:
    answer = owner.get(f"/search?{query}")
    page = answer.content.decode()
    assert answer.status_code == status, page
    assert faults_of(page) == []
    assert words in html.unescape(page)
    assert 'id="search-form"' in page
    assert 'class="alert alert-danger"' in page


NOTHING = ["", "only=" + only(a={"eq": 1}), "unlike_text=x", "group=x", "colour=red", "weigh=on"]


@pytest.mark.parametrize("query", NOTHING)
def test_addresses_that_ask_for_nothing_show_the_form(owner: Client, query: str) -> None:
    answer = owner.get(f"/search?{query}")
    assert answer.status_code == 200
    assert "Nothing to search yet" in answer.content.decode()


@pytest.mark.parametrize("text", ["a\x00b", "\ud7ff", "\\", "%", "'"])
def test_odd_words_are_words(owner: Client, text: str) -> None:
    assert owner.get("/search", {"q": text, "hybrid": "on"}).status_code < 500


def test_refinements_are_read_once() -> None:
    form = QueryDict(f"like={ONE}&like={ONE}&less={ONE}&toggle={only(a={'eq': 1})}&only={only(a={'eq': 1})}")
    assert read_refinements(form) == Refinements([], [uuid.UUID(ONE)], [])
    with pytest.raises(NotFound):
        read_refinements(QueryDict("more=x"))
    with pytest.raises(Invalid):
        read_refinements(QueryDict("toggle=x"))


# --- What was made here --------------------------------------------------------------------------------------


def test_what_was_made_here_is_left_out_until_it_is_asked_for(owner: Client, party: Party, put: Put) -> None:
    made, good, example = put(10), put(20), put(0)
    with tenant_scope(party.id):
        Asset.objects.filter(pk=made).update(generation_id=uuid.uuid4(), prompt="a triangle")
    page = ask(owner, like=example)
    assert (tiles(page), "AI-generated results are left out." in page) == ([good], True)
    page = ask(owner, like=example, made="include")
    assert (tiles(page), "left out" in page) == ([made, good], False)
    assert 'name="generated" value="include"' in page
    assert "a triangle" in page
    page = ask(owner, like=example, generated="include", made="only")
    assert tiles(page) == [made]
    assert tiles(ask(owner, like=example, generated="only", drop="only")) == [good]
    address = html.unescape(re.findall(r'data-address="([^"]*)"', ask(owner, like=example, made="only"))[0])
    assert parse_qs(urlsplit(address).query)["generated"] == ["only"]
    assert tiles(owner.get(address).content.decode()) == [made]
    answer = owner.post("/search/results", {"like": example, "generated": "all"}, headers=HX)
    assert answer.status_code == 422


def test_nothing_is_said_of_what_nobody_made(owner: Client, put: Put) -> None:
    put(10)
    assert "AI-generated" not in ask(owner, like=put(0))
