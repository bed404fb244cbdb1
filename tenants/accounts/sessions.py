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
from django.db.models import QuerySet
from django.utils import timezone

from tenants.accounts.models import Session, User

SEEN_EVERY = dt.timedelta(minutes=1)
_CLIENT = "client"


class SessionStore(DatabaseStore):
    """Django's sessions in the database; a row also tells the person, the device and when it was last used."""

    seen_at: dt.datetime | None = None

    @classmethod
    def get_model_class(cls) -> Any:
        return Session

    def create_model_instance(self, data: dict[str, Any]) -> Session:
        row: Any = super().create_model_instance(data)
        client = data.get(_CLIENT, {})
        row.handle, row.user_id = handle_of(row.session_key), data.get(USER_KEY)
        row.device, row.address = client.get("device", ""), client.get("address", "")
        return row

    def _get_session_from_db(self) -> object:
        row = super()._get_session_from_db()  # type: ignore[misc]
        self.seen_at = row.seen_at if row else None
        return row


def handle_of(session_key: str) -> uuid.UUID:
    """The public name of a session, which does not tell its key."""
    return uuid.UUID(bytes=hashlib.sha256(session_key.encode()).digest()[:16])


def note_client(session: Any, *, device: str, address: str) -> None:
    """Keep with a session, at sign-in, which browser it belongs to."""
    session[_CLIENT] = {"device": device[:300], "address": address[:45]}


def touch(session: Any) -> None:
    """Note that the session is in use; a write at most once a minute."""
    now = timezone.now()
    if session.seen_at is not None and now - session.seen_at > SEEN_EVERY:
        Session.objects.filter(pk=session.session_key).update(seen_at=now)


def list_sessions(user: User) -> QuerySet[Session]:
    """The person's live sessions, the one used last first."""
    return Session.objects.filter(user=user, expire_date__gt=timezone.now()).order_by("-seen_at")


def end_session(*, user: User, handle: uuid.UUID) -> int:
    """End one of the person's own sessions; returns how many ended, as it may be over already."""
    return Session.objects.filter(user=user, handle=handle).delete()[0]


def end_sessions(*, user: User, keep: str | None = None) -> int:
    """End all sessions of a person, but for the one with the key `keep`."""
    return Session.objects.filter(user=user).exclude(pk=keep).delete()[0]


def forget_expired() -> None:
    SessionStore.clear_expired()
