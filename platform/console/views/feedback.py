"""What people think of results: a judgement on the tile, a click that opened one. The gate learns from both."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from console import problems
from console.access import Request, actor_of, needs, page
from console.paging import parse_id
from tenants.accounts.permissions import SEARCH
from tenants.errors import Invalid, NotFound
from tenants.retrieval import feedback
from tenants.retrieval.models import Feedback

MAX_WORDS = 200


@needs(SEARCH, methods=("POST",))
def give(request: Request) -> HttpResponse:
    """Keep it; answers the judgement as the tile shows it, and nothing for a click."""
    search_id, asset_id = (parse_id(request.POST.get(name, "")) for name in ("search", "asset"))
    kind = request.POST.get("kind", "")
    if search_id is None or asset_id is None:
        raise NotFound(_("There is no such result."))
    if kind not in Feedback.Kind.values:
        raise Invalid(_("A result is relevant, irrelevant, or was opened."), pointer="/kind")
    # In no scope, as it asks Valkey.
    trace = feedback.trace_of(request.workspace.tenant.id, search_id)
    with request.workspace.open():
        feedback.record_feedback(
            search_id=search_id, trace=trace, asset_id=asset_id, kind=kind, actor=actor_of(request).label
        )
    if kind == Feedback.Kind.CLICK:
        return HttpResponse(status=204)
    if not problems.wants_part(request):
        messages.success(request, _("Thank you: the judgement is kept."))
        return redirect(_back(request))
    words = request.POST.get("words", "")[:MAX_WORDS]
    shown = {"search_id": search_id, "asset_id": asset_id, "kind": kind, "words": words}
    return page(request, "parts/judged.html", shown)


def _back(request: Request) -> str:
    """To the results, where the browser says which page it came from."""
    came_from = request.headers.get("Referer", "")
    is_ours = url_has_allowed_host_and_scheme(came_from, {request.get_host()}, request.is_secure())
    return came_from if came_from and is_ours else "console:search"
