"""Rules by form: there and back without loss, every button, the count on past audits, and what nobody may do."""

from __future__ import annotations

import html
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import QueryDict
from django.test import Client

from console.policies.rules_form import Card, RulesForm, condition_words, fields_of
from tenants.moderation import policies, starters
from tenants.moderation.models import Policy, PolicyVersion
from tenants.moderation.policies import previews
from tenants.moderation.rules.document import read_document
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.console.test_audits import read
from tests.console.test_policies import EVIL
from tests.tenants.policy_world import category, evidence, new_audit
from tests.tenants.reviewing import World, make_world

PLAIN = {"id": "abuse", "when": "categories.abuse.flagged", "then": "review", "reason": "It is abusive."}
ONLY_CEL = {
    "id": "odd",
    "when": "categories.abuse.score  >  0.25   // by hand",
    "then": "block",
    "reason": "Far too loud.\nReally.",
    "severity": 99,
}


def nothing(modality: str, sha256: str) -> None:
    """A regime under which nothing is decided."""


@pytest.fixture
def world(party: Party) -> World:
    return make_world(party)


def new_policy(party: Party, *rules: dict[str, Any], **more: Any) -> Policy:
    with tenant_scope(party.id):
        made, _ = policies.create_policy(name="Shop", document={"rules": list(rules), **more})
        return made


@pytest.fixture
def policy(party: Party, owner: Client) -> Policy:
    return new_policy(party, PLAIN, ONLY_CEL, thresholds={"abuse": 0.7}, audit_uploads=True)


def newest(party: Party) -> dict[str, Any]:
    with tenant_scope(party.id):
        return dict(PolicyVersion.objects.order_by("-number")[0].document)


def count(party: Party) -> int:
    with tenant_scope(party.id):
        return PolicyVersion.objects.count()


_INPUT = re.compile(r"<(input|select|textarea)\b([^>]*)>(?:(.*?)</\1>)?", re.DOTALL)


def sent_by(page: str) -> dict[str, list[str]]:
    """What a browser would send of the form of rules."""
    inside = page[page.index('id="rules-form"') : page.index("</form>", page.index('id="rules-form"'))]
    data: dict[str, list[str]] = {}
    for tag, attributes, content in _INPUT.findall(re.sub(r"<select", "\n<select", inside)):
        known = dict(re.findall(r'([\w-]+)="([^"]*)"', attributes))
        name, kind = known.get("name", ""), known.get("type", "")
        if not name or (kind in ("checkbox", "radio") and " checked" not in attributes):
            continue
        if tag == "select":
            values = re.findall(r'<option value="([^"]*)" selected', content)
            if not values and "multiple" not in attributes:
                values = re.findall(r'<option value="([^"]*)"', content)[:1]
        else:
            values = [known.get("value", "on" if kind == "checkbox" else "")]
        data.setdefault(name, []).extend(html.unescape(value) for value in values)
    return data


def send(client: Client, policy: Policy, data: dict[str, Any], do: str = "save", **headers: str) -> Any:
    return client.post(f"/policies/{policy.id}/rules", {**data, "do": do}, headers=headers)


# --- There and back --------------------------------------------------------------------------------------


def saved_unchanged(document: dict[str, Any]) -> dict[str, Any]:
    form = RulesForm.of_document(document, [])
    sent = QueryDict(mutable=True)
    sent["rest"] = form.kept_rest
    for row in form.rows:
        sent.appendlist("row", row.prefix[1:])
        if isinstance(row, Card):
            sent[f"{row.prefix}-kept"] = row.kept
            continue
        for name, value in row.initial.items():
            if isinstance(value, list):
                sent.setlist(f"{row.prefix}-{name}", value)
            elif value is not None and value is not False:
                sent[f"{row.prefix}-{name}"] = str(value)
    back = RulesForm.of_request(sent, [])
    assert back.is_valid(), [row.errors for row in back.rows]
    return back.document()


@pytest.mark.parametrize("days", [1, 184, 3_650, 0, "30", 30.5, None, [1], True])
def test_the_days_for_appeals_come_back_as_they_were(days: Any) -> None:
    document = {"rules": [], "quarantine": True, "appeal_days": days}
    sent = QueryDict(mutable=True)
    form = RulesForm.of_document(document, [])
    sent["rest"], sent["appeal_days"] = form.kept_rest, form.appeal_days
    back = RulesForm.of_request(sent, [])
    assert back.is_valid()
    assert back.document() == document


