"""Auditing on the running stack, over HTTP: from an upload to a decision that a person takes back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.flows.client import Client
from tests.flows.pictures import jpeg
from tests.waiting import until

pytestmark = [pytest.mark.stack, pytest.mark.slow]

HELD = {
    "name": "held",
    "audit_uploads": True,
    "quarantine": True,
    "rules": [
        {
            "id": "forbidden-topic",
            "when": "item.metadata.topic == 'forbidden'",
            "then": "block",
            "reason": "This topic is not for here.",
        },
        {"id": "ask", "when": "item.metadata.topic == 'unsure'", "then": "review", "reason": "Look at it."},
    ],
}


@pytest.fixture
def client(make_client) -> Client:
    return make_client()


def audited(client: Client, seconds: float = 60, **content: Any) -> dict[str, Any]:
    answer = client.json("POST", "/audits", 202, **content)
    job = client.wait(answer["job"], seconds)
    assert job["state"] == "succeeded", job
    return client.json("GET", f"/audits/{answer['audit']['id']}")


def enforce(client: Client, policy: dict[str, Any]) -> str:
    made = client.json("POST", "/policies", 201, json=policy)["policy"]["id"]
    client.json("POST", f"/policies/{made}/activate", json={"version": 1, "mode": "enforce"})
    return made


def upload(client: Client, dataset: str, text: str, topic: str) -> dict[str, Any]:
    answer = client.json(
        "POST", f"/datasets/{dataset}/assets", 202, json={"text": text, "metadata": {"topic": topic}}
    )
    client.wait(answer["job"])
    return answer["asset"]


def becomes(client: Client, asset: str, status: str) -> dict[str, Any]:
    """The asset once it has this status."""

    def now() -> dict[str, Any] | None:
        told = client.json("GET", f"/assets/{asset}")
        return told if told["status"] == status else None

    return until(now, message=f"{asset} is not {status}") or {}


def test_a_text_is_audited_while_the_client_waits(client) -> None:
    answer = client.request(
        "POST", "/audits", json={"text": "write to ann.lee@gmail.com"}, headers={"Prefer": "wait=30"}
    )
    assert answer.status_code == 200, answer.text
    audit = answer.json()["audit"]
    assert audit["categories"]["personal_data"]["flagged"]
    # What is shown of it is not the address itself.
    assert "ann.lee@gmail.com" not in answer.text.replace("write to ann.lee@gmail.com", "")
    assert audit["categories"]["nudity"]["score"] is None


def test_a_picture_is_looked_at_by_every_detector_that_is_here(client) -> None:
    audit = audited(client, files={"file": ("a.jpg", jpeg(1, 400))})
    states = {detector["name"]: detector["state"] for detector in audit["detectors"]}
    assert "failed" not in states.values(), audit["detectors"]
    assert {"c2pa", "declared", "fingerprints", "ocr"} <= {n for n, s in states.items() if s == "examined"}
    assert audit["provenance"]["c2pa"]["state"] == "absent"
    seen = audit["authenticity"]
    # Neither a file without a signature nor one without copied regions was looked at for signs of generation.
    assert (seen["verdict"], seen["tier"], seen["probability"]) == ("not_examined", None, None)
    assert seen["tiers"] == {
        "cryptographic": "no_evidence",
        "declared": "no_evidence",
        "statistical": "not_examined",
    }
    assert seen["looked_for"]["cryptographic"] == ["content_credentials", "own_watermark"]
    assert set(seen["looked_for"]["statistical"]) <= {"copied_regions"}
    assert seen["estimates"]["generation"] == "not_examined"
    listed = client.json("GET", "/audits?verdict=not_examined")["results"]
    assert audit["id"] in [line["id"] for line in listed]


def test_an_upload_in_quarantine_is_found_only_when_it_was_let_go(client) -> None:
    enforce(client, HELD)
    dataset = client.dataset("d")
    allowed = upload(client, dataset, "a text about harmless gardens", "gardens")
    blocked = upload(client, dataset, "a text about gardens of evil", "forbidden")
    unsure = upload(client, dataset, "a text about unclear gardens", "unsure")
    assert becomes(client, allowed["id"], "ready")["moderation"] == "allow"
    assert becomes(client, blocked["id"], "failed")["error"]["type"] == "blocked"
    assert client.json("GET", f"/assets/{unsure['id']}")["moderation"] == "quarantined"
    assert client.found(text="gardens") == [allowed["id"]]

    # A key that may not moderate does not see what is held back; one that may does.
    reader = Client(
        client.base_url, client.json("POST", "/keys", 201, json={"name": "r", "scopes": ["read"]})["token"]
    )
    for held in (blocked, unsure):
        assert reader.request("GET", f"/assets/{held['id']}/content").status_code == 403
        assert reader.json("GET", f"/assets/{held['id']}")["excerpt"] == ""
        assert client.request("GET", f"/assets/{held['id']}/content").status_code == 200

    # A person decides, changes their mind, and decides again.
    review = client.json("POST", "/reviews/claim-next", json={})["review"]
    client.json("POST", f"/reviews/{review['id']}/decide", json={"decision": "allow", "reason": "harmless"})
    assert becomes(client, unsure["id"], "ready")["moderation"] == "allow"
    assert set(client.found(text="gardens")) == {allowed["id"], unsure["id"]}
    assert client.json("GET", "/records/verify")["ok"]


def test_a_killed_auditing_worker_loses_no_audit_and_makes_none_twice(stack, client) -> None:
    answers = [client.json("POST", "/audits", 202, json={"text": f"text number {n}"}) for n in range(30)]
    killed = stack.kill("worker-audit")
    stack.wait_for_successor("worker-audit", killed)
    jobs = [client.wait(answer["job"], 120) for answer in answers]
    assert {job["state"] for job in jobs} == {"succeeded"}
    listed = client.json("GET", "/audits?limit=200")["results"]
    assert sorted(line["id"] for line in listed) == sorted(answer["audit"]["id"] for answer in answers)


def test_what_another_tenant_audits_is_not_there(client, make_client) -> None:
    audit = audited(client, json={"text": "mine"})
    other = make_client()
    assert other.request("GET", f"/audits/{audit['id']}").status_code == 404
    assert other.json("GET", "/audits")["results"] == []
