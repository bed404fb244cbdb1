"""Golden queries: added by ticks and ids, listed, removed, and what is refused."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from django.test import Client

from tenants.events.models import AuditEvent
from tenants.learning import selectors
from tenants.learning.models import GoldenQuery
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.test_models import post, read
from tests.console.test_pages import EVIL
from tests.tenants.learning.world import add_pairs, new_dataset


def test_a_golden_query_is_added_by_ticks_and_ids_and_removed(party: Party, owner: Client) -> None:
    assert "No golden queries yet" in read(owner, "/models/golden-queries")
    with tenant_scope(party.id):
        first, second, third = add_pairs(new_dataset(), 3)
    fields = {"text": EVIL, "ticked": [str(first.id), str(second.id)], "relevant": f"{second.id}\n{third.id}"}
    owner.post("/models/golden-queries/new", fields)
    owner.post("/models/golden-queries/new", {"asset": str(first.id), "relevant": str(second.id)})
    with tenant_scope(party.id):
        picture, words = GoldenQuery.objects.order_by("-id")
        assert selectors.answers_of([words.id])[words.id] == [first.id, second.id, third.id]
        assert (picture.asset_id, AuditEvent.objects.filter(verb="golden_query.created").count()) == (
            first.id,
            2,
        )
    page = read(owner, "/models/golden-queries")
    assert page.count("/remove") == 2
    owner.post(f"/models/golden-queries/{words.id}/remove")
    assert read(owner, "/models/golden-queries").count("/remove") == 1
    assert owner.post(f"/models/golden-queries/{words.id}/remove").status_code == 404


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text": "a kettle"}, "Select the right answers"),
        ({"text": "a kettle", "relevant": "zzz"}, "is not the id of an asset"),
        ({"text": "a kettle", "ticked": EVIL}, "is not the id of an asset"),
        ({"text": "", "relevant": "ID"}, "either a text or a picture"),
        ({"text": "x" * 1001, "relevant": "ID"}, "at most 1000"),
        ({"text": "x\x00", "relevant": "ID"}, "Null characters"),
        ({"asset": "zzz", "relevant": "ID"}, "is not the id of an asset"),
        ({"asset": "ID", "relevant": "ID"}, "no answer to itself"),
        ({"text": "a kettle", "relevant": str(uuid.uuid4())}, "This asset does not exist"),
    ],
)
def test_an_odd_golden_query_is_told(
    fields: dict[str, str],
    said: str,
    party: Party,
    owner: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("console.learning.views._cards", lambda *a: ([], None))
    with tenant_scope(party.id):
        [asset] = add_pairs(new_dataset(), 1)
    given = {name: value.replace("ID", str(asset.id)) for name, value in fields.items()}
    page = post(owner, "/models/golden-queries/new", given, 422)
    assert said in page.partition("field-error")[2]
    with tenant_scope(party.id):
        assert not GoldenQuery.objects.exists()


def test_a_viewer_sees_golden_queries_and_adds_none(person: Callable[..., Client]) -> None:
    viewer = person("viewer")
    page = read(viewer, "/models/golden-queries?q=kettle")
    assert "Editors can add them" in page and "<form class" not in page
