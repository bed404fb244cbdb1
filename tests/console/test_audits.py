"""Pages about audits: what was decided and seen, in words that never turn "did not look" into "fine"."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image

from tenants.datasets.models import Asset
from tenants.moderation import policies
from tenants.moderation.models import Audit, AuditPicture, AuditRequest, Evidence
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.auditing import PNG, audited
from tests.console.pages import faults_of
from tests.console.test_pages import EVIL, check
from tests.tenants.reviewing import World, make_world
from tests.tenants.test_policy_facts import POLICY as FACTS
from tests.tenants.test_policy_facts import seen as seen_facts
from tests.tenants.test_policy_facts import stored_audit


@pytest.fixture
def world(party: Party) -> World:
    return make_world(party)


def read(client: Client, address: str, status: int = 200) -> str:
    response = client.get(address)
    assert response.status_code == status, address
    return check(response, address)


def test_an_audit_tells_its_decision_and_each_tier_apart(world: World, owner: Client) -> None:
    audit = audited(world)
    page = read(owner, f"/audits/{audit.id}")
    assert "<h1>In review</h1>" in page
    assert "It may be rude." in page
    assert 'tier-inconclusive"><dt>Signed</dt>' in page
    assert 'tier-likely_synthetic"><dt>Declared</dt>' in page
    assert 'tier-inconclusive"><dt>Estimated</dt>' in page
    assert "They do not fit the file" in page
    assert "91 %" in page
    assert "(80 % to 97 %)" in page
    assert "flagged from 50 %" in page
    assert "Known fakes" in page
    assert "12" in page
    assert "of 31 allowed" in page
    assert "NO ENTRY" in page
    assert "1:01" in page
    assert audit.evidence_digest in page


def test_why_rules_over_facts_decided_is_told_and_what_would_change_it(world: World, owner: Client) -> None:
    with tenant_scope(world.id):
        policy, _ = policies.create_policy(name="facts", document=FACTS)
        audit = stored_audit(policy, seen_facts())
    page = " ".join(read(owner, f"/audits/{audit.id}").split())
    assert '<h2 id="why-title">Why</h2>' in page
    assert "rude_seller follows with confidence 0.90, by rule 2 over facts (line 2):" in page
    assert "Found: the metadata kind: listing (confidence 1.00, asset)." in page
    assert "It would be labelled if the confidence of the category “abuse” were below 0.8." in page
    assert "Blocked, because rule rude-seller says: Because of rude-seller." in page
    assert "It was checked as this page opened" in page
    chinese = owner.get(f"/audits/{audit.id}", headers={"accept-language": "zh-hans"}).content.decode()
    assert "若类别“abuse”的置信度低于 0.8，则会加标签。" in chinese
    other = audited(world)
    assert "why-title" not in read(owner, f"/audits/{other.id}")


def test_what_did_not_look_is_said_and_is_no_pass(world: World, owner: Client) -> None:
    page = read(owner, f"/audits/{audited(world).id}")
    kept = " ".join(page.split())
    assert "These were not checked, so nothing is known." in kept
    unlooked = kept.partition("Not examined</span> ")[2].partition(".")[0]
    assert unlooked.split(", ") == [
        "Insult",
        "Threat",
        "Profanity",
        "Personal data",
        "Self-harm",
        "Sexual",
        "Nudity",
    ]
    assert 'status-failed">Failed</span> Violence' in kept
    assert 'status-abstained">Inconclusive result</span> Spam' in kept
    assert "Could not look:</strong> violence" in kept
    assert "authentic." not in kept.lower()


def test_what_was_seen_is_marked_in_the_words(world: World, owner: Client) -> None:
    audit = audited(world)
    with tenant_scope(world.id):
        text = Asset.objects.get(pk=audit.item).excerpt
    page = read(owner, f"/audits/{audit.id}")
    assert f"{text[:2]}<mark>{text[2:5]}</mark>{text[5:6]}<mark>{text[6:12]}</mark>{text[12:]}" in page


def test_an_audit_in_shadow_says_that_nothing_was_done(world: World, owner: Client) -> None:
    page = read(owner, f"/audits/{audited(world, ('known',), mode='shadow').id}")
    assert "<h1>Would be: blocked</h1>" in page
    assert "only noted" in page


def test_pictures_of_detectors_are_served_as_pictures_only(world: World, owner: Client) -> None:
    audit = audited(world)
    with tenant_scope(world.id):
        picture = AuditPicture.objects.get(audit=audit)
    response = owner.get(f"/audits/{audit.id}/pictures/{picture.id}")
    assert response.content == PNG
    assert response["Content-Type"] == "image/png"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in response["Content-Security-Policy"]
    other = audited(world)
    assert owner.get(f"/audits/{other.id}/pictures/{picture.id}").status_code == 404


def test_the_decision_stays_when_the_evidence_is_erased(world: World, owner: Client) -> None:
    audit = audited(world)
    with tenant_scope(world.id):
        Evidence.objects.filter(audit=audit).delete()
    page = read(owner, f"/audits/{audit.id}")
    assert "The evidence was erased" in page
    assert "It may be rude." in page
    assert audit.evidence_digest in page


def test_the_list_is_filtered_and_paged(world: World, owner: Client) -> None:
    asset = world.add(values={"a": 1})
    for number in range(30):
        world.audit(("known",) if number % 3 else ("made",), asset)
    first = read(owner, "/audits")
    assert first.count("being audited") == 0
    assert first.count('class="state-cell"') == 25
    older = first.partition("&amp;before=")[2].partition('"')[0]
    assert read(owner, f"/audits?before={older}").count('class="state-cell"') == 5
    assert read(owner, "/audits?decision=label").count('class="state-cell"') == 10
    assert "No matching audits" in read(owner, "/audits?decision=review")
    assert read(owner, "/audits?decision=nonsense&verdict=\x00&before=zzz").count('class="state-cell"') == 25


def test_an_empty_list_says_how_to_begin(owner: Client) -> None:
    page = read(owner, "/audits")
    assert "Nothing has been audited yet" in page
    assert '<details class="panel fold" id="ask" open>' in page


def test_a_text_is_audited(party: Party, owner: Client) -> None:
    sent = owner.post("/audits", {"text": "A red kettle", "subject": "seller-1"})
    assert sent.status_code == 302
    with tenant_scope(party.id):
        asked = AuditRequest.objects.get()
    assert sent["Location"] == f"/audits/{asked.id}"
    assert (asked.subject, asked.modality, asked.requested_by) == ("seller-1", "text", str(owner.user.pk))
    page = read(owner, sent["Location"])
    assert "Being audited" in page
    assert f'data-job="{asked.job_id}" data-panel="/audits/{asked.id}"' in page
    assert "being audited" in read(owner, "/audits")


def test_a_file_sent_by_the_script_is_answered_with_its_page(owner: Client) -> None:
    file = SimpleUploadedFile("a.txt", b"Some words")
    answer = owner.post("/audits", {"file": file}, headers={"accept": "application/json"})
    assert answer.status_code == 202
    assert owner.get(answer.json()["page"]).status_code == 200


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "a file"),
        ({"text": "x", "policy": str(uuid.uuid4())}, "This policy does not exist"),
        ({"text": "x", "policy": "zzz"}, "valid UUID"),
        ({"text": "x", "subject": "s" * 201}, "200"),
        ({"text": "x\x00"}, "Null characters"),
    ],
)
def test_what_cannot_be_audited_is_said(
    fields: dict[str, str], said: str, party: Party, owner: Client
) -> None:
    response = owner.post("/audits", fields)
    page = response.content.decode()
    assert response.status_code == 422
    assert said in page
    assert faults_of(page) == []
    assert owner.post("/audits", fields, headers={"accept": "application/json"}).status_code in (404, 422)
    with tenant_scope(party.id):
        assert not AuditRequest.objects.exists()


def test_an_asset_is_audited_from_its_page(world: World, owner: Client) -> None:
    asset = world.add()
    assert "It has not been audited." in read(owner, f"/assets/{asset.id}")
    sent = owner.post(f"/assets/{asset.id}/audit")
    with tenant_scope(world.id):
        asked = AuditRequest.objects.get(asset=asset)
    assert sent["Location"] == f"/audits/{asked.id}"
    audited(world, ("made",), asset=asset)
    page = read(owner, f"/assets/{asset.id}")
    assert "Labelled</a>" in page
    assert "AI-generated" in page
    assert "<h1>Audits of this asset</h1>" in read(owner, f"/assets/{asset.id}/audits")


def test_an_ai_label_is_seen_by_everybody_wherever_the_asset_is(
    world: World, person: Callable[..., Client]
) -> None:
    asset = world.asset(audited(world, ("made",)))
    viewer = person("viewer")
    assert "AI-generated" in read(viewer, f"/datasets/{asset.dataset_id}")
    assert "AI-generated" in viewer.get(f"/assets/{asset.id}/tile").content.decode()
    page = read(viewer, f"/assets/{asset.id}")
    assert "label-ai-generated" in page
    assert "/audits" not in page


def test_what_is_held_back_is_shown_only_to_who_may_moderate(
    world: World, person: Callable[..., Client]
) -> None:
    asset = world.asset(audited(world, ("known",)))
    secret = asset.excerpt
    reviewer, viewer = person("reviewer"), person("viewer")
    page = read(reviewer, f"/assets/{asset.id}")
    assert "Blocked by the content policy." in page
    assert secret in page
    hidden = read(viewer, f"/assets/{asset.id}")
    assert "Not shown" in hidden
    for address in (f"/assets/{asset.id}", f"/datasets/{asset.dataset_id}", f"/assets/{asset.id}/tile"):
        assert secret not in viewer.get(address).content.decode(), address
    assert viewer.get(f"/assets/{asset.id}/content").status_code == 403


def test_content_of_no_asset_can_be_opened_while_somebody_has_to_look(party: Party, owner: Client) -> None:
    sent = owner.post("/audits", {"text": "Words to look at"})
    response = owner.get(f"{sent['Location']}/content")
    assert b"".join(response.streaming_content) == b"Words to look at"
    assert "sandbox" in response["Content-Security-Policy"]
    with tenant_scope(party.id):
        AuditRequest.objects.update(blob=None)
    assert owner.get(f"{sent['Location']}/content").status_code == 404


def test_a_photo_that_no_browser_shows_is_looked_at_as_a_jpeg(owner: Client) -> None:
    photo = (Path(__file__).parent.parent / "ml" / "heic" / "rotated.heic").read_bytes()
    sent = owner.post("/audits", {"file": SimpleUploadedFile("IMG_0001.HEIC", photo)})
    response = owner.get(f"{sent['Location']}/content")
    assert (response.status_code, response["Content-Type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(response.content)) as shown:
        assert (shown.format, shown.size) == ("JPEG", (96, 144))
    broken = owner.post("/audits", {"file": SimpleUploadedFile("a.heic", photo[:300])})
    assert owner.get(f"{broken['Location']}/content").status_code == 409


def test_hostile_evidence_stays_words(world: World, owner: Client) -> None:
    audit = audited(world, hostile=EVIL)
    page = read(owner, f"/audits/{audit.id}")
    assert page.count("&lt;script&gt;alert(1)") >= 8
    review = next(iter(world.flags(audit).values()))
    read(owner, f"/reviews/{review.id}")


@pytest.mark.parametrize("damage", [{"categories": {}}, {"authenticity": {}}, {"words": []}, {"matches": []}])
def test_evidence_of_another_shape_is_shown_as_far_as_it_goes(
    damage: dict[str, Any], world: World, owner: Client
) -> None:
    """Evidence lives for years: a page must not break on what an older version wrote."""
    audit = audited(world)
    with tenant_scope(world.id):
        row = Evidence.objects.get(audit=audit)
        Evidence.objects.filter(pk=row.pk).update(document={**row.document, **damage})
    read(owner, f"/audits/{audit.id}")


def test_an_unknown_audit_is_absent(owner: Client) -> None:
    assert owner.get(f"/audits/{uuid.uuid4()}").status_code == 404
    assert owner.get("/audits/not-an-id").status_code == 404


def test_without_rules_and_without_a_policy(world: World, owner: Client) -> None:
    asset = world.add()
    with tenant_scope(world.id):
        Audit.objects.create(
            item=asset.id,
            modality="text",
            source="request",
            decision="allow",
            mode="off",
            verdict="not_examined",
            evidence_digest="0" * 64,
        )
        audit = Audit.objects.get(item=asset.id)
    page = read(owner, f"/audits/{audit.id}")
    assert "<h1>Examined</h1>" in page
    assert "No policy was in effect" in page
