"""Asking a browser for a passkey: the challenge lies in its session, for one purpose, and is used once."""

from __future__ import annotations

import logging
import time

from django.http import HttpRequest
from django.utils.translation import gettext as _

from tenants.accounts import passkeys
from tenants.accounts.models import User
from tenants.errors import Invalid

log = logging.getLogger(__name__)

CHALLENGE, LASTS_S = "challenge", 300
# What it is for: adding one, signing in by one alone, after a password, confirming that it is still the person, or that
# an account is theirs to which a single sign-on leads.
REGISTER, SIGN_IN, SECOND_STEP, VERIFY, LINK = "register", "sign-in", "second-step", "verify", "link"


def begin(request: HttpRequest, purpose: str, ceremony: passkeys.Ceremony) -> str:
    """Keep the challenge, in place of one before; returns what the page's script gets."""
    request.session[CHALLENGE] = {"of": purpose, "is": ceremony.challenge.hex(), "at": time.time()}
    return ceremony.options


def offer(request: HttpRequest, purpose: str, user: User | None = None) -> str:
    """What the page's script needs to ask for a passkey (`user`: of theirs); "" where none could be used."""
    ceremony = passkeys.begin_authentication(user)
    return begin(request, purpose, ceremony) if ceremony else ""


def take(request: HttpRequest, purpose: str) -> bytes:
    """The challenge of this purpose, which is used up. Raises Invalid for none, and for one that is too old."""
    kept = request.session.pop(CHALLENGE, None)
    if kept is None or kept["of"] != purpose or time.time() - kept["at"] > LASTS_S:
        asked = kept["of"] if kept else "nothing"
        log.warning(
            "a passkey was refused", extra={"reason": f"asked for {asked}, used for {purpose}, or late"}
        )
        raise Invalid(_("This took too long, or another page was opened in the meantime. Try again."))
    return bytes.fromhex(kept["is"])


def verified(request: HttpRequest, purpose: str, user: User | None = None) -> User:
    """Whose passkey answers the form that was sent; `user`: it has to be theirs. Raises Invalid."""
    challenge = take(request, purpose)
    return passkeys.verify(response=request.POST.get("credential", ""), challenge=challenge, user=user)
