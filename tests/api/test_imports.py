"""Imports over HTTP: ways in, drafts, receipts. What each format may hold is tested with the readers."""

from __future__ import annotations

import base64
import csv
import io
import json
import uuid
from contextlib import ExitStack
from typing import Any

import pytest
from django.conf import settings

from tenants.datasets.importers import sources
from tenants.datasets.models import Import, ImportRow
from tenants.jobs.models import Job
from tenants.pipeline.transfer import import_receipts
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused, upload
from tests.conftest import Party
from workers.base import run_job

TABLE = b"sku,title,price\n1,red kettle,12.5\n2,blue kettle,9\n2,green kettle,8\n,,3\n"
MAPPING = {"id": "sku", "text": "title", "file": None, "metadata": "*"}


def send(api: Api, dataset: str, content: bytes = TABLE, name: str = "things.csv", **fields: Any) -> Any:
    headers = {"Idempotency-Key": fields.pop("key")} if "key" in fields else {}
    texts = {field: json.dumps(value) for field, value in fields.items()}
    return api.form(f"/datasets/{dataset}/imports", {"file": upload(content, name), **texts}, headers)


def draft(api: Api, dataset: str) -> str:
    answer = send(api, dataset, start=False)
    assert answer.status_code == 201, answer.content
    return answer.json()["import"]["id"]


def finish(party: Party, job: dict[str, Any]) -> dict[str, Any]:
    """Run the job here; it as the API shows it."""
    run_job(job["id"], str(party.id))
    return Api(party.token).get(f"/jobs/{job['id']}").json()


def test_a_table_is_imported_and_receipted(api: Api, party: Party, dataset: str) -> None:
    answer = send(api, dataset)
    assert answer.status_code == 202
    shown, job = answer.json()["import"], answer.json()["job"]
    assert answer.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    assert (job["kind"], shown["job"], shown["state"]) == ("import_assets", job["id"], "queued")
    assert (shown["source"], shown["location"], shown["format"]) == ("upload", "things.csv", "csv")
    assert (shown["mapping"], shown["bytes"], shown["total"]) == (MAPPING, len(TABLE), 4)
    ended = finish(party, job)
    assert ended["state"] == "succeeded"
    result = ended["result"]
    assert (result["imported"], result["duplicate"], result["failed"]) == (2, 0, 2)
    assert [failure["row"] for failure in result["failures"]] == [3, 4]
    assert all(failure["reason"] for failure in result["failures"])
    now = api.get(f"/imports/{shown['id']}").json()
    assert (now["state"], now["imported"], now["failed"]) == ("succeeded", 2, 2)
    assert api.get(f"/datasets/{dataset}/imports").json() == {"results": [now], "next": None}
    rows = api.get(f"/imports/{shown['id']}/rows").json()["results"]
    assert [(row["row"], row["outcome"]) for row in rows] == [
        (1, "imported"),
        (2, "imported"),
        (3, "failed"),
        (4, "failed"),
    ]
    asset = api.get(f"/assets/{rows[0]['asset']}").json()
    assert (asset["external_id"], asset["excerpt"], asset["metadata"]) == ("1", "red kettle", {"price": 12.5})
    again = finish(party, send(api, dataset).json()["job"])["result"]
    assert (again["imported"], again["duplicate"], again["failed"]) == (0, 2, 2)


