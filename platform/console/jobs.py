"""Background work: the list, one job with its log, its parent and its children; following, cancelling, hurrying."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, JsonResponse, QueryDict
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.access import Request, needs, page
from console.paging import page_of, parse_id
from console.presenters import job_lines
from tenants.accounts.permissions import READ, WRITE
from tenants.accounts.watchers import by_session
from tenants.errors import Conflict, Invalid, QuotaExceeded
from tenants.jobs import selectors, server_sent_events, services, timing
from tenants.jobs.kinds import KINDS
from tenants.jobs.models import Job
from tenants.shapes import plain

PAGE = 25

MAX_STATES = 50

# Of a job with many children, as many are listed.
CHILDREN = 50


@needs(READ)
def index(request: Request) -> HttpResponse:
    wanted = _filters(request)
    before = request.GET.get("before", "")
    with request.workspace.open():
        found = page_of(_matching(wanted), before, PAGE)
        lines = [(job, subject, timing.timing_of(job)) for job, subject in job_lines(found.items)]
    query = QueryDict(mutable=True)
    query.update({name: value for name, value in wanted.items() if value})
    context = {
        **wanted,
        "jobs": lines,
        "next": found.next,
        "states": Job.State.values,
        "kinds": sorted(KINDS),
        "priorities": Job.Priority.values,
        "query": query.urlencode(),
        "before": before,
        "live": any(not job.finished for job in found.items),
    }
    template = "parts/job_table.html" if request.headers.get("HX-Request") else "jobs.html"
    return page(request, template, context)


def _filters(request: Request) -> dict[str, Any]:
    """What the address asks for; values that there are none of count as nothing."""
    state, kind, priority = (request.GET.get(name, "") for name in ("state", "kind", "priority"))
    return {
        "state": state if state in Job.State.values else "",
        "kind": kind if kind in KINDS else "",
        "priority": int(priority) if priority in map(str, Job.Priority.values) else None,
    }


def _matching(wanted: dict[str, Any]) -> Any:
    rows = selectors.list_jobs(state=wanted["state"], kind=wanted["kind"])
    return rows.filter(priority=wanted["priority"]) if wanted["priority"] else rows


# --- One job ---------------------------------------------------------------------------------------------


@needs(READ)
def show(request: Request, job_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        job = selectors.get_job(job_id)
        context = {"job": job, "timing": timing.timing_of(job), **_family(job)}
        if not request.headers.get("HX-Request"):
            context["log"] = list(selectors.log_of(job_id))
    template = "parts/job_panel.html" if request.headers.get("HX-Request") else "job.html"
    return page(request, template, {**context, "priorities": Job.Priority.values})


def _family(job: Job) -> dict[str, Any]:
    """The job that queued this one, and those that this one queued; each as far as it is still there."""
    parent = Job.objects.filter(pk=job.parent_id).first() if job.parent_id else None
    children = list(selectors.children(job.id)[: CHILDREN + 1])
    return {
        "parent": parent,
        "children": job_lines(children[:CHILDREN]),
        "more_children": len(children) > CHILDREN,
    }


@needs(READ)
def log(request: Request, job_id: uuid.UUID) -> HttpResponse:
    """The lines of its log after the number that the page has, as a part."""
    after = request.GET.get("after", "")
    known = int(after) if after.isascii() and after.isdecimal() and len(after) < 10 else 0
    with request.workspace.open():
        selectors.get_job(job_id)
        lines = list(selectors.log_of(job_id, after=known))
    return page(request, "parts/job_log_lines.html", {"log": lines})


@needs(READ)
def events(request: Request, job_id: uuid.UUID) -> HttpResponse:
    """Server-Sent Events; the server's edge goes on from this answer (config.edge)."""
    with request.workspace.open():
        job = selectors.get_job(job_id)
    if server_sent_events.knows_end(job, request.headers.get("Last-Event-ID", "")):
        return HttpResponse(status=204)
    body, headers = server_sent_events.open_stream(
        job, by_session(request.session.session_key or "", request.META.get("REMOTE_ADDR", ""))
    )
    return HttpResponse(body, headers=headers)


@needs(READ)
def states(request: Request) -> JsonResponse:
    """Several jobs at once, for scripts that cannot follow events. Unknown ids are left out."""
    ids = [parse_id(value) for value in request.GET.get("ids", "").split(",")[:MAX_STATES]]
    with request.workspace.open():
        jobs = selectors.list_jobs().filter(pk__in=[found for found in ids if found])
        return JsonResponse({"jobs": [plain(selectors.job_shape(job)) for job in jobs]})


# --- What people do to it --------------------------------------------------------------------------------


@needs(WRITE, methods=("POST",))
def cancel(request: Request, job_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            job = services.cancel(job_id=job_id)
        done = _("The job was cancelled.") if job.finished else _("The job stops at its next step.")
        messages.success(request, done)
    except Conflict as error:
        messages.error(request, error.detail)
    return redirect("console:job", job_id=job_id)


@needs(WRITE, methods=("POST",))
def retry(request: Request, job_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            services.retry(job_id=job_id)
        messages.success(request, _("The job is queued again."))
    except (Conflict, QuotaExceeded) as error:
        messages.error(request, error.detail)
    return redirect("console:job", job_id=job_id)


@needs(WRITE, methods=("POST",))
def prioritise(request: Request, job_id: uuid.UUID) -> HttpResponse:
    given = request.POST.get("priority", "")
    try:
        with request.workspace.open():
            selectors.get_job(job_id)
            services.set_priority(job_id=job_id, priority=_priority(given))
        messages.success(
            request, _("The priority was changed. It counts for the turns that are still to come.")
        )
    except (Conflict, Invalid) as error:
        messages.error(request, error.detail)
    return redirect("console:job", job_id=job_id)


def _priority(given: str) -> int:
    if given not in map(str, Job.Priority.values):
        raise Invalid(_("Choose a priority: low, normal or high."))
    return int(given)
