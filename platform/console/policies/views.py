"""Policies: their list and versions, running in shadow and enforcing, and backtests on the history."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import Request, actor_of, needs, page
from console.forms import StyledForm, style
from console.policies.editor import as_authored, requested_version
from console.policies.rules import dataset_names
from console.policies.rules_form import condition_words
from console.presenters import actor_names
from tenants.accounts.permissions import MODERATE
from tenants.datasets.models import Asset
from tenants.datasets.selectors import get_assets
from tenants.errors import Conflict, Invalid, NotFound
from tenants.jobs.models import Job
from tenants.moderation import policies, shapes, starters
from tenants.moderation.models import Audit, Backtest, Policy
from tenants.moderation.policies import backtests
from tenants.moderation.policies import selectors as installed
from tenants.moderation.policies import selectors as policy_selectors
from tenants.moderation.rules import static_checks


class PolicyForm(StyledForm):
    """A new policy: empty, or from a starter."""

    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    description = forms.CharField(
        label=gettext_lazy("Description"),
        required=False,
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    # Whether there is one of that name is for the service to say.
    starter = forms.CharField(required=False, label=gettext_lazy("Starting point"), widget=forms.Select)

    def __init__(self, starters: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", gettext_lazy("An empty policy")), *((one.id, one.title) for one in starters)]
        self.fields["starter"].widget = forms.Select(choices=choices)
        style(self.fields["starter"].widget, invalid="starter" in self.errors)


class ActivateForm(StyledForm):
    MODES = (
        ("shadow", gettext_lazy("Shadow: decide without changing anything")),
        ("enforce", gettext_lazy("Enforce")),
        ("off", gettext_lazy("Off")),
    )
    version = forms.IntegerField(label=gettext_lazy("Version"), min_value=1, max_value=2**31 - 1)
    mode = forms.ChoiceField(label=gettext_lazy("Mode"), choices=MODES)
    percent = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=100,
        initial=100,
        label=gettext_lazy("Percentage of items"),
    )

    @property
    def ratio(self) -> float:
        given = self.cleaned_data
        return (given["percent"] or 100) / 100 if given["mode"] == "enforce" else 1.0


ACTIVATIONS, BACKTESTS = 10, 5

# Of the newest audits that a version saw in shadow, as many are compared on a page.
COMPARED = 5_000

EMPTY: dict[str, object] = {"rules": []}


@needs(MODERATE)
def index(request: Request) -> HttpResponse:
    return _index(request, None, 200)


def _index(request: Request, form: PolicyForm | None, status: int) -> HttpResponse:
    known = starters.list_starters()
    with request.workspace.open():
        now, versions = policy_selectors.activations_now()
        lines = [
            (policy, policy_selectors.state_shape(now.get(policy.id), versions))
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
    return show_policy(request, policy_id, {}, 200)


def show_policy(request: Request, policy_id: uuid.UUID, forms: dict[str, Any], status: int) -> HttpResponse:
    with request.workspace.open():
        policy = policy_selectors.get_policy(policy_id)
        versions = list(policy_selectors.list_versions(policy))
        version = requested_version(versions, request.GET.get("version", ""))
        now, named = policy_selectors.activations_now()
        past = list(policy_selectors.list_activations(policy)[:ACTIVATIONS])
        state = policy_selectors.state_shape(now.get(policy.id), named)
        context = {
            "policy": policy,
            "versions": versions,
            "version": version,
            "document": as_authored(version.document),
            "in_words": _in_words(version.document),
            "state": state,
            "other": _other_in_force(policy, now, named),
            "past": past,
            "names": actor_names({*(row.created_by for row in past), *(one.created_by for one in versions)}),
            "report": static_checks.check_policy(version.document, installed.installed_environment()),
            "shadow": policy_selectors.compare_shadow(version, newest_of=COMPARED),
            "backtests": _backtests(policy),
        }
    context["activate_form"] = ActivateForm(initial=_as_it_is(version.number, state))
    return page(request, "policy.html", {**context, **forms}, status=status)


def _as_it_is(number: int, state: shapes.PolicyState) -> dict[str, Any]:
    """What holds for this version; for one that is not in force shadow, which changes nothing, is the next step."""
    if state.version == number:
        return {"version": number, "mode": "enforce", "percent": round((state.ratio or 1.0) * 100)}
    return {"version": number, "mode": "shadow", "percent": 100}


def _in_words(document: Mapping[str, Any]) -> dict[str, str]:
    """What the rules look for, by their ids."""
    datasets = dataset_names()
    return {rule["id"]: condition_words(rule["when"], datasets) for rule in document.get("rules", ())}


def _other_in_force(policy: Policy, now: dict[uuid.UUID, Any], named: dict[uuid.UUID, Any]) -> Policy | None:
    """The policy that would have to make way, if another one is enforced."""
    row = policies.enforcing_row(now)
    if row is None or row.policy_id == policy.id:
        return None
    return Policy.objects.filter(pk=row.policy_id).first()


def _backtests(policy: Policy) -> list[tuple[Backtest, Job | None]]:
    tried = Backtest.objects.filter(version__policy=policy).select_related("version")
    rows = list(tried.order_by("-id")[:BACKTESTS])
    jobs = Job.objects.in_bulk([row.job_id for row in rows])
    return [(row, jobs.get(row.job_id)) for row in rows]


@needs(MODERATE)
def shadow(request: Request, policy_id: uuid.UUID) -> HttpResponse:
    """What a version in shadow would have decided beside what was decided, with audits to look at."""
    with request.workspace.open():
        policy = policy_selectors.get_policy(policy_id)
        versions = list(policy_selectors.list_versions(policy))
        now, named = policy_selectors.activations_now()
        state = policy_selectors.state_shape(now.get(policy.id), named)
        version = requested_version(versions, request.GET.get("version", "") or str(state.shadow or ""))
        found = policy_selectors.compare_shadow(version, newest_of=COMPARED)
        samples = _samples(found.samples)
    context = {
        "policy": policy,
        "versions": versions,
        "version": version,
        "state": state,
        "shadow": found,
        "samples": samples,
        "matrix": matrix_of({(one.from_, one.to): one.count for one in found.changes}),
        "decisions": DECISIONS,
        "most": COMPARED,
    }
    return page(request, "policy_shadow.html", context)


@dataclass(frozen=True)
class SampleLine:
    """An audit that the version in shadow would have decided otherwise; its asset if that is still there."""

    audit: Audit
    asset: Asset | None
    from_: str
    to: str
    rules: list[str]


def _samples(samples: Sequence[shapes.ShadowSample]) -> list[SampleLine]:
    audits = Audit.objects.in_bulk([sample.audit for sample in samples])
    known = {str(audit.pk): audit for audit in audits.values()}
    assets = get_assets([audit.item for audit in audits.values() if audit.item])
    return [
        SampleLine(
            audit, assets.get(audit.item) if audit.item else None, sample.from_, sample.to, sample.rules
        )
        for sample in samples
        if (audit := known.get(sample.audit))
    ]


# --- On the history --------------------------------------------------------------------------------------


DECISIONS = ("allow", "label", "review", "block")


@needs(MODERATE, methods=("POST",))
def start_backtest(request: Request, policy_id: uuid.UUID) -> HttpResponse:
    number = request.POST.get("version", "")
    try:
        with request.workspace.open():
            policy = policy_selectors.get_policy(policy_id)
            version = policy_selectors.get_version(policy, int(number) if _is_number(number) else 0)
            job = backtests.start_backtest(version=version, actor=actor_of(request).label)
            row = Backtest.objects.get(job_id=job.id)
    except Conflict as error:
        messages.error(request, error.detail)
        return redirect("console:policy", policy_id=policy_id)
    return redirect("console:backtest", backtest_id=row.id)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 9


@needs(MODERATE)
def show_backtest(request: Request, backtest_id: uuid.UUID) -> HttpResponse:
    """How far a backtest has come and what it found so far, as a part where htmx asks."""
    with request.workspace.open():
        rows = Backtest.objects.select_related("version", "version__policy")
        row = rows.filter(pk=backtest_id).first()
        if row is None:
            raise NotFound(_("This backtest does not exist."))
        job = Job.objects.filter(pk=row.job_id).first()
    result = backtests.BacktestCounter.of(row.state).result(row.version.number)
    context = {
        "backtest": row,
        "policy": row.version.policy,
        "job": job,
        "result": result,
        "matrix": matrix_of({(one["from"], one["to"]): one["count"] for one in result["changes"]}),
        "decisions": DECISIONS,
    }
    template = "parts/backtest.html" if request.headers.get("HX-Request") else "backtest.html"
    return page(request, template, context)


def matrix_of(counts: Mapping[tuple[str, str], int]) -> list[tuple[str, list[tuple[str, int]]]]:
    """How many went from each decision to each, a row for each old one that occurs."""
    olds = [old for old in DECISIONS if any(pair[0] == old for pair in counts)]
    return [(old, [(new, counts.get((old, new), 0)) for new in DECISIONS]) for old in olds]
