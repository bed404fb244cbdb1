"""Sessions that know whose they are. The engine is Django's own, with a row that can be listed and ended.

`settings.SESSION_ENGINE` names this module; the row is deleted to end a session, and every request looks it up.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from typing import Any

from django.contrib.auth import SESSION_KEY as USER_KEY
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.db.models import Q, QuerySet
from django.utils import timezone

from tenants.accounts.models import Session, User
from tenants.accounts.security import SessionLimits, installation_limits

SEEN_EVERY = dt.timedelta(minutes=1)
_CLIENT, _CONNECTION = "client", "connection"
# Why a session is over.
IDLE, AGE = "idle", "age"


class SessionStore(DatabaseStore):
    """Django's sessions in the database; a row also tells the person, the device and when it was last used."""

    seen_at: dt.datetime | None = None
    signed_in_at: dt.datetime | None = None

    @classmethod
    def get_model_class(cls) -> Any:
        return Session

    def create_model_instance(self, data: dict[str, Any]) -> Session:
        row: Any = super().create_model_instance(data)
        client = data.get(_CLIENT, {})
        row.handle, row.user_id = handle_of(row.session_key), data.get(USER_KEY)
        row.device, row.address = client.get("device", ""), client.get("address", "")
        row.connection_id = data.get(_CONNECTION)
        return row

    def _get_session_from_db(self) -> object:
        row = super()._get_session_from_db()  # type: ignore[misc]
        self.seen_at, self.signed_in_at = (row.seen_at, row.signed_in_at) if row else (None, None)
        return row


def handle_of(session_key: str) -> uuid.UUID:
    """The public name of a session, which does not tell its key."""
    return uuid.UUID(bytes=hashlib.sha256(session_key.encode()).digest()[:16])


def note_client(session: Any, *, device: str, address: str) -> None:
    """Keep with a session, at sign-in, which browser it belongs to."""
    session[_CLIENT] = {"device": device[:300], "address": address[:45]}


def bind(session: Any, connection_id: uuid.UUID) -> None:
    """Keep with a session, at sign-in, by which single sign-on it was opened."""
    session[_CONNECTION] = str(connection_id)


def connection_of(session: Any) -> uuid.UUID | None:
    """The single sign-on by which a session was opened; None for one that the person opened by what is theirs."""
    return uuid.UUID(session[_CONNECTION]) if _CONNECTION in session else None


def over(session: Any, limits: SessionLimits) -> str:
    """Why a session, or its row, is over: IDLE, AGE, or "" for one that is not. One that is not kept yet is new.

    Its last use is known to the minute, so an idle one may end up to SEEN_EVERY early, and never late.
    """
    if session.seen_at is None:
        return ""
    now = timezone.now()
    if now - session.signed_in_at >= limits.longest:
        return AGE
    return IDLE if now - session.seen_at >= limits.idle else ""


def touch(session: Any) -> None:
    """Note that the session is in use; a write at most once a minute."""
    now = timezone.now()
    if session.seen_at is not None and now - session.seen_at > SEEN_EVERY:
        # Another host, whose clock is ahead, may have noted a later use.
        Session.objects.filter(pk=session.session_key, seen_at__lt=now).update(seen_at=now)
        session.seen_at = now


def list_sessions(user: User, connection_id: uuid.UUID | None = None) -> QuerySet[Session]:
    """The person's live sessions, the one used last first; only those of a single sign-on if one is named."""
    now, limits = timezone.now(), installation_limits()
    mine = _sessions(user, connection_id).filter(expire_date__gt=now)
    live = mine.filter(seen_at__gt=now - limits.idle, signed_in_at__gt=now - limits.longest)
    return live.order_by("-seen_at")


def _sessions(user: User, connection_id: uuid.UUID | None) -> QuerySet[Session]:
    rows = Session.objects.filter(user=user)
    return rows.filter(connection=connection_id) if connection_id else rows


def end_session(*, user: User, handle: uuid.UUID, connection_id: uuid.UUID | None = None) -> int:
    """End one of the person's own sessions; returns how many ended, as it may be over already."""
    return _sessions(user, connection_id).filter(handle=handle).delete()[0]


def end_sessions(*, user: User, keep: str | None = None, connection_id: uuid.UUID | None = None) -> int:
    """End all sessions of a person, but for the one with the key `keep`; of a single sign-on if one is named."""
    return _sessions(user, connection_id).exclude(pk=keep).delete()[0]


def forget_expired() -> None:
    SessionStore.clear_expired()
    now, limits = timezone.now(), installation_limits()
    ended = Q(seen_at__lte=now - limits.idle) | Q(signed_in_at__lte=now - limits.longest)
    # One of nobody holds an invitation, or a password whose code is to come: it has its own time.
    Session.objects.filter(ended, user__isnull=False).delete()
