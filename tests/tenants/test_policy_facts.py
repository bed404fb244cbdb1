"""Policies whose conditions read rules over facts: what is concluded, stored, explained and replayed."""

from __future__ import annotations

import copy
import io
import json
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import translation

from ml.auditing import Examination, counts_of
from ml.auditing.examiner import DetectorResult
from ml.detectors.base import Finding, Words
from ml.reasoning import Pattern
from tenants.errors import Invalid
from tenants.moderation import policies
from tenants.moderation.audits.evidence import digest
from tenants.moderation.audits.explanations import explain
from tenants.moderation.models import Audit, Evidence
from tenants.moderation.rules import document as policy_document
from tenants.moderation.rules import facts, static_checks
from tenants.moderation.rules.decision import decide
from tenants.moderation.rules.reasoning import check, reason
from tenants.scope import tenant_scope
from tests.tenants.policy_world import category, document, evidence, rule

RULES = """rude(A) :- category(A, "abuse") @ 0.8.
rude_seller(A) :- rude(A), metadata(A, "kind", "listing").
no_alcohol(A) :- item(A), !contains(A, "alcohol") @ 0.5.
many_shots(A) :- item(A), N = count : { shot(A, _) }, N > 3.
"""

POLICY = document(
    rule("rude-seller", "facts.rude_seller.holds", "block"),
    rule("rude", "facts.rude.holds && facts.rude.confidence < 0.95", "review"),
    rule("shots", "facts.many_shots.state == 'not_examined'", "label", labels=["uncut"]),
    rule("sober", "facts.no_alcohol.holds", "label", labels=["sober"]),
    facts_rules=RULES,
)


def read(given: dict[str, Any] = POLICY) -> dict[str, Any]:
    return policy_document.read_document(given)


def seen(abuse: float = 0.9, **more: Any) -> dict[str, Any]:
    found = evidence(categories={"abuse": category(abuse)}, **more)
    return {**found, "item": {**found["item"], "metadata": {"kind": "listing", "new": True, "price": 3.5}}}


def test_conditions_read_what_rules_over_facts_conclude() -> None:
    policy = read()
    assert decide(policy, seen()).rules == ("rude-seller", "rude", "shots")
    assert decide(policy, seen(0.79)).rules == ("shots",)
    assert decide(policy, evidence(categories={"abuse": category(0.96)})).rules == ("shots",)
    sober = seen(0.1, classifier={"alcohol": {"state": "examined", "probability": 0.2, "version": 3}})
    assert decide(policy, sober).rules == ("shots", "sober")
    drunk = seen(0.1, classifier={"alcohol": {"state": "examined", "probability": 0.7, "version": 3}})
    assert decide(policy, drunk).rules == ("shots",)


def test_what_takes_too_long_is_decided_as_what_could_not_look() -> None:
    wide = "far(A) :- " + ", ".join(f"metadata(_, K{n}, _)" for n in range(8)) + ", item(A)."
    policy = read(
        document(rule("far", "facts.far.holds", "label", labels=["x"]), facts_rules=wide, on_failure="block")
    )
    many = evidence()
    many["item"]["metadata"] = {f"k{n}": n for n in range(40)}
    found = decide(policy, many)
    assert (found.decision, found.rules, found.unclear) == ("block", ("detector-failed",), ("far",))
    assert found.reasons == (
        "Could not look: facts (More than 20,000 steps; let parts of a rule share variables, or narrow them).",
    )
    assert reason(policy, many, found) == {
        "rules": wide,
        "error": "More than 20,000 steps; let parts of a rule share variables, or narrow them.",
    }


@pytest.mark.parametrize(
    ("given", "pointer", "detail"),
    [
        ({"facts_rules": "x"}, "/facts_rules", "Line 1, column 2: After x come its arguments in brackets."),
        (
            {"facts_rules": 7},
            "/facts_rules",
            "Rules over facts are a text; leave the field out if there are none.",
        ),
        (
            {"facts_rules": 'p(A) :- contians(A, "x").'},
            "/facts_rules",
            "Line 1, column 1: Nothing tells or derives contians. Do you mean contains?",
        ),
        ({"facts_rules": "%" * 20_001}, "/facts_rules", "At most 20,000 characters of rules over facts."),
        (
            {"facts_rules": "\n".join(f'p{n}("x").' for n in range(101))},
            "/facts_rules",
            "At most 100 rules over facts.",
        ),
        (
            {"rules": [rule("r", "facts.rude.holds", "block")]},
            "/rules/0/when",
            "No rule of facts_rules derives 'rude'; there are none.",
        ),
        (
            {"facts_rules": RULES, "rules": [rule("r", "facts.rood.holds", "block")]},
            "/rules/0/when",
            "No rule of facts_rules derives 'rood'; there are many_shots, no_alcohol, rude, rude_seller.",
        ),
        (
            {"facts_rules": RULES, "rules": [rule("r", "facts.rude.sure > 0.5", "block")]},
            "/rules/0/when",
            "Of a fact there are holds, state, confidence, count.",
        ),
        (
            {"facts_rules": RULES, "rules": [rule("r", "facts.rude", "block")]},
            "/rules/0/when",
            "Write facts.rude.holds, or another of holds, state, confidence, count.",
        ),
    ],
)
def test_rules_that_cannot_be_used_are_refused(given: dict[str, Any], pointer: str, detail: str) -> None:
    with pytest.raises(Invalid) as raised:
        policy_document.read_document({"rules": [], **given})
    assert raised.value.errors == [{"pointer": pointer, "detail": detail}]


