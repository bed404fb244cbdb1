"""Policies: all of them, one with its versions, writing a version, trying it, and putting it in force."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from console.access import Request, actor_of, needs, page
from console.audit_words import CATEGORIES
from console.moderation_forms import ActivateForm, DocumentForm, PolicyForm
from console.people_names import names_of
from tenants.accounts.permissions import ADMIN, MODERATE
from tenants.errors import Conflict, Invalid
from tenants.jobs.models import Job
from tenants.moderation import (
    activations,
    checking,
    installed,
    policies,
    policy_document,
    policy_selectors,
    starters,
)
from tenants.moderation.models import Backtest, Policy, PolicyVersion

ACTIVATIONS, BACKTESTS = 10, 5
# In the order in which a person writes them.
FIELDS = tuple(name for name in policy_document.FIELDS if name != "rules")
RULE = ("id", "when", "then", "reason", "labels", "severity", "stop")
SLA = policy_document.SLA
EMPTY: dict[str, Any] = {"rules": []}


@needs(MODERATE)
def index(request: Request) -> HttpResponse:
    return _index(request, None, 200)


def _index(request: Request, form: PolicyForm | None, status: int) -> HttpResponse:
    known = starters.list_starters()
    with request.workspace.open():
        now, versions = policy_selectors.activations_now()
        lines = [
            (policy, policy_selectors.state_as_dict(now.get(policy.id), versions))
            for policy in policy_selectors.list_policies()
        ]
    context = {
        "lines": lines,
        "starters": known,
        "form": form or PolicyForm(known, initial={"starter": request.GET.get("starter", "")}),
        "open_dialog": form is not None or "new" in request.GET,
    }
    return page(request, "policies.html", context, status=status)


@needs(MODERATE, methods=("POST",))
def create(request: Request) -> HttpResponse:
    """A draft: in force nowhere until an admin activates it."""
    form = PolicyForm(starters.list_starters(), request.POST)
    if form.is_valid():
        given = form.cleaned_data
        try:
            with request.workspace.open():
                policy, _ = policies.create_policy(
                    name=given["name"],
                    description=given["description"],
                    starter=given["starter"],
                    document=None if given["starter"] else EMPTY,
                    actor=actor_of(request).label,
                )
            return redirect("console:policy", policy_id=policy.id)
        except (Invalid, Conflict) as error:
            form.refuse(error)
    return _index(request, form, 422)


# --- One policy ------------------------------------------------------------------------------------------


@needs(MODERATE)
def show(request: Request, policy_id: uuid.UUID) -> HttpResponse:
    return _show(request, policy_id, {}, 200)


def _show(request: Request, policy_id: uuid.UUID, forms: dict[str, Any], status: int) -> HttpResponse:
    with request.workspace.open():
        policy = policy_selectors.get_policy(policy_id)
        versions = list(policy_selectors.list_versions(policy))
        version = _chosen(versions, request.GET.get("version", ""))
        now, named = policy_selectors.activations_now()
        past = list(policy_selectors.list_activations(policy)[:ACTIVATIONS])
        state = policy_selectors.state_as_dict(now.get(policy.id), named)
        context = {
            "policy": policy,
            "versions": versions,
            "version": version,
            "document": written(version.document),
            "state": state,
            "other": _other_in_force(policy, now, named),
            "past": past,
            "names": names_of({*(row.created_by for row in past), *(one.created_by for one in versions)}),
            "report": checking.check(version.document, installed.surroundings()),
            "shadow": policy_selectors.compare_shadow(version),
            "backtests": _backtests(policy),
        }
    context["activate_form"] = ActivateForm(
        initial={"version": version.number, "mode": "shadow", "percent": 100}
    )
    return page(request, "policy.html", {**context, **forms}, status=status)


def _chosen(versions: list[PolicyVersion], number: str) -> PolicyVersion:
    """The version of the address, or the newest."""
    return next((one for one in versions if str(one.number) == number), versions[0])


def _other_in_force(policy: Policy, now: dict[uuid.UUID, Any], named: dict[uuid.UUID, Any]) -> Policy | None:
    """The policy that would have to make way, if another one is enforced."""
    row = activations.enforcing_row(now)
    if row is None or row.policy_id == policy.id:
        return None
    return Policy.objects.filter(pk=row.policy_id).first()


def _backtests(policy: Policy) -> list[tuple[Backtest, Job | None]]:
    tried = Backtest.objects.filter(version__policy=policy).select_related("version")
    rows = list(tried.order_by("-id")[:BACKTESTS])
    jobs = Job.objects.in_bulk([row.job_id for row in rows])
    return [(row, jobs.get(row.job_id)) for row in rows]


# --- Writing a version -----------------------------------------------------------------------------------


@needs(MODERATE, methods=("GET", "POST"))
def edit(request: Request, policy_id: uuid.UUID) -> HttpResponse:
    """The editor: `check` only looks, else a document without errors becomes the next version."""
    with request.workspace.open():
        policy = policy_selectors.get_policy(policy_id)
        around = installed.surroundings()
    if request.method != "POST":
        return _editor(request, policy, DocumentForm(initial={"document": _start(request, policy)}))
    form = DocumentForm(request.POST)
    if not form.is_valid():
        return _editor(request, policy, form, status=422)
    document = form.cleaned_data["document"]
    report = checking.check(document, around)
    if "check" in request.POST:
        return _editor(request, policy, form, report=report)
    if report.errors:
        return _editor(request, policy, form, report=report, status=422)
    try:
        with request.workspace.open():
            version, is_new = policies.add_version(
                policy_id=policy.id, document=document, actor=actor_of(request).label
            )
    except Invalid as error:
        form.add_error("document", error.detail)
        return _editor(request, policy, form, report=report, status=422)
    said = f"Saved as version {version.number}. It is not in force yet."
    messages.success(request, said if is_new else f"Nothing is new: this is version {version.number}.")
    return redirect_to_version(policy.id, version.number)


def redirect_to_version(policy_id: uuid.UUID, number: int) -> HttpResponse:
    response = redirect("console:policy", policy_id=policy_id)
    response["Location"] += f"?version={number}"
    return response


def _start(request: Request, policy: Policy) -> str:
    with request.workspace.open():
        version = _chosen(list(policy_selectors.list_versions(policy)), request.GET.get("version", ""))
    return json.dumps(written(version.document), ensure_ascii=False, indent=2)


def written(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as a person would write it: the database keeps no order, and the normal form every default."""
    rules = [_rule(rule) for rule in document.get("rules", ())]
    parts = {
        "rules": rules,
        **{name: document[name] for name in FIELDS if document.get(name) not in (None, {}, False, 0)},
        "on_failure": document.get("on_failure", "review"),
    }
    for name, order in (("thresholds", CATEGORIES), ("sla_hours", SLA)):
        if name in parts:
            parts[name] = {key: parts[name][key] for key in order if key in parts[name]}
    return {**parts, "rules": rules}


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {name: rule[name] for name in RULE if rule.get(name) not in (None, [], False)}


