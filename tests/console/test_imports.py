"""Import pages: the way of a file from choosing to its receipt, by hand and in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import QueryDict
from django.test import Client

from console.imports import column_rows, read_mapping, read_options
from tenants.datasets.importers import Column, Mapping, Preview
from tenants.datasets.models import Import, ImportRow
from tenants.datasets.services import create_dataset
from tenants.errors import Invalid
from tenants.jobs.models import Job
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from workers.base import run_job

TABLE = b"sku;title;price\n1;<b>red</b> kettle;12\n2;blue kettle;9\n;;3\n"
JSON = {"accept": "application/json"}


@pytest.fixture
def dataset_id(party: Party) -> str:
    with tenant_scope(party.id):
        return str(create_dataset(name="imports").id)


def table(content: bytes = TABLE, name: str = "things.csv") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)


def draft(client: Client, dataset_id: str, **fields: Any) -> str:
    """The address of a new draft's page."""
    answer = client.post(f"/datasets/{dataset_id}/imports/new", {"file": table(), **fields})
    assert answer.status_code == 302
    return answer["Location"]


def columns(*lines: tuple[str, str, str]) -> dict[str, list[str]]:
    names, roles, keys = zip(*lines, strict=True)
    return {"column": list(names), "role": list(roles), "key": list(keys)}