def test_what_can_be_told_of_rules_over_facts() -> None:
    loose = RULES + 'sad(A) :- category(A, "self_harm").\n'
    report = static_checks.check_policy({**POLICY, "facts_rules": loose})
    assert report.errors == []
    assert [(one.code, one.detail) for one in report.warnings if one.pointer == "/facts_rules"] == [
        ("not-examined", "Line 4: nothing here tells shot, so it is never examined."),
        (
            "no-threshold",
            "Line 5: category counts however unsure it is; ask for a confidence: category(…) @ 0.8.",
        ),
        ("unused-fact", "No rule reads sad."),
    ]


def test_a_document_without_rules_over_facts_is_the_same_as_before() -> None:
    assert "facts_rules" not in read(document(rule("r", "true", "label", labels=["x"])))
    assert read()["facts_rules"] == RULES


# --- Facts -----------------------------------------------------------------------------------------------


def told(found: dict[str, Any]) -> dict[tuple[Any, ...], float]:
    return {(fact.predicate, *fact.arguments): fact.confidence for fact in facts.facts_of(found).facts}


def test_facts_say_what_evidence_says_and_how_sure_it_was() -> None:
    found = told(
        seen(
            classifier={
                "alcohol": {"state": "examined", "probability": 0.7, "version": 3},
                "knife": {"state": "stale"},
            },
            counts={"words": {"caption": 4, "picture": 12}},
        )
    )
    assert found[("category", "item", "abuse")] == 0.9
    assert found[("contains", "item", "alcohol")] == 0.7
    assert ("contains", "item", "knife") not in found
    assert found[("words", "item", "picture", 12)] == 1.0
    assert found[("metadata", "item", "new", "true")] == found[("metadata", "item", "price", 3.5)] == 1.0


def test_only_what_was_looked_for_is_examined() -> None:
    patterns = set(
        facts.facts_of({"categories": {"abuse": category(0.0), "violence": {"state": "failed"}}}).patterns
    )
    assert Pattern("category", (None, "abuse")) in patterns
    assert Pattern("category", (None, "violence")) not in patterns
    assert {one.predicate for one in patterns} & {
        "shot",
        "page",
        "speaker",
        "face",
        "words",
        "contains",
    } == set()


def test_evidence_of_any_shape_tells_facts_and_never_fails() -> None:
    hostile: list[Any] = [
        {},
        {
            "item": [],
            "categories": 3,
            "classifier": {"a": None},
            "matches": [7],
            "detectors": "x",
            "counts": {"words": []},
        },
        {
            "item": {"metadata": {"k" * 5_000: "v" * 5_000, "n": 2.0**80, "nan": float("nan")}},
            "strikes": True,
        },
        {
            "categories": {"abuse": {"state": "examined", "score": 7, "evidence": [None]}},
            "authenticity": {"tiers": None},
        },
    ]
    for one in hostile:
        assert facts.facts_of(one).facts[0].predicate in ("item", "category")
        assert decide(read(), one).unclear == ()


def test_numbers_are_of_what_was_counted_whole() -> None:
    def result(spec: str, finding: Finding) -> DetectorResult:
        return DetectorResult(spec, None, finding, 0.0)  # type: ignore[arg-type]

    face = {"kind": "face", "box": [0, 0, 50, 50], "score": 0.1}
    few = Finding(evidence=[{"kind": "score"}, face, face])
    many = Finding(evidence=[face] * 8)
    none = Finding("not_applicable", "No frontal face of at least 48 pixels was found.")
    read_ = Finding(words=[Words("NO ENTRY 禁止进入", "picture")], evidence=[{}])

    def counted(modality: str, *parts: DetectorResult) -> dict[str, Any]:
        return counts_of(
            modality, [Words("two words", "caption")], Examination({"duration_s": 5.0}, parts, 0.0)
        )

    assert counted("image", result("hf-face:a", few), result("ocr", read_)) == {
        "words": {"caption": 2, "picture": 6},
        "faces": {"hf-face:a": 2},
    }
    assert counted("image", result("hf-face:a", none)) == {"words": {"caption": 2}, "faces": {"hf-face:a": 0}}
    assert counted("image", result("hf-face:a", many)) == {"words": {"caption": 2}}
    assert counted("video", result("hf-face:a", few), result("ocr", read_)) == {"words": {"caption": 2}}


# --- Proofs ----------------------------------------------------------------------------------------------


