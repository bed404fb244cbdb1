"""What operators of the installation may do in the workspace: the owners' setting, and their answers."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from tenants.accounts.permissions import ADMIN
from tenants.errors import Conflict, NotAllowed
from tenants.people import approvals
from tenants.people.security import get_security

SHOWN = 50


@needs(ADMIN, methods=("GET", "POST"), fresh=("POST",))
def index(request: Request) -> HttpResponse:
    """The setting, which owners change, and the requests with their answers."""
    if request.method == "POST":
        asked = request.POST.get("asked") == "yes"
        with request.workspace.open():
            approvals.ask_for_approval(actor=actor_of(request), asked=asked)
        said = (
            _("Operators need an owner’s approval from now on.")
            if asked
            else _("Operators no longer need approval.")
        )
        messages.success(request, said)
        return redirect("console:security-operators")
    with request.workspace.open():
        context = {
            "asked": get_security().operator_approval,
            "requests": list(approvals.list_requests()[:SHOWN]),
            "decides": request.workspace.role == "owner",
        }
    return page(request, "security/operators.html", context)


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def answer(request: Request, request_id: uuid.UUID) -> HttpResponse:
    """`answer`: approve, deny or revoke."""
    given, actor = request.POST.get("answer", ""), actor_of(request)
    try:
        with request.workspace.open():
            approvals.get_request(request_id)
            if given == "revoke":
                approvals.revoke(actor=actor, request_id=request_id)
            else:
                approvals.answer(actor=actor, request_id=request_id, approve=given == "approve")
    except (Conflict, NotAllowed) as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, _("Your answer takes effect immediately."))
    return redirect("console:security-operators")
