"""Background work: the list, one job, following, cancelling and trying again."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect

from console.access import Request, needs, page
from console.cards import job_lines
from console.paging import page_of, parse_id
from tenants.accounts.permissions import READ, WRITE
from tenants.accounts.watchers import by_session
from tenants.errors import Conflict, QuotaExceeded
from tenants.jobs import live, selectors, services
from tenants.jobs.models import Job

PAGE = 25
MAX_STATES = 50


@needs(READ)
def index(request: Request) -> HttpResponse:
    state = request.GET.get("state", "")
    state = state if state in Job.State.values else ""
    with request.workspace.open():
        found = page_of(selectors.list_jobs(state=state), request.GET.get("before", ""), PAGE)
        lines = job_lines(found.items)
    context = {
        "jobs": lines,
        "next": found.next,
        "state": state,
        "states": Job.State.values,
        "before": request.GET.get("before", ""),
        "live": any(not job.finished for job in found.items),
    }
    template = "parts/job_table.html" if request.headers.get("HX-Request") else "jobs.html"
    return page(request, template, context)


@needs(READ)
def show(request: Request, job_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        job = selectors.get_job(job_id)
    template = "parts/job_panel.html" if request.headers.get("HX-Request") else "job.html"
    return page(request, template, {"job": job})


@needs(READ)
def events(request: Request, job_id: uuid.UUID) -> HttpResponse:
    """Server-Sent Events; the server's edge goes on from this answer (config.edge)."""
    with request.workspace.open():
        job = selectors.get_job(job_id)
    if live.seen_to_the_end(job, request.headers.get("Last-Event-ID", "")):
        return HttpResponse(status=204)
    body, headers = live.opening(job, by_session(request.session.session_key or ""))
    return HttpResponse(body, headers=headers)


@needs(READ)
def states(request: Request) -> JsonResponse:
    """Several jobs at once, for scripts that cannot follow events. Unknown ids are left out."""
    ids = [parse_id(value) for value in request.GET.get("ids", "").split(",")[:MAX_STATES]]
    with request.workspace.open():
        jobs = selectors.list_jobs().filter(pk__in=[found for found in ids if found])
        return JsonResponse({"jobs": [selectors.as_dict(job) for job in jobs]})


@needs(WRITE, methods=("POST",))
def cancel(request: Request, job_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            job = services.cancel(job_id=job_id)
        done = "The job was cancelled." if job.finished else "The job stops at its next step."
        messages.success(request, done)
    except Conflict as error:
        messages.error(request, error.detail)
    return redirect("console:job", job_id=job_id)


@needs(WRITE, methods=("POST",))
def retry(request: Request, job_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            services.retry(job_id=job_id)
        messages.success(request, "The job is queued again.")
    except (Conflict, QuotaExceeded) as error:
        messages.error(request, error.detail)
    return redirect("console:job", job_id=job_id)