def test_a_draft_is_looked_at_changed_and_started(api: Api, party: Party, dataset: str) -> None:
    answer = send(api, dataset, start=False, key="look")
    assert answer.status_code == 201
    shown, preview = answer.json()["import"], answer.json()["preview"]
    # The content that it shows is kept nowhere.
    assert send(api, dataset, start=False, key="look").json() == {"import": shown, "preview": None}
    assert answer.headers["Location"] == f"/api/v1/imports/{shown['id']}"
    assert (shown["state"], shown["job"]) == ("draft", None)
    assert [column["name"] for column in preview["columns"]] == ["sku", "title", "price"]
    assert preview["columns"][1] == {
        "name": "title",
        "examples": ["red kettle", "blue kettle", "green kettle"],
        "guessed_type": "text",
    }
    assert preview["rows"][0] == {
        "row": 1,
        "name": "line 2",
        "external_id": "1",
        "text": "red kettle",
        "file": None,
        "metadata": {"price": 12.5},
        "error": None,
    }
    path = f"/imports/{shown['id']}"
    other = {"text": "title", "metadata": {"price": "cost"}}
    looked = api.post(f"{path}/preview", {"mapping": other}).json()
    assert looked["rows"][0]["metadata"] == {"cost": 12.5}
    assert api.get(path).json()["mapping"] == MAPPING, "looking changes nothing"
    wrong = api.post(f"{path}/start", {"mapping": {"text": "nothing"}})
    assert "There is no such column" in refused(wrong, 422, "invalid", "/mapping/text")["detail"]
    started = api.post(f"{path}/start", {"mapping": other}, Idempotency_Key="go")
    assert started.status_code == 202
    assert started.json()["import"]["mapping"]["metadata"] == {"price": "cost"}
    again = api.post(f"{path}/start", {"mapping": other}, Idempotency_Key="go")
    assert (again.content, again.headers["Idempotent-Replayed"]) == (started.content, "true")
    refused(api.post(f"{path}/start"), 409, "conflict")
    refused(api.call("DELETE", path), 409, "conflict")
    assert finish(party, started.json()["job"])["result"]["imported"] == 3
    assert api.call("DELETE", path).status_code == 204
    refused(api.get(path), 404, "not-found")
    assert len(api.get(f"/datasets/{dataset}/assets").json()["results"]) == 3, "the assets stay"


def test_a_draft_is_thrown_away(api: Api, party: Party, dataset: str) -> None:
    import_id = draft(api, dataset)
    assert api.call("DELETE", f"/imports/{import_id}").status_code == 204
    with tenant_scope(party.id):
        assert (Import.objects.count(), Job.objects.count()) == (0, 0)


def test_an_upload_is_imported_once(api: Api, party: Party, dataset: str) -> None:
    tus = {"Tus-Resumable": "1.0.0"}
    name = base64.b64encode(b"folder/things.csv").decode()
    begun = api.call(
        "POST",
        "/uploads",
        headers={**tus, "Upload-Length": str(len(TABLE)), "Upload-Metadata": f"filename {name}"},
    )
    path = begun.headers["Location"].removeprefix("/api/v1")
    body = {"upload": path.rpartition("/")[2], "mapping": MAPPING}
    refused(api.post(f"/datasets/{dataset}/imports", body), 409, "not-ready")
    headers = {**tus, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    assert api.call("PATCH", path, TABLE, headers).status_code == 204
    wrong = {**body, "mapping": {"text": "nothing"}}
    refused(api.post(f"/datasets/{dataset}/imports", wrong), 422, "invalid")
    answer = api.post(f"/datasets/{dataset}/imports", body, Idempotency_Key="once")
    assert answer.status_code == 202
    assert answer.json()["import"]["location"] == "things.csv"
    assert api.call("HEAD", path, headers=tus).status_code == 404, "taken over"
    again = api.post(f"/datasets/{dataset}/imports", body, Idempotency_Key="once")
    assert again.content == answer.content
    refused(api.post(f"/datasets/{dataset}/imports", body), 404, "not-found")
    assert finish(party, answer.json()["job"])["result"]["imported"] == 2


def test_the_same_key_and_file_import_once(api: Api, party: Party, dataset: str) -> None:
    answers = [send(api, dataset, key="k") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].content == answers[1].content
    refused(send(api, dataset, b"other\nx\n", key="k"), 422, "invalid")
    with tenant_scope(party.id):
        assert Import.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "status", "slug", "pointer"),
    [
        ({}, 422, "invalid", "/source"),
        ({"source": "file:///etc/passwd"}, 422, "invalid", "/source"),
        ({"source": "/etc"}, 422, "invalid", "/source"),
        ({"source": "s3://UPPER/x"}, 422, "invalid", "/location"),
        (
            {"source": "s3://bucket/x", "endpoint": "http://169.254.169.254/"},
            422,
            "invalid",
            "/options/endpoint",
        ),
        ({"source": 3}, 422, "invalid", "/source"),
        ({"upload": str(uuid.uuid4())}, 404, "not-found", None),
        ({"upload": "../../etc/passwd"}, 404, "not-found", None),
        ({"start": "no"}, 422, "invalid", "/start"),
        ({"mapping": "x"}, 422, "invalid", "/mapping"),
        ({"sauce": "x"}, 422, "invalid", "/sauce"),
    ],
)
def test_what_cannot_be_imported(
    fields: dict, status: int, slug: str, pointer: str, api: Api, party: Party, dataset: str
) -> None:
    refused(api.post(f"/datasets/{dataset}/imports", fields), status, slug, pointer)
    with tenant_scope(party.id):
        assert not Import.objects.exists()


