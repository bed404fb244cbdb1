"""A search as an address: all that was asked for, so that links, reload and the back button work.

A picture or a recording that was sent has no place in it: such a search has no address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.http import QueryDict
from django.urls import reverse
from django.utils.http import urlencode

from console.asking import FOLD, TASK, WEIGH, read_rows, read_weights
from console.refining import Refinements

# What fields of the form are called in an address, where that differs.
SHORT = {"text": "q", "image_asset": "asset"}
UNFOLDED = "off"
# Servers and chats cut what is longer.
MAX_LENGTH = 4_000


def form_of(given: QueryDict) -> QueryDict:
    """The query of an address as the form's fields. Near-duplicates are folded unless it says otherwise."""
    form = given.copy()
    for field, short in SHORT.items():
        form[field] = given.get(short, "")
    form.pop("group", None)
    if given.get("group") != UNFOLDED:
        form["group"] = FOLD
    return form


def address_of(form: QueryDict, refined: Refinements, text: str) -> str:
    """Where the search of a form is found again; `text` as it was understood. "" where that would be too long."""
    asked = urlencode(list(_pairs(form, refined, text)))
    address = f"{reverse('console:search')}{'?' if asked else ''}{asked}"
    return address if len(address) <= MAX_LENGTH else ""


def _pairs(form: QueryDict, refined: Refinements, text: str) -> Iterator[tuple[str, str]]:
    yield from _given("q", [text])
    yield from _given("asset", [form.get("image_asset", "")])
    if weights := read_weights(form):
        yield WEIGH, "on"
        yield from ((f"weight_{part}", str(value)) for part, value in weights.items())
    yield from _given("like", map(str, refined.like))
    yield from _given("unlike", map(str, refined.unlike))
    yield from _given("only", refined.only)
    yield from _given("unlike_text", [form.get("unlike_text", "").strip()])
    for name in ("modality", "dataset"):
        yield from _given(name, form.getlist(name))
    for key, operator, value in read_rows(form):
        yield from (("key", key), ("operator", operator), ("value", value))
    if form.get("task", TASK) != TASK:
        yield from _given("task", [form.get("task", "")])
    if "hybrid" in form:
        yield "hybrid", "on"
    if form.get("group") != FOLD:
        yield "group", UNFOLDED


def _given(name: str, values: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from ((name, value) for value in values if value)
