"""What a policy decides: the strongest of what fired, exceptions, thresholds, and what could not be looked at."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenants.errors import Invalid
from tenants.moderation import starters
from tenants.moderation.rules import document as policy_document
from tenants.moderation.rules import static_checks
from tenants.moderation.rules.decision import (
    STRENGTH,
    Decision,
    FiredRule,
    apply_thresholds,
    compile_policy,
    decide,
)
from tests.tenants.policy_world import category, document, evidence, rule

ABUSE = rule("abuse", "categories.abuse.flagged", "review")
KNOWN = rule("known", "matches.exists(m, m.stance == 'bad')", "block")
BAD = {
    "list": "l",
    "name": "n",
    "stance": "bad",
    "shared": False,
    "algorithm": "pdq",
    "distance": 3,
    "limit": 31,
}
GOOD = {**BAD, "stance": "good", "algorithm": "sha256", "distance": 0}


def of(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return policy_document.read_document(document(*rules, **more))


def test_the_strongest_of_what_fired_is_decided() -> None:
    policy = of(rule("seen", "true", "label"), ABUSE, KNOWN)
    found = decide(policy, evidence(matches=[BAD], categories={"abuse": category(0.9)}))
    assert found.decision == "block"
    assert found.rules == ("seen", "abuse", "known")
    assert found.reasons == ("Because of seen.", "Because of abuse.", "Because of known.")
    assert (found.labels, found.severity, found.unclear) == (("seen",), 80, ())
    assert found.fired[1] == FiredRule("abuse", "review", "Because of abuse.", 50)


def test_nothing_fired_allows() -> None:
    found = decide(of(ABUSE, KNOWN), evidence())
    assert (found.decision, found.rules, found.severity) == ("allow", (), 0)
    assert decide({}, evidence()).decision == "allow"


def test_an_exception_ends_what_comes_after_it_and_not_what_came_before() -> None:
    known_good = rule("known-good", "matches.exists(m, m.stance == 'good')", "allow", stop=True)
    item = evidence(matches=[GOOD, BAD])
    assert decide(of(known_good, KNOWN), item).decision == "allow"
    assert decide(of(known_good, KNOWN), item).rules == ("known-good",)
    assert decide(of(KNOWN, known_good), item).decision == "block"
    assert decide(of(known_good, KNOWN), evidence(matches=[BAD])).decision == "block"


@pytest.mark.parametrize(
    ("on_failure", "decided"), [("review", "review"), ("block", "block"), ("allow", "allow")]
)
def test_what_could_not_look_is_decided_by_the_policy(on_failure: str, decided: str) -> None:
    policy = of(rule("seen", "true", "label"), on_failure=on_failure)
    found = decide(policy, evidence(could_not_look=["c2pa", "decoding"]))
    assert found.decision == ("label" if decided == "allow" else decided)
    assert found.rules == (("seen",) if decided == "allow" else ("seen", "detector-failed"))
    if decided != "allow":
        assert found.reasons[1] == "Could not look: c2pa, decoding."
    assert decide({}, evidence(could_not_look=["everything"])).decision == "review"


def test_nothing_is_decided_because_a_process_ended() -> None:
    ended = {"could_not_look": ["decoder", "ocr"], "process_ended": ["decoder", "ocr"]}
    noticing = rule("noticed", "'ocr' in could_not_look || size(could_not_look) > 0", "block")
    assert decide(of(noticing, on_failure="block"), evidence(**ended)) == Decision("allow")
    # What failed for another reason is told apart.
    more = {**ended, "could_not_look": ["decoder", "ocr", "c2pa"]}
    found = decide(of(on_failure="review"), evidence(**more))
    assert (found.decision, found.reasons) == ("review", ("Could not look: c2pa.",))


def test_a_failure_weakens_nothing_and_an_exception_outweighs_it() -> None:
    broken = {"could_not_look": ["c2pa"], "matches": [BAD]}
    assert decide(of(KNOWN), evidence(**broken)).rules == ("known",)
    stop = rule("fine", "item.subject == 'ann'", "allow", stop=True)
    assert decide(of(stop, KNOWN), evidence(**broken)).decision == "allow"


def test_a_rule_that_cannot_be_evaluated_is_unclear_and_does_not_fire() -> None:
    policy = of(
        rule("score", "categories.nudity.score > 0.5", "block"),
        rule("price", "item.metadata.cost > 5", "block"),
        rule("type", "item.metadata.price > 5", "review"),
        rule("either", "categories.nudity.score > 0.5 || strikes == 0", "label"),
    )
    found = decide(policy, evidence(categories={"nudity": category(None, "not_examined")}))
    assert found.unclear == ("score", "price")
    assert found.rules == ("type", "either")


def test_lists_that_are_cut_leave_no_silent_allow() -> None:
    words = [{"text": "nothing", "origin": "text", "at_s": None}] * 41
    policy = of(rule("word", "words.exists(w, w.text.contains('secret'))", "block"))
    found = decide(policy, evidence(words=words))
    assert (found.decision, found.unclear, found.rules) == ("review", ("word",), ("detector-failed",))
    assert "rule word" in found.reasons[0]
    assert decide(policy, evidence(words=words[:40])).decision == "allow"
    assert decide(of(ABUSE), evidence(words=words)).decision == "allow"


def test_a_rule_that_cannot_be_read_any_more_leaves_no_silent_allow() -> None:
    found = decide({"rules": [{"id": "old", "when": "gone(1)", "then": "block"}]}, evidence())
    assert (found.decision, found.unclear) == ("review", ("old",))


def test_thresholds_flag_and_grade_categories() -> None:
    policy = of(ABUSE, thresholds={"abuse": 0.7, "hate": 1.0})
    scores = {
        "abuse": category(0.7),
        "hate": category(1.0),
        "spam": category(0.49),
        "nudity": category(None, "failed"),
    }
    shown = apply_thresholds(policy, evidence(categories=scores))["categories"]
    flagged = {
        name: (found["flagged"], found["severity"], found["threshold"]) for name, found in shown.items()
    }
    assert flagged["abuse"] == (True, "low", 0.7)
    assert flagged["hate"] == (True, "high", 1.0)
    assert flagged["spam"] == (False, None, 0.5)
    assert flagged["nudity"] == (False, None, 0.5)
    assert decide(policy, evidence(categories=scores)).decision == "review"
    assert decide(of(ABUSE, thresholds={"abuse": 0.71}), evidence(categories=scores)).decision == "allow"


def test_a_detectors_own_threshold_stands_where_the_policy_names_none() -> None:
    own = {"hate": category(0.32) | {"suggested_threshold": 0.31}}
    shown = apply_thresholds({}, evidence(categories=own))["categories"]["hate"]
    assert (shown["flagged"], shown["severity"], shown["threshold"]) == (True, "low", 0.31)
    flagged = of(rule("hate", "categories.hate.flagged && categories.hate.threshold < 0.4", "review"))
    assert decide(flagged, evidence(categories=own)).rules == ("hate",)
    named = apply_thresholds(of(thresholds={"hate": 0.5}), evidence(categories=own))["categories"]["hate"]
    assert (named["flagged"], named["threshold"]) == (False, 0.5)
    for nonsense in (None, "0.1", True, -1, float("nan")):
        odd = {"hate": category(0.32) | {"suggested_threshold": nonsense}}
        assert apply_thresholds({}, evidence(categories=odd))["categories"]["hate"]["threshold"] == 0.5


def test_a_category_that_is_off_is_never_flagged() -> None:
    rude = evidence(categories={"abuse": category(1.0)})
    off = of(ABUSE, rule("bad", "categories.abuse.severity == 'high'", "block"), off=["abuse"])
    assert decide(off, rude).decision == "allow"
    assert apply_thresholds(off, rude)["categories"]["abuse"]["flagged"] is False
    # Its score is there for rules that ask for it.
    assert decide({**off, "rules": [rule("score", "categories.abuse.score > 0.9")]}, rude).rules == ("score",)
    found = static_checks.check_policy(off).warnings
    assert [(one.code, one.rule) for one in found] == [("category-off", "abuse"), ("category-off", "bad")]
    # A document of before there was this stays the document that it was.
    assert "off" not in policy_document.read_document({"rules": []})
    assert policy_document.read_document({"rules": [], "off": []}) == policy_document.read_document(
        {"rules": []}
    )
    for nonsense in (["fun"], "hate", [1], [["hate"]], {"hate": True}):
        with pytest.raises(Invalid) as caught:
            policy_document.read_document({"rules": [], "off": nonsense})
        assert caught.value.errors[0]["pointer"] == "/off"


@pytest.mark.parametrize(
    ("score", "severity"), [(0.5, "low"), (0.66, "low"), (0.67, "medium"), (0.84, "high"), (1.0, "high")]
)
def test_severity_is_a_third_of_what_is_left_above_the_threshold(score: float, severity: str) -> None:
    shown = apply_thresholds({}, evidence(categories={"abuse": category(score)}))
    assert shown["categories"]["abuse"]["severity"] == severity


def test_what_an_abstaining_detector_said_flags_nothing() -> None:
    shown = apply_thresholds({}, evidence(categories={"abuse": category(0.99, "abstained")}))
    assert shown["categories"]["abuse"]["flagged"] is False


def test_evidence_is_not_changed() -> None:
    item = evidence(categories={"abuse": category(0.9)})
    before = json.dumps(item)
    decide(of(ABUSE), item)
    apply_thresholds(of(ABUSE), item)
    assert json.dumps(item) == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=15,
)
EVERYTHING = of(
    *(
        rule(f"r{place}", when, "review")
        for place, when in enumerate(
            [
                "categories.abuse.flagged || categories.abuse.score > 0.9 || categories.abuse.severity == 'high'",
                "matches.exists(m, m.distance <= m.limit && m.shared)",
                "words.all(w, w.text.contains('a') && w.at_s > 1.0)",
                "detectors.filter(d, d.score > 0.5).size() > 1",
                "item.metadata.a.b == 'c' || 'x' in item.metadata || item.bytes > 3",
                "provenance.c2pa.anything == 1 && provenance.declared.generator.startsWith('x')",
                "could_not_look.exists(n, n == 'c2pa') || strikes > 1",
                "authenticity.probability > 0.5 || authenticity.tiers.declared == 'no_evidence'",
                "fingerprints.pdq_quality > 3.0 && fingerprints.sha256 == 'x'",
                "item.duration_s / item.duration_s > 1.0 || item.width % item.height == 0",
            ]
        )
    )
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(evidence())), JSON, max_size=6))
@pytest.mark.slow
def test_no_evidence_makes_it_fail(hostile: dict[str, Any]) -> None:
    found = decide(EVERYTHING, hostile)
    assert found.decision in STRENGTH
    assert set(found.unclear) | set(found.rules) <= {rule["id"] for rule in EVERYTHING["rules"]} | {
        "detector-failed"
    }
    apply_thresholds(EVERYTHING, hostile)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["modality", "subject", "metadata", "bytes", "width"]), JSON, max_size=4)
)
def test_no_item_makes_it_fail(item: dict[str, Any]) -> None:
    decide(EVERYTHING, evidence(item=item))


RULES = st.lists(
    st.builds(
        lambda place, then, when: rule(f"r{place}", when, then),
        st.integers(0, 99),
        st.sampled_from(list(STRENGTH)),
        st.sampled_from(
            ["true", "false", "strikes > 0", "categories.abuse.flagged", "categories.nudity.score > 0.1"]
        ),
    ),
    max_size=8,
    unique_by=lambda made: made["id"],
)


@settings(max_examples=200, deadline=None)
@given(RULES, st.data())
def test_another_rule_never_weakens_a_decision(rules: list[dict[str, Any]], data: Any) -> None:
    item = evidence(
        strikes=data.draw(st.integers(0, 1)),
        categories={
            "abuse": category(data.draw(st.sampled_from([0.1, 0.9]))),
            "nudity": category(None, "failed"),
        },
        could_not_look=data.draw(st.sampled_from([[], ["c2pa"]])),
    )
    whole = decide(of(*rules), item)
    fewer = [one for one in rules if data.draw(st.booleans())]
    assert STRENGTH[decide(of(*fewer), item).decision] <= STRENGTH[whole.decision]
    shuffled = data.draw(st.permutations(rules))
    again = decide(of(*shuffled), item)
    assert (again.decision, set(again.rules)) == (whole.decision, set(whole.rules))


# --- Documents --------------------------------------------------------------------------------------------


def test_a_normal_form_has_every_field_and_reads_as_itself() -> None:
    normal = of(ABUSE)
    assert normal["rules"] == [{**ABUSE, "labels": [], "severity": 50, "stop": False}]
    assert (normal["on_failure"], normal["quarantine"], normal["second_opinion"]) == ("review", False, 0.0)
    assert policy_document.read_document(normal) == normal
    assert "appeal_days" not in normal
    limited = policy_document.read_document({**normal, "appeal_days": 184})
    assert limited == {**normal, "appeal_days": 184}
    again = policy_document.read_document(json.loads(json.dumps(normal, sort_keys=True)))
    assert policy_document.digest(again) == policy_document.digest(normal)
    assert policy_document.digest(of({**ABUSE, "when": "true"})) != policy_document.digest(normal)


WRONG: list[tuple[Any, str]] = [
    ([], ""),
    ({}, "/rules"),
    ({"rules": {}}, "/rules"),
    ({"rules": [1]}, "/rules/0"),
    ({"rules": [{**ABUSE, "id": "a b"}]}, "/rules/0/id"),
    ({"rules": [{**ABUSE, "id": "detector-failed"}]}, "/rules/0/id"),
    ({"rules": [ABUSE, ABUSE]}, "/rules/1/id"),
    ({"rules": [{**ABUSE, "when": "strikes >"}]}, "/rules/0/when"),
    ({"rules": [{**ABUSE, "when": 1}]}, "/rules/0/when"),
    ({"rules": [{**ABUSE, "then": "ban"}]}, "/rules/0/then"),
    ({"rules": [{**ABUSE, "then": "label"}]}, "/rules/0/labels"),
    ({"rules": [{**ABUSE, "labels": [" "]}]}, "/rules/0/labels/0"),
    ({"rules": [{**ABUSE, "reason": ""}]}, "/rules/0/reason"),
    ({"rules": [{**ABUSE, "reason": None}]}, "/rules/0/reason"),
    ({"rules": [{**ABUSE, "severity": 101}]}, "/rules/0/severity"),
    ({"rules": [{**ABUSE, "severity": True}]}, "/rules/0/severity"),
    ({"rules": [{**ABUSE, "stop": "yes"}]}, "/rules/0/stop"),
    ({"rules": [{**ABUSE, "a/b": 1}]}, "/rules/0/a~1b"),
    ({"rules": [], "thresholds": {"abuse": 1.5}}, "/thresholds/abuse"),
    ({"rules": [], "thresholds": {"fun": 0.5}}, "/thresholds/fun"),
    ({"rules": [], "detectors": []}, "/detectors"),
    ({"rules": [], "modalities": ["pdf"]}, "/modalities"),
    ({"rules": [], "on_failure": "label"}, "/on_failure"),
    ({"rules": [], "second_opinion": 2}, "/second_opinion"),
    ({"rules": [], "sla_hours": {"soon": 1}}, "/sla_hours/soon"),
    ({"rules": [], "strikes": {"limit": 3}}, "/strikes/limit"),
    ({"rules": [], "strikes": {"expire_days": 0}}, "/strikes/expire_days"),
    ({"rules": [], "appeal_days": 0}, "/appeal_days"),
    ({"rules": [], "appeal_days": 3_651}, "/appeal_days"),
    ({"rules": [], "appeal_days": 30.0}, "/appeal_days"),
    ({"rules": [], "appeal_days": True}, "/appeal_days"),
    ({"rules": [], "appeal_days": "30"}, "/appeal_days"),
    ({"rules": [], "appeal_days": None}, "/appeal_days"),
    ({"rules": [], "options": {"trust_anchor": "misspelt"}}, "/options/trust_anchor"),
    ({"rules": [], "options": {"trust_anchors": "no certificate"}}, "/options/trust_anchors"),
    ({"rules": [], "options": {"trust_anchors": 7}}, "/options/trust_anchors"),
    ({"rules": [], "options": {"keywords": ["spam"]}}, "/options/keywords"),
    ({"rules": [], "options": {"keywords": None}}, "/options/keywords"),
    ({"rules": [], "options": {"keywords": {"no such": ["x"]}}}, "/options/keywords/no such"),
    ({"rules": [], "options": {"keywords": {"spam": "x"}}}, "/options/keywords/spam"),
    ({"rules": [], "options": {"keywords": {"spam": ["x"] * 2_001}}}, "/options/keywords/spam"),
    ({"rules": [], "options": {"own_anchors": "x"}}, "/options/own_anchors"),
    ({"rules": [], "options": {"x": "\x00"}}, ""),
    ({"rules": [], "options": {"x": "\ud800"}}, ""),
    ({"rules": [], "options": {"x": float("nan")}}, ""),
    ({"rules": [], "options": {"x": "y" * 600_000}}, ""),
    ({"rules": [{**ABUSE, "id": f"r{n}"} for n in range(201)]}, "/rules"),
    (
        {
            "rules": [
                {**ABUSE, "id": f"r{n}", "when": "matches.all(m, matches.all(n, m == m))"} for n in range(1)
            ]
        },
        "/rules/0/when",
    ),
    (
        {
            "rules": [
                rule(f"r{n}", "matches.all(m, matches.all(n, m.distance > n.distance))") for n in range(12)
            ]
        },
        "/rules",
    ),
]


@pytest.mark.parametrize(("given_", "pointer"), WRONG)
def test_a_wrong_document_is_refused_at_the_right_place(given_: Any, pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        policy_document.read_document(given_)
    assert pointer in [error["pointer"] for error in caught.value.errors]


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*policy_document.FIELDS, "x"]), JSON, max_size=6) | JSON)
@pytest.mark.slow
def test_any_document_is_read_or_refused(given_: Any) -> None:
    report = static_checks.check_policy(given_, static_checks.Environment([], []))
    if not report.errors:
        assert policy_document.read_document(given_) == report.document
        json.dumps(report.document, allow_nan=False).encode()
        compile_policy(report.document).decide(evidence())


# --- Static checks ----------------------------------------------------------------------------------------

HERE = static_checks.Environment(
    [
        static_checks.InstalledDetector("abuse", ("abuse", "profanity")),
        static_checks.InstalledDetector("c2pa"),
        static_checks.InstalledDetector("declared"),
        static_checks.InstalledDetector("fingerprints"),
        static_checks.InstalledDetector("picture-safety", ("nudity",), "install crosslight[safety]"),
    ],
    ["my list"],
)


def codes(*rules: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    return [
        (one.rule, one.code) for one in static_checks.check_policy(document(*rules, **more), HERE).problems
    ]


def test_a_sound_policy_has_no_problems() -> None:
    assert codes(ABUSE, KNOWN) == []


def test_a_rule_that_can_never_fire_is_told() -> None:
    assert codes(ABUSE, rule("odd", "categories.abuse.score > 1.5")) == [("odd", "never-fires")]
    assert codes(rule("odd", "item.modality == 'pdf' || strikes > 1")) == [("odd", "unknown-value")]


def test_what_nothing_reaches_is_told() -> None:
    stop = rule("stop", "strikes > 2", "allow", stop=True)
    assert codes(stop, rule("late", "strikes > 2 && categories.abuse.flagged")) == [("late", "unreachable")]
    assert codes(stop, rule("early", "strikes > 1")) == []
    everything = rule("all", "true", "allow", stop=True)
    assert codes(everything, ABUSE) == [("abuse", "unreachable")]
    assert codes(ABUSE, {**ABUSE, "id": "twin"}) == [("twin", "same-condition")]
    assert codes(rule("all", "strikes >= 0", "block")) == [("all", "always-fires")]


def test_what_is_not_installed_or_not_there_is_told() -> None:
    assert codes(rule("n", "categories.nudity.flagged")) == [("n", "not-examined")]
    assert codes(rule("p", "authenticity.probability > 0.9")) == [("p", "not-examined")]
    assert codes(rule("w", "provenance.watermark.state == 'present'")) == [("w", "not-examined")]
    assert codes(rule("d", "detectors.exists(d, d.name == 'ocr')")) == [("d", "missing-detector")]
    assert codes(rule("d", "'picture-safety' in could_not_look")) == [("d", "missing-detector")]
    assert codes(rule("d", "'decoding' in could_not_look || 'c2pa' in could_not_look")) == []
    assert codes(rule("l", "matches.exists(m, m.name == 'their list')")) == [("l", "missing-list")]
    assert codes(rule("l", "matches.exists(m, m.name == 'my list')")) == []
    assert codes(ABUSE, detectors=["abuse", "gone", "picture-safety"]) == [
        ("", "missing-detector"),
        ("", "not-installed"),
    ]
    assert codes(ABUSE, detectors=["c2pa"]) == [("abuse", "not-examined")]


def test_errors_name_their_rule_and_do_not_hide_warnings() -> None:
    report = static_checks.check_policy(
        document({**ABUSE, "then": "ban"}, rule("odd", "false"), thresholds={"fun": 1}, extra=True), HERE
    )
    assert [(one.rule, one.pointer) for one in report.errors] == [
        ("abuse", "/rules/0/then"),
        ("", "/thresholds/fun"),
        ("", "/extra"),
    ]
    assert [(one.rule, one.pointer, one.code) for one in report.warnings] == [
        ("odd", "/rules/1/when", "never-fires")
    ]


# --- Starters ---------------------------------------------------------------------------------------------

AI = [
    {"provenance": {"c2pa": {"state": "trusted", "ai": True}}},
    {"provenance": {"c2pa": {"state": "valid", "ai": True}}},
    {"provenance": {"declared": {"state": "found", "ai": True}}},
    {"provenance": {"watermark": {"state": "present"}}},
    # What became of the file since does not take back what its manifest says.
    {"provenance": {"c2pa": {"state": "invalid", "ai": True}}},
]


def test_there_are_starters_that_are_sound() -> None:
    found = starters.list_starters()
    assert [one.id for one in found] == ["clinic", "community", "marketplace", "newsroom"]
    for one in found:
        report = static_checks.check_policy(one.document)
        assert report.problems == []
        assert one.title
        assert len(one.description) > 60


@pytest.mark.parametrize("starter", [one.id for one in starters.list_starters()])
@pytest.mark.parametrize("made_by_ai", AI)
def test_every_starter_labels_what_ai_made(starter: str, made_by_ai: dict[str, Any]) -> None:
    """Article 50 of the EU AI Act: content that AI made or changed is shown as such."""
    policy = starters.get_starter(starter).document
    assert "ai-generated" in decide(policy, evidence(**made_by_ai)).labels
    assert "ai-generated" not in decide(policy, evidence()).labels


@pytest.mark.parametrize("certificate", ["untrusted", "expired"])
@pytest.mark.parametrize("starter", [one.id for one in starters.list_starters()])
def test_no_starter_asks_a_person_only_because_a_signer_is_unknown(starter: str, certificate: str) -> None:
    policy = starters.get_starter(starter).document
    c2pa = {"state": "valid", "certificate": certificate, "ai": True}
    found = decide(policy, evidence(provenance={"c2pa": c2pa}, words=[]))
    assert (found.decision, found.labels) == ("label", ("ai-generated",))
    changed = decide(policy, evidence(provenance={"c2pa": {**c2pa, "state": "invalid"}}, words=[]))
    asks = starter != "community"
    assert ("changed-after-signing" in changed.rules, changed.decision == "review") == (asks, asks)
    assert "ai-generated" in changed.labels


@pytest.mark.parametrize("starter", [one.id for one in starters.list_starters()])
def test_no_starter_acts_on_copied_regions(starter: str) -> None:
    """Things that are alike, as on a shelf, look like copies: it is advice to who looks anyway."""
    guess = {
        "verdict": "likely_manipulated",
        "probability": 0.91,
        "tier": "statistical",
        "tiers": {"statistical": "likely_manipulated"},
        "estimates": {"generation": "not_examined", "manipulation": "likely_manipulated"},
    }
    found = decide(starters.get_starter(starter).document, evidence(authenticity=guess, words=[]))
    assert (found.decision, found.rules) == ("allow", ())


@pytest.mark.parametrize("starter", [one.id for one in starters.list_starters()])
def test_hate_is_off_in_every_starter_which_says_so(starter: str) -> None:
    made = starters.get_starter(starter)
    assert made.document["off"] == ["hate"]
    assert "Hate speech is not flagged" in made.description
    hateful = evidence(categories={"hate": category(0.99) | {"suggested_threshold": 0.31}}, words=[])
    assert decide(made.document, hateful).decision == "allow"
    shown = apply_thresholds(made.document, hateful)["categories"]["hate"]
    assert (shown["flagged"], shown["severity"], shown["off"], shown["score"]) == (False, None, True, 0.99)


@pytest.mark.parametrize("starter", [one.id for one in starters.list_starters()])
def test_starters_send_nudity_to_a_person_at_most(starter: str) -> None:
    """Its detector is an estimate whose misses nobody measured, and flags one harmless photo in a hundred."""
    policy = starters.get_starter(starter).document
    asks = starter in ("community", "marketplace")
    naked = category(1.0) | {"detector": "nudity", "calibrated": False, "suggested_threshold": 0.8}
    found = decide(policy, evidence(categories={"nudity": naked}, words=[]))
    assert found.decision == ("review" if asks else "allow")
    unsure = decide(policy, evidence(categories={"nudity": naked | {"score": 0.79}}, words=[]))
    assert unsure.decision == "allow"


@pytest.mark.parametrize("starter", [one.id for one in starters.list_starters()])
def test_no_starter_acts_on_a_statistical_estimate_alone(starter: str) -> None:
    """Such scores are advisory: they may ask a person, and never block or pass."""
    guess = {
        "verdict": "likely_synthetic",
        "probability": 0.99,
        "tier": "statistical",
        "tiers": {"statistical": "likely_synthetic"},
    }
    found = decide(starters.get_starter(starter).document, evidence(authenticity=guess, words=[]))
    assert found.decision in ("allow", "review")