def test_files_that_cannot_be_imported(api: Api, party: Party, dataset: str) -> None:
    assert send(api, dataset, b"", "empty.csv").status_code == 422
    refused(send(api, dataset, b"\x7fELF\x00\x01", "x.csv"), 415, "unsupported-media-type")
    both = {"file": upload(TABLE, "a.csv"), "source": "s3://bucket/x"}
    refused(api.form(f"/datasets/{dataset}/imports", both), 422, "invalid", "/source")
    with tenant_scope(party.id):
        assert not Import.objects.exists()


def test_those_who_look_leave_threads_to_the_others(api: Api, party: Party, dataset: str) -> None:
    with ExitStack() as held:
        for _ in range(settings.WEB_THREADS // 3):
            held.enter_context(sources._preview_slot())
        busy = send(api, dataset)
        assert "Too many sources" in refused(busy, 503, "unavailable")["detail"]
        assert busy.headers["Retry-After"] == "5"
    assert send(api, dataset).status_code == 202


@pytest.mark.parametrize(
    ("content", "mapping"),
    [
        (b'{"text": "a", "x": "\\ud800"}', None),
        (b'{"\\ud800": "some words"}', None),
        (b'{"\\u0000": "some words"}', None),
        (b'{"text": "a", "x": 1e999}', None),
        (b'{"text": "a"}', {"text": "text", "metadata": {"x": "\x00"}}),
        (b'{"text": "a"}', {"text": "\x00"}),
        (b'{"text": "a"}', {"\ud800": "text"}),
    ],
)
def test_what_no_answer_can_hold(content: bytes, mapping: Any, api: Api, dataset: str) -> None:
    """In a row it fails that row, in a mapping it is refused; neither may break the preview that shows it."""
    fields = {"mapping": mapping} if mapping else {}
    answer = send(api, dataset, content + b"\n", "x.jsonl", start=False, **fields)
    if mapping:
        assert refused(answer, 422, "invalid")["errors"][0]["pointer"].startswith("/mapping")
    else:
        (row,) = answer.json()["preview"]["rows"]
        assert row["error"] and (row["metadata"], row["text"]) == ({}, "")


def test_credentials_are_never_told(api: Api, party: Party, dataset: str, caplog: Any) -> None:
    secret = f"hush-{uuid.uuid4().hex}"
    keys = {"access_key": f"id-{secret}", "secret_key": secret}
    body = {
        "source": "s3://bucket/x",
        "credentials": keys,
        "endpoint": "http://localhost:1",
        "options": {"region": "no region"},
    }
    answers = [api.post(f"/datasets/{dataset}/imports", body)]
    answers.append(api.post(f"/datasets/{dataset}/imports", {**body, "credentials": {secret: secret}}))
    answers.append(api.post(f"/datasets/{dataset}/imports", {**body, "credentials": [secret]}))
    assert {answer.status_code for answer in answers} == {422}
    assert all(secret.encode() not in answer.content for answer in answers)
    assert secret not in caplog.text


def test_anothers_import_is_absent(api: Api, other: Api, dataset: str) -> None:
    import_id = draft(api, dataset)
    theirs = other.post("/datasets", {"name": "x"}).json()["id"]
    assert other.get(f"/datasets/{theirs}/imports").json()["results"] == []
    refused(other.get(f"/imports/{import_id}/receipt"), 404, "not-found")
    refused(send(other, dataset), 404, "not-found")


def receipted(party: Party, dataset: str, names: list[str]) -> str:
    """An import with rows of these names, alternately imported and failed."""
    with tenant_scope(party.id):
        row = Import.objects.create(dataset_id=dataset, source="upload", location="x.csv", format="csv")
        outcomes = (ImportRow.Outcome.IMPORTED, ImportRow.Outcome.FAILED)
        ImportRow.objects.bulk_create(
            ImportRow(job_import=row, row=n, name=name, outcome=outcomes[n % 2], reason=f'a "reason", {n}')
            for n, name in enumerate(names, 1)
        )
    return str(row.id)


def test_the_receipt_in_pages(api: Api, party: Party, dataset: str) -> None:
    path = f"/imports/{receipted(party, dataset, [f'line {n}' for n in range(1, 8)])}/rows"
    first = api.get(f"{path}?limit=3").json()
    second = api.get(f"{path}?limit=3&cursor={first['next']}").json()
    third = api.get(f"{path}?limit=3&cursor={second['next']}").json()
    assert [row["row"] for page in (first, second, third) for row in page["results"]] == list(range(1, 8))
    assert third["next"] is None
    failed = api.get(f"{path}?outcome=failed").json()["results"]
    assert [row["row"] for row in failed] == [1, 3, 5, 7]
    assert failed[0] == {
        "row": 1,
        "name": "line 1",
        "outcome": "failed",
        "asset": None,
        "reason": 'a "reason", 1',
        "external_id": "",
        "text": "",
    }
    refused(api.get(f"{path}?outcome=lost"), 422, "invalid", "/outcome")
    refused(api.get(f"{path}?cursor=-1"), 422, "invalid", "/cursor")
    refused(api.get(f"{path}?limit=0"), 422, "invalid", "/limit")
    refused(api.get(f"{path}?page=2"), 422, "invalid", "/page")


def test_the_receipt_as_csv(api: Api, party: Party, dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_receipts, "ROWS_AT_ONCE", 2)
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", 'plain "quoted", 文', "a=b"]
    import_id = receipted(party, dataset, names)
    answer = api.get(f"/imports/{import_id}/receipt")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="receipt-{import_id}.csv"'
    rows = list(csv.reader(io.StringIO(b"".join(answer).decode(), newline="")))
    assert rows[0] == ["row", "name", "outcome", "asset", "reason"]
    # A number is no formula.
    assert [row[1] for row in rows[1:]] == ["'=1+1", "'+1", "-1", "'@SUM(A1)", "'\tx", "'\rx", *names[6:]]
    assert rows[1] == ["1", "'=1+1", "failed", "", 'a "reason", 1']
    answer = api.get(f"/imports/{import_id}/receipt?outcome=failed")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="x-failed.csv"'
    failed = b"".join(answer).decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(failed, newline="")))
    assert rows[0] == ["import_line", "import_reason"]
    assert [row[0] for row in rows[1:]] == ["'=1+1", "-1", "'\tx", 'plain "quoted", 文']


def test_limits_know_what_is_sent(api: Api, dataset: str, settings: Any) -> None:
    settings.MAX_UPLOAD_BYTES, settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000, 100
    many = b"text\n" + b"some words\n" * 200
    asset = api.form(f"/datasets/{dataset}/assets", {"file": upload(many)})
    assert "0 MiB together" in refused(asset, 413, "too-large")["detail"]
    assert send(api, dataset, many).status_code == 202
    settings.MAX_IMPORT_BYTES = 1000
    refused(send(api, dataset, many), 413, "too-large")
