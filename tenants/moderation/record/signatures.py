"""The installation's key that signs seals and checkpoints: Ed25519 (RFC 8032), one for all hosts, sealed.

The private key is a row (`InstallationSecret`) that only the master key opens, and so are, inside the same row, the
public keys before it and since when each has signed: who can only write to the tables cannot add a key of their own.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import installation_secrets
from tenants.accounts.models import InstallationSecret
from tenants.accounts.vault import InvalidToken
from tenants.errors import Unavailable

NAME = "record/signing.key"
# An advisory lock, of the transaction that makes the key.
MAKING_KEY = 0x0C05_5EA1


class KeyUnreadable(Unavailable):
    """The key was sealed under another master key; a new one is never made in its place."""

    slug = "record-key-sealed"


@dataclass(frozen=True)
class PublicKey:
    """Whom a signature is by. `until` is None for the key that signs now."""

    raw: bytes
    since: dt.datetime
    until: dt.datetime | None = None

    @property
    def id(self) -> str:
        """The first half of the SHA-256 of the raw key's, 16 hex digits."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    @property
    def pem(self) -> str:
        key = Ed25519PublicKey.from_public_bytes(self.raw)
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def verifies(self, message: str, signature: str) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(
                base64.b64decode(signature, validate=True), message.encode()
            )
        except (InvalidSignature, ValueError):
            return False
        return True


def fits(message: bytes, signature: bytes, pem: str) -> bool:
    """Whether this is a signature of the message by this key, whosever it is."""
    try:
        key = load_pem_public_key(pem.encode())
        if not isinstance(key, Ed25519PublicKey):
            return False
        key.verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True)
class Signature:
    key_id: str
    value: str


@dataclass(frozen=True)
class KeyRing:
    """The private key, and every public one from the newest on."""

    private: Ed25519PrivateKey
    public: tuple[PublicKey, ...]

    def sign(self, message: str) -> Signature:
        return Signature(self.public[0].id, base64.b64encode(self.private.sign(message.encode())).decode())

    def verifies(self, message: str, by: str, signature: str) -> bool:
        """Whether this is a signature by the key with the id `by`, which has to be one of ours."""
        return any(key.id == by and key.verifies(message, signature) for key in self.public)

    @property
    def since(self) -> dt.datetime:
        """Since when everything is signed."""
        return self.public[-1].since


def key_ring() -> KeyRing:
    """The keys, made by whoever needs them first. Raises KeyUnreadable."""
    row = InstallationSecret.objects.filter(pk=NAME).first()
    if row is None:
        with _held():
            row = InstallationSecret.objects.filter(pk=NAME).first() or _store(
                Ed25519PrivateKey.generate(), ()
            )
    return _opened(row)


def rotate() -> KeyRing:
    """Sign by a new key from now on; what the keys before it signed stays verifiable. Raises KeyUnreadable."""
    before = key_ring()
    with _held():
        newest, *rest = before.public
        ended = PublicKey(newest.raw, newest.since, timezone.now())
        return _opened(_store(Ed25519PrivateKey.generate(), (ended, *rest)))


@contextmanager
def _held() -> Iterator[None]:
    """A transaction in which nobody else makes a key."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [MAKING_KEY])
        yield


def _store(private: Ed25519PrivateKey, former: tuple[PublicKey, ...]) -> InstallationSecret:
    content = {
        "private": _text(private.private_bytes_raw()),
        "since": timezone.now().isoformat(),
        "former": [
            {"public": _text(k.raw), "since": k.since.isoformat(), "until": k.until and k.until.isoformat()}
            for k in former
        ],
    }
    installation_secrets.write(NAME, json.dumps(content).encode(), tenant_id=None, private=True)
    return InstallationSecret.objects.get(pk=NAME)


def _opened(row: InstallationSecret) -> KeyRing:
    try:
        content = json.loads(installation_secrets.content_of(row))
    except InvalidToken as error:
        raise KeyUnreadable(
            _(
                "The key of the record was sealed under another key (its id is %(sealed)s). Set the MASTER_KEY_FILE, "
                "KMS_URL or SECRET_KEY that it was made under: a new key is not made in its place."
            )
            % {"sealed": row.key_id}
        ) from error
    private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(content["private"]))
    own = PublicKey(private.public_key().public_bytes_raw(), dt.datetime.fromisoformat(content["since"]))
    return KeyRing(private, (own, *map(_former, content["former"])))


def _former(kept: dict[str, str]) -> PublicKey:
    since, until = (dt.datetime.fromisoformat(kept[name]) for name in ("since", "until"))
    return PublicKey(base64.b64decode(kept["public"]), since, until)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
