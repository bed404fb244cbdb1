"""The editor of policies: a document checked as it is written, each problem at its place, tried on past audits."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.utils.translation import gettext, gettext_lazy
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from console.audits.labels import CATEGORIES
from console.forms import StyledForm
from console.paging import parse_id
from console.presenters import asset_name
from tenants.accounts.permissions import MODERATE
from tenants.datasets.models import Asset
from tenants.datasets.selectors import get_assets
from tenants.errors import Invalid, NotFound
from tenants.moderation import policies
from tenants.moderation.audits import selectors as audits
from tenants.moderation.expressions import language_reference
from tenants.moderation.json_values import escaped
from tenants.moderation.models import Audit, Policy, PolicyVersion
from tenants.moderation.policies import backtests
from tenants.moderation.policies import selectors as installed
from tenants.moderation.policies import selectors as policy_selectors
from tenants.moderation.rules import document as policy_document
from tenants.moderation.rules import static_checks


class DocumentForm(StyledForm):
    """A policy's document as JSON text. What stands in it is checked by the service, with a pointer for each error."""

    document = forms.CharField(
        strip=False,
        max_length=600_000,
        label=gettext_lazy("Document"),
        widget=forms.Textarea(attrs={"rows": 28, "spellcheck": "false", "class": "mono editor"}),
    )

    def clean_document(self) -> Any:
        try:
            return json.loads(self.cleaned_data["document"])
        except json.JSONDecodeError as error:
            raise forms.ValidationError(
                gettext("This is not JSON: {problem} (line {line}, column {column}).").format(
                    problem=error.msg, line=error.lineno, column=error.colno
                )
            ) from error
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(gettext("This is not JSON that can be read.")) from error


# Pointers of a policy are no deeper; what is below is only passed over.
DEEPEST = 6

_DECODER = json.JSONDecoder()

_BLANKS = re.compile(r"[ \t\n\r]*")

_HALF = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"

#: One character of a string, as it is written.
_CHARACTER = re.compile(rf"{_HALF}|\\u[0-9a-fA-F]{{4}}|\\.|.", re.DOTALL)

_WORD = re.compile(r"[\w.]+|.", re.DOTALL)


@dataclass(frozen=True)
class TextRange:
    """`start` and `end` count UTF-16 units, as scripts of a browser do; `line` counts from 1."""

    start: int
    end: int
    line: int


