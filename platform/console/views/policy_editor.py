"""Writing a version of a policy: checked while one types, tried on a past audit, saved."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from console.audit_words import CATEGORIES
from console.cards import name_of
from console.json_places import Places
from console.moderation_forms import DocumentForm
from console.paging import parse_id
from tenants.accounts.permissions import MODERATE
from tenants.datasets.models import Asset
from tenants.datasets.selectors import get_assets
from tenants.errors import Invalid, NotFound
from tenants.moderation import checking, installed, policies, policy_document, policy_selectors, trying
from tenants.moderation import selectors as audits
from tenants.moderation.expressions import describing
from tenants.moderation.models import Audit, Policy, PolicyVersion

# In the order in which a person writes them.
FIELDS = tuple(name for name in policy_document.FIELDS if name != "rules")
RULE = ("id", "when", "then", "reason", "labels", "severity", "stop")
SLA = policy_document.SLA
# Of the newest audits, as many are offered to try a version on.
OFFERED = 25


@needs(MODERATE, methods=("GET", "POST"))
def edit(request: Request, policy_id: uuid.UUID) -> HttpResponse:
    """The editor: `check` only looks, `try` asks about one audit, else a good document becomes the next version."""
    with request.workspace.open():
        policy = policy_selectors.get_policy(policy_id)
        around = installed.surroundings()
    if request.method != "POST":
        return _editor(request, policy, DocumentForm(initial={"document": _start(request, policy)}))
    if "try" in request.POST:
        return _try(request, policy)
    form = DocumentForm(request.POST)
    if not form.is_valid():
        return _editor(request, policy, form, status=422)
    document = form.cleaned_data["document"]
    report = checking.check(document, around)
    if "check" in request.POST:
        return _editor(request, policy, form, report=report)
    if report.errors:
        return _editor(request, policy, form, report=report, status=422)
    return _save(request, policy, form, report)


def _save(request: Request, policy: Policy, form: DocumentForm, report: checking.Report) -> HttpResponse:
    try:
        with request.workspace.open():
            version, is_new = policies.add_version(
                policy_id=policy.id, document=form.cleaned_data["document"], actor=actor_of(request).label
            )
    except Invalid as error:
        form.add_error("document", error.detail)
        return _editor(request, policy, form, report=report, status=422)
    said = (
        _("Saved as version {number}. It is not in force yet.")
        if is_new
        else _("Nothing is new: this is version {number}.")
    )
    messages.success(request, said.format(number=version.number))
    return redirect_to_version(policy.id, version.number)


def redirect_to_version(policy_id: uuid.UUID, number: int) -> HttpResponse:
    response = redirect("console:policy", policy_id=policy_id)
    response["Location"] += f"?version={number}"
    return response


def _start(request: Request, policy: Policy) -> str:
    with request.workspace.open():
        version = chosen(list(policy_selectors.list_versions(policy)), request.GET.get("version", ""))
    return json.dumps(written(version.document), ensure_ascii=False, indent=2)


def chosen(versions: list[PolicyVersion], number: str) -> PolicyVersion:
    """The version of the address, or the newest."""
    return next((one for one in versions if str(one.number) == number), versions[0])


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
    **more: Any,
) -> HttpResponse:
    with request.workspace.open():
        offered = _offered()
    context = {
        "policy": policy,
        "form": form,
        "report": report,
        "problems": _placed(form.data.get("document", ""), report) if report else [],
        "fields": installed.detectors(),
        "checked": report is not None,
        "offered": offered,
        "picked": request.POST.get("audit", "") or request.GET.get("audit", ""),
        **more,
    }
    return page(request, "policy_edit.html", context, status=status)


def _offered() -> list[tuple[Audit, str]]:
    """The newest audits with words for their items. What was erased of them is told when one is tried."""
    newest = list(audits.list_audits()[:OFFERED])
    assets = get_assets([audit.item for audit in newest if audit.item])
    return [(audit, _words(assets.get(audit.item) if audit.item else None)) for audit in newest]


def _words(asset: Asset | None) -> str:
    return name_of(asset, 60) if asset else ""


# --- While one types -------------------------------------------------------------------------------------


@needs(MODERATE)
def language(request: Request) -> JsonResponse:
    """What can stand in rules and documents, for completion."""
    fields = {"document": ["rules", *FIELDS], "rule": RULE, "then": policy_document.DECISIONS}
    return JsonResponse({**describing.as_dict(), "fields": fields})


@needs(MODERATE, methods=("POST",))
def check(request: Request) -> JsonResponse:
    """Everything that is wrong with a document, each with its place in the text. Stores nothing."""
    text = request.POST.get("document", "")
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        return JsonResponse({"problems": [_broken(text, error)], "steps": 0})
    except (ValueError, RecursionError):
        return JsonResponse({"problems": [_unreadable(text)], "steps": 0})
    with request.workspace.open():
        around = installed.surroundings()
    report = checking.check(document, around)
    problems = [
        {"level": one.level, "rule": one.rule, "detail": one.detail, "from": place.start, "to": place.end}
        for one, place in _placed(text, report)
    ]
    return JsonResponse({"problems": problems, "steps": report.steps})


def _broken(text: str, error: json.JSONDecodeError) -> dict[str, Any]:
    at = len(text[: error.pos].encode("utf-16-le", "surrogatepass")) // 2
    said = _("This is not JSON: {problem}.").format(problem=error.msg)
    return {"level": "error", "rule": "", "detail": said, "from": at, "to": at + 1}


def _unreadable(text: str) -> dict[str, Any]:
    detail = _("This is not JSON that can be read.")
    return {"level": "error", "rule": "", "detail": detail, "from": 0, "to": 1}


def _placed(text: str, report: checking.Report) -> list[tuple[checking.Problem, Any]]:
    places = Places(text)
    return [(one, places.of(one.pointer, one.at)) for one in report.problems]


# --- On a past audit -------------------------------------------------------------------------------------


def _try(request: Request, policy: Policy) -> HttpResponse:
    """What the document would decide about one audit; as a part where htmx asks."""
    form = DocumentForm(request.POST)
    tried: trying.Trial | None = None
    refusal, status = "", 422
    if form.is_valid():
        report = checking.check(form.cleaned_data["document"])
        if report.errors:
            refusal = _("The document has errors; nothing can be tried before they are mended.")
        else:
            try:
                with request.workspace.open():
                    tried = _tried(report.document, request.POST.get("audit", ""))
                status = 200
            except NotFound as error:
                refusal, status = error.detail, 404
    else:
        refusal = " ".join(map(str, form.errors.get("document", [_("This is not JSON that can be read.")])))
    found: dict[str, Any] = {"tried": tried, "refusal": refusal}
    if request.headers.get("HX-Request"):
        return page(request, "parts/policy_tried.html", found)
    return _editor(request, policy, form, status=status, **found)


def _tried(document: dict[str, Any], audit_id: str) -> trying.Trial:
    found = audits.get_request(parse_id(audit_id.strip()))
    if not isinstance(found, Audit):
        raise NotFound(_("This audit is not decided yet."))
    return trying.try_on(document=document, audit=found)