@pytest.mark.parametrize(
    ("typed", "days"),
    [("30", 30), (" 184 ", 184), ("", None), ("0", ""), ("3651", ""), ("1.5", ""), ("x", "")],
)
def test_days_for_appeals_that_are_typed(
    party: Party, owner: Client, policy: Policy, typed: str, days: Any
) -> None:
    data = sent_by(owner.get(f"/policies/{policy.id}/rules").content.decode())
    assert data["appeal_days"] == [""]
    before = count(party)
    answer = send(owner, policy, {**data, "appeal_days": typed})
    if days == "":
        assert answer.status_code == 422
        assert "A whole number of days, from 1 to 3650." in answer.content.decode()
        assert count(party) == before
    elif days is not None:
        assert answer.status_code == 302
        assert newest(party)["appeal_days"] == days
    else:
        assert "appeal_days" not in newest(party)


@pytest.mark.parametrize("starter", [one.id for one in starters.list_starters()])
def test_a_starter_comes_back_as_it_was(starter: str) -> None:
    document = starters.get_starter(starter).document
    assert read_document(saved_unchanged(document)) == document


@pytest.mark.parametrize(
    "rule",
    [
        {**PLAIN, "when": "categories.abuse . score >= .70 // mine"},
        {**PLAIN, "when": "item.modality in ['video', \"text\"] && categories.abuse.flagged", "stop": True},
        {**PLAIN, "then": "label", "labels": ["a", "b c"], "severity": 0},
        {**PLAIN, "reason": '  “Zitat”, é 😀 <b> & "quotes" '},
        {**PLAIN, "when": "strikes >= 2"},
    ],
)
def test_what_the_form_says_keeps_its_notation(rule: dict[str, Any]) -> None:
    assert fields_of(rule) is not None
    [back] = saved_unchanged({"rules": [rule]})["rules"]
    assert back["when"] == rule["when"]
    assert read_document({"rules": [back]}) == read_document({"rules": [rule]})


@pytest.mark.parametrize(
    "rule",
    [
        ONLY_CEL,
        {**PLAIN, "reason": "Two\nlines"},
        {**PLAIN, "then": "label", "labels": ["red, green"]},
        {**PLAIN, "then": "label", "labels": [" red"]},
        {**PLAIN, "when": "nonsense("},
        {**PLAIN, "then": "forgive"},
        {**PLAIN, "more": 1},
        {"id": "x"},
        "a text",
        7,
        [],
    ],
)
def test_every_other_rule_is_kept_exactly(rule: Any) -> None:
    assert fields_of(rule) is None
    form = RulesForm.of_document({"rules": [rule]}, [])
    sent = QueryDict(mutable=True)
    sent.update({"row": "0", "r0-kept": form.rows[0].kept, "rest": "{}"})  # type: ignore[union-attr]
    assert RulesForm.of_request(sent, []).document()["rules"] == [rule]


def test_saving_what_was_opened_is_the_same_version(party: Party, policy: Policy, owner: Client) -> None:
    page = read(owner, f"/policies/{policy.id}/rules")
    assert faults_of(page) == []
    assert "1 rule cannot be shown in this form" in page
    before = newest(party)
    answer = send(owner, policy, sent_by(page))
    assert answer["Location"] == f"/policies/{policy.id}?version=1"
    assert newest(party) == before


def test_a_changed_rule_leaves_all_others_as_they_are(party: Party, policy: Policy, owner: Client) -> None:
    data = sent_by(read(owner, f"/policies/{policy.id}/rules"))
    data |= {"r0-least": ["0.85"], "r0-then": ["block"], "r0-modalities": ["image", "text"]}
    assert send(owner, policy, data)["Location"] == f"/policies/{policy.id}?version=2"
    saved = newest(party)
    first, second = saved["rules"]
    assert first["when"] == 'categories.abuse.score >= 0.85 && item.modality in ["text", "image"]'
    assert (first["id"], first["then"], first["severity"]) == ("abuse", "block", 80)
    assert second == {**ONLY_CEL, "labels": [], "stop": False}
    assert (saved["thresholds"], saved["audit_uploads"]) == ({"abuse": 0.7}, True)


