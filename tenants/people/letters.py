"""Letters that must come once, whatever dies: written down in the transaction of what they tell, sent by upkeep.

Each is sent and marked in one transaction. A worker that dies between the two sends it again, under the same
Message-ID, by which mailboxes know it; one that dies before loses nothing. What is not true any more by then is not
sent.
"""

from __future__ import annotations

import datetime as dt
import logging
import smtplib
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants.accounts import mail, trials
from tenants.accounts.models import Letter, Membership, Tenant

log = logging.getLogger(__name__)

# Of one round of upkeep; others follow a minute later.
BATCH = 200
# A mailbox that refuses so often gets it no more.
ATTEMPTS = 10
# Kept so long after it was sent, so that none of that name is sent again.
KEPT = dt.timedelta(days=90)

TRIAL_ENDS, GRANTED, DECLINED = "trial-ends", "request-granted", "request-declined"
CLOSING, CLOSING_CANCELLED = "closing", "closing-cancelled"

TRIAL_TEXT = gettext_noop(
    "The trial of the workspace %(workspace)s in Crosslight ends on %(ends_at)s (UTC).\n\nFrom then on it can be "
    "searched, exported and viewed, and nothing can be added. Nothing is deleted by that.\n\nTo go on without an end, "
    "ask for a plan:\n\n%(site)s/usage"
)
GRANTED_TEXT = gettext_noop(
    "What you asked for on behalf of the workspace %(workspace)s in Crosslight was granted. It applies immediately."
    "\n\n%(words)s\n\n%(site)s/usage"
)
DECLINED_TEXT = gettext_noop(
    "What you asked for on behalf of the workspace %(workspace)s in Crosslight was declined:"
    "\n\n%(words)s\n\n%(site)s/usage"
)
CLOSING_TEXT = gettext_noop(
    "%(who)s is closing the workspace %(workspace)s in Crosslight.\n\nOn %(closes_at)s (UTC) it is erased with all "
    "that is in it, and so are accounts that belong to no other workspace. Until then it works as before, can be "
    "exported, and an owner can take the closing back:\n\n%(site)s/data/close"
)
CANCELLED_TEXT = gettext_noop(
    "The workspace %(workspace)s in Crosslight is not closed: %(who)s took that back. Nothing was erased."
    "\n\n%(site)s/"
)


def _is_still_ending(letter: Letter) -> bool:
    end = letter.tenant.trial_ends_at
    told = letter.details.get("ends_at")
    return end is not None and end.isoformat() == told and not trials.is_over(letter.tenant)


def _is_still_closing(letter: Letter) -> bool:
    at = letter.tenant.closes_at
    return at is not None and at.isoformat() == letter.details.get("closes_at")


def _always(letter: Letter) -> bool:
    return True


# By kind: the subject, the text, and whether it still is true.
KINDS: dict[str, tuple[str, str, Callable[[Letter], bool]]] = {
    TRIAL_ENDS: (gettext_noop("Your trial of Crosslight ends soon"), TRIAL_TEXT, _is_still_ending),
    GRANTED: (gettext_noop("Your request was granted"), GRANTED_TEXT, _always),
    DECLINED: (gettext_noop("Your request was declined"), DECLINED_TEXT, _always),
    CLOSING: (gettext_noop("A workspace is being closed"), CLOSING_TEXT, _is_still_closing),
    CLOSING_CANCELLED: (gettext_noop("A workspace is not closed"), CANCELLED_TEXT, _always),
}


def write(
    *, tenant: Tenant, users: Iterable[uuid.UUID], kind: str, about: str, details: Mapping[str, Any]
) -> None:
    """Have each of these people told once of `about`, in the caller's transaction. Without a mail server nobody is."""
    if not mail.configured():
        return
    rows = [
        Letter(tenant=tenant, user_id=user, kind=kind, once=f"{kind}/{about}/{user}", details=dict(details))
        for user in users
    ]
    Letter.objects.bulk_create(rows, ignore_conflicts=True)


