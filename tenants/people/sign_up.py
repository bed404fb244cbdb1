"""Signing up: an address asks for a workspace and gets a link; only whoever opens that makes person, tenant and trial.

Asking does the same for any address: a row, and a message to a worker, which alone looks whether there is an account
and writes a letter that says so. So neither the answer nor the time it takes tells who is known here. Off unless the
operator says otherwise (`config.self_service`).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import logging
import re
import secrets
import unicodedata
import uuid
from functools import partial

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.core.validators import validate_email
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants.accounts import links, mail, names, passwords, services
from tenants.accounts.installation_secrets import lasting_secret
from tenants.accounts.models import SignUp, Tenant, User
from tenants.accounts.operators import Operator, record_act
from tenants.errors import Conflict, Invalid, NotFound, ServiceError
from tenants.events.services import record
from tenants.scope import tenant_scope

log = logging.getLogger(__name__)

TASK = "workers.mail_sign_up"
SALT = "tenants.people.sign_up"
PART = "sign-up"
MAX_WORKSPACE, MAX_PERSON, MAX_EMAIL = 100, 150, 254
DAY = dt.timedelta(days=1)
# How long it is known, by a keyed digest, that a mailbox has had its trials.
REMEMBERED = dt.timedelta(days=365)
# A letter that no worker has written by then was lost on its way, and is asked for again.
OVERDUE = dt.timedelta(minutes=2)
# Two that open workspaces at once are counted one after the other.
LOCK = 0x0C05_1E6B
# In the operators' log, where nobody acts for an operator.
BY = Operator("self-service")
OVER = gettext_noop("This link is no longer valid. It works once and for a limited time; sign up again.")
KNOWN = gettext_noop("This address has an account by now: sign in with it.")
HAD = gettext_noop(
    "This address has had its trial. Sign in, or ask the operator of this installation for another one."
)
ENOUGH = gettext_noop("As many workspaces as may be were opened today. Try again tomorrow.")


class TooMany(ServiceError):
    """As many trials as the installation allows were opened within a day."""

    slug, status, title = "too-many-trials", 429, gettext_noop("No more workspaces today")


def is_on() -> bool:
    return settings.SELF_SERVICE.has(PART)


# --- Asking for it -------------------------------------------------------------------------------------------


def request_sign_up(*, email: str, language: str) -> None:
    """Have a link mailed to the address, or to whom it belongs the word that it is known.

    In place of an earlier link, which opens nothing any more. Raises Invalid for an address that may not sign up here,
    TooMany; both say nothing of whether it is known.
    """
    email = checked_address(email)
    domain = domain_of(email)
    with transaction.atomic():
        _check_bounds(domain)
        row, _made = SignUp.objects.update_or_create(
            address_digest=digest_of(email),
            used_at=None,
            defaults={
                "email": email,
                "domain": domain,
                "language": language[:10],
                "digest": None,
                "mailed_at": None,
                "created_at": timezone.now(),
                "expires_at": timezone.now() + _lifetime(),
            },
        )
        transaction.on_commit(partial(mail.send, TASK, str(row.id)))


def _lifetime() -> dt.timedelta:
    return dt.timedelta(hours=settings.SELF_SERVICE.link_hours)


def checked_address(email: str) -> str:
    """The one spelling of an address that may sign up here. Raises Invalid."""
    email = User.objects.normalize_email(email)
    try:
        validate_email(email)
    except ValidationError as error:
        raise Invalid(_("This is not an e-mail address."), pointer="/email") from error
    if len(email) > MAX_EMAIL or '"' in email or not email.isprintable() or not email.isascii():
        # Quoted ones may hold anything, and nobody has one.
        raise Invalid(_("This is not an e-mail address."), pointer="/email")
    _check_domain(domain_of(email))
    return email


def domain_of(email: str) -> str:
    return email.rpartition("@")[2].rstrip(".")


def _check_domain(domain: str) -> None:
    rules = settings.SELF_SERVICE
    within = {domain[place:] for place in _starts(domain)}
    if rules.allowed_domains and not within & rules.allowed_domains:
        raise Invalid(
            _("Addresses at %(domain)s cannot sign up here. Ask the operator of this installation.")
            % {"domain": domain},
            pointer="/email",
        )
    if within & rules.blocked_domains or within & rules.disposable_domains:
        raise Invalid(
            _("Addresses at %(domain)s cannot sign up here. Use a permanent address.") % {"domain": domain},
            pointer="/email",
        )


def _starts(domain: str) -> list[int]:
    """Where the domain and each of those above it begin."""
    return [0, *(place + 1 for place, sign in enumerate(domain) if sign == ".")]


def mailbox_of(email: str) -> str:
    """The address without what follows a plus sign: letters to both arrive in one mailbox."""
    local, _at, domain = email.rpartition("@")
    return f"{local.partition('+')[0] or local}@{domain}"


def digest_of(email: str) -> bytes:
    key = hashlib.sha256(lasting_secret() + SALT.encode()).digest()
    return hmac.digest(key, mailbox_of(email).encode(), "sha256")


def _check_bounds(domain: str) -> None:
    """Raises TooMany. It counts trials that were opened, of whatever address."""
    opened = SignUp.objects.filter(used_at__gt=timezone.now() - DAY)
    rules = settings.SELF_SERVICE
    if opened.count() >= rules.trials_a_day:
        raise TooMany(_(ENOUGH))
    if opened.filter(domain=domain).count() >= rules.trials_of_domain_a_day:
        raise TooMany(_(ENOUGH))


def _has_had(digest: bytes) -> bool:
    """Whether this mailbox has opened as many workspaces as it may."""
    used = SignUp.objects.filter(address_digest=digest, used_at__gt=timezone.now() - REMEMBERED)
    return used.count() >= settings.SELF_SERVICE.trials_of_address


# --- The letter ----------------------------------------------------------------------------------------------


def mail_sign_up(sign_up_id: uuid.UUID) -> None:
    """Write to the address; the body of a task. Run again it mails a new link, which ends the one before."""
    row = SignUp.objects.filter(pk=sign_up_id, used_at=None, expires_at__gt=timezone.now()).first()
    if row is None or not is_on():
        return
    with mail.in_language(row.language):
        subject, text, digest = _letter(row)
        SignUp.objects.filter(pk=row.pk, used_at=None).update(digest=digest)
        send_mail(subject, text, None, [row.email])
    SignUp.objects.filter(pk=row.pk).update(mailed_at=timezone.now())


def _letter(row: SignUp) -> tuple[str, str, bytes | None]:
    site = settings.BASE_URL
    if User.objects.filter(email=row.email).exists():
        text = _(
            "A workspace at %(site)s was requested with this address, hopefully by you. It has an account there "
            "already: sign in with it.\n\n%(link)s\n\nIf you forgot the password, choose a new one:\n\n%(reset)s\n\nIf "
            "it was not you, do nothing: nothing was changed."
        )
        words = text % {"site": site, "link": f"{site}/login", "reset": f"{site}/reset"}
        return _("You have an account at Crosslight"), words, None
    if _has_had(bytes(row.address_digest)):
        text = _(
            "A workspace at %(site)s was requested with this address, hopefully by you. It has had its trial. Ask "
            "the operator of this installation for another one.\n\nIf it was not you, do nothing: nothing was changed."
        )
        return _("Your trial of Crosslight"), text % {"site": site}, None
    token = signing.dumps([str(row.pk), secrets.token_urlsafe(32)], salt=SALT)
    text = _(
        "A workspace at %(site)s was requested with this address, hopefully by you.\n\nTo open it, follow this link "
        "until %(until)s (UTC). It works once:\n\n%(link)s\n\nIf it was not you, do nothing: without the link nothing "
        "is made, and the request is deleted in a few days."
    )
    words = text % {
        "site": site,
        "until": f"{row.expires_at:%Y-%m-%d %H:%M}",
        "link": links.link(links.SIGN_UP, token),
    }
    return _("Open your workspace at Crosslight"), words, links.digest(token)


# --- Opening the workspace: whoever holds the token ----------------------------------------------------------


def read_token(token: str) -> bytes:
    """The digest of a token of ours that has not expired. Raises NotFound."""
    try:
        signing.loads(token, salt=SALT, max_age=_lifetime())
    except signing.BadSignature as error:
        raise NotFound(_(OVER)) from error
    return links.digest(token)


def find_by_digest(digest: bytes) -> SignUp:
    """The sign-up to which a token belongs. Raises NotFound when that is wrong, used or too old."""
    row = SignUp.objects.filter(digest=digest, used_at=None, expires_at__gt=timezone.now()).first()
    if row is None:
        raise NotFound(_(OVER))
    return row


def open_workspace(*, digest: bytes, name: str, workspace: str, password: str | None) -> tuple[User, Tenant]:
    """Make the person, the tenant and its trial, all or nothing; the link is used up by it.

    Without a password the person will have a passkey. Raises NotFound, Invalid, Conflict for an address that has an
    account by now or has had its trial, TooMany.
    """
    row = find_by_digest(digest)
    name = names.check_unlinked(names.check_name(name, "/name", MAX_PERSON), "/name")
    workspace = names.check_name(workspace, "/workspace", MAX_WORKSPACE)
    names.check_unlinked(workspace, "/workspace")
    if password is not None:
        passwords.check(password, User(email=row.email, name=name), (workspace,))
    # Slow by design, and so before anything is locked.
    hashed = make_password(password)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        row = find_by_digest(digest)
        if _has_had(bytes(row.address_digest)):
            raise Conflict(_(HAD))
        _check_bounds(row.domain)
        try:
            with transaction.atomic():
                user = User.objects.create(email=row.email, name=name, password=hashed)
        except IntegrityError as error:
            raise Conflict(_(KNOWN)) from error
        tenant = services.create_tenant(
            slug=slug_for(workspace), name=workspace, plan=settings.SELF_SERVICE.plan
        )
        services.set_role(tenant=tenant, user=user, role="owner")
        with tenant_scope(tenant.id):
            record(
                actor=str(user.pk), verb="tenant.opened", details={"plan": tenant.plan_id, "by": "sign-up"}
            )
        record_act(by=BY, verb="tenant.opened", target=tenant.slug, details={"plan": tenant.plan_id})
        SignUp.objects.filter(pk=row.pk).update(used_at=timezone.now(), email="", digest=None)
    return user, tenant


def slug_for(workspace: str) -> str:
    """A slug that nobody has, and that tells nothing about the slugs of others."""
    plain = unicodedata.normalize("NFKD", workspace).encode("ascii", "ignore").decode().lower()
    words = "-".join(re.findall(r"[a-z0-9]+", plain))[:30].strip("-")
    return f"{words or 'workspace'}-{secrets.token_hex(4)}"


# --- Upkeep --------------------------------------------------------------------------------------------------


def tend() -> None:
    """Ask again for letters that nobody wrote; forget what was never verified, and when a mailbox had its trials."""
    now = timezone.now()
    if is_on():
        waiting = SignUp.objects.filter(mailed_at=None, used_at=None, created_at__lt=now - OVERDUE)
        for sign_up_id in waiting.filter(expires_at__gt=now).values_list("pk", flat=True)[:100]:
            mail.send(TASK, str(sign_up_id))
    forgotten = SignUp.objects.filter(used_at=None, expires_at__lt=now - DAY).delete()[0]
    if forgotten:
        log.info("sign-ups that were never verified were deleted", extra={"count": forgotten})
    SignUp.objects.filter(used_at__lt=now - REMEMBERED).delete()
