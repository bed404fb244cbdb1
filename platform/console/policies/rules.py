"""The rules of a policy as a form, with what they would have decided about the newest audits beside them."""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from console.audits.labels import CATEGORIES, CATEGORY_ABOUT, SIGN_ABOUT, SIGNS, WARNINGS
from console.policies import editor
from console.policies.rules_form import MOST_DATASETS, Card, Row, RuleForm, RulesForm
from tenants.accounts.permissions import MODERATE
from tenants.datasets.models import Asset
from tenants.datasets.selectors import get_assets, list_datasets
from tenants.errors import Invalid
from tenants.moderation import policies
from tenants.moderation.models import Audit, Policy
from tenants.moderation.policies import previews
from tenants.moderation.policies import selectors as policy_selectors
from tenants.moderation.rules import static_checks
from tenants.moderation.rules.document import examine_document

#: Of what would be decided otherwise, as many items of each change are shown.
SHOWN = 5


@needs(MODERATE, methods=("GET", "POST"))
def edit(request: Request, policy_id: uuid.UUID) -> HttpResponse:
    """The form. `do` says what a button asks for: `save`, `count`, `json`, `from-json`, `add`, or with a row's name
    `remove-`, `up-`, `down-`. Only `save` stores anything."""
    with request.workspace.open():
        policy = policy_selectors.get_policy(policy_id)
        datasets = dataset_names()
    if request.method != "POST":
        return _begin(request, policy, datasets)
    do = request.POST.get("do", "save")
    if do == "from-json":
        return _from_json(request, policy, datasets)
    if do not in ("json", "count", "save"):
        return _changed(
            request, policy, RulesForm.of_request(request.POST, datasets.items(), judged=False), do
        )
    form = RulesForm.of_request(_sent(request, do), datasets.items())
    if do == "json":
        return _as_json(request, policy, form)
    return _count(request, policy, form) if do == "count" else _save(request, policy, form)


def _sent(request: Request, do: str) -> QueryDict:
    """What was sent. While somebody is still typing, a rule without a reason is counted all the same."""
    if do != "count" or not request.headers.get("HX-Request"):
        return request.POST
    sent = request.POST.copy()
    for name in sent.getlist("row"):
        if not sent.get(f"r{name}-reason", "").strip():
            sent[f"r{name}-reason"] = _("(no reason yet)")
    return sent


def dataset_names() -> dict[str, str]:
    """Of the newest datasets, by id: those that a rule can be limited to."""
    return {str(pk): name for pk, name in list_datasets().values_list("pk", "name")[:MOST_DATASETS]}


def _begin(request: Request, policy: Policy, datasets: Mapping[str, str]) -> HttpResponse:
    text = editor.start_document(request, policy)
    try:
        form = RulesForm.of_document(json.loads(text), datasets.items())
    except Invalid as error:
        return editor.show_document(request, policy, text, error.detail)
    return _page(request, policy, form, text=text)


def _from_json(request: Request, policy: Policy, datasets: Mapping[str, str]) -> HttpResponse:
    """The form of a document that is being written as JSON; what it cannot begin with stays there."""
    sent = editor.DocumentForm(request.POST)
    if not sent.is_valid():
        return editor.show_refused(request, policy, sent)
    document = sent.cleaned_data["document"]
    try:
        if not isinstance(document, dict):
            raise Invalid(_("A policy is a JSON object with rules."))
        form = RulesForm.of_document(document, datasets.items())
    except Invalid as error:
        sent.add_error("document", error.detail)
        return editor.show_refused(request, policy, sent)
    return _page(request, policy, form, text=sent.data["document"])


def _as_json(request: Request, policy: Policy, form: RulesForm) -> HttpResponse:
    if not form.is_valid():
        form.errors.append(_("Fix the marked fields to continue as JSON."))
        return _page(request, policy, form, status=422)
    return editor.show_document(request, policy, as_text(form.document()))


def as_text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2)


def _changed(request: Request, policy: Policy, form: RulesForm, do: str) -> HttpResponse:
    """After a button of the list; what was typed stays, wrong or not."""
    act, _dash, name = do.partition("-")
    focus = ""
    if act == "add":
        form.add()
        added = form.rows[-1] if form.rows else None
        if isinstance(added, RuleForm) and not form.errors:
            added.fields["subject"].widget.attrs["autofocus"] = True
    elif act == "remove":
        at = form.remove(name)
        focus = f"remove-{form.rows[at].prefix}" if at is not None and at < len(form.rows) else "add"
    elif act in ("up", "down"):
        form.move(name, -1 if act == "up" else 1)
        focus = do
    return _page(request, policy, form, focus=focus)


def _save(request: Request, policy: Policy, form: RulesForm) -> HttpResponse:
    with request.workspace.open():
        report = _check(form)
    if report is None or report.errors or form.errors:
        return _page(request, policy, form, status=422, report=report)
    try:
        with request.workspace.open():
            version, is_new = policies.add_version(
                policy_id=policy.id, document=form.document(), actor=actor_of(request).label
            )
    except Invalid as error:
        form.errors.append(error.detail)
        return _page(request, policy, form, status=422)
    messages.success(request, editor.saved_message(version.number, is_new))
    return editor.redirect_to_version(policy.id, version.number)


