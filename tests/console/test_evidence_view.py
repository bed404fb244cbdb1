"""The evidence viewer: places, moments and credentials, as far as they were recorded and no further."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.test import Client
from django.utils import translation
from msgspec.structs import fields

from console.audits.presenters import Node, audit_summary, credentials_of, describe_evidence, viewer_of
from ml.auditing.identifiers import KINDS
from ml.detectors.keywords import MEANINGS
from ml.provenance.credentials import manifest_tree
from standalone import catalogue
from tenants.datasets.models import Asset, Blob
from tenants.moderation import shapes
from tenants.moderation.models import Audit
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.auditing import audited
from tests.console.pages import faults_of
from tests.console.test_audits import read
from tests.tenants.policy_world import category
from tests.tenants.reviewing import World, make_world


@pytest.fixture
def world(party: Party) -> World:
    return make_world(party)


def audit_of(parts: dict[str, Any]) -> shapes.Audit:
    """An audit's shape with only these parts."""
    needed = {one.name: None for one in fields(shapes.Audit) if one.required}
    return shapes.Audit(**(needed | parts))


def shape(
    *evidence: Any, duration: float = 0.0, size: tuple[int, int] = (2048, 1024), **more: Any
) -> shapes.Audit:
    return audit_of(
        {
            "item": {"width": size[0], "height": size[1], "duration_s": duration},
            "detectors": [{"name": "looker", "evidence": list(evidence)}],
            **more,
        }
    )


def test_boxes_of_pixels_and_of_shares_meet_on_one_scale() -> None:
    # Detectors saw it 1024 pixels wide.
    face = {"kind": "face", "box": [512, 0, 512, 256], "score": 0.9}
    words = {"kind": "words", "box": [[0.1, 0.2], [0.3, 0.2], [0.3, 0.4], [0.1, 0.4]]}
    boxes = viewer_of(shape(face, words)).boxes
    assert [box.points for box in boxes] == [
        "50.0,0.0 100.0,0.0 100.0,50.0 50.0,50.0",
        "10.0,20.0 30.0,20.0 30.0,40.0 10.0,40.0",
    ]


@pytest.mark.parametrize(
    "box",
    [
        None,
        [],
        [1, 2, 3],
        ["a", 1, 2, 3],
        [9, 9, 0, 1],
        [[2, 2], [3, 3], [4, 4], [5, 5]],
        [True] * 4,
        [-5, 0, 9, 9],
    ],
)
def test_what_is_no_box_is_not_drawn(box: Any) -> None:
    assert viewer_of(shape({"box": box})).boxes == []


@pytest.mark.parametrize(
    ("detector", "caveat"), [("nudity", True), ("picture-safety:hf:/models/x#a=nudity", False)]
)
def test_what_was_not_measured_is_said_beside_the_score(detector: str, caveat: bool) -> None:
    found = category(0.93) | {
        "calibrated": False,
        "detector": detector,
        "evidence": [{"kind": "score", "score": 0.93}],
    }
    seen = audit_of({"categories": {"nudity": found}, "authenticity": {}})
    (line,) = audit_summary(Audit(rules=[]), seen, None).looked
    assert line.caveat == ("its miss rate has not been measured" if caveat else "")
    page = {"sheet": {"looked": [line]}, "audit": Audit(decision="allow"), "asset": None}
    shown = render_to_string("console/parts/audit_categories.html", page)
    assert ("not calibrated, so not a probability; its miss rate has not been measured" in shown) == caveat


def test_moments_and_stretches_are_placed_on_the_time_line() -> None:
    stretch = {"kind": "stretch", "start_s": 25.0, "end_s": 50.0, "score": 0.75}
    frame = {"kind": "frame", "at_s": 10.0, "score": 0.5}
    spans = viewer_of(
        shape(stretch, frame, frame, {"at_s": 900.0}, {"start_s": 9, "end_s": 3}, duration=100.0)
    ).spans
    assert [(span.start_s, span.end_s, span.left, span.is_frame) for span in spans] == [
        (10.0, 10.0, 10.0, True),
        (25.0, 50.0, 25.0, False),
    ]
    assert spans[1].width == 25.0
    assert viewer_of(shape(stretch)).spans == []


def test_erased_evidence_shows_nothing() -> None:
    assert not viewer_of(audit_of({"evidence": "erased"}))
    assert credentials_of(audit_of({"evidence": "erased"})) is None


# --- Content credentials ---------------------------------------------------------------------------------

REPORT = {
    "active_manifest": "urn:a",
    "manifests": {
        "urn:a": {
            "title": "Poster.jpg",
            "claim_generator_info": [{"name": "Editor", "version": "2"}],
            "signature_info": {"issuer": "Example Ltd", "time": "2026-01-02T03:04:05Z"},
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [{"action": "c2pa.edited"}]}},
                {"label": "stds.note", "data": {"text": "Hello", "hash": "zzz"}},
            ],
            "ingredients": [
                {"title": "Photo.jpg", "relationship": "parentOf", "active_manifest": "urn:b"},
                {"title": "Sky.png", "relationship": "componentOf"},
            ],
        },
        "urn:b": {"title": "Photo.jpg", "signature_info": {"common_name": "Camera"}, "ingredients": [
            {"title": "again", "active_manifest": "urn:a"}]},
    },
}  # fmt: skip


def names(node: Node, depth: int = 0) -> list[str]:
    return [
        f"{'  ' * depth}{node.name}: {node.says}",
        *(n for c in node.children for n in names(c, depth + 1)),
    ]