def test_from_file_to_receipt_without_script(party: Party, dataset_id: str, owner: Client) -> None:
    page = draft(owner, dataset_id)
    shown = owner.get(page)
    text = shown.content.decode()
    assert faults_of(text) == []
    assert "3 rows. Nothing has been imported yet." in text
    assert "&lt;b&gt;red&lt;/b&gt; kettle" in text
    assert re.findall(r'<option value="(\S+)" selected>', text) == ["id", "text", "metadata", ";"]
    choices = columns(("sku", "ignore", "sku"), ("title", "text", "title"), ("price", "metadata", "cost"))
    looked = owner.post(f"{page}/preview", choices)
    assert looked.status_code == 200
    assert "cost <span" in looked.content.decode()
    with tenant_scope(party.id):
        assert Import.objects.get().mapping["id"] == "sku", "looking changes nothing"
    started = owner.post(f"{page}/start", choices)
    assert (started.status_code, started["Location"]) == (302, page)
    running = owner.get(page).content.decode()
    assert faults_of(running) == []
    with tenant_scope(party.id):
        job = Job.objects.get(kind="import_assets")
        assert Import.objects.get().mapping == {
            "id": None,
            "text": "title",
            "file": None,
            "metadata": {"price": "cost"},
        }
    assert f'data-job="{job.id}"' in running
    run_job(str(job.id), str(party.id))
    receipt = owner.get(page).content.decode()
    assert faults_of(receipt) == []
    assert "data-job" not in receipt
    assert "3 of 3 rows done." in re.sub(r"\s+", " ", receipt)
    assert receipt.count("status-imported") == 2
    failed = owner.get(f"{page}?outcome=failed").content.decode()
    assert "status-imported" not in failed
    assert "line 4" in failed
    part = owner.get(page, headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part
    assert "status-succeeded" in part
    csv = b"".join(owner.get(f"{page}/receipt?outcome=failed")).decode()
    assert csv.removeprefix("\ufeff").startswith("import_line,import_reason,sku,title,price")
    assert csv.splitlines()[1].startswith("line 4,")
    listed = owner.get(f"/datasets/{dataset_id}/imports").content.decode()
    assert faults_of(listed) == []
    assert "things.csv" in listed


def test_a_file_read_otherwise_is_guessed_anew(party: Party, dataset_id: str, owner: Client) -> None:
    page = draft(owner, dataset_id)
    old = columns(("sku", "id", "sku"), ("title", "text", "title"), ("price", "metadata", "price"))
    text = owner.post(f"{page}/preview", {**old, "delimiter": ",", "encoding": "utf-8"}).content.decode()
    assert 'name="column" value="sku;title;price"' in text
    assert owner.post(f"{page}/start", {**old, "delimiter": ","}).status_code == 302
    with tenant_scope(party.id):
        assert Import.objects.get().options["delimiter"] == ","


def test_choices_that_do_not_fit(party: Party, dataset_id: str, owner: Client) -> None:
    page = draft(owner, dataset_id)
    twice = columns(("sku", "text", "sku"), ("title", "text", "title"))
    answer = owner.post(f"{page}/start", twice)
    assert answer.status_code == 422
    assert "Only one column can be the text: sku or title." in answer.content.decode()
    none = columns(("sku", "ignore", "sku"), ("title", "ignore", "title"))
    assert "Name the column that holds the text" in owner.post(f"{page}/preview", none).content.decode()
    with tenant_scope(party.id):
        assert Import.objects.get().job_id is None


def test_files_that_cannot_be_imported(party: Party, dataset_id: str, owner: Client) -> None:
    address = f"/datasets/{dataset_id}/imports/new"
    for fields, words in (
        ({}, "Choose a file first."),
        ({"file": table(b"\x7fELF\x00\x01\x02", "x.csv")}, "jsonl"),
        ({"upload": "../../etc"}, "This upload does not exist."),
    ):
        answer = owner.post(address, fields, follow=True)
        assert answer.redirect_chain == [(f"/datasets/{dataset_id}/imports", 302)]
        assert words.lower() in answer.content.decode().lower()
        told = owner.post(address, fields, headers=JSON)
        assert told.status_code in {404, 415, 422}
        assert told["Content-Type"] == "application/problem+json"
    with tenant_scope(party.id):
        assert not Import.objects.exists()


def test_a_script_is_told_the_page(party: Party, dataset_id: str, owner: Client) -> None:
    answer = owner.post(f"/datasets/{dataset_id}/imports/new", {"file": table()}, headers=JSON)
    assert answer.status_code == 201
    with tenant_scope(party.id):
        assert answer.json() == {"page": f"/imports/{Import.objects.get().id}"}


def test_a_draft_is_discarded(party: Party, dataset_id: str, owner: Client) -> None:
    page = draft(owner, dataset_id)
    answer = owner.post(f"{page}/delete", follow=True)
    assert "The import was removed." in answer.content.decode()
    with tenant_scope(party.id):
        assert not Import.objects.exists()


def test_a_viewer_sees_a_draft_and_cannot_touch_it(
    dataset_id: str, owner: Client, person: Callable[..., Client]
) -> None:
    page = draft(owner, dataset_id)
    text = person("viewer").get(page).content.decode()
    assert "An editor can check and start it." in text
    assert f"{page}/start" not in text


def test_long_receipts_come_in_pages(
    party: Party, dataset_id: str, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.imports.ROWS", 2)
    with tenant_scope(party.id):
        job = Job.objects.create(kind="import_assets", state="succeeded")
        row = Import.objects.create(
            dataset_id=dataset_id, source="upload", location="=x.csv", format="csv", job_id=job.id
        )
        ImportRow.objects.bulk_create(
            ImportRow(job_import=row, row=n, name=f"line {n}", outcome="imported") for n in range(1, 5)
        )
    first = owner.get(f"/imports/{row.id}").content.decode()
    assert re.findall(r"line \d", first) == ["line 1", "line 2"]
    assert "after=2" in first
    second = owner.get(f"/imports/{row.id}?after=2").content.decode()
    assert re.findall(r"line \d", second) == ["line 3", "line 4"]
    assert "Next rows" not in second
    for nonsense in ("x", "-1", "9" * 30, "²"):
        assert "line 1" in owner.get(f"/imports/{row.id}?after={nonsense}").content.decode()


# --- The mapping editor ----------------------------------------------------------------------------------


def seen(mapping: Mapping, *names: str) -> Preview:
    found = [Column(name, [], "text") for name in names]
    return Preview("csv", found, mapping, [], 0, {}, [])


def form(**lists: list[str]) -> QueryDict:
    query = QueryDict(mutable=True)
    for name, values in lists.items():
        query.setlist(name, values)
    return query


@pytest.mark.parametrize(
    "mapping",
    [
        Mapping("a", "b", None, "*"),
        Mapping(None, "b", "c", "*"),
        Mapping(None, "a", None, {"b": "x", "c": "c"}),
        Mapping(None, "a", None, {}),
    ],
)
def test_the_editor_gives_back_what_it_shows(mapping: Mapping) -> None:
    lines = column_rows(seen(mapping, "a", "b", "c"))
    fields = form(
        column=[line.column.name for line in lines],
        role=[line.role for line in lines],
        key=[line.key for line in lines],
    )
    read = read_mapping(fields)
    assert read is not None
    assert Mapping(**{"id": None, "text": None, "file": None, **read}) == mapping


def test_what_a_form_says() -> None:
    assert read_mapping(form()) is None
    assert read_options(form(delimiter=["tab"], encoding=[""])) == {"delimiter": "\t"}
    blank = read_mapping(form(column=["a", "b"], role=["text", "metadata"], key=["a", " "]))
    assert blank == {"text": "a", "metadata": "*"}
    with pytest.raises(Invalid):
        read_mapping(form(column=["a", "b"], role=["id", "id"], key=["a", "b"]))
