"""Letters to people. Sent by a worker, which makes the link itself: no token passes through the queue."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from functools import partial

from celery import current_app
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction

log = logging.getLogger(__name__)

QUEUE = "system"
# Until a queue of RabbitMQ whose node died has another leader.
AGAIN = {"max_retries": 2, "interval_start": 0.5, "interval_step": 0.5, "interval_max": 1}

INVITATION = """\
{inviter} invites you to work with the workspace {workspace} in Crosslight.

To accept, open this link until {until} (UTC):

{link}

If you do not know them, do nothing: without the link nothing happens.
"""

RESET = """\
Somebody, hopefully you, asked for a new password for this address at {site}.

To choose one, open this link within {hours} hours. It works once and ends all your sessions:

{link}

If it was not you, do nothing: your password stays as it is.
"""


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


def send_invitation(*, email: str, inviter: str, workspace: str, until: dt.datetime, link: str) -> None:
    text = INVITATION.format(
        inviter=single_line(inviter),
        workspace=single_line(workspace),
        until=f"{until:%Y-%m-%d %H:%M}",
        link=link,
    )
    send_mail("You are invited to Crosslight", text, None, [email])


def send_reset(*, email: str, hours: int, link: str) -> None:
    send_mail(
        "A new password for Crosslight",
        RESET.format(site=settings.BASE_URL, hours=hours, link=link),
        None,
        [email],
    )


def single_line(text: str) -> str:
    """What a person typed, as part of one line: it must not look like a paragraph of ours."""
    return " ".join(text.split())[:100]
