"""The record over the API: pages, verifying, files, statements of reasons."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from django.utils import timezone

from tenants.moderation import record, reviews
from tenants.moderation.record import exports, seals
from tenants.moderation.reviews import queue
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.tenants.reviewing import ANN, BOB, World, make_world, seen

pytestmark = pytest.mark.guard


@pytest.fixture
def world(party: Any) -> World:
    return make_world(party)


def body_of(answer: Any) -> str:
    assert answer.status_code == 200
    return b"".join(answer.streaming_content).decode()


def decide(world: World, audit: Any, decision: str) -> Any:
    flag = next(iter(world.flags(audit).values()))
    with tenant_scope(world.id):
        queue.claim(review_id=flag.id, actor=ANN)
        return reviews.decide_review(review_id=flag.id, decision=decision, reason="a name: Bert", actor=ANN)


def test_lines_come_newest_first_in_pages(api: Api, world: World) -> None:
    audits = [world.audit(["rude"]) for _ in range(5)]
    for audit in audits:
        decide(world, audit, "allow")
    got, cursor = [], ""
    while cursor is not None:
        page = api.get(f"/records?limit=2{cursor and '&cursor='}{cursor}").json()
        got += [line["sequence"] for line in page["results"]]
        cursor = page["next"]
    assert got == [5, 4, 3, 2, 1]
    only = api.get(f"/records?audit={audits[2].id}").json()["results"]
    assert [(line["sequence"], line["item"], line["decision"]) for line in only] == [
        (3, str(audits[2].item), "allow")
    ]
    for query, pointer in (("cursor=0", "/cursor"), ("cursor=x", "/cursor"), ("kind=x", "/kind")):
        refused(api.get(f"/records?{query}"), 422, "invalid", pointer)


def test_the_record_is_verified(api: Api, other: Api, world: World) -> None:
    decide(world, world.audit(["rude"]), "block")
    assert api.get("/records/verify").json() == {
        "ok": True,
        "lines": 1,
        "seals": 0,
        "unsealed": 1,
        "head": "",
        "head_last": 0,
        "broken": None,
        "known": None,
        "next": None,
    }
    seals.seal(world.id)
    found = api.get("/records/verify").json()
    assert (found["ok"], found["seals"], found["unsealed"], found["head_last"]) == (True, 1, 0, 1)
    assert api.get(f"/records/verify?known={found['head']}").json()["known"] is True
    assert api.get(f"/records/verify?known={'0' * 64}").json()["ok"] is False
    assert other.get("/records/verify").json()["lines"] == 0
    for query, pointer in (("first=0", "/first"), ("known=xyz", "/known"), ("limit=1", "/limit")):
        refused(api.get(f"/records/verify?{query}"), 422, "invalid", pointer)


def test_exports_hold_every_line(api: Api, world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(exports, "AT_ONCE", 2)
    for _ in range(5):
        decide(world, world.audit(["rude"]), "block")
    with tenant_scope(world.id):
        record.append(kind="test", actor="=1+1")
    answer = api.get("/records/export?format=jsonl")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="record.jsonl"'
    lines = [json.loads(line) for line in body_of(answer).splitlines()]
    assert [line["sequence"] for line in lines] == [1, 2, 3, 4, 5, 6]
    rows = list(csv.DictReader(io.StringIO(body_of(api.get("/records/export")))))
    assert [row["digest"] for row in rows] == [line["digest"] for line in lines]
    assert rows[-1]["actor"] == "'=1+1"
    assert lines[-1]["actor"] == "=1+1"
    today = timezone.now().date()
    assert (
        len(body_of(api.get(f"/records/export?format=jsonl&since={today}&until={today}")).splitlines()) == 6
    )
    assert body_of(api.get(f"/records/export?format=jsonl&until={today.replace(year=2020)}")) == ""


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("format=xml", "/format"),
        ("since=yesterday", "/since"),
        ("until=2026-02-30", "/until"),
        ("until=9999-12-31", "/until"),
        ("illegal=rude", "/law"),
        ("law=x", "/law"),
        ("cursor=x", "/cursor"),
    ],
)
def test_exports_that_mean_nothing_are_refused(api: Api, query: str, pointer: str) -> None:
    refused(api.get(f"/records/export?{query}"), 422, "invalid", pointer)


def statements_of(api: Api, query: str = "") -> list[dict[str, Any]]:
    return [json.loads(line) for line in body_of(api.get(f"/records/export?format=dsa{query}")).splitlines()]


def test_a_statement_for_each_restriction(api: Api, world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(exports, "STATEMENTS_AT_ONCE", 1)
    hateful = seen(
        categories={"hate": {"flagged": True, "score": 0.9}, "abuse": {"flagged": True, "score": 0.4}}
    )
    known = world.audit(["known"], evidence=hateful)
    made = world.audit(["made"])
    world.audit(["known"], mode="shadow")
    let_go, blocked = world.audit(["rude"]), world.audit(["rude"])
    decide(world, let_go, "allow")
    outcome = decide(world, blocked, "block")
    today = timezone.now().date().isoformat()
    found = statements_of(api)
    assert [one["puid"] for one in found] == [str(known.id), str(made.id), str(outcome.id)]
    with tenant_scope(world.id):
        policy = world.version.policy.name
    assert found[0] == {
        "puid": str(known.id),
        "decision_visibility": ["DECISION_VISIBILITY_CONTENT_DISABLED"],
        "decision_ground": "DECISION_GROUND_INCOMPATIBLE_CONTENT",
        "incompatible_content_ground": f"{policy}, version 1",
        "incompatible_content_explanation": "It is known.",
        "incompatible_content_illegal": "No",
        "category": "STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH",
        "category_specification": ["KEYWORD_HATE_SPEECH"],
        "content_type": ["CONTENT_TYPE_TEXT"],
        "content_date": today,
        "application_date": today,
        "decision_facts": "The item was examined automatically under the content policy. Rules: known. "
        "It was decided automatically.",
        "source_type": "SOURCE_VOLUNTARY",
        "automated_detection": "Yes",
        "automated_decision": "AUTOMATED_DECISION_FULLY",
    }
    assert found[1]["decision_visibility"] == ["DECISION_VISIBILITY_CONTENT_LABELLED"]
    assert found[1]["category"] == "STATEMENT_CATEGORY_OTHER_VIOLATION_TC"
    assert found[2]["automated_decision"] == "AUTOMATED_DECISION_NOT_AUTOMATED"
    assert "Bert" not in json.dumps(found)


def test_what_was_taken_back_has_an_end(api: Api, world: World) -> None:
    undone, appealed, kept = (world.audit(["rude"]) for _ in range(3))
    outcome = decide(world, undone, "block")
    decide(world, appealed, "block")
    decide(world, kept, "block")
    with tenant_scope(world.id):
        reviews.undo_outcome(outcome_id=outcome.id, actor=BOB, reason="no")
        opened = reviews.open_appeal(audit_id=appealed.id, reason="no", actor=BOB)
        reviews.decide_appeal(appeal_id=opened.id, decision="overturned", reason="no", actor=BOB)
    today = timezone.now().date().isoformat()
    assert [one.get("end_date_visibility_restriction") for one in statements_of(api)] == [today, today, None]


def test_the_platform_says_what_is_illegal(api: Api, world: World) -> None:
    world.audit(["known"])
    world.audit(["made"])
    illegal, other = statements_of(api, "&illegal=known,other&law=Article+1")
    assert illegal["decision_ground"] == "DECISION_GROUND_ILLEGAL_CONTENT"
    assert illegal["illegal_content_legal_ground"] == "Article 1"
    assert illegal["illegal_content_explanation"] == "It is known."
    assert "incompatible_content_ground" not in illegal
    assert other["decision_ground"] == "DECISION_GROUND_INCOMPATIBLE_CONTENT"
