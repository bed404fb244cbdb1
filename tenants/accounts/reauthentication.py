"""Re-authentication: when the person of a session last proved who they are, and the request that waits for it.

Signing in is the first proof, except by single sign-on. What a borrowed browser must not do asks for one of the last
REAUTHENTICATION_MINUTES.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest

from tenants.accounts.sessions import connection_of

_VERIFIED, _INTERRUPTED = "verified_at", "interrupted"
# Characters of a form that is kept while its sender proves who they are, and how long it waits for that.
MOST_KEPT, WAITS_S = 64_000, 900


def mark_verified(session: Any) -> None:
    """The person has just proved again who they are."""
    session[_VERIFIED] = time.time()


def is_verified(session: Any) -> bool:
    """Whether they did, or signed in, within the last REAUTHENTICATION_MINUTES.

    Coming by single sign-on proves nothing of a borrowed browser: a provider in which it is signed in does not ask.
    """
    again = session.get(_VERIFIED, 0.0)
    by_themselves = session.signed_in_at is not None and connection_of(session) is None
    first = session.signed_in_at.timestamp() if by_themselves else 0.0
    return time.time() - max(again, first) < settings.REAUTHENTICATION_MINUTES * 60


@dataclass(frozen=True)
class Interrupted:
    """A request that waits for the proof."""

    path: str
    # What its form sent; None: it opened a page, or `was_large`.
    fields: list[tuple[str, str]] | None
    # The page before, for who does not go on.
    page: str
    # Where alone it may go on, as the same form means something else in another one; "": anywhere.
    workspace: str
    # Its form is not kept, and has to be sent anew.
    was_large: bool
    at: float

    @property
    def is_over(self) -> bool:
        return time.time() - self.at > WAITS_S


def interrupt(request: HttpRequest, *, otherwise: str, workspace: str = "") -> None:
    """Keep a request, in place of one before, to go on with it after the proof. `otherwise`: the page before, where
    the browser names none."""
    fields = _fields(request.POST) if request.method == "POST" else None
    large = sum(len(name) + len(value) for name, value in fields or ()) > MOST_KEPT or bool(request.FILES)
    waiting = Interrupted(
        path=request.get_full_path(),
        fields=None if large else fields,
        page=page_before(request) or otherwise,
        workspace=workspace,
        was_large=large,
        at=time.time(),
    )
    request.session[_INTERRUPTED] = asdict(waiting)


def interrupted(session: Any) -> Interrupted | None:
    """The request that waits, if there is one."""
    kept = session.get(_INTERRUPTED)
    return Interrupted(**kept) if kept else None


def forget_interrupted(session: Any) -> None:
    session.pop(_INTERRUPTED, None)


def page_before(request: HttpRequest) -> str:
    """The page of ours from which a request came, where the browser says so; else ""."""
    before = urlsplit(request.headers.get("Referer", ""))
    ours = before.netloc == request.get_host() and before.path.startswith("/")
    # Two slashes begin the name of a host.
    if not ours or before.path.startswith("//"):
        return ""
    return before._replace(scheme="", netloc="", fragment="").geturl()


def _fields(form: Any) -> list[tuple[str, str]]:
    rows: Iterable[tuple[str, list[Any]]] = form.lists()
    return [(name, str(v)) for name, values in rows if name != "csrfmiddlewaretoken" for v in values]
