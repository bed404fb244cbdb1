"""Passkeys: key pairs in authenticators, of which only the public half is kept (WebAuthn Level 3, W3C).

The ceremonies are `webauthn`'s. Every passkey is discoverable and verifies its person (a PIN, a finger, a face), so
that it stands for password and second factor together. `settings.BASE_URL` says for which host and origin they are.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import parse_authentication_credential_json, parse_registration_credential_json
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from tenants.accounts import second_factor
from tenants.accounts.models import Passkey, RecoveryCode, User
from tenants.accounts.origins import as_origin
from tenants.errors import Conflict, Invalid, NotFound

log = logging.getLogger(__name__)

PRODUCT = "Crosslight"
MOST, MAX_NAME = 20, 100
# Of what a browser sends: attestations are not asked for, so that this is small.
MAX_RESPONSE = 20_000
_VERIFIED = UserVerificationRequirement.REQUIRED
Read = TypeVar("Read")


@dataclass(frozen=True)
class Ceremony:
    """What the browser gets (JSON of its `…FromJSON` functions), and the challenge that its answer has to sign."""

    options: str
    challenge: bytes


@dataclass(frozen=True)
class RelyingParty:
    """The host that passkeys belong to, and the origin of the pages that may ask for them."""

    host: str
    origin: str


def relying_party() -> RelyingParty | None:
    """By BASE_URL; None where that names an address, which browsers refuse. This machine's own is `localhost`."""
    parts = urlsplit(settings.BASE_URL)
    host = parts.hostname or ""
    try:
        if not ip_address(host).is_loopback:
            return None
        host = "localhost"
    except ValueError:
        pass
    return RelyingParty(host, as_origin(parts.scheme, host, parts.port))


def _required_party() -> RelyingParty:
    party = relying_party()
    if party is None:
        raise Invalid(_("Passkeys need a host name, but this installation is reached by an IP address."))
    return party


# --- Registering -----------------------------------------------------------------------------------------


def begin_registration(user: User) -> Ceremony:
    """Raises Conflict for somebody who has MOST already, Invalid where there are no passkeys."""
    known = list(user.passkeys.all())
    _refuse_too_many(user, len(known))
    options = generate_registration_options(
        rp_id=_required_party().host,
        rp_name=PRODUCT,
        user_id=user.pk.bytes,
        user_name=user.email,
        user_display_name=user.name or user.email,
        exclude_credentials=_descriptors(known),
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=_VERIFIED
        ),
    )
    return Ceremony(options_to_json(options), options.challenge)


def register(*, user: User, name: str, response: str, challenge: bytes) -> tuple[Passkey, list[str]]:
    """Keep what the browser has made; returns it with recovery codes if the person had none, for the lost device.

    Raises Invalid for an answer that is not right, Conflict for a passkey that is known and for one too many.
    """
    party = _required_party()
    credential = _read(lambda: parse_registration_credential_json(_parsed(response)), user)
    verified = _read(
        lambda: verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=party.host,
            expected_origin=party.origin,
            require_user_verification=True,
        ),
        user,
    )
    try:
        with transaction.atomic():
            # Of two that are added at once, the second sees the first.
            User.objects.select_for_update(no_key=True).get(pk=user.pk)
            _refuse_too_many(user, user.passkeys.count())
            passkey = Passkey.objects.create(
                user=user,
                name=name,
                credential_id=verified.credential_id,
                public_key=verified.credential_public_key,
                sign_count=verified.sign_count,
                transports=[one.value for one in credential.response.transports or ()],
            )
            has_codes = RecoveryCode.objects.filter(user=user).exists()
            codes = [] if has_codes else second_factor.renew_recovery_codes(user=user)
    except IntegrityError as error:
        _note_refusal("registered already", user)
        raise Conflict(_("This passkey is registered already.")) from error
    log.info("a passkey was added", extra=_names(passkey))
    return passkey, codes


def _refuse_too_many(user: User, count: int) -> None:
    if count >= MOST:
        _note_refusal(f"one more than {MOST}", user)
        raise Conflict(
            _("You have %(count)s passkeys already, which is the limit. Remove one first.") % {"count": MOST}
        )


# --- Signing in, and proving again who one is ------------------------------------------------------------


