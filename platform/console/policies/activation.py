"""What is in force: put there, taken out and rolled back, each after its difference was shown and agreed to.

So nothing is switched off unasked, and nobody enforces more than they were told."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import Request, actor_of, needs, page
from console.policies.rules import change_lines, dataset_names
from console.policies.rules_form import condition_words
from console.policies.views import ActivateForm, show_policy
from tenants.accounts.permissions import ADMIN
from tenants.errors import Conflict, Invalid
from tenants.moderation import policies
from tenants.moderation.models import Policy, PolicyActivation
from tenants.moderation.policies import previews
from tenants.moderation.policies import selectors as policy_selectors

Rows = dict[uuid.UUID, PolicyActivation]

#: What a document says beside its rules, in words.
FIELDS = {
    "thresholds": gettext_lazy("Thresholds"),
    "off": gettext_lazy("Disabled categories"),
    "detectors": gettext_lazy("Detectors"),
    "modalities": gettext_lazy("Kinds of items"),
    "options": gettext_lazy("Settings of detectors"),
    "on_failure": gettext_lazy("Checks that could not run"),
    "quarantine": gettext_lazy("Uploads held back"),
    "audit_uploads": gettext_lazy("Uploads audited"),
    "second_opinion": gettext_lazy("Second opinions"),
    "sla_hours": gettext_lazy("Deadlines of reviews"),
    "strikes": gettext_lazy("Strikes"),
    "appeal_days": gettext_lazy("Days for appeals"),
    "recalibrate": gettext_lazy("Thresholds from decisions"),
    "facts_rules": gettext_lazy("Rules over facts"),
}

STATES = {
    "added": gettext_lazy("New"),
    "removed": gettext_lazy("Removed"),
    "changed": gettext_lazy("Changed"),
    "moved": gettext_lazy("Moved"),
}

# Of a value that is shown beside another.
LONGEST = 300


@needs(ADMIN, methods=("POST",))
def activate(request: Request, policy_id: uuid.UUID) -> HttpResponse:
    """What changes decisions is shown first, and done with `confirm`; what does not is done at once."""
    with request.workspace.open():
        policy = policy_selectors.get_policy(policy_id)
    form = ActivateForm(request.POST)
    if not form.is_valid():
        return show_policy(request, policy_id, {"activate_form": form}, 422)
    given = form.cleaned_data
    asked: dict[str, Any] = {"policy_id": policy_id, "number": given["version"], "mode": given["mode"]}
    asked["ratio"] = form.ratio
    try:
        with request.workspace.open():
            now = policies.newest()
            after = policies.after_activation(**asked)
        if _enforced(now) != _enforced(after) and not _agreed(request, now):
            sent = {"version": given["version"], "mode": given["mode"], "percent": given["percent"] or 100}
            return _confirm(request, policy, now, after, sent=sent, act="console:policy-activate")
        with request.workspace.open():
            number = policies.newest_number(now)
            policies.activate(**asked, actor=actor_of(request).label, as_of=number)
    except (Invalid, Conflict) as error:
        form.add_error(None, error.detail)
        return show_policy(request, policy_id, {"activate_form": form}, 422)
    messages.success(request, _activation_message(given["version"], given["mode"], form.ratio))
    return redirect("console:policy", policy_id=policy_id)


def _activation_message(number: int, mode: str, ratio: float) -> str:
    if mode == "off":
        said = _("Version {number} is no longer active.")
    elif mode == "shadow":
        said = _("Version {number} runs in shadow: its decisions change nothing.")
    elif ratio == 1:
        said = _("Version {number} decides about every item from now on.")
    else:
        said = _("Version {number} decides about {share} of 100 items from now on.")
    return said.format(number=number, share=f"{ratio * 100:.0f}")


@needs(ADMIN, methods=("POST",))
def roll_back(request: Request, policy_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            policy = policy_selectors.get_policy(policy_id)
            now = policies.newest()
            after = policies.after_roll_back(policy_id)
        if _enforced(now) != _enforced(after) and not _agreed(request, now):
            return _confirm(request, policy, now, after, sent={}, act="console:policy-roll-back")
        with request.workspace.open():
            number = policies.newest_number(now)
            policies.roll_back(policy_id=policy_id, actor=actor_of(request).label, as_of=number)
        messages.success(request, _("Rolled back: the previous version is active again."))
    except Conflict as error:
        messages.error(request, error.detail)
    return redirect("console:policy", policy_id=policy_id)


def _enforced(rows: Rows) -> tuple[object, ...]:
    row = policies.enforcing_row(rows)
    return () if row is None else (row.enforced_id, row.ratio, row.rest_id)


def _as_of(request: Request) -> int | None:
    """The last activation when the difference was shown; None where none was."""
    sent = request.POST.get("as_of", "")
    return int(sent) if sent.isascii() and sent.isdecimal() and len(sent) < 10 else None


def _agreed(request: Request, now: Rows) -> bool:
    """Whether this was confirmed, of what is in force now: else it is shown again."""
    return "confirm" in request.POST and _as_of(request) == policies.newest_number(now)


# --- The difference --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RuleLine:
    """A rule that differs: what it looks for, in words where there are some, before and after."""

    change: previews.RuleChange
    state: str
    before: str
    after: str


def _confirm(
    request: Request, policy: Policy, now: Rows, after: Rows, *, sent: Mapping[str, Any], act: str
) -> HttpResponse:
    with request.workspace.open():
        held_before, held_after = policies.deciders(now), policies.deciders(after)
        held, would_hold = _counted(held_before, held_after)
        beside, tried = previews.regime_of(now), previews.regime_of(after)
        datasets = dataset_names()
    found = previews.count_recent(request.workspace.tenant.id, tried, beside)
    with request.workspace.open():
        changes = change_lines(found)
    old, new = (holders[0].version.document if holders else {} for holders in (held_before, held_after))
    differ = previews.compare_documents(old, new)
    context = {
        "policy": policy,
        "before": held_before,
        "after_that": held_after,
        "held": held,
        "would": would_hold,
        "days": policy_selectors.COUNTED_DAYS,
        "rules": [_rule_line(change, datasets) for change in differ.rules],
        "fields": [(FIELDS.get(name, name), _short(old, name), _short(new, name)) for name in differ.fields]
        if old and new
        else [],
        "found": found,
        "changes": changes,
        "after": _("After that"),
        "act": act,
        "sent": [*sent.items(), ("as_of", policies.newest_number(now))],
        "again": "confirm" in request.POST,
    }
    return page(request, "policy_confirm.html", context)


def _counted(
    before: Sequence[policies.Decider], after: Sequence[policies.Decider]
) -> tuple[policy_selectors.Held, policy_selectors.Held | None]:
    """What the versions that decide now did in the last days; and what the one that would decide would have done,
    where it ran in shadow."""
    now = {one.version.pk for one in before}
    new = next((one.version.pk for one in after if one.version.pk not in now), None)
    return policy_selectors.held_by(now), policy_selectors.would_have_held(new) if new else None


def _rule_line(change: previews.RuleChange, datasets: Mapping[str, str]) -> RuleLine:
    return RuleLine(
        change, str(STATES[change.state]), _told(change.before, datasets), _told(change.after, datasets)
    )


def _told(rule: Mapping[str, Any] | None, datasets: Mapping[str, str]) -> str:
    return condition_words(rule["when"], datasets) or str(rule["when"]) if rule else ""


def _short(document: Mapping[str, Any], name: str) -> str:
    text = json.dumps(document[name], ensure_ascii=False) if name in document else "–"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
