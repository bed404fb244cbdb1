"""A backup's signature: Ed25519, by the installation's key that signs its record, over the whole manifest.

The manifest holds the digest of the sums, and those the digest of every file. The public key lies beside; that it is
the installation's own is known by BACKUP_SIGNER only, a file with what `manage.py record_key` printed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from standalone.backup.manifest import MANIFEST, SIGNATURE
from standalone.errors import StackError

SIGNER = "BACKUP_SIGNER"
# No seal or checkpoint begins like this, so that a signature of one never passes for another's.
PURPOSE = "crosslight backup\n"
BEGIN, END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"


@dataclass(frozen=True)
class Signed:
    """`key` is the first half of the SHA-256 of the public key, as the record names it."""

    key: str
    public_key: str
    signature: str

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


def message_of(manifest: str) -> str:
    return PURPOSE + manifest


def check(folder: Path, signer: str, *, unsigned: bool) -> str:
    """The id of the key that signed; empty for an unsigned backup that may be so. Raises StackError.

    `signer` is the path of a file with public keys of which one has to have signed, or empty.
    """
    wanted = _keys_in(Path(signer)) if signer else []
    path = folder / SIGNATURE
    if not path.is_file():
        if unsigned:
            return ""
        raise StackError(
            f"{folder} is not signed. Releases up to 0.2 did not sign; a later one does unless its key could not be "
            "read, so whoever can write to the folder may have taken the signature away. Where you know that it is "
            "yours, set UNSIGNED=1 (--unsigned)."
        )
    key, found = _read(path)
    _verify(folder, key, found)
    if wanted and key not in wanted:
        raise StackError(
            f"{folder} is signed by {id_of(key)}, and not by a key in {signer} ({', '.join(map(id_of, wanted))}): it "
            "was made by another installation, or by somebody else."
        )
    return id_of(key)


def _read(path: Path) -> tuple[bytes, Signed]:
    try:
        body = json.loads(path.read_text())
        found = Signed(body["key"], body["public_key"], body["signature"])
        (key,) = _raw_keys(found.public_key)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StackError(f"{path} cannot be read: the backup is damaged. Use another one.") from error
    return key, found


def _verify(folder: Path, key: bytes, found: Signed) -> None:
    manifest = (folder / MANIFEST).read_text()
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(
            base64.b64decode(found.signature, validate=True), message_of(manifest).encode()
        )
    except (InvalidSignature, ValueError) as error:
        raise StackError(
            f"The signature of {folder} does not fit its {MANIFEST}: one of them was changed. Nothing was changed "
            "here; use another backup."
        ) from error


def _keys_in(path: Path) -> list[bytes]:
    try:
        keys = _raw_keys(path.read_text())
    except (OSError, ValueError) as error:
        raise StackError(f"{SIGNER}: {path} cannot be read: {error}") from error
    if not keys:
        raise StackError(f"{SIGNER}: {path} holds no public key. `manage.py record_key > FILE` writes one.")
    return keys


def _raw_keys(text: str) -> list[bytes]:
    """Of each Ed25519 key in PEM, whatever is written around them. Raises ValueError."""
    found = []
    for part in text.split(BEGIN)[1:]:
        key = load_pem_public_key(f"{BEGIN}{part.partition(END)[0]}{END}\n".encode())
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("a key that is not Ed25519")
        found.append(key.public_bytes_raw())
    return found


def id_of(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]
