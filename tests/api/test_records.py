"""The record over the API: pages, verifying, files, statements of reasons."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from typing import Any

import pytest
from django.db.models import Max
from django.utils import timezone

from tenants.moderation import record, reviews
from tenants.moderation.models import Checkpoint, CheckpointHead
from tenants.moderation.record import exports, seals, signatures
from tenants.moderation.reviews import queue
from tenants.scope import operator_scope, tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party
from tests.console.auditing import audited
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
        "chain": "record",
        "lines": 1,
        "seals": 0,
        "unsealed": 1,
        "head": "",
        "head_last": 0,
        "broken": None,
        "known": None,
        "next": None,
        "signed": 0,
        "rewritten": 0,
        "outside": [],
    }
    seals.seal(world.id)
    found = api.get("/records/verify").json()
    assert (found["ok"], found["seals"], found["unsealed"], found["head_last"]) == (True, 1, 0, 1)
    assert api.get(f"/records/verify?known={found['head']}").json()["known"] is True
    assert api.get(f"/records/verify?known={'0' * 64}").json()["ok"] is False
    assert other.get("/records/verify").json()["lines"] == 0
    logged = api.get("/records/verify?chain=log").json()
    assert (logged["ok"], logged["chain"], logged["seals"]) == (True, "log", 0)
    for query, pointer in (
        ("chain=x", "/chain"),
        ("first=0", "/first"),
        ("known=xyz", "/known"),
        ("limit=1", "/limit"),
    ):
        refused(api.get(f"/records/verify?{query}"), 422, "invalid", pointer)


def test_a_seal_that_only_a_checkpoint_knows_is_told(api: Api, world: World) -> None:
    decide(world, world.audit(["rude"]), "block")
    seals.seal(world.id)
    with operator_scope("a checkpoint of a chain that was cut off"):
        number = (Checkpoint.objects.aggregate(most=Max("number"))["most"] or 0) + 1
        made = Checkpoint.objects.create(
            number=number, digest="0" * 64, signature="", key_id="", created_at=timezone.now()
        )
        CheckpointHead.objects.create(
            checkpoint=made, of_tenant=world.id, chain="record", last=7, digest="0" * 64
        )
    found = api.get("/records/verify").json()
    with operator_scope("put in order"):
        made.delete()
    assert (found["ok"], found["broken"], [fault["kind"] for fault in found["outside"]]) == (
        False,
        None,
        ["missing-seal"],
    )


def test_the_keys_and_the_places_are_told(api: Api, world: World, settings: Any) -> None:
    key = signatures.key_ring().public[0]
    settings.RECORD_TSA_URL = "http://tsa.example"
    told = api.get("/records/anchors").json()
    assert (told["keys"][0]["id"], told["keys"][0]["public_key"]) == (key.id, key.pem)
    assert [place["place"] for place in told["places"]] == ["tsa"]
    refused(api.get("/records/anchors?x=1"), 422, "invalid", "/x")


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


def test_a_statement_names_the_last_day_of_appeals(party: Party) -> None:
    world = make_world(party, appeal_days=184)
    audit = audited(world, ("known",))
    last = audit.created_at.date() + dt.timedelta(days=184)
    [found] = statements_of(Api(party.token))
    assert found["decision_facts"].endswith(f" An appeal can be made until {last} (UTC).")
    assert Api(party.token).get(f"/audits/{audit.id}").json()["appealable_until"] == last.isoformat()


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
