"""Letters to people, in their language. Sent by a worker, which makes the link itself: no token passes through the
queue.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial

from celery import current_app
from django.conf import settings
from django.core.mail import send_mail, send_mass_mail
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import override

from tenants.accounts.models import Membership, User
from tenants.accounts.permissions import ADMIN, ROLES

log = logging.getLogger(__name__)

QUEUE = "system"
# Until a queue of RabbitMQ whose node died has another leader.
AGAIN = {"max_retries": 2, "interval_start": 0.5, "interval_step": 0.5, "interval_max": 1}


def configured() -> bool:
    """Whether this installation can send e-mail."""
    return bool(settings.EMAIL_HOST)


def post_invitation(invitation_id: uuid.UUID) -> None:
    """Have the invitation mailed once the caller's transaction has committed."""
    transaction.on_commit(partial(send, "workers.mail_invitation", str(invitation_id)))


def post_reset(email: str) -> None:
    """Have a reset link mailed, if the address is known; the caller does the same work for any address."""
    send("workers.mail_reset", email)


def send(task: str, *arguments: str) -> None:
    """Have a worker write a letter. Without a broker there is none, and the log says so.

    Nothing sends it again, so RabbitMQ confirms that most of its nodes have it; where one dies meanwhile another is
    asked, and the letter may come twice.
    """
    message = current_app.signature(task, args=arguments)
    try:
        # A connection of its own: one of the pool may have died, and confirms nothing.
        with current_app.connection_for_write(transport_options={"confirm_publish": True}) as connection:
            connection.ensure_connection(**AGAIN)
            message.apply_async(queue=QUEUE, connection=connection, retry=True, retry_policy=AGAIN)
    except Exception:
        log.warning("the broker did not take a letter", exc_info=True)


def in_language(code: str) -> AbstractContextManager[None]:
    """In which texts are put together while the block runs: English where the code is none of the pages' languages."""
    return override(code if code in dict(settings.LANGUAGES) else "en")


def remember_language(user: User, code: str) -> None:
    """Have letters to the person written in this language of the pages from now on."""
    if user.language != code and code in dict(settings.LANGUAGES):
        user.language = code
        user.save(update_fields=["language"])


def admins_of(tenant_id: uuid.UUID) -> QuerySet[User]:
    """Who administers the workspace by a built-in role and may sign in."""
    roles = [role for role, scopes in ROLES.items() if ADMIN in scopes]
    people = Membership.objects.filter(tenant=tenant_id, role__in=roles).values("user")
    return User.objects.filter(pk__in=people, is_active=True).order_by("email")


def send_to_each(users: Iterable[User], write: Callable[[], tuple[str, str]]) -> None:
    """Subject and text as `write` puts them together in the language of each.

    Over one connection, opened before the first: a try that fails has mailed nobody yet.
    """
    letters = []
    for user in users:
        with in_language(user.language):
            subject, text = write()
        letters.append((subject, text, None, [user.email]))
    send_mass_mail(letters)


def send_invitation(*, email: str, inviter: str, workspace: str, until: dt.datetime, link: str) -> None:
    """Who is invited may have an account, and so a language. Without an inviter the administration invites."""
    known = User.objects.filter(email=email).values_list("language", flat=True).first()
    with in_language(known or ""):
        text = _(
            "%(inviter)s invites you to work with the workspace %(workspace)s in Crosslight.\n\nTo accept, open this "
            "link until %(until)s (UTC):\n\n%(link)s\n\nIf you do not know them, do nothing: without the link nothing "
            "happens."
        ) % {
            "inviter": single_line(inviter) or _("The administration"),
            "workspace": single_line(workspace),
            "until": f"{until:%Y-%m-%d %H:%M}",
            "link": link,
        }
        send_mail(_("You are invited to Crosslight"), text, None, [email])


def send_reset(*, user: User, hours: int, link: str) -> None:
    with in_language(user.language):
        text = _(
            "A new password for this address at %(site)s was requested, hopefully by you.\n\nTo choose one, open this "
            "link within %(hours)s hours. It works once and ends all your sessions:\n\n%(link)s\n\nIf it was not you, "
            "do nothing: your password stays as it is."
        ) % {"site": settings.BASE_URL, "hours": hours, "link": link}
        send_mail(_("A new password for Crosslight"), text, None, [user.email])


def single_line(text: str, most: int = 100) -> str:
    """What a person typed, as part of one line: it must not look like a paragraph of ours."""
    return " ".join(text.split())[:most]
