"""The page of a dataset's fields: what it shows, and declaring and forgetting by its form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client

from tenants.datasets.models import Dataset
from tenants.datasets.services import create_dataset
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of

ROWS = [
    {"price": 12, "colour": "red", "sold": True, "odd key ": "x"},
    {"price": 12, "colour": "red", "words": ["new"]},
    {"price": "n/a", "colour": "blue", "words": ["new"]},
    {"colour": "blue"},
]


class Shop:
    def __init__(self, party: Party) -> None:
        self.party = party
        with tenant_scope(party.id):
            self.id = create_dataset(name="shop").id
            for number, values in enumerate(ROWS):
                add_asset(dataset_id=self.id, text=f"text {number}", values=values)

    @property
    def address(self) -> str:
        return f"/datasets/{self.id}/fields"

    @property
    def schema(self) -> dict[str, Any]:
        with tenant_scope(self.party.id):
            return Dataset.objects.get(pk=self.id).metadata_schema

    def save(self, client: Client, **fields: str) -> Any:
        return client.post(f"{self.address}/save", fields, follow=True)

    def jobs(self) -> int:
        with tenant_scope(self.party.id):
            return Job.objects.filter(kind="reindex_metadata").count()


@pytest.fixture
def shop(party: Party) -> Shop:
    return Shop(party)


def read(response: Any, status: int = 200) -> str:
    page = response.content.decode()
    assert (response.status_code, faults_of(page)) == (status, [])
    return page


def test_fields_are_shown_with_their_values(shop: Shop, owner: Client) -> None:
    page = " ".join(read(owner.get(shop.address)).split())
    assert 'blue <span class="muted">2</span>' in page
    assert 'new <span class="muted">2</span>' in page
    assert 'yes <span class="muted">1</span>' in page
    assert page.count("guessed</span>") == len(shop.schema) == 5
    assert page.index("colour") < page.index("price") < page.index("words")
    assert f"?field={quote('odd key ')}#field-form" in page
    assert shop.address in owner.get(f"/datasets/{shop.id}").content.decode()


def test_the_form_of_a_field_is_filled_and_suggests_its_values(shop: Shop, owner: Client) -> None:
    page = read(owner.get(f"{shop.address}?field=colour"))
    assert 'name="key" value="colour"' in page
    assert "Current values: blue, red." in page
    assert "Guess again" not in page
    assert "Current values" not in read(owner.get(f"{shop.address}?field=price"))
    assert 'value="fresh"' in read(owner.get(f"{shop.address}?field=fresh"))


def test_who_may_only_read_gets_no_form(shop: Shop, person: Callable[..., Client]) -> None:
    page = read(person("viewer").get(f"{shop.address}?field=colour"))
    assert "field-form" not in page
    assert "Declare" not in page
    assert "colour" in page


def test_a_declaration_is_kept_counted_and_followed(shop: Shop, owner: Client) -> None:
    given = {"key": "price", "label": "Price", "type": "number", "required": "on", "values": "12\n15.5\n"}
    page = read(shop.save(owner, **given))
    assert shop.schema["price"] == {
        "type": "number",
        "label": "Price",
        "required": True,
        "values": [12, 15.5],
    }
    assert (
        "“price” is declared. 2 assets do not fit; they stay as they are. Filters and search follow" in page
    )
    assert 'data-name="Invalid values" class="misfits">2</td>' in page
    assert shop.jobs() == 1
    assert "12\n15.5</textarea>" in read(owner.get(f"{shop.address}?field=price"))
    read(shop.save(owner, key="price", type="number"))
    assert (shop.schema["price"], shop.jobs()) == ({"type": "number"}, 1)


def test_a_declaration_is_taken_back(shop: Shop, owner: Client) -> None:
    shop.save(owner, key="price", type="number", required="on")
    shop.save(owner, key="stock", type="number")
    assert "Guess again" in read(owner.get(f"{shop.address}?field=price"))
    assert "is guessed from the values again" in read(shop.save(owner, key="price", forget="1"))
    shop.save(owner, key="stock", forget="1")
    assert shop.schema["price"] == {"type": "text", "guessed": True}
    assert "stock" not in shop.schema


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"key": "", "type": "text"}, "This field is required"),
        ({"key": "k" * 101, "type": "text"}, "at most 100 characters"),
        ({"key": "price", "type": "money"}, "Select a valid choice"),
        ({"key": "price", "type": "number", "values": "1\ncheap"}, "“cheap”: Expected number."),
        ({"key": "price", "type": "time", "values": "soon"}, "Expected an ISO 8601 time"),
        ({"key": "price", "type": "tags", "values": "x" * 101}, "Expected text."),
        (
            {"key": "price", "type": "text", "values": "\n".join(map(str, range(201)))},
            "a list of at most 200",
        ),
        ({"key": "price", "type": "text", "label": "x" * 101}, "at most 100 characters"),
    ],
)
def test_a_bad_declaration_is_explained_and_changes_nothing(
    fields: dict, words: str, shop: Shop, owner: Client
) -> None:
    before = shop.schema
    assert words in read(owner.post(f"{shop.address}/save", fields), 422)
    assert (shop.schema, shop.jobs()) == (before, 0)


def test_an_empty_dataset_says_where_fields_come_from(party: Party, person: Callable[..., Client]) -> None:
    with tenant_scope(party.id):
        address = f"/datasets/{create_dataset(name='empty').id}/fields"
    assert "Declare a field" in read(person("editor").get(address))
    assert "Declare a field" not in read(person("viewer").get(address))
