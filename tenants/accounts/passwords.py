"""Passwords: changing one's own, and links that set a new one. Django's rules and Django's tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from tenants.accounts import links, mail, sessions
from tenants.accounts.models import Membership, User
from tenants.accounts.password_rules import why_guessable
from tenants.accounts.permissions import MANAGES
from tenants.errors import Invalid, NotFound

OVER = gettext_noop("This link is no longer valid. It works once and for a limited time; ask for another.")


class ResetTokens(PasswordResetTokenGenerator):
    """Django's tokens. They also end when the person's roles change, or those of whoever could have made the link.

    Else somebody could keep a link until the person had become an owner or joined another workspace, or use it after
    losing the right to make one.
    """

    def _make_hash_value(self, user: Any, timestamp: int) -> str:
        mine = Membership.objects.filter(user=user).values("tenant")
        roles = Membership.objects.filter(Q(user=user) | Q(role__in=MANAGES), tenant__in=mine)
        standing = sorted(roles.values_list("tenant_id", "user_id", "role"))
        return f"{super()._make_hash_value(user, timestamp)}{user.is_staff}{standing}"


tokens = ResetTokens()


def check(password: str, user: User | None = None, workspaces: Iterable[str] = ()) -> None:
    """Raises Invalid, in the validators' words, for a password that is too short or too easy to guess.

    `workspaces` are names of those that the person will belong to; those of now are known.
    """
    try:
        validate_password(password, user)
        if reason := why_guessable(password, workspaces):
            raise ValidationError(_(reason))
    except ValidationError as error:
        raise Invalid(" ".join(error.messages), pointer="/password") from error


def change_password(*, user: User, password: str) -> None:
    """A new password. The caller ends the other sessions and goes on with a new one. Raises Invalid."""
    check(password, user)
    user.set_password(password)
    user.save(update_fields=["password"])


def reset_link(user: User) -> str:
    """A link that sets a new password once: changing password or roles, or signing in, makes it worthless."""
    name = urlsafe_base64_encode(str(user.pk).encode())
    return links.link(links.RESET, f"{name}.{tokens.make_token(user)}")


def mail_reset_link(*, email: str) -> None:
    """Mail a reset link if the address belongs to somebody; the body of a task."""
    user = User.objects.filter(email=User.objects.normalize_email(email), is_active=True).first()
    if user is not None:
        hours = settings.PASSWORD_RESET_TIMEOUT // 3600
        mail.send_reset(user=user, hours=hours, link=reset_link(user))


def find_by_token(token: str) -> User:
    """Whose password the token may set. Raises NotFound when it is wrong, used or too old."""
    name, _dot, rest = token.partition(".")
    try:
        user = User.objects.filter(pk=urlsafe_base64_decode(name).decode(), is_active=True).first()
    except (ValueError, ValidationError) as error:
        raise NotFound(_(OVER)) from error
    if user is None or not tokens.check_token(user, rest):
        raise NotFound(_(OVER))
    return user


@transaction.atomic
def use_token(*, token: str, password: str) -> User:
    """Set the password that the token allows, and end all sessions. Raises NotFound, Invalid."""
    user = find_by_token(token)
    # Of two uses at once the second waits here, and then finds its token worthless.
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    user = find_by_token(token)
    change_password(user=user, password=password)
    sessions.end_sessions(user=user)
    return user