def members_of(tenant: Tenant, *roles: str) -> list[uuid.UUID]:
    """Its people who may sign in, with one of these roles where any is named."""
    rows = Membership.objects.filter(tenant=tenant, user__is_active=True)
    if roles:
        rows = rows.filter(role__in=roles)
    return list(rows.order_by("user_id").values_list("user_id", flat=True))


def send_due() -> int:
    """Send what waits, the least tried first; how many were. It ends where the mail server does not answer."""
    if not mail.configured():
        return 0
    sent = 0
    refused: set[uuid.UUID] = set()
    for _round in range(BATCH):
        try:
            if not _send_next(refused):
                break
            sent += 1
        except _Refused as error:
            log.warning("a letter was refused", extra={"letter": str(error.letter_id)})
            _count(error.letter_id)
            refused.add(error.letter_id)
        except OSError:
            log.warning("the mail server did not take a letter; it is sent again", exc_info=True)
            break
    Letter.objects.filter(done_at__lt=timezone.now() - KEPT).delete()
    return sent


class _Refused(Exception):
    def __init__(self, letter_id: uuid.UUID) -> None:
        super().__init__(str(letter_id))
        self.letter_id = letter_id


@transaction.atomic
def _send_next(without: Collection[uuid.UUID]) -> bool:
    """Of two workers at once each takes another one."""
    rows = Letter.objects.select_related("tenant", "user").filter(done_at=None).order_by("attempts", "id")
    letter = rows.exclude(pk__in=without).select_for_update(of=("self",), skip_locked=True).first()
    if letter is None:
        return False
    _subject, _text, is_true = KINDS[letter.kind]
    if letter.user.is_active and is_true(letter):
        try:
            _message(letter).send()
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError, UnicodeError, ValueError) as error:
            raise _Refused(letter.id) from error
    letter.done_at = timezone.now()
    letter.save(update_fields=["done_at"])
    return True


def _count(letter_id: uuid.UUID) -> None:
    """One more attempt that failed; the last of them ends it."""
    Letter.objects.filter(pk=letter_id).update(attempts=F("attempts") + 1)
    Letter.objects.filter(pk=letter_id, attempts__gte=ATTEMPTS).update(done_at=timezone.now())


def _message(letter: Letter) -> EmailMessage:
    subject, text, _is_true = KINDS[letter.kind]
    given = {name: _shown(value) for name, value in letter.details.items()}
    given |= {"workspace": mail.single_line(letter.tenant.name), "site": settings.BASE_URL}
    host = urlsplit(settings.BASE_URL).hostname or "localhost"
    headers = {"Message-ID": f"<letter-{letter.id}@{host}>", "Auto-Submitted": "auto-generated"}
    with mail.in_language(letter.user.language):
        return EmailMessage(
            _(subject),
            _(text) % given,
            None,
            [letter.user.email],
            headers=headers,
            connection=get_connection(),
        )


def _shown(value: object) -> str:
    try:
        return f"{dt.datetime.fromisoformat(str(value)):%Y-%m-%d %H:%M}"
    except ValueError:
        return mail.single_line(str(value), 1000)


# --- Trials that end -----------------------------------------------------------------------------------------

# Owners are told so many days before, once for each.
TOLD_DAYS = (7, 1)


def note_trials() -> None:
    """Write down the letters about trials that end within days, each once for each owner and end."""
    now = timezone.now()
    ending = Tenant.objects.filter(
        state=Tenant.State.ACTIVE,
        trial_ends_at__gt=now,
        trial_ends_at__lte=now + dt.timedelta(max(TOLD_DAYS)),
    )
    for tenant in ending.iterator():
        end: Any = tenant.trial_ends_at
        days = min(days for days in TOLD_DAYS if end <= now + dt.timedelta(days))
        write(
            tenant=tenant,
            users=members_of(tenant, "owner"),
            kind=TRIAL_ENDS,
            about=f"{tenant.id}/{end.isoformat()}/{days}",
            details={"ends_at": end.isoformat()},
        )
