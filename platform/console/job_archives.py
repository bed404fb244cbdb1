"""Jobs that ended long ago and lie in files of the storage: which files there are, and the lines of one."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from typing import Any

from django.http import HttpResponse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from console.access import Request, needs, page
from console.paging import page_of
from tenants.accounts.permissions import READ
from tenants.errors import NotFound
from tenants.jobs.archiving import list_archives
from tenants.pipeline.upkeep import job_archive

PAGE, LINES = 25, 100


@needs(READ)
def index(request: Request) -> HttpResponse:
    with request.workspace.open():
        found = page_of(list_archives(), request.GET.get("before", ""), PAGE)
    return page(request, "job_archives.html", {"archives": found.items, "next": found.next})


@needs(READ)
def show(request: Request, archive_id: uuid.UUID) -> HttpResponse:
    """`?after=` says behind how many lines it goes on."""
    given = request.GET.get("after", "")
    after = int(given) if given.isascii() and given.isdecimal() and len(given) < 7 else 0
    with request.workspace.open():
        archive = list_archives().filter(pk=archive_id).first()
    if archive is None:
        raise NotFound(_("This archive does not exist."))
    try:
        # In no transaction: storage may be slow.
        found = list(itertools.islice(job_archive.read(archive), after, after + LINES + 1))
    except FileNotFoundError:
        raise NotFound(_("The file of this archive no longer exists.")) from None
    context = {
        "archive": archive,
        "lines": [_line(one) for one in found[:LINES]],
        "next": after + LINES if len(found) > LINES else None,
    }
    return page(request, "job_archive.html", context)


def _line(stored: dict[str, Any]) -> dict[str, Any]:
    """What stands in the file, with its moments as such and the seconds between them."""
    queued, started, finished = (
        parse_datetime(stored[name]) if stored.get(name) else None
        for name in ("queued_at", "started_at", "finished_at")
    )
    return {
        **stored,
        "finished": finished,
        "waited_s": _between(queued, started or finished),
        "ran_s": _between(started, finished),
    }


def _between(first: dt.datetime | None, last: dt.datetime | None) -> float | None:
    return max(0.0, (last - first).total_seconds()) if first and last else None
