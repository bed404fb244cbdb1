"""`GET /audit-log`: pages, filters, and whose it is."""

from __future__ import annotations

import datetime as dt
from typing import Any
from unittest import mock

import pytest

from tenants.events.models import AuditEvent
from tenants.events.services import record
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party


def write(party: Party, count: int, **fields: Any) -> None:
    with tenant_scope(party.id):
        for number in range(count):
            record(actor="key:x", verb="thing.done", target=str(number), **fields)


def targets(api: Api, query: str) -> list[str]:
    return [line["target"] for line in api.get(f"/audit-log?{query}").json()["results"]]


def test_lines_come_newest_first_in_pages(api: Api, other: Api, party: Party) -> None:
    write(party, 5, details={"why": "x"})
    got, cursor = [], ""
    while cursor is not None:
        page = api.get(f"/audit-log?verb=thing.done&limit=2{cursor and '&cursor='}{cursor}").json()
        got += [line["target"] for line in page["results"]]
        cursor = page["next"]
    assert got == ["4", "3", "2", "1", "0"]
    line = api.get("/audit-log?verb=thing.done&target=3").json()["results"][0]
    with tenant_scope(party.id):
        row = AuditEvent.objects.get(target="3", verb="thing.done")
    assert (line["id"], line["actor"], line["details"]) == (str(row.id), "key:x", {"why": "x"})
    assert other.get("/audit-log?verb=thing.done").json() == {"results": [], "next": None}


def test_filters(api: Api, party: Party) -> None:
    write(party, 3)
    assert targets(api, "actor=key:x&target=1") == ["1"]
    assert targets(api, "actor=key:y") == []
    with tenant_scope(party.id):
        one = AuditEvent.objects.get(target="1", verb="thing.done")
    at = dt.datetime.fromtimestamp((one.id.int >> 80) / 1000, dt.UTC)
    later = at + dt.timedelta(milliseconds=1)
    assert "1" in targets(api, f"verb=thing.done&since={at:%Y-%m-%dT%H:%M:%S.%fZ}")
    assert "0" in targets(api, f"verb=thing.done&until={later:%Y-%m-%dT%H:%M:%S.%fZ}")
    assert targets(api, "until=2020-01-01T00:00:00Z") == []
    assert targets(api, "since=2020-01-01T00:00:00Z") == mock.ANY


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("since=yesterday", "/since"),
        ("since=2026-01-01T00:00:00", "/since"),
        ("until=0001-01-01T00:00:00Z", "/until"),
        ("verb=", "/verb"),
        ("actor=a%00b", "/actor"),
        ("kind=x", "/kind"),
        ("cursor=x", "/cursor"),
        ("limit=0", "/limit"),
    ],
)
def test_what_means_nothing_is_refused(api: Api, query: str, pointer: str) -> None:
    refused(api.get(f"/audit-log?{query}"), 422, "invalid", pointer)
