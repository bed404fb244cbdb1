"""Trying a version of a policy on the tenant's history, and what would have been decided otherwise."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from tenants.accounts.permissions import MODERATE
from tenants.errors import Conflict, NotFound
from tenants.jobs.models import Job
from tenants.moderation import backtests, policy_selectors
from tenants.moderation.models import Backtest

DECISIONS = ("allow", "label", "review", "block")


@needs(MODERATE, methods=("POST",))
def start(request: Request, policy_id: uuid.UUID) -> HttpResponse:
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
def show(request: Request, backtest_id: uuid.UUID) -> HttpResponse:
    """How far a backtest has come and what it found so far, as a part where htmx asks."""
    with request.workspace.open():
        rows = Backtest.objects.select_related("version", "version__policy")
        row = rows.filter(pk=backtest_id).first()
        if row is None:
            raise NotFound(_("There is no such backtest."))
        job = Job.objects.filter(pk=row.job_id).first()
    result = backtests.Tally.of(row.state).result(row.version.number)
    context = {
        "backtest": row,
        "policy": row.version.policy,
        "job": job,
        "result": result,
        "matrix": matrix_of(result["changes"]),
        "decisions": DECISIONS,
    }
    template = "parts/backtest.html" if request.headers.get("HX-Request") else "backtest.html"
    return page(request, template, context)


def matrix_of(changes: list[dict[str, Any]]) -> list[tuple[str, list[tuple[str, int]]]]:
    """How many went from each decision to each, a row for each old one that occurs."""
    counts = {(change["from"], change["to"]): change["count"] for change in changes}
    olds = [old for old in DECISIONS if any(pair[0] == old for pair in counts)]
    return [(old, [(new, counts.get((old, new), 0)) for new in DECISIONS]) for old in olds]