def test_a_manifest_is_a_tree_of_claims_and_what_they_were_made_from() -> None:
    c2pa = {"state": "valid", "tree": manifest_tree(REPORT), "codes": []}
    lines = names(credentials_of(audit_of({"provenance": {"c2pa": c2pa}})))
    assert lines[0] == "Poster.jpg: "
    assert "  Signer: Example Ltd, 2026-01-02T03:04:05Z" in lines
    assert "    c2pa.actions.v2: " in lines
    assert "      c2pa.edited: " in lines
    assert "      text: Hello: " in lines
    assert not any("zzz" in line for line in lines)
    assert "    Photo.jpg: parentOf" in lines
    assert any("It carries no credentials of its own." in line for line in lines)
    assert "  Validation: Intact; the signer is not on the list of trusted ones." in lines


def test_manifests_that_name_each_other_end_somewhere() -> None:
    found = names(
        credentials_of(audit_of({"provenance": {"c2pa": {"state": "valid", "tree": manifest_tree(REPORT)}}}))
    )
    assert len(found) < 60


def test_a_hostile_manifest_stays_small() -> None:
    assertion = {"label": "l", "data": {"a" * 99: "b" * 9_999}}
    many = {
        f"urn:{n}": {
            "title": "x" * 9_999,
            "assertions": [assertion] * 500,
            "ingredients": [{"title": "y" * 999, "active_manifest": f"urn:{n + 1}"}] * 500,
        }
        for n in range(50)
    }
    assert len(json.dumps(manifest_tree({"active_manifest": "urn:0", "manifests": many}))) < 100_000
    for odd in (
        {},
        {"manifests": []},
        {"active_manifest": None},
        {"manifests": {"a": 1}, "active_manifest": "a"},
    ):
        assert manifest_tree(odd) == {}


def test_a_broken_signature_is_said_to_be_broken() -> None:
    codes = [{"code": "assertion.dataHash.mismatch", "explanation": "changed"}]
    c2pa = {"state": "invalid", "tree": manifest_tree(REPORT), "codes": codes}
    found = credentials_of(audit_of({"provenance": {"c2pa": c2pa}}))
    assert found is not None
    assert found.children[0].state == "bad"
    assert found.children[0].children[0].name == "assertion.dataHash.mismatch"


def test_audits_from_before_trees_show_what_was_recorded() -> None:
    c2pa = {"state": "trusted", "generator": "Old", "signer": {"organisation": "Org"}, "ingredients": 2}
    lines = names(credentials_of(audit_of({"provenance": {"c2pa": c2pa}})))
    assert "  Signer: Org" in lines
    assert "  Not listed here: 2" in lines
    for state in ("absent", "not_examined"):
        assert credentials_of(audit_of({"provenance": {"c2pa": {"state": state}}})) is None


# --- The page --------------------------------------------------------------------------------------------


def of_kind(party: Party, asset: Asset, modality: str, media_type: str) -> Asset:
    with tenant_scope(party.id):
        Asset.objects.filter(pk=asset.pk).update(modality=modality)
        Blob.objects.filter(pk=asset.blob_id).update(media_type=media_type)
        return Asset.objects.get(pk=asset.pk)


def test_a_picture_has_a_slider_over_what_was_marked(party: Party, world: World, owner: Client) -> None:
    asset = of_kind(party, world.add(), "image", "image/jpeg")
    audit = audited(world, asset=asset)
    page = read(owner, f"/audits/{audit.id}")
    assert 'type="range"' in page
    assert "data-mask" in page
    assert "not proof" in page
    assert faults_of(page) == []


def test_credentials_stand_on_the_page_escaped(world: World, owner: Client) -> None:
    audit = audited(world, hostile="<b>evil</b>")
    page = read(owner, f"/audits/{audit.id}")
    assert "claim-tree" in page
    assert "<b>evil</b>" not in page
    assert faults_of(page) == []


def test_what_a_detector_notes_is_read_in_the_language_of_the_reader() -> None:
    catalogue.compile_all()
    noted: list[dict[str, Any]] = [
        *(
            {"type": kind.name, "sensitive": kind.sensitive, "masked": "***", "checked": True}
            for kind in KINDS
        ),
        *({"list": "42", "term": "42", "meaning": meaning} for meaning in MEANINGS.values()),
        {"score": 0.5, "calibrated": True, "start_s": 1.0, "end_s": 2.0, "frames": 3, "known": True},
        {"keypoints": 9, "agreement": 0.5, "scaled": 1.0, "turned_degrees": 3},
        {"kind": "left-out", "reason": "too long"},
    ]
    names = {"IBAN", "IP", "MAC", "CURP", "CPF", "SNILS", "NRIC", "PAN", "Aadhaar", "NHS", "Bitcoin", "Tron"}
    names |= {"Ethereum"}
    with translation.override("zh-hans"):
        said = [describe_evidence(one) for one in noted]
    assert [text for text in said if set(re.findall("[A-Za-z]+", text)) - names] == []
    assert describe_evidence({"type": "email", "masked": "***@***.org", "checked": True}) == (
        "type: e-mail address, masked: ***@***.org, checked"
    )


def test_why_a_detector_did_not_look_is_read_in_the_language_of_the_reader() -> None:
    catalogue.compile_all()
    why = "There is no sound in it."
    seen = audit_of(
        {
            "detectors": [{"name": "42", "state": "abstained", "tier": "rules", "reason": why, "cpu_s": 1.0}],
            "provenance": {name: {"state": "not_examined", "reason": why} for name in ("c2pa", "declared")},
        }
    )
    with translation.override("zh-hans"):
        for part in ("audit_detectors", "audit_provenance"):
            shown = render_to_string(f"console/parts/{part}.html", {"shape": seen})
            assert why not in shown
            assert "其中没有声音。" in shown
