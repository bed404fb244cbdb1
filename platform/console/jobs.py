"""Background work: the list, one job with its log, its parent and its children; following, cancelling, hurrying.

And many at once: what would be done is said first, with how many it is, and done by a second request that names them.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse, JsonResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from console.access import Request, actor_of, needs, page
from console.job_subjects import SEARCHED, job_lines, matching, who_asked
from console.labels import STATES
from console.paging import page_of, parse_id
from console.presenters import actor_names
from tenants.accounts.permissions import READ, WRITE
from tenants.accounts.watchers import by_session
from tenants.errors import Conflict, Invalid, QuotaExceeded, ServiceError
from tenants.events.services import cancel_job, retry_job
from tenants.jobs import selectors, server_sent_events, services
from tenants.jobs.kinds import KINDS
from tenants.jobs.models import Job
from tenants.shapes import plain

PAGE = 25

MAX_STATES = 50

# Of a job with many children, as many are listed.
CHILDREN = 50

MAX_WORDS = 200

# Jobs that ended no longer ago than this.
ENDED = {
    "hour": (dt.timedelta(hours=1), gettext_lazy("last hour")),
    "day": (dt.timedelta(days=1), gettext_lazy("last day")),
    "week": (dt.timedelta(days=7), gettext_lazy("last 7 days")),
}
# Stands in an address for the system, which the audit log names by an empty text.
SYSTEM = "system"


@dataclass(frozen=True)
class Wanted:
    """What the address asks for; values that there are none of count as nothing."""

    q: str = ""
    state: str = ""
    kind: str = ""
    who: str = ""
    ended: str = ""
    priority: int | None = None

    @classmethod
    def read(cls, query: QueryDict, requesters: Iterable[str]) -> Wanted:
        """`requesters`: as the audit log names who asked for jobs."""
        # Without NUL, which the database takes in no text.
        given = {name: query.get(name, "").replace("\0", "") for name in cls.__dataclass_fields__}
        people = {actor or SYSTEM for actor in requesters}
        return cls(
            q=given["q"].strip()[:MAX_WORDS],
            state=given["state"] if given["state"] in Job.State.values else "",
            kind=given["kind"] if given["kind"] in KINDS else "",
            who=given["who"] if given["who"] in people else "",
            ended=given["ended"] if given["ended"] in ENDED else "",
            priority=int(given["priority"]) if given["priority"] in map(str, Job.Priority.values) else None,
        )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """As a form has it."""
        return [(name, str(value)) for name, value in vars(self).items() if value]

    @property
    def query(self) -> str:
        """As an address has it."""
        query = QueryDict(mutable=True)
        query.update(dict(self.pairs))
        return query.urlencode()

    @property
    def narrows(self) -> bool:
        """Whether it asks for more than a state."""
        return replace(self, state="") != Wanted()

    def rows(self, scopes: Iterable[str]) -> QuerySet[Job]:
        """Newest first. In the tenant's scope."""
        rows = selectors.list_jobs(
            state=self.state,
            kind=self.kind,
            priority=self.priority,
            requested_by=None if not self.who else "" if self.who == SYSTEM else self.who,
            ended_since=timezone.now() - ENDED[self.ended][0] if self.ended else None,
        )
        return matching(rows, self.q, frozenset(scopes)) if self.q else rows


@needs(READ)
def index(request: Request) -> HttpResponse:
    before, scopes = request.GET.get("before", ""), request.workspace.scopes
    with request.workspace.open():
        requesters = selectors.requesters()
        wanted = Wanted.read(request.GET, requesters)
        found = page_of(wanted.rows(scopes), before, PAGE)
        context = {
            "wanted": wanted,
            "lines": [_with_ticks(line) for line in job_lines(found.items, scopes)],
            "next": found.next,
            "before": before,
            "live": any(not job.finished for job in found.items),
            "all_acts": [act for act in ACTS.values() if wanted.state in act.states],
        }
        if request.headers.get("HX-Request"):
            return page(request, "parts/job_table.html", context)
        people = _people(requesters, str(request.user.pk))
    context |= {
        "tabs": _tabs(wanted),
        "kinds": sorted(((str(kind.label), name) for name, kind in KINDS.items())),
        "people": people,
        "spans": [(name, label) for name, (_span, label) in ENDED.items()],
        "priorities": Job.Priority.values,
        "searched": SEARCHED,
    }
    return page(request, "jobs.html", context)