def test_a_rule_is_limited_to_a_dataset_of_the_workspace_only(
    party: Party, stranger: Party, world: World, policy: Policy, owner: Client
) -> None:
    foreign = make_world(stranger).dataset
    page = read(owner, f"/policies/{policy.id}/rules")
    assert world.dataset.name in page
    assert str(foreign.id) not in page
    data = sent_by(page)
    refused = send(owner, policy, {**data, "r0-datasets": [str(foreign.id)]})
    assert refused.status_code == 422
    assert "This dataset does not exist." in refused.content.decode()
    assert count(party) == 2
    send(owner, policy, {**data, "r0-datasets": [str(world.dataset.id)]})
    assert newest(party)["rules"][0]["when"] == (
        f'categories.abuse.flagged && item.dataset == "{world.dataset.id}"'
    )
    shown = read(owner, f"/policies/{policy.id}")
    assert f"only in the dataset {world.dataset.name}" in html.unescape(shown)


# --- Buttons, without a script ---------------------------------------------------------------------------


def ids_on(page: str) -> list[str]:
    return re.findall(r'name="row" value="(\d+)"', page)


def test_rows_are_added_moved_and_removed_and_nothing_is_stored(
    party: Party, policy: Policy, owner: Client
) -> None:
    data = sent_by(read(owner, f"/policies/{policy.id}/rules"))
    data["r0-reason"] = ["Typed"]
    page = send(owner, policy, data, "add").content.decode()
    assert ids_on(page) == ["0", "1", "2"]
    assert 'value="Typed"' in page
    assert "field-error" not in page
    assert faults_of(page) == []
    page = send(owner, policy, sent_by(page), "up-r2").content.decode()
    assert ids_on(page) == ["0", "2", "1"]
    page = send(owner, policy, sent_by(page), "down-r0").content.decode()
    assert ids_on(page) == ["2", "0", "1"]
    page = send(owner, policy, sent_by(page), "remove-r0").content.decode()
    assert ids_on(page) == ["2", "1"]
    for odd in ("up-r2", "down-r1", "remove-zzz", "nonsense", "up", ""):
        assert ids_on(send(owner, policy, sent_by(page), odd).content.decode()) == ["2", "1"] or odd == ""
    assert count(party) == 1
    data = sent_by(page) | {"r2-subject": ["personal_data"], "r2-reason": ["It tells a number."]}
    send(owner, policy, data)
    saved = newest(party)["rules"]
    assert [rule["id"] for rule in saved] == ["personal-data", "odd"]
    assert saved[1]["when"] == ONLY_CEL["when"]


def test_new_rules_get_names_that_are_free(party: Party, owner: Client) -> None:
    policy = new_policy(party, {**ONLY_CEL, "id": "spam"})
    page = send(owner, policy, sent_by(read(owner, f"/policies/{policy.id}/rules")), "add").content.decode()
    page = send(owner, policy, sent_by(page), "add").content.decode()
    data = sent_by(page)
    for name in ("1", "2"):
        data |= {f"r{name}-subject": ["spam"], f"r{name}-reason": ["r"]}
    send(owner, policy, data)
    assert [rule["id"] for rule in newest(party)["rules"]] == ["spam", "spam-2", "spam-3"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"r0-least": "1.5"}, "A score is between 0 and 1"),
        ({"r0-least": "0.000001"}, "A score is between 0 and 1"),
        ({"r0-least": "much"}, "Enter a number."),
        ({"r0-least": "nan"}, "Enter a number."),
        ({"r0-subject": "known_bad", "r0-least": "0.5"}, "This has no score"),
        ({"r0-subject": "strikes", "r0-least": "1.5"}, "A whole number of strikes"),
        ({"r0-subject": "strikes", "r0-least": ""}, "Enter the minimum number of strikes."),
        ({"r0-subject": "kindness"}, "Select a valid choice"),
        ({"r0-then": "label", "r0-labels": " , "}, "Enter the labels to apply."),
        ({"r0-then": "label", "r0-labels": "x" * 61}, "At most 10 labels of 60 characters."),
        ({"r0-reason": "  "}, "Give a reason"),
        ({"r0-reason": "x" * 501}, "at most 500 characters"),
        ({"r0-reason": "a\x00b"}, "Null characters are not allowed."),
        ({"r0-severity": "101"}, "less than or equal to 100"),
        ({"r0-modalities": "smell"}, "Select a valid choice"),
    ],
)
def test_what_is_wrong_is_told_at_its_field_and_what_was_typed_stays(
    fields: dict[str, str], said: str, party: Party, policy: Policy, owner: Client
) -> None:
    data = sent_by(read(owner, f"/policies/{policy.id}/rules")) | {k: [v] for k, v in fields.items()}
    for do in ("save", "count", "json"):
        answer = send(owner, policy, data, do)
        page = html.unescape(answer.content.decode())
        name = next(iter(reversed(fields)))
        place = page.index(f'id="id_{name}_error"') if "subject" not in name else page.index("r0-subject")
        assert said in page[place : page.index("</div></div>", place)]
        typed = fields[name].strip("\x00")
        assert typed in page
        assert answer.status_code == (200 if do == "count" else 422)
    assert count(party) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"rest": "{"},
        {"rest": "[]"},
        {"rest": '{"a": "\\ud800"}'},
        {"row": ["0", "-1"]},
        {"row": ["9999999"]},
        {"row": ["٣"]},
        {"row": [str(n) for n in range(101)]},
        {"row": ["0", "5"]},
        {"r1-kept": ""},
        {"r1-kept": "{"},
        {"r1-kept": '"\\u0000"'},
        {"r0-kept": "nonsense"},
        {"r0-kept": "[" * 50_000},
    ],
)
def test_a_form_that_no_page_sends_is_refused(
    fields: dict[str, Any], party: Party, policy: Policy, owner: Client
) -> None:
    data = sent_by(read(owner, f"/policies/{policy.id}/rules")) | fields
    for do in ("save", "count", "json", "add"):
        assert send(owner, policy, data, do).status_code == 422, do
    assert count(party) == 1


