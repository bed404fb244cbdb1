"""Passkeys: key pairs in authenticators, of which only the public half is kept (WebAuthn Level 3, W3C).

The ceremonies are `webauthn`'s. Every passkey is discoverable and verifies its person (a PIN, a finger, a face), so
that it stands for password and second factor together. `settings.BASE_URL` says for which host and origin they are.
"""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
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
from tenants.errors import Conflict, Invalid, NotFound

log = logging.getLogger(__name__)

PRODUCT = "Crosslight"
MOST, MAX_NAME = 20, 100
# Of what a browser sends: attestations are not asked for, so that this is small.
MAX_RESPONSE = 20_000
_VERIFIED = UserVerificationRequirement.REQUIRED
_TRANSPORTS = {one.value for one in AuthenticatorTransport}


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
    host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    try:
        if not ip_address(host).is_loopback:
            return None
        host = "localhost"
    except ValueError:
        pass
    return RelyingParty(host, f"{parts.scheme}://{host}{port}")


def _required_party() -> RelyingParty:
    party = relying_party()
    if party is None:
        raise Invalid(_("Passkeys need a host name: this installation is reached by an address."))
    return party


# --- Registering -----------------------------------------------------------------------------------------


def begin_registration(user: User) -> Ceremony:
    """Raises Conflict for somebody who has MOST already, Invalid where there are no passkeys."""
    known = list(user.passkeys.all())
    if len(known) >= MOST:
        raise Conflict(_("At most %(count)s passkeys. Remove one first.") % {"count": MOST})
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

    Raises Invalid for an answer that is not right, Conflict for a passkey that is known.
    """
    name = name.strip()
    if not 0 < len(name) <= MAX_NAME:
        raise Invalid(_("A name has 1 to %(count)s characters.") % {"count": MAX_NAME}, pointer="/name")
    party = _required_party()
    try:
        credential = parse_registration_credential_json(_checked(response))
        verified = verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=party.host,
            expected_origin=party.origin,
            require_user_verification=True,
        )
    # The library reads what anybody may have written, and names no errors of the formats that it reads.
    except Exception as error:
        raise _refused(error) from error
    transports = [one.value for one in credential.response.transports or () if one.value in _TRANSPORTS]
    try:
        with transaction.atomic():
            passkey = Passkey.objects.create(
                user=user,
                name=name,
                credential_id=verified.credential_id,
                public_key=verified.credential_public_key,
                sign_count=verified.sign_count,
                transports=transports,
            )
            has_codes = RecoveryCode.objects.filter(user=user).exists()
            return passkey, [] if has_codes else second_factor.renew_recovery_codes(user=user)
    except IntegrityError as error:
        raise Conflict(_("This passkey is registered already.")) from error


# --- Signing in, and proving again who one is ------------------------------------------------------------


def begin_authentication(user: User | None = None) -> Ceremony:
    """For one person's passkeys, or for whichever the browser finds. Raises Invalid where there are no passkeys."""
    known = [] if user is None else list(user.passkeys.all())
    options = generate_authentication_options(
        rp_id=_required_party().host, allow_credentials=_descriptors(known), user_verification=_VERIFIED
    )
    return Ceremony(options_to_json(options), options.challenge)


def verify(*, response: str, challenge: bytes, user: User | None = None) -> User:
    """Whose passkey has signed the challenge; `user`: it has to be theirs. Raises Invalid, the same for all reasons."""
    party = _required_party()
    try:
        credential = parse_authentication_credential_json(_checked(response))
        passkey = Passkey.objects.select_related("user").get(
            credential_id=credential.raw_id, user__is_active=True
        )
        _check_owner(passkey, credential.response.user_handle, user)
        verified = verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=party.host,
            expected_origin=party.origin,
            credential_public_key=bytes(passkey.public_key),
            # Compared below, where it is said apart from other reasons.
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except Exception as error:
        raise _refused(error) from error
    _count_use(passkey, verified.new_sign_count)
    return passkey.user


def _check_owner(passkey: Passkey, handle: bytes | None, user: User | None) -> None:
    if user is not None and passkey.user_id != user.pk:
        raise ValueError("a passkey of somebody else")
    if handle is not None and handle != passkey.user_id.bytes:
        raise ValueError("a passkey with the handle of somebody else")


def _count_use(passkey: Passkey, count: int) -> None:
    """One that counts has to count on, or there are two of it. Of two uses with one number, one is refused."""
    before = Q(sign_count=0) if count == 0 else Q(sign_count__lt=count)
    if not Passkey.objects.filter(before, pk=passkey.pk).update(sign_count=count, used_at=timezone.now()):
        log.error(
            "a passkey counted back: it may have been copied",
            extra={
                "passkey": str(passkey.pk),
                "person": str(passkey.user_id),
                "count": count,
                "known": passkey.sign_count,
            },
        )
        raise Invalid(_(REFUSED))


# --- Looking after them ----------------------------------------------------------------------------------


def remove(*, user: User, passkey_id: uuid.UUID) -> None:
    """Raises NotFound, Conflict for the last second factor of somebody whose workspace asks for one."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        if not user.passkeys.filter(pk=passkey_id).exists():
            raise NotFound(_("This passkey does not exist."))
        last = user.passkeys.count() == 1 and not second_factor.app_is_on(user)
        if last and (asking := second_factor.required_by(user)):
            said = _("%(names)s requires two-factor sign-in for all members.")
            raise Conflict(said % {"names": ", ".join(asking)})
        user.passkeys.filter(pk=passkey_id).delete()
        if last:
            RecoveryCode.objects.filter(user=user).delete()


def _descriptors(known: list[Passkey]) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(
            id=bytes(one.credential_id), transports=[AuthenticatorTransport(name) for name in one.transports]
        )
        for one in known
    ]


def _checked(response: str) -> dict[str, object]:
    if len(response) > MAX_RESPONSE:
        raise ValueError("too long")
    return dict(json.loads(response))


REFUSED = gettext_noop("This passkey could not be used. Try again, or sign in another way.")


def _refused(error: Exception) -> Invalid:
    # Not told to whoever sent it: which passkeys are known is nobody's business.
    log.info("a passkey was refused", extra={"reason": f"{type(error).__name__}: {error}"[:300]})
    return Invalid(_(REFUSED))