def _with_ticks(line: Any) -> dict[str, Any]:
    """The line, and whether there is anything to be done to its job."""
    return {"line": line, "job": line.job, "tick": any(act.may(line.job) for act in ACTS.values())}


def _people(requesters: Iterable[str], me: str) -> list[tuple[str, str]]:
    """Who may be chosen, as an address and in words: oneself, then the system, then the others by name."""
    actors = list(requesters)
    names = actor_names(actor for actor in actors if actor)
    shown = {actor: _("You") if actor == me else who_asked(actor, names) for actor in actors}
    ordered = sorted(shown, key=lambda actor: (actor != me, actor != "", shown[actor].lower()))
    return [(actor or SYSTEM, shown[actor]) for actor in ordered]


def _tabs(wanted: Wanted) -> list[tuple[str, str, bool]]:
    """Label, address and whether it is the one that is shown."""
    # What has not ended ended at no time: tabs of states leave that condition behind.
    lately = replace(wanted, state=Job.State.FAILED.value, ended="day")
    tabs = [(_("All"), replace(wanted, state="", ended="")), *_tabs_of_states(wanted)]
    tabs.append((_("Failed in the last day"), lately))
    return [
        (
            label,
            f"?{target.query}",
            wanted == lately if target == lately else wanted != lately and wanted.state == target.state,
        )
        for label, target in tabs
    ]


def _tabs_of_states(wanted: Wanted) -> list[tuple[str, Wanted]]:
    return [
        (str(STATES[state]).capitalize(), replace(wanted, state=state, ended=""))
        for state in Job.State.values
    ]


# --- Many at once ----------------------------------------------------------------------------------------

# How many one confirmation is for, and how many of them it shows by name.
MOST_AT_ONCE, SHOWN = 500, 20
# One request does as many as fit into this; the others stay as they are, and that is said.
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Act:
    """What is done to many jobs at once. `states`: those of the lists that offer it for all of a filter."""

    name: str
    states: tuple[str, ...]
    may: Callable[[Job], bool]
    run: Callable[..., Job]
    # With the number of jobs.
    asks: Callable[[int], str]
    does: Callable[[int], str]
    done: Callable[[int], str]


ACTS = {
    act.name: act
    for act in (
        Act(
            "retry",
            (Job.State.FAILED.value, Job.State.CANCELLED.value),
            services.may_be_retried,
            retry_job,
            lambda n: ngettext("Try %(count)d job again?", "Try %(count)d jobs again?", n) % {"count": n},
            lambda n: ngettext("Try %(count)d job again", "Try %(count)d jobs again", n) % {"count": n},
            lambda n: (
                ngettext("%(count)d job is queued again.", "%(count)d jobs are queued again.", n)
                % {"count": n}
            ),
        ),
        Act(
            "cancel",
            (Job.State.QUEUED.value, Job.State.RUNNING.value),
            services.may_be_cancelled,
            cancel_job,
            lambda n: ngettext("Cancel %(count)d job?", "Cancel %(count)d jobs?", n) % {"count": n},
            lambda n: ngettext("Cancel %(count)d job", "Cancel %(count)d jobs", n) % {"count": n},
            lambda n: (
                ngettext(
                    "%(count)d job was cancelled, or stops at its next step.",
                    "%(count)d jobs were cancelled, or stop at their next step.",
                    n,
                )
                % {"count": n}
            ),
        ),
    )
}


@needs(WRITE, methods=("GET", "POST"))
def bulk(request: Request) -> HttpResponse:
    """What would be done, which changes nothing; with POST it is done to the jobs that the form names."""
    given = request.POST if request.method == "POST" else request.GET
    act = ACTS.get(given.get("act", ""), ACTS["retry"])
    return _act_on_all(request, act) if request.method == "POST" else _ask(request, act)


def _ask(request: Request, act: Act) -> HttpResponse:
    scopes = request.workspace.scopes
    with request.workspace.open():
        wanted = Wanted.read(request.GET, selectors.requesters())
        if request.GET.get("all"):
            state = wanted.state if wanted.state in act.states else ""
            rows = replace(wanted, state=state).rows(scopes).filter(state__in=act.states)
            chosen = list(rows[: MOST_AT_ONCE + 1])
            gone = 0
        else:
            ids = _ticked(request.GET)
            chosen = list(selectors.list_jobs().filter(pk__in=ids))
            gone = len(ids) - len(chosen)
        fit = [job for job in chosen[:MOST_AT_ONCE] if act.may(job)]
        context = {
            "act": act,
            "wanted": wanted,
            "fit": fit,
            "question": act.asks(len(fit)),
            "button": act.does(len(fit)),
            "more": len(chosen) > MOST_AT_ONCE,
            "most": MOST_AT_ONCE,
            "left_out": len(chosen[:MOST_AT_ONCE]) - len(fit) + gone,
            "kinds": Counter(job.kind for job in fit).most_common(),
            "lines": job_lines(fit[:SHOWN], scopes),
            "unnamed": max(0, len(fit) - SHOWN),
        }
    return page(request, "jobs_bulk.html", context)


