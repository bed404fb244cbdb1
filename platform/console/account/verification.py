"""Asking a signed-in person again who they are, before what a borrowed browser must not do, and going on after it.

`console.access.needs(fresh=…)` and `backoffice.access.operators(fresh=True)` keep the request that they interrupt
(`tenants.accounts.reauthentication`) and lead to `verify`, the one page that asks. A session by single sign-on is sent
to its provider by it (`account.sign_on.prove`), and comes back to `go_on` after `mark_verified`.
"""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.access import Visit, connection_of, page, signed_in
from console.account import ceremony
from console.account.forms import VerifyForm
from console.account.sign_in import too_many
from console.account.throttle import TooManyAttempts
from tenants.accounts import passkeys, reauthentication
from tenants.accounts.reauthentication import Interrupted
from tenants.errors import Invalid


@signed_in(methods=("GET", "POST"), by_sign_on=True)
def verify(request: Visit) -> HttpResponse:
    connection_id = connection_of(request)
    if connection_id is not None:
        return redirect("console:sso-prove", connection_id)
    if request.method != "POST":
        return _ask(request, VerifyForm(request), 200)
    try:
        if "credential" in request.POST:
            ceremony.verified(request, ceremony.VERIFY, request.user)
        elif not (form := VerifyForm(request, request.POST)).is_valid():
            return _ask(request, form, 422)
    except TooManyAttempts as refused:
        return too_many(_ask(request, VerifyForm(request), refused.status, refused.detail), refused)
    except Invalid as error:
        return _ask(request, VerifyForm(request), 422, error.detail)
    reauthentication.mark_verified(request.session)
    return redirect("console:verify-go-on")


def _ask(request: Visit, form: VerifyForm, status: int, problem: str = "") -> HttpResponse:
    waiting = reauthentication.interrupted(request.session)
    context = {
        "form": form,
        "problem": problem,
        "back": waiting.page if waiting else "/",
        "was_large": waiting is not None and waiting.was_large,
        "passkey": ceremony.offer(request, ceremony.VERIFY, request.user),
        "party": passkeys.relying_party(),
    }
    return page(request, "verify.html", context, status=status)


@signed_in(by_sign_on=True)
def go_on(request: Visit) -> HttpResponse:
    """Take up what was interrupted: a page is opened, a form is sent once more, by a script or by hand."""
    if not reauthentication.is_verified(request.session):
        return redirect("console:verify")
    waiting = reauthentication.interrupted(request.session)
    reauthentication.forget_interrupted(request.session)
    if waiting is None:
        return redirect("console:home")
    here = str(request.workspace.tenant.id) if request.workspace else ""
    if waiting.workspace not in ("", here):
        messages.warning(
            request, _("You switched to another workspace in the meantime, so nothing was sent.")
        )
        return redirect("console:home")
    if refusal := _why_not(waiting):
        messages.warning(request, refusal)
        return redirect(waiting.page)
    if waiting.fields is None:
        return redirect(waiting.path)
    return page(request, "verify_go_on.html", {"waiting": waiting})


def _why_not(waiting: Interrupted) -> str:
    """Why it does not go on by itself; "" if it does."""
    if waiting.is_over:
        return _("You confirmed too late, so nothing was sent. Please start again.")
    if waiting.was_large:
        return _("What you entered was too large to keep. Enter it again.")
    return ""
