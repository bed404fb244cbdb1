"""Security, Operators: whether they need an owner's approval, what they ask for, and the owners' answers."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from tenants.accounts.permissions import ADMIN
from tenants.accounts.security import security_of
from tenants.errors import Conflict, Invalid, NotAllowed
from tenants.people import approvals

SHOWN = 50


@needs(ADMIN, methods=("GET", "POST"), fresh=("POST",))
def index(request: Request) -> HttpResponse:
    """The setting, which owners change, and the newest requests."""
    if request.method == "POST":
        required = _one_of(request.POST.get("required", ""), "yes", "no") == "yes"
        with request.workspace.open():
            approvals.require_approval(actor=actor_of(request), required=required)
        said = (
            _("Operators need an owner’s approval from now on.")
            if required
            else _("Operators no longer need an approval.")
        )
        messages.success(request, said)
        return redirect("console:security-operators")
    with request.workspace.open():
        context = {
            "required": security_of(request.workspace.tenant).operator_approval,
            "requests": list(approvals.list_requests()[:SHOWN]),
            # An operator who acts has another role; what one asked for oneself is for another owner to approve.
            "decides": request.workspace.role == "owner",
        }
    return page(request, "security/operators.html", context)


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def answer(request: Request, request_id: uuid.UUID) -> HttpResponse:
    given = _one_of(request.POST.get("answer", ""), "approve", "deny", "revoke")
    actor = actor_of(request)
    try:
        with request.workspace.open():
            if given == "revoke":
                approvals.revoke(actor=actor, request_id=request_id)
            else:
                approvals.answer(actor=actor, request_id=request_id, approve=given == "approve")
    except (Conflict, NotAllowed) as error:
        messages.error(request, error.detail)
    else:
        messages.success(request, _("Your answer takes effect immediately."))
    return redirect("console:security-operators")


def _one_of(given: str, *known: str) -> str:
    """Raises Invalid for what no button of the page sends."""
    if given not in known:
        raise Invalid(_("Choose from %(names)s.") % {"names": ", ".join(known)})
    return given