def _ticked(form: QueryDict) -> list[uuid.UUID]:
    """The jobs that are named; what is no id is left out."""
    found = (parse_id(value) for value in dict.fromkeys(form.getlist("job")))
    return [one for one in found if one is not None][:MOST_AT_ONCE]


def _act_on_all(request: Request, act: Act) -> HttpResponse:
    """Each in a transaction of its own: who meanwhile went on is left as it is, and told."""
    actor, until = actor_of(request).label, time.monotonic() + PATIENCE_S
    # The newest first: a part of other work is asked to stop before that would stop it.
    waiting = sorted(_ticked(request.POST), reverse=True)
    done, refused = 0, Counter[str]()
    while waiting and (time.monotonic() < until or not done + refused.total()):
        job_id = waiting.pop(0)
        try:
            with request.workspace.open():
                act.run(job_id=job_id, actor=actor)
            done += 1
        except ServiceError as error:
            refused[error.detail] += 1
    _tell(request, act, done, refused, len(waiting))
    with request.workspace.open():
        wanted = Wanted.read(QueryDict(request.POST.get("back", "")), selectors.requesters())
    return redirect(f"{reverse('console:jobs')}?{wanted.query}")


def _tell(request: Request, act: Act, done: int, refused: Counter[str], left: int) -> None:
    if not done and not refused:
        messages.error(request, _("Select jobs first."))
    if done:
        messages.success(request, act.done(done))
    for why, count in refused.most_common():
        words = ngettext(
            "%(count)d job was left as it is: %(why)s", "%(count)d jobs were left as they are: %(why)s", count
        )
        messages.error(request, words % {"count": count, "why": why})
    if left:
        words = ngettext(
            "%(count)d more job was not reached in time and is unchanged. Choose it again to go on.",
            "%(count)d more jobs were not reached in time and are unchanged. Choose them again to go on.",
            left,
        )
        messages.error(request, words % {"count": left})


# --- One job ---------------------------------------------------------------------------------------------


@needs(READ)
def show(request: Request, job_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        job = selectors.get_job(job_id)
        context = {"job": job, **_family(job, request.workspace.scopes)}
        if not request.headers.get("HX-Request"):
            context["log"] = list(selectors.log_of(job_id))
    template = "parts/job_panel.html" if request.headers.get("HX-Request") else "job.html"
    return page(request, template, {**context, "priorities": Job.Priority.values})


def _family(job: Job, scopes: frozenset[str]) -> dict[str, Any]:
    """The job in words; the one that queued it, and those that it queued, each as far as it is still there."""
    parent = Job.objects.filter(pk=job.parent_id).first() if job.parent_id else None
    children = list(selectors.children(job.id)[: CHILDREN + 1])
    own, *others = job_lines([job, *([parent] if parent else []), *children[:CHILDREN]], scopes)
    return {
        "line": own,
        "timing": own.timing,
        "parent": others.pop(0) if parent else None,
        "children": others,
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
    watcher = by_session(request.session.session_key or "", request.META.get("REMOTE_ADDR", ""))
    body, headers = server_sent_events.open_stream(job, watcher)
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
            job = cancel_job(job_id=job_id, actor=actor_of(request).label)
        done = _("The job was cancelled.") if job.finished else _("The job stops at its next step.")
        messages.success(request, done)
    except Conflict as error:
        messages.error(request, error.detail)
    return redirect("console:job", job_id=job_id)


@needs(WRITE, methods=("POST",))
def retry(request: Request, job_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            retry_job(job_id=job_id, actor=actor_of(request).label)
        messages.success(request, _("The job was queued again."))
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
        messages.success(request, _("The priority was changed. It applies to the turns still to come."))
    except (Conflict, Invalid) as error:
        messages.error(request, error.detail)
    return redirect("console:job", job_id=job_id)


def _priority(given: str) -> int:
    if given not in map(str, Job.Priority.values):
        raise Invalid(_("Choose a priority: low, normal or high."))
    return int(given)
