"""Asking a signed-in person again who they are, before what a borrowed browser must not do, and going on after it.

`console.access.needs(fresh=…)` and `backoffice.access.operators(fresh=True)` keep the request that they interrupt in
the session (`tenants.accounts.sessions.interrupt`) and lead here. A session that a provider of identities began is sent
to that provider.
"""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect

from console.access import Visit, page, signed_in
from console.account import ceremony
from console.account.forms import VerifyForm
from console.account.sign_in import too_many
from console.account.throttle import TooManyAttempts
from tenants.accounts import sessions
from tenants.errors import Invalid


@signed_in(methods=("GET", "POST"), by_sign_on=True)
def verify(request: Visit) -> HttpResponse:
    if provider := sessions.provider_of(request.session):
        return redirect(provider)
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
    sessions.mark_verified(request.session)
    return redirect("console:verify-go-on")


def _ask(request: Visit, form: VerifyForm, status: int, problem: str = "") -> HttpResponse:
    waiting = sessions.interrupted(request.session)
    context = {
        "form": form,
        "problem": problem,
        "back": waiting.page if waiting else "/",
        "passkey": ceremony.offer(request, ceremony.VERIFY, request.user),
    }
    return page(request, "verify.html", context, status=status)


@signed_in(by_sign_on=True)
def go_on(request: Visit) -> HttpResponse:
    """Take up what was interrupted: a page is opened, a form is sent once more, by a script or by hand."""
    if not sessions.is_verified(request.session):
        return redirect("console:verify")
    waiting = sessions.interrupted(request.session)
    sessions.forget_interrupted(request.session)
    if waiting is None:
        return redirect("console:home")
    if waiting.fields is None:
        return redirect(waiting.path)
    return page(request, "verify_go_on.html", {"waiting": waiting})