def _editor(
    request: Request,
    policy: Policy,
    form: DocumentForm,
    *,
    report: checking.Report | None = None,
    status: int = 200,
) -> HttpResponse:
    context = {
        "policy": policy,
        "form": form,
        "report": report,
        "fields": installed.detectors(),
        "checked": report is not None,
    }
    return page(request, "policy_edit.html", context, status=status)


# --- In force --------------------------------------------------------------------------------------------


@needs(ADMIN, methods=("POST",))
def activate(request: Request, policy_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        policy_selectors.get_policy(policy_id)
    form = ActivateForm(request.POST)
    if not form.is_valid():
        return _show(request, policy_id, {"activate_form": form}, 422)
    given = form.cleaned_data
    try:
        with request.workspace.open():
            activations.activate(
                policy_id=policy_id,
                number=given["version"],
                mode=given["mode"],
                ratio=form.ratio,
                actor=actor_of(request).label,
            )
    except (Invalid, Conflict) as error:
        form.add_error(None, error.detail)
        return _show(request, policy_id, {"activate_form": form}, 422)
    messages.success(request, _said(given["version"], given["mode"], form.ratio))
    return redirect("console:policy", policy_id=policy_id)


def _said(number: int, mode: str, ratio: float) -> str:
    if mode == "off":
        return f"Version {number} is out of force."
    if mode == "shadow":
        return f"Version {number} runs in shadow: it decides and changes nothing."
    share = "every item" if ratio == 1 else f"{ratio * 100:.0f} of 100 items"
    return f"Version {number} decides about {share} from now on."


@needs(ADMIN, methods=("POST",))
def roll_back(request: Request, policy_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            policy_selectors.get_policy(policy_id)
            activations.roll_back(policy_id=policy_id, actor=actor_of(request).label)
        messages.success(request, "Rolled back: what was in force before is in force again.")
    except Conflict as error:
        messages.error(request, error.detail)
    return redirect("console:policy", policy_id=policy_id)
