"""Jobs of all tenants: dead letters to look at and to retry, what runs, what was slow or expensive."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from backoffice.access import SIZE, Request, acting_operator, operators, page
from tenants.errors import ServiceError
from tenants.jobs.kinds import KINDS, name_of
from tenants.people import approvals
from tenants.pipeline.upkeep import job_figures, operator_acts

# Of the page: which jobs, and what the list is called.
VIEWS = {
    "dead": gettext_lazy("Dead letters"),
    "running": gettext_lazy("Running"),
    "slow": gettext_lazy("Slowest"),
    "dear": gettext_lazy("Most expensive"),
}


@operators()
def index(request: Request) -> HttpResponse:
    view = request.GET.get("view", "dead")
    view = view if view in VIEWS else "dead"
    wanted = {name: request.GET.get(name, "").replace("\0", "") for name in ("before", "kind", "tenant")}
    if view == "dead":
        found = job_figures.dead_letters(**wanted, limit=SIZE + 1)
    else:
        read = {
            "running": job_figures.running,
            "slow": job_figures.slowest,
            "dear": job_figures.costliest,
        }[view]
        found = read(limit=SIZE)
    approvals.hide_content(found, request.operator)
    context = {
        "title": _("Jobs"),
        "view": view,
        "views": VIEWS.items(),
        "jobs": found[:SIZE],
        "next": str(found[SIZE - 1].pk) if len(found) > SIZE else "",
        "wanted": wanted,
        "kinds": sorted(KINDS),
    }
    return page(request, "jobs.html", context)


@operators()
def job(request: Request, slug: str, job_id: uuid.UUID) -> HttpResponse:
    found = job_figures.get_job(slug, job_id)
    approvals.hide_content([found], request.operator)
    return page(request, "job.html", {"title": name_of(found.kind), "job": found})


@operators(methods=("POST",))
def retry(request: Request, slug: str, job_id: uuid.UUID) -> HttpResponse:
    try:
        operator_acts.retry_job(**acting_operator(request), slug=slug, job_id=job_id)
        messages.success(request, _("The job was queued again."))
    except ServiceError as error:
        if error.status == 404:
            raise
        messages.error(request, error.detail)
    return redirect("operator:job", slug=slug, job_id=job_id)


@operators(methods=("POST",))
def retry_many(request: Request) -> HttpResponse:
    wanted = job_figures.parse_choices(request.POST.getlist("job"))[:SIZE]
    done, refused = operator_acts.retry_jobs(**acting_operator(request), wanted=wanted)
    if done:
        messages.success(
            request, ngettext("%d job is queued again.", "%d jobs are queued again.", done) % done
        )
    if refused:
        text = ngettext("%d job could not be queued again.", "%d jobs could not be queued again.", refused)
        messages.error(request, text % refused)
    if not wanted:
        messages.info(request, _("Select jobs first."))
    return redirect("operator:jobs")
