"""The second factor: an authenticator app (TOTP, RFC 6238) or a passkey, and recovery codes for both.

The codes are `cryptography`'s; this keeps the secret encrypted, refuses a code that was used before, and lets a
recovery code stand in once. Guessing is slowed down by whoever asks (console.account.throttle).
"""

from __future__ import annotations

import base64
import hmac
import logging
import secrets
import time
from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext as _

from tenants.accounts import installation_secrets, vault
from tenants.accounts.installation_secrets import SecretSealed
from tenants.accounts.models import Passkey, RecoveryCode, SecondFactor, User
from tenants.accounts.vault import InvalidToken
from tenants.errors import Conflict, Invalid

log = logging.getLogger(__name__)

STEP_S, DIGITS, SECRET_BYTES = 30, 6, 20
PURPOSE = b"second-factor\0"
# Clocks of phones differ: the code before and the one after count too.
DRIFT_STEPS = (0, -1, 1)
RECOVERY_CODES = 10
ISSUER = "Crosslight"
WRONG = gettext_noop(
    "This code is not right. It changes every 30 seconds; wait for the next one and try again."
)


@dataclass(frozen=True)
class Factors:
    """What a person has besides the password. `codes`: recovery codes that are left."""

    app: bool
    passkey: bool
    codes: int

    @property
    def any(self) -> bool:
        return self.app or self.passkey


def factors_of(user: User) -> Factors:
    """In one statement, as every sign-in asks."""
    apps = SecondFactor.objects.filter(user=OuterRef("pk"), confirmed_at__isnull=False)
    passkeys = Passkey.objects.filter(user=OuterRef("pk"))
    row = User.objects.filter(pk=user.pk).annotate(codes=Count("recovery_codes"))
    return Factors(*row.values_list(Exists(apps), Exists(passkeys), "codes").get())


def is_on(user: User) -> bool:
    return factors_of(user).any


def app_is_on(user: User) -> bool:
    return SecondFactor.objects.filter(user=user, confirmed_at__isnull=False).exists()


def forget_begun(user: User) -> None:
    """The next `begin` makes a new secret: who has used this browser before may know the one before."""
    SecondFactor.objects.filter(user=user, confirmed_at=None).delete()


def begin(user: User) -> str:
    """The `otpauth://` address for the person's app; the same until it is confirmed. Raises Conflict if it is on."""
    fresh = vault.seal(secrets.token_bytes(SECRET_BYTES), purpose=PURPOSE, owner=None)
    factor, _ = SecondFactor.objects.get_or_create(user=user, defaults={"sealed_secret": fresh})
    if factor.confirmed_at is not None:
        raise Conflict(gettext("Two-factor sign-in is on already."))
    try:
        return _totp(factor).get_provisioning_uri(user.email, ISSUER)
    except InvalidToken:
        # Sealed under a key that is not here, and of no use to anybody yet.
        factor.delete()
        return begin(user)


@transaction.atomic
def confirm(*, user: User, code: str) -> list[str]:
    """Turn it on with a first code from the app; returns the recovery codes. Raises Invalid, Conflict."""
    factor = SecondFactor.objects.select_for_update().filter(user=user).first()
    if factor is None or factor.confirmed_at is not None:
        raise Conflict(_("Set up the app first; or two-factor sign-in is on already."))
    step = _matching_step(factor, code)
    if step is None:
        raise Invalid(_(WRONG), pointer="/code")
    factor.confirmed_at, factor.last_step = timezone.now(), step
    factor.save()
    return renew_recovery_codes(user=user)


def verify(*, user: User, code: str) -> bool:
    """Whether this is the app's code now, or an unused recovery code. Either works once."""
    factor = SecondFactor.objects.filter(user=user, confirmed_at__isnull=False).first()
    step = _matching_step(factor, code) if factor else None
    if step is not None:
        newer = SecondFactor.objects.filter(user=user, last_step__lt=step)
        return newer.update(last_step=step) == 1
    try:
        digest = _recovery_digest(user, code)
    except SecretSealed as error:
        log.error("recovery codes cannot be checked: %s", error.detail)
        return False
    return RecoveryCode.objects.filter(user=user, digest=digest).delete()[0] == 1


@transaction.atomic
def renew_recovery_codes(*, user: User) -> list[str]:
    """Ten new recovery codes in place of the old ones; only digests are kept."""
    codes = [_new_recovery_code() for _ in range(RECOVERY_CODES)]
    RecoveryCode.objects.filter(user=user).delete()
    RecoveryCode.objects.bulk_create(
        RecoveryCode(user=user, digest=_recovery_digest(user, code)) for code in codes
    )
    return codes


@transaction.atomic
def turn_off(*, user: User) -> bool:
    """Forget the app, and the recovery codes unless they stand in for a passkey; False if there was no app."""
    if not Passkey.objects.filter(user=user).exists():
        RecoveryCode.objects.filter(user=user).delete()
    return SecondFactor.objects.filter(user=user).delete()[0] == 1


@transaction.atomic
def forget_all(*, user: User) -> bool:
    """For somebody who lost everything: app, passkeys and recovery codes; False if there was neither."""
    passkeys = Passkey.objects.filter(user=user).delete()[0]
    return turn_off(user=user) or passkeys > 0


def required_by(user: User) -> list[str]:
    """Names of the workspaces that ask this person for a second factor, of all members or for an emergency password."""
    asked = Q(tenant__requires_second_factor=True) | Q(break_glass=True, role="owner")
    rows = user.memberships.filter(asked, tenant__state="active")
    return list(rows.order_by("tenant__name").values_list("tenant__name", flat=True))


def _matching_step(factor: SecondFactor, code: str) -> int | None:
    """The time step that the code belongs to, if it is one of now and was not used."""
    typed = "".join(code.split())
    if len(typed) != DIGITS or not typed.isascii() or not typed.isdecimal():
        return None
    try:
        totp, now = _totp(factor), int(time.time()) // STEP_S
    except InvalidToken:
        log.error("a second factor was sealed under a key that is not here; an operator has to forget it")
        return None
    for step in (now + drift for drift in DRIFT_STEPS):
        if hmac.compare_digest(totp.generate(step * STEP_S), typed.encode()) and step > factor.last_step:
            return step
    return None


def _totp(factor: SecondFactor) -> TOTP:
    secret = vault.unseal(bytes(factor.sealed_secret), purpose=PURPOSE, owner=None)
    # SHA-1 is what authenticator apps understand; HMAC does not rest on what is broken in it.
    return TOTP(secret, DIGITS, SHA1(), STEP_S)  # noqa: S303


def _new_recovery_code() -> str:
    letters = base64.b32encode(secrets.token_bytes(10)).decode().lower()
    return "-".join(letters[start : start + 4] for start in range(0, 16, 4))


def _recovery_digest(user: User, code: str) -> bytes:
    letters = "".join(sign for sign in code.lower() if sign.isalnum())
    return hmac.digest(installation_secrets.lasting_secret(), f"{user.pk}\0{letters}".encode(), "sha256")