def proven(policy: dict[str, Any], found: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    decided = decide(policy, found)
    stored = reason(policy, found, decided)
    assert stored is not None
    return json.loads(json.dumps(stored)), decided.rules


def test_a_stored_proof_is_replayed_and_tampering_is_told() -> None:
    policy, found = read(), seen()
    stored, fired = proven(policy, found)
    assert check(stored, policy, found, fired) == ""
    assert check(stored, policy, found, ("shots",)) == (
        "By what is proven rude-seller, rude, shots fires, and shots did."
    )
    other = {**policy, "facts_rules": RULES.replace("0.8", "0.7")}
    assert check(stored, other, found, fired) == "The rules over facts are not those of the policy's version."
    raised = copy.deepcopy(stored)
    raised["proof"]["derived"][0]["confidence"] = 0.95
    assert check(raised, policy, found, fired) == (
        'rude("item") is not as sure as its least sure part, or stands at another depth.'
    )


def test_a_decision_says_what_would_have_to_be_otherwise() -> None:
    stored, _ = proven(read(), seen())
    assert stored["otherwise"] == {
        "changes": [
            [{"kind": "below", "fact": ["category", "item", "abuse"], "value": 0.8}],
            [{"kind": "asks_more", "rule": 1, "part": 1, "of": "category", "value": 0.9}],
        ],
        "decision": "label",
        "complete": True,
    }
    assert stored["read"] == {"rude-seller": ["rude_seller"], "rude": ["rude"], "shots": ["many_shots"]}


def test_the_proof_is_told_in_sentences() -> None:
    stored, _ = proven(read(), seen())
    with translation.override("en"):
        assert explain(stored).sentences() == [
            "rude_seller follows with confidence 0.90, by rule 2 over facts (line 2):",
            "rude follows with confidence 0.90, by rule 1 over facts (line 1):",
            "Found: the category “abuse” (confidence 0.90, abuse); 0.8 at least is asked for.",
            "Found: the metadata kind: listing (confidence 1.00, asset).",
            "rude follows with confidence 0.90, by rule 1 over facts (line 1):",
            "Found: the category “abuse” (confidence 0.90, abuse); 0.8 at least is asked for.",
            "many_shots was not examined.",
            "It would be labelled if the confidence of the category “abuse” were below 0.8.",
            "It would be labelled if rule 1 over facts asked “category” for a confidence above 0.9.",
        ]
        # Statements of reasons are published: nothing that may name a person.
        assert explain(stored, public=True).sentences()[:3] == [
            "rude_seller follows with confidence 0.90, by rule 2 over facts (line 2):",
            "rude follows with confidence 0.90, by rule 1 over facts (line 1):",
            "Found: the category “abuse” (confidence 0.90, abuse); 0.8 at least is asked for.",
        ]
        assert not [one for one in explain(stored, public=True).sentences() if "listing" in one]
    with translation.override("zh-hans"):
        assert (
            explain(stored).sentences()[2] == "已发现：类别“abuse”（置信度 0.90，来源 abuse）；要求至少 0.8。"
        )


# --- Stored ----------------------------------------------------------------------------------------------


def stored_audit(policy: Any, found: dict[str, Any], tampered: Any = None) -> Audit:
    """As an audit leaves it; `tampered` changes the evidence behind its digest. In the tenant's scope."""
    version = policy.versions.get()
    decided = decide(version.document, found)
    kept = {**found, "reasoning": reason(version.document, found, decided)}
    sealed = digest(kept)
    if tampered:
        tampered(kept)
    audit = Audit.objects.create(
        sha256="ab" * 32,
        modality="image",
        source="request",
        decision=decided.decision,
        mode="enforce",
        policy_version=version.id,
        rules=list(decided.rules),
        verdict="no_evidence",
        evidence_digest=sealed if tampered else digest(kept),
    )
    Evidence.objects.create(audit=audit, document=kept)
    return audit


def verified(slug: str) -> tuple[list[str], str]:
    out, refused = io.StringIO(), ""
    try:
        call_command("verify_proofs", tenant=slug, stdout=out)
    except CommandError as error:
        refused = str(error)
    return [" ".join(line.split()) for line in out.getvalue().splitlines()], refused


def test_stored_proofs_are_replayed_by_a_command(party: Any) -> None:
    with tenant_scope(party.id):
        policy, _ = policies.create_policy(name="facts", document=POLICY)
        for abuse in (0.1, 0.8, 0.9):
            stored_audit(policy, seen(abuse))
        Evidence.objects.create(audit=Audit.objects.create(**PLAIN), document=evidence())
    slug = party.tenant.slug
    assert verified(slug) == ([f"{slug} 3 proofs, 0 mismatches"], "")

    def less_sure(kept: dict[str, Any]) -> None:
        kept["reasoning"]["proof"]["derived"][0]["confidence"] = 0.5

    with tenant_scope(party.id):
        changed = stored_audit(policy, seen(), less_sure)
    assert verified(slug) == (
        [
            f"{slug} MISMATCH: audit {changed.id}: The evidence is not what the record's digest is of.",
            f"{slug} 4 proofs, 1 mismatches",
        ],
        f"Proofs do not fit: {slug}.",
    )


PLAIN = {
    "modality": "text",
    "source": "request",
    "decision": "allow",
    "mode": "off",
    "verdict": "no_evidence",
}