def test_what_only_the_check_finds_stands_at_its_rule(party: Party, policy: Policy, owner: Client) -> None:
    data = sent_by(read(owner, f"/policies/{policy.id}/rules"))
    broken = json.dumps({**ONLY_CEL, "when": "categories.abuse.scre > 1"})
    page = send(owner, policy, {**data, "r1-kept": broken}).content.decode()
    assert page.index('id="r1"') < page.index("scre", page.index("rule-cel"))
    assert 'role="alert"' in page[page.index('id="r1"') :]
    again = send(owner, policy, {**data, "rest": '{"speed": 1}'})
    assert again.status_code == 422
    assert "There is no such field" in again.content.decode()
    assert count(party) == 1


# --- Beside JSON -----------------------------------------------------------------------------------------


def document_on(page: str) -> Any:
    text = page[page.index("<textarea") :]
    return json.loads(html.unescape(text[text.index(">") + 1 : text.index("</textarea>")]))


def test_from_the_form_to_json_and_back(party: Party, policy: Policy, owner: Client) -> None:
    data = sent_by(read(owner, f"/policies/{policy.id}/rules")) | {"r0-least": ["0.9"]}
    document = document_on(send(owner, policy, data, "json").content.decode())
    assert [rule["when"] for rule in document["rules"]] == ["categories.abuse.score >= 0.9", ONLY_CEL["when"]]
    assert (document["thresholds"], document["audit_uploads"]) == ({"abuse": 0.7}, True)
    document["rules"].reverse()
    page = send(owner, policy, {"document": json.dumps(document)}, "from-json").content.decode()
    assert faults_of(page) == []
    send(owner, policy, sent_by(page))
    assert [rule["id"] for rule in newest(party)["rules"]] == ["odd", "abuse"]
    assert newest(party)["rules"][0]["when"] == ONLY_CEL["when"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "This is not JSON"),
        ("[]", "A policy is a JSON object with rules."),
        ('{"rules": 1}', "Rules must be a list"),
        (json.dumps({"rules": [PLAIN] * 101}), "the form shows at most 100"),
        ('{"rules": [{"reason": "\\ud800"}]}', "half a character"),
    ],
)
def test_what_no_form_shows_stays_json(text: str, said: str, policy: Policy, owner: Client) -> None:
    answer = send(owner, policy, {"document": text}, "from-json")
    assert answer.status_code == 422
    page = html.unescape(answer.content.decode())
    assert said in page
    assert "<textarea" in page


def test_a_policy_of_too_many_rules_opens_as_json(party: Party, owner: Client) -> None:
    rules = [{**PLAIN, "id": f"r{number}"} for number in range(101)]
    page = read(owner, f"/policies/{new_policy(party, *rules).id}/rules")
    assert "the form shows at most 100" in page
    assert len(document_on(page)["rules"]) == 101


def test_what_rules_say_is_escaped(party: Party, owner: Client) -> None:
    policy = new_policy(party, {**PLAIN, "reason": EVIL}, {**ONLY_CEL, "reason": EVIL, "labels": [EVIL[:60]]})
    page = read(owner, f"/policies/{policy.id}/rules")
    assert EVIL not in page
    assert faults_of(page) == []
    send(owner, policy, sent_by(page))
    assert count(party) == 1


