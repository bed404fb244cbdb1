"""Master keys: what wraps the data keys (`tenants.accounts.keyring`), from a file, a KMS, or SECRET_KEY.

The first key wraps; all of them unwrap, so that old and new ones are readable while a master key is changed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext as _

from tenants.errors import Unavailable

KEY_BYTES = 32
# AES-GCM's: NIST SP 800-38D, section 5.2.1.1.
NONCE_BYTES = 12
KMS_TIMEOUT_S = 3

#: What a wrapped key is bound to (associated data; a KMS's encryption context).
Context = Mapping[str, str]


class KeysUnavailable(Unavailable):
    """Keys cannot be unwrapped at the moment: the KMS does not answer. Nothing is lost."""

    slug = "keys-unavailable"


class WrongKey(ValueError):
    """What was wrapped under another key, for another context, or was changed."""


class MasterKey(Protocol):
    @property
    def id(self) -> str: ...

    def opens(self, master_id: str) -> bool:
        """Whether it can be asked about what was wrapped under the key of this id."""
        ...

    def wrap(self, key: bytes, context: Context) -> bytes: ...

    def unwrap(self, wrapped: bytes, context: Context) -> bytes:
        """Raises WrongKey, KeysUnavailable."""
        ...


@dataclass(frozen=True)
class LocalKey:
    """256 bits that this process holds; wraps by AES-256-GCM. Its id is a digest that does not tell it."""

    key: bytes

    @cached_property
    def id(self) -> str:
        return "local:" + derived(self.key, b"crosslight id of a master key", 8).hex()

    def opens(self, master_id: str) -> bool:
        return master_id == self.id

    @cached_property
    def _cipher(self) -> AESGCM:
        return AESGCM(derived(self.key, b"crosslight wrapped data keys", KEY_BYTES))

    def wrap(self, key: bytes, context: Context) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, key, _canonical(context))

    def unwrap(self, wrapped: bytes, context: Context) -> bytes:
        try:
            return self._cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _canonical(context))
        except (InvalidTag, ValueError) as error:
            raise WrongKey from error


@dataclass(frozen=True)
class KmsKey:
    """A key that never leaves AWS KMS, or a server that speaks its protocol; `name` is an alias, an id or an ARN."""

    name: str
    region: str
    endpoint: str

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=KMS_TIMEOUT_S, read_timeout=KMS_TIMEOUT_S, retries={"total_max_attempts": 2}
        )
        # Credentials are boto3's own: environment, files, the machine's role.
        return boto3.client(
            "kms", region_name=self.region or None, endpoint_url=self.endpoint or None, config=config
        )

    @cached_property
    def id(self) -> str:
        return "kms:" + str(self._call("describe_key", KeyId=self.name)["KeyMetadata"]["Arn"])

    def opens(self, master_id: str) -> bool:
        # What it encrypted says itself under which of its keys.
        return master_id.startswith("kms:")

    def wrap(self, key: bytes, context: Context) -> bytes:
        answer = self._call("encrypt", KeyId=self.name, Plaintext=key, EncryptionContext=dict(context))
        return bytes(answer["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, context: Context) -> bytes:
        return bytes(
            self._call("decrypt", CiphertextBlob=wrapped, EncryptionContext=dict(context))["Plaintext"]
        )

    def _call(self, operation: str, **arguments: object) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return dict(getattr(self._client, operation)(**arguments))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "InvalidCiphertextException":
                raise WrongKey from error
            raise _away(error) from error
        except BotoCoreError as error:
            raise _away(error) from error


def _away(error: Exception) -> KeysUnavailable:
    # What the KMS said belongs into the log (`from error`), not into an answer.
    return KeysUnavailable(
        _("The key service of this installation does not answer. Nothing is lost; try again soon.")
    )


def derived(secret: bytes, purpose: bytes, length: int) -> bytes:
    """HKDF-SHA256 (RFC 5869)."""
    return HKDF(SHA256(), length, salt=None, info=purpose).derive(secret)


def _canonical(context: Context) -> bytes:
    return json.dumps(dict(context), sort_keys=True, separators=(",", ":")).encode()


# --- Which there are -------------------------------------------------------------------------------------


def masters() -> tuple[MasterKey, ...]:
    """The first wraps. Raises ImproperlyConfigured for a file or an address that cannot be used."""
    found: list[MasterKey] = []
    if settings.KMS_URL:
        found.append(_kms(settings.KMS_URL))
    if settings.MASTER_KEY_FILE:
        found += read_file(Path(settings.MASTER_KEY_FILE))
    # Without either SECRET_KEY is the master key; and with one, what was wrapped under it before opens.
    found += [_of_secret_key(secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    return tuple(found)


def primary() -> MasterKey:
    return masters()[0]


@cache
def _kms(url: str) -> KmsKey:
    """`aws-kms:///alias/name?region=…&endpoint=…`."""
    parts = urlsplit(url)
    given = parse_qs(parts.query)
    name = parts.path.removeprefix("/")
    if parts.scheme != "aws-kms" or not name or set(given) - {"region", "endpoint"}:
        raise ImproperlyConfigured(
            "KMS_URL is aws-kms:///alias/NAME?region=REGION, with &endpoint=https://… for another server than AWS's."
        )
    return KmsKey(name, given.get("region", [""])[0], given.get("endpoint", [""])[0])


@cache
def _of_secret_key(secret: str) -> LocalKey:
    return LocalKey(hashlib.sha256(b"crosslight master key\0" + secret.encode()).digest())


# --- The file --------------------------------------------------------------------------------------------


def read_file(path: Path) -> tuple[LocalKey, ...]:
    """The keys of a file, the newest first: base64, one a line. Read again when it is changed.

    Raises ImproperlyConfigured.
    """
    try:
        held = path.stat()
        return _read(path, (held.st_mtime_ns, held.st_size, held.st_ino))
    except OSError as error:
        raise ImproperlyConfigured(f"MASTER_KEY_FILE: {path} cannot be read: {error}") from error


_files: dict[Path, tuple[tuple[int, int, int], tuple[LocalKey, ...]]] = {}


def _read(path: Path, version: tuple[int, int, int]) -> tuple[LocalKey, ...]:
    known = _files.get(path)
    if known is None or known[0] != version:
        known = _files[path] = version, parse(path.read_text(), str(path))
    return known[1]


def parse(text: str, place: str) -> tuple[LocalKey, ...]:
    """Raises ImproperlyConfigured, which never tells what the line was."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        keys = tuple(LocalKey(base64.b64decode(line, validate=True)) for line in lines)
    except (binascii.Error, ValueError) as error:
        raise ImproperlyConfigured(f"MASTER_KEY_FILE: {place} has a line that is not base64.") from error
    if not keys or any(len(key.key) != KEY_BYTES for key in keys):
        raise ImproperlyConfigured(
            f"MASTER_KEY_FILE: {place} holds no key of {KEY_BYTES} bytes, or one of another length. Make one with "
            "`openssl rand -base64 32`."
        )
    return keys


def new_key() -> LocalKey:
    return LocalKey(secrets.token_bytes(KEY_BYTES))


def written(keys: tuple[LocalKey, ...]) -> str:
    """The text of a file with these keys."""
    return "".join(base64.b64encode(key.key).decode() + "\n" for key in keys)
