"""Asking a browser for a passkey: the challenge lies in its session, for one purpose, and is used once."""

from __future__ import annotations

import time

from django.http import HttpRequest
from django.utils.translation import gettext as _

from tenants.accounts import passkeys
from tenants.accounts.models import User
from tenants.errors import Invalid

CHALLENGE, LASTS_S = "challenge", 300
REGISTER, VERIFY = "register", "verify"


def begin(request: HttpRequest, purpose: str, ceremony: passkeys.Ceremony) -> str:
    """Keep the challenge, in place of one before; returns what the page's script gets."""
    request.session[CHALLENGE] = {"of": purpose, "is": ceremony.challenge.hex(), "at": time.time()}
    return ceremony.options


def offer(request: HttpRequest, purpose: str, user: User | None = None) -> str:
    """What the page's script needs to ask for a passkey (`user`: of theirs); "" where none could be used."""
    if passkeys.relying_party() is None or (user is not None and not user.passkeys.exists()):
        return ""
    return begin(request, purpose, passkeys.begin_authentication(user))


def take(request: HttpRequest, purpose: str) -> bytes:
    """The challenge of this purpose, which is used up. Raises Invalid for none, and for one that is too old."""
    kept = request.session.pop(CHALLENGE, None)
    if kept is None or kept["of"] != purpose or time.time() - kept["at"] > LASTS_S:
        raise Invalid(_("This took too long, or another page was opened in the meantime. Try again."))
    return bytes.fromhex(kept["is"])


def verified(request: HttpRequest, purpose: str, user: User | None = None) -> User:
    """Whose passkey answers the form that was sent; `user`: it has to be theirs. Raises Invalid."""
    challenge = take(request, purpose)
    return passkeys.verify(response=request.POST.get("credential", ""), challenge=challenge, user=user)