class JsonRanges:
    """Of a text that is valid JSON."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._spans: dict[str, tuple[int, int]] = {}
        self._walk(_BLANKS.match(text).end(), "", DEEPEST)  # type: ignore[union-attr]  # it matches nothing, too

    def of(self, pointer: str, at: int | None = None) -> TextRange:
        """Of the value, or of the nearest around it that is there. `at`: from this character of a string on."""
        while pointer not in self._spans:
            pointer = pointer.rpartition("/")[0]
        start, end = self._spans[pointer]
        if at is not None and self._text[start] == '"':
            start, end = self._inside(start, end, at)
        return self.between(start, end)

    def between(self, start: int, end: int) -> TextRange:
        return TextRange(self._units(start), self._units(end), self._text.count("\n", 0, start) + 1)

    def _units(self, at: int) -> int:
        if self._text.isascii():
            return at
        return len(self._text[:at].encode("utf-16-le", "surrogatepass")) // 2

    def _inside(self, start: int, end: int, at: int) -> tuple[int, int]:
        """The word that stands at a character of the string; its last one where that is behind the end."""
        found = start + 1
        for character in islice(_CHARACTER.finditer(self._text, start + 1, end - 1), at):
            found = character.end()
        found = min(found, max(start + 1, end - 2))
        word = _WORD.match(self._text, found, max(found + 1, end - 1))
        return found, word.end() if word else end

    # --- Reading ---

    def _walk(self, at: int, pointer: str, depth: int) -> int:
        """Note where the value at `at` stands, and what is in it; returns where it ends."""
        end: int = _DECODER.raw_decode(self._text, at)[1]
        self._spans[pointer] = (at, end)
        if depth and self._text[at] == "{":
            self._object(at, pointer, depth)
        elif depth and self._text[at] == "[":
            self._list(at, pointer, depth)
        return end

    def _object(self, at: int, pointer: str, depth: int) -> None:
        at = self._next(at + 1)
        while self._text[at] != "}":
            name, at = _DECODER.raw_decode(self._text, at)
            colon = self._next(at)
            at = self._next(self._walk(self._next(colon + 1), f"{pointer}/{escaped(name)}", depth - 1))
            if self._text[at] == ",":
                at = self._next(at + 1)

    def _list(self, at: int, pointer: str, depth: int) -> None:
        at, count = self._next(at + 1), 0
        while self._text[at] != "]":
            at, count = self._next(self._walk(at, f"{pointer}/{count}", depth - 1)), count + 1
            if self._text[at] == ",":
                at = self._next(at + 1)

    def _next(self, at: int) -> int:
        return _BLANKS.match(self._text, at).end()  # type: ignore[union-attr]  # it matches nothing, too


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
        around = installed.installed_environment()
    if request.method != "POST":
        return show_document(request, policy, start_document(request, policy))
    if "try" in request.POST:
        return _try_on_audit(request, policy)
    form = DocumentForm(request.POST)
    if not form.is_valid():
        return _editor(request, policy, form, status=422)
    document = form.cleaned_data["document"]
    report = static_checks.check_policy(document, around)
    if "check" in request.POST:
        return _editor(request, policy, form, report=report)
    if report.errors:
        return _editor(request, policy, form, report=report, status=422)
    return _save(request, policy, form, report)


def _save(
    request: Request, policy: Policy, form: DocumentForm, report: static_checks.CheckReport
) -> HttpResponse:
    try:
        with request.workspace.open():
            version, is_new = policies.add_version(
                policy_id=policy.id, document=form.cleaned_data["document"], actor=actor_of(request).label
            )
    except Invalid as error:
        form.add_error("document", error.detail)
        return _editor(request, policy, form, report=report, status=422)
    messages.success(request, saved_message(version.number, is_new))
    return redirect_to_version(policy.id, version.number)


def saved_message(number: int, is_new: bool) -> str:
    said = (
        _("Saved as version {number}. It is not active yet.")
        if is_new
        else _("Nothing changed: this is version {number}.")
    )
    return said.format(number=number)


def redirect_to_version(policy_id: uuid.UUID, number: int) -> HttpResponse:
    response = redirect("console:policy", policy_id=policy_id)
    response["Location"] += f"?version={number}"
    return response


def show_document(request: Request, policy: Policy, text: str, hint: str = "") -> HttpResponse:
    """The editor with this text, not checked yet. `hint`: why it is shown here and not by form."""
    return _editor(request, policy, DocumentForm(initial={"document": text}), hint=hint)


def show_refused(request: Request, policy: Policy, form: DocumentForm) -> HttpResponse:
    return _editor(request, policy, form, status=422)


def start_document(request: Request, policy: Policy) -> str:
    """The requested version as a person would write it, as JSON text."""
    with request.workspace.open():
        version = requested_version(
            list(policy_selectors.list_versions(policy)), request.GET.get("version", "")
        )
    return json.dumps(as_authored(version.document), ensure_ascii=False, indent=2)


def requested_version(versions: list[PolicyVersion], number: str) -> PolicyVersion:
    """The version of the address, or the newest."""
    return next((one for one in versions if str(one.number) == number), versions[0])


def as_authored(document: Mapping[str, Any]) -> dict[str, Any]:
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
    report: static_checks.CheckReport | None = None,
    status: int = 200,
    **more: Any,
) -> HttpResponse:
    with request.workspace.open():
        offered = _audit_choices()
    context = {
        "policy": policy,
        "form": form,
        "report": report,
        "problems": _with_ranges(form.data.get("document", ""), report) if report else [],
        "fields": installed.installed_detectors(),
        "checked": report is not None,
        "offered": offered,
        "picked": request.POST.get("audit", "") or request.GET.get("audit", ""),
        **more,
    }
    return page(request, "policy_edit.html", context, status=status)


def _audit_choices() -> list[tuple[Audit, str]]:
    """The newest audits with words for their items. What was erased of them is told when one is tried."""
    newest = list(audits.list_audits()[:OFFERED])
    assets = get_assets([audit.item for audit in newest if audit.item])
    return [(audit, _audit_label(assets.get(audit.item) if audit.item else None)) for audit in newest]


def _audit_label(asset: Asset | None) -> str:
    return asset_name(asset, 60) if asset else ""


# --- While one types -------------------------------------------------------------------------------------


@needs(MODERATE)
def language(request: Request) -> JsonResponse:
    """What can stand in rules and documents, for completion."""
    fields = {"document": ["rules", *FIELDS], "rule": RULE, "then": policy_document.DECISIONS}
    return JsonResponse({**language_reference.describe_language(), "fields": fields})


@needs(MODERATE, methods=("POST",))
def check(request: Request) -> JsonResponse:
    """Everything that is wrong with a document, each with its place in the text. Stores nothing."""
    text = request.POST.get("document", "")
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        return JsonResponse({"problems": [_syntax_problem(text, error)], "steps": 0})
    except (ValueError, RecursionError):
        return JsonResponse({"problems": [_unreadable_problem(text)], "steps": 0})
    with request.workspace.open():
        around = installed.installed_environment()
    report = static_checks.check_policy(document, around)
    problems = [
        {"level": one.level, "rule": one.rule, "detail": one.detail, "from": place.start, "to": place.end}
        for one, place in _with_ranges(text, report)
    ]
    return JsonResponse({"problems": problems, "steps": report.steps})


def _syntax_problem(text: str, error: json.JSONDecodeError) -> dict[str, Any]:
    at = len(text[: error.pos].encode("utf-16-le", "surrogatepass")) // 2
    said = _("This is not JSON: {problem}.").format(problem=error.msg)
    return {"level": "error", "rule": "", "detail": said, "from": at, "to": at + 1}


def _unreadable_problem(text: str) -> dict[str, Any]:
    detail = _("This is not JSON that can be read.")
    return {"level": "error", "rule": "", "detail": detail, "from": 0, "to": 1}


def _with_ranges(text: str, report: static_checks.CheckReport) -> list[tuple[static_checks.Problem, Any]]:
    places = JsonRanges(text)
    return [(one, places.of(one.pointer, one.at)) for one in report.problems]


# --- On a past audit -------------------------------------------------------------------------------------


def _try_on_audit(request: Request, policy: Policy) -> HttpResponse:
    """What the document would decide about one audit; as a part where htmx asks."""
    form = DocumentForm(request.POST)
    tried: backtests.Trial | None = None
    refusal, status = "", 422
    if form.is_valid():
        report = static_checks.check_policy(form.cleaned_data["document"])
        if report.errors:
            refusal = _("The document has errors. Fix them to try it.")
        else:
            try:
                with request.workspace.open():
                    tried = _trial(report.document, request.POST.get("audit", ""))
                status = 200
            except NotFound as error:
                refusal, status = error.detail, 404
    else:
        refusal = " ".join(map(str, form.errors.get("document", [_("This is not JSON that can be read.")])))
    found: dict[str, Any] = {"tried": tried, "refusal": refusal}
    if request.headers.get("HX-Request"):
        return page(request, "parts/policy_tried.html", found)
    return _editor(request, policy, form, status=status, **found)


def _trial(document: dict[str, Any], audit_id: str) -> backtests.Trial:
    found = audits.get_request(parse_id(audit_id.strip()))
    if not isinstance(found, Audit):
        raise NotFound(_("This audit is not decided yet."))
    return backtests.try_document(document=document, audit=found)