def test_a_condition_in_words() -> None:
    names = {"0192f0c0-0000-7000-8000-000000000001": "Groceries"}
    said = {
        "categories.abuse.flagged": "Abuse, from the policy’s threshold on",
        "categories.abuse.score >= 0.8 && item.modality in ['text', 'image']": (
            "Abuse, from a score of 0.8 on, only in: Text or Picture"
        ),
        "item.dataset == '0192f0c0-0000-7000-8000-000000000001'": "Everything, only in the dataset Groceries",
        "strikes >= 1": "The sender has 1 strike at least",
        "strikes >= 3": "The sender has 3 strikes at least",
        "strikes > 3": "",
    }
    assert {when: condition_words(when, names) for when in said} == said


# --- On past audits --------------------------------------------------------------------------------------


def abusive(score: float, decision: str = "allow", **more: Any) -> Any:
    return new_audit(evidence(categories={"abuse": category(score)}, **more), decision)


def test_rules_are_counted_on_past_audits_beside_what_is_in_force(
    party: Party, policy: Policy, owner: Client
) -> None:
    with tenant_scope(party.id):
        for score in (0.9, 0.75, 0.3, 0.1):
            abusive(score)
        policies.activate(policy_id=policy.id, number=1, mode="enforce")
    data = sent_by(read(owner, f"/policies/{policy.id}/rules"))
    page = send(owner, policy, data, "count").content.decode()
    assert "Of the last 4 audits: 0 to review, 3 blocked, 0 labelled." in page
    assert page.count("Applies to 2 of 4.") == 1
    assert page.count("Applies to 3 of 4.") == 1
    assert "Every decision would be the same" in page
    assert faults_of(page) == []
    gone = send(owner, policy, sent_by(page), "remove-r1").content.decode()
    part = send(owner, policy, sent_by(gone), "count", **{"HX-Request": "true"}).content.decode()
    assert "Of the last 4 audits: 2 to review, 0 blocked, 0 labelled." in part
    assert "3 would be decided differently" in part
    assert part.count('href="/audits/') == 3
    assert 'id="r0-said" hx-swap-oob="true"' in part
    assert count(party) == 1


def test_a_rule_without_a_reason_is_counted_while_it_is_typed(
    party: Party, policy: Policy, owner: Client
) -> None:
    with tenant_scope(party.id):
        abusive(0.9)
    data = sent_by(read(owner, f"/policies/{policy.id}/rules")) | {"r0-reason": [""]}
    part = send(owner, policy, data, "count", **{"HX-Request": "true"}).content.decode()
    assert "Of the last 1 audit: 0 to review, 1 blocked, 0 labelled." in part
    wrong = send(owner, policy, {**data, "r0-least": "x"}, "count", **{"HX-Request": "true"})
    assert "Fix the marked fields" in wrong.content.decode()
    assert "Enter a number." in wrong.content.decode()


def test_the_count_looks_at_the_newest_audits_of_this_tenant_only(
    party: Party, stranger: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "BATCH", 2)
    monkeypatch.setattr(previews, "SAMPLE", 4)
    with tenant_scope(stranger.id):
        abusive(0.9)
    tried = previews.regime_of_document(read_document({"rules": [{**PLAIN, "then": "block"}]}))
    assert previews.count_recent(party.id, tried, nothing).audits == 0
    with tenant_scope(party.id):
        old = [abusive(0.9).id for _ in range(3)]
        new = [abusive(0.1 if number else 0.9).id for number in range(4)]
    found = previews.count_recent(party.id, tried, nothing)
    assert (found.audits, found.hurried) == (4, False)
    assert found.rows == [("block", 0, 1), ("review", 0, 0), ("label", 0, 0), ("allow", 4, 3)]
    assert found.samples == {("allow", "block"): [new[0]]}
    assert not set(old) & set(found.samples["allow", "block"])


def test_the_count_ends_when_its_time_is_over_and_says_so(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "BATCH", 1)
    with tenant_scope(party.id):
        abusive(0.9)
        abusive(0.9)
    clock = iter([0.0, 0.0, previews.PATIENCE_S + 1])
    monkeypatch.setattr(previews, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    found = previews.count_recent(party.id, nothing, nothing)
    assert (found.audits, found.hurried) == (1, True)


def test_a_policy_of_some_kinds_leaves_the_others_alone(party: Party) -> None:
    document = read_document({"rules": [{**PLAIN, "when": "true"}], "modalities": ["text"]})
    with tenant_scope(party.id):
        abusive(0.1)
        new_audit(evidence(item={"modality": "text"}))
    found = previews.count_recent(party.id, previews.regime_of_document(document), nothing)
    assert (found.decisions["review"], found.decisions["allow"]) == (1, 1)