def begin_authentication(user: User | None = None) -> Ceremony | None:
    """For one person's passkeys, or for whichever the browser finds. None where none could be used."""
    party = relying_party()
    known = [] if user is None or party is None else list(user.passkeys.all())
    if party is None or (user is not None and not known):
        return None
    options = generate_authentication_options(
        rp_id=party.host, allow_credentials=_descriptors(known), user_verification=_VERIFIED
    )
    return Ceremony(options_to_json(options), options.challenge)


def verify(*, response: str, challenge: bytes, user: User | None = None) -> User:
    """Whose passkey has signed the challenge; `user`: it has to be theirs. Raises Invalid, the same for all reasons."""
    party = _required_party()
    credential = _read(lambda: parse_authentication_credential_json(_parsed(response)), user)
    rows = Passkey.objects.select_related("user").filter(user__is_active=True)
    passkey = rows.filter(credential_id=credential.raw_id).first()
    if passkey is None:
        raise _refused("not known", user)
    if user is not None and passkey.user_id != user.pk:
        raise _refused("of somebody else", user)
    handle = credential.response.user_handle
    # Who is not known yet is named by the authenticator, too (WebAuthn, 7.2, step 6).
    if (handle is not None or user is None) and handle != passkey.user_id.bytes:
        raise _refused("with the handle of somebody else", passkey.user)
    verified = _read(
        lambda: verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=party.host,
            expected_origin=party.origin,
            credential_public_key=bytes(passkey.public_key),
            # Compared below, where it is said apart from other reasons.
            credential_current_sign_count=0,
            require_user_verification=True,
        ),
        passkey.user,
    )
    _count_use(passkey, verified.new_sign_count)
    return passkey.user


def _count_use(passkey: Passkey, count: int) -> None:
    """One that counts has to count on, or there are two of it. Of two uses with one number, one is refused."""
    before = Q(sign_count=0) if count == 0 else Q(sign_count__lt=count)
    if Passkey.objects.filter(before, pk=passkey.pk).update(sign_count=count, used_at=timezone.now()):
        return
    if not Passkey.objects.filter(pk=passkey.pk).exists():
        raise _refused("removed meanwhile", passkey.user)
    counts = {"count": count, "known": passkey.sign_count}
    log.error("a passkey counted back: it may have been copied", extra={**_names(passkey), **counts})
    raise Invalid(_refusal())


# --- Looking after them ----------------------------------------------------------------------------------


def remove(*, user: User, passkey_id: uuid.UUID) -> None:
    """Raises NotFound, Conflict for the last second factor of somebody whose workspace asks for one."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        passkey = user.passkeys.filter(pk=passkey_id).first()
        if passkey is None:
            raise NotFound(_("This passkey does not exist."))
        last = user.passkeys.count() == 1 and not second_factor.app_is_on(user)
        if last and (asking := second_factor.required_by(user)):
            said = _("%(names)s asks all members for two-factor sign-in.")
            raise Conflict(said % {"names": ", ".join(asking)})
        Passkey.objects.filter(pk=passkey_id).delete()
        if last:
            RecoveryCode.objects.filter(user=user).delete()
    log.info("a passkey was removed", extra=_names(passkey))


def _descriptors(known: list[Passkey]) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(
            id=bytes(one.credential_id), transports=[AuthenticatorTransport(name) for name in one.transports]
        )
        for one in known
    ]


def _parsed(response: str) -> dict[str, object]:
    if len(response) > MAX_RESPONSE:
        raise ValueError("too long")
    return dict(json.loads(response))


def _read(work: Callable[[], Read], user: User | None) -> Read:
    try:
        return work()
    # The library reads what anybody may have written, and names no errors of the formats that it reads.
    except Exception as error:
        raise _refused(f"{type(error).__name__}: {error}", user) from error


def _refused(reason: str, user: User | None) -> Invalid:
    # Not told to whoever sent it: which passkeys are known is nobody's business.
    _note_refusal(reason, user)
    return Invalid(_refusal())


def _refusal() -> str:
    return _("This passkey could not be used. Try again, or use another way.")


def _note_refusal(reason: str, user: User | None) -> None:
    person = str(user.pk) if user else ""
    log.warning("a passkey was refused", extra={"reason": reason[:300], "person": person})


def _names(passkey: Passkey) -> dict[str, str]:
    return {"passkey": str(passkey.pk), "person": str(passkey.user_id)}