def _check(form: RulesForm) -> static_checks.CheckReport | None:
    """What the service's check finds in a valid form, each at its row; None for one that is not."""
    if not form.is_valid():
        return None
    report = static_checks.check_policy(form.document(), policy_selectors.installed_environment())
    for problem in report.errors:
        place, name = _place_of(problem.pointer)
        form.refuse(place, name, problem.detail)
    return report


def _place_of(pointer: str) -> tuple[int | None, str]:
    parts = pointer.split("/")
    if len(parts) < 3 or parts[1] != "rules" or not parts[2].isdecimal():
        return None, ""
    return int(parts[2]), parts[3] if len(parts) > 3 else ""


# --- What the page shows ---------------------------------------------------------------------------------


@dataclass
class Line:
    """One rule on the page. `effect` is what it did in the count; `threshold` what counts where no score is given."""

    number: int
    row: Row
    effect: previews.RuleCount | None = None
    warnings: list[str] = field(default_factory=list)
    threshold: float | None = None

    @property
    def card(self) -> Card | None:
        return self.row if isinstance(self.row, Card) else None

    @property
    def form(self) -> RuleForm | None:
        return self.row if isinstance(self.row, RuleForm) else None


@dataclass(frozen=True)
class ChangeLine:
    """How many would go from one decision to another, and the newest of them with their items."""

    before: str
    after: str
    count: int
    items: list[tuple[Audit, Asset | None]]


def _page(
    request: Request,
    policy: Policy,
    form: RulesForm,
    *,
    status: int = 200,
    report: static_checks.CheckReport | None = None,
    focus: str = "",
    **more: Any,
) -> HttpResponse:
    context = {
        "policy": policy,
        "form": form,
        "lines": _lines(form, report),
        "focus": focus,
        "meanings": _meanings(),
        "partly": bool(request.headers.get("HX-Request")),
        **more,
    }
    return page(request, "policy_rules.html", context, status=status)


def _meanings() -> list[tuple[Any, Any]]:
    """What every subject of a rule is called and means."""
    categories = [(CATEGORIES[name], CATEGORY_ABOUT[name]) for name in CATEGORIES]
    return categories + [(SIGNS[name], SIGN_ABOUT[name]) for name in SIGNS]


def _lines(
    form: RulesForm,
    report: static_checks.CheckReport | None,
    found: previews.RecentCount | None = None,
) -> list[Line]:
    said: dict[int, list[str]] = defaultdict(list)
    for problem in report.warnings if report else ():
        place, _name = _place_of(problem.pointer)
        if place is not None:
            said[place].append(str(WARNINGS.get(problem.code, problem.detail)))
    thresholds = examine_document({"rules": [], **form.rest}).document.get("thresholds", {})
    rules = form.rules() if found is not None else []
    lines = []
    for place, row in enumerate(form.rows):
        effect = found.rules.get(rules[place]["id"], previews.RuleCount()) if found is not None else None
        subject = "" if isinstance(row, Card) else str(row["subject"].value())
        lines.append(Line(place + 1, row, effect, said[place], thresholds.get(subject)))
    return lines


def _count(request: Request, policy: Policy, form: RulesForm) -> HttpResponse:
    """What the rules would have decided about the newest audits; as parts where htmx asks."""
    with request.workspace.open():
        report = _check(form)
        beside = previews.regime_in_force()
    found = None
    if report is not None and not report.errors:
        tried = previews.regime_of_document(report.document)
        found = previews.count_recent(request.workspace.tenant.id, tried, beside)
    context: dict[str, Any] = {"counted": True, "found": found}
    if found is not None:
        with request.workspace.open():
            context["changes"] = change_lines(found)
    lines = _lines(form, report, found)
    context["text"] = as_text(form.document()) if report is not None else ""
    if request.headers.get("HX-Request"):
        return page(
            request, "parts/policy_counted.html", {**context, "lines": lines, "form": form, "oob": True}
        )
    return _page(request, policy, form, report=report, **{**context, "lines": lines})


def change_lines(found: previews.RecentCount) -> list[ChangeLine]:
    """In the active tenant's scope; the most frequent change first."""
    shown = {pair: ids[:SHOWN] for pair, ids in found.samples.items()}
    audits = Audit.objects.in_bulk([one for ids in shown.values() for one in ids])
    assets = get_assets([audit.item for audit in audits.values() if audit.item])
    return [
        ChangeLine(before, after, count, _items(shown[before, after], audits, assets))
        for (before, after), count in found.changes.most_common()
    ]


def _items(
    ids: Sequence[uuid.UUID], audits: Mapping[uuid.UUID, Audit], assets: Mapping[uuid.UUID, Asset]
) -> list[tuple[Audit, Asset | None]]:
    known = [audits[one] for one in ids if one in audits]
    return [(audit, assets.get(audit.item) if audit.item else None) for audit in known]
