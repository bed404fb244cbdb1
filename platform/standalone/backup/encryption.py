"""Backups encrypted with age (https://age-encryption.org/v1): streamed in both directions, so that memory is flat and
no plain copy lies anywhere meanwhile.

BACKUP_RECIPIENTS, public keys, is what makes a backup encrypted: each of its files but the manifest, its signature and
the sums is `NAME.age`. BACKUP_IDENTITY, a file of private keys, opens it and is needed on the restoring machine only.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from standalone.backup.manifest import Manifest
from standalone.errors import StackError
from standalone.files import write_private
from tenants import age
from tenants.age import CHUNK, SUFFIX, Copied

RECIPIENTS, IDENTITY = "BACKUP_RECIPIENTS", "BACKUP_IDENTITY"
# What of a decrypted file is held in memory on its way into the storage.
HELD_BYTES = 8 << 20


@dataclass(frozen=True)
class Encryption:
    """For whom a backup's files are encrypted; for nobody, they are plain."""

    recipients: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        return SUFFIX if self.recipients else ""

    def copy(self, source: IO[bytes], sink: IO[bytes]) -> Copied:
        """Write what `source` holds. Raises what reading or writing raises."""
        if self.recipients:
            return age.encrypt(source, sink, self.recipients)
        sha, length = hashlib.sha256(), 0
        while piece := source.read(CHUNK):
            sha.update(piece)
            sink.write(piece)
            length += len(piece)
        return Copied(sha.hexdigest(), sha.hexdigest(), length)

    def write(self, path: Path, content: str) -> None:
        """A small file of this text, under `path` and the suffix."""
        target = path.with_name(path.name + self.suffix)
        target.touch(mode=0o600)
        with target.open("wb") as sink:
            self.copy(io.BytesIO(content.encode()), sink)

    def write_json(self, path: Path, value: Any) -> None:
        self.write(path, json.dumps(value, indent=2) + "\n")


def encryption_of(environ: Mapping[str, str]) -> Encryption:
    """What BACKUP_RECIPIENTS asks for: public keys, or a file of them. Raises StackError."""
    text = environ.get(RECIPIENTS, "").strip()
    if not text:
        return Encryption()
    if not text.upper().startswith((age.PUBLIC.upper(), age.PRIVATE)):
        text = _text_of(RECIPIENTS, Path(text))
    found = tuple(dict.fromkeys(age.words(text)))
    for key in found:
        _check_recipient(key)
    if not found:
        raise StackError(f"{RECIPIENTS} names a file without a public key.")
    return Encryption(found)


def _check_recipient(key: str) -> None:
    if key.upper().startswith(age.PRIVATE):
        raise StackError(
            f"{RECIPIENTS} holds a private key. It takes public ones ({age.PUBLIC}…); the private one belongs where "
            "backups are restored, and nowhere near them. Make a new pair, as this one may have been seen."
        )
    if not age.is_public_key(key):
        raise StackError(
            f"{RECIPIENTS}: {key[:80]!r} is no public key of age ({age.PUBLIC}…, 62 characters). `python -m standalone "
            "backup-identity FILE` makes a pair, as `age-keygen` does."
        )


def _text_of(variable: str, path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(f"{variable}: {str(path)[:200]!r} cannot be read: {error}.") from error


def make_identity(path: Path) -> str:
    """A new pair of keys: the private one into a new file, as `age-keygen` writes it; the public one returned."""
    if path.exists():
        raise StackError(f"{path} exists. Backups may need the key in it: choose another name.")
    private, public = age.new_pair()
    write_private(path, f"# public key: {public}\n{private}\n")
    return public


class Contents:
    """The files of one backup as what they hold. Errors are StackErrors that say what to do."""

    def __init__(self, folder: Path, described: Manifest, identity: str = "") -> None:
        """`identity` is the path of the file with private keys, needed for an encrypted backup only."""
        self.folder = folder
        self._suffix = SUFFIX if described.recipients else ""
        self._identities = _identities(described.recipients, identity) if described.recipients else []

    def path(self, name: str) -> Path:
        return self.folder / self.listed(name)

    def has(self, name: str) -> bool:
        return self.path(name).exists()

    def listed(self, name: str) -> str:
        """As it stands in the sums."""
        return f"{name}{self._suffix}"

    def name_of(self, listed: str) -> str:
        """The content's name, of the one in the sums."""
        return listed.removesuffix(self._suffix)

    def text(self, name: str) -> str:
        held = io.BytesIO()
        self.copy(name, held)
        return held.getvalue().decode()

    def json(self, name: str) -> Any:
        return json.loads(self.text(name))

    def length(self, name: str) -> int:
        return age.content_length(self.path(name)) if self._suffix else self.path(name).stat().st_size

    @contextmanager
    def opened(self, name: str, scratch: Path) -> Iterator[IO[bytes]]:
        """The file to be read; what is decrypted and too long for the memory lies in the folder `scratch`, unnamed."""
        if not self._suffix:
            with self.path(name).open("rb") as file:
                yield file
            return
        with tempfile.SpooledTemporaryFile(HELD_BYTES, dir=str(scratch)) as held:
            self.copy(name, held)
            held.seek(0)
            yield held

    def copy(self, name: str, sink: IO[bytes]) -> None:
        """Write what the file holds. Raises what writing raises."""
        with self.path(name).open("rb") as source:
            if not self._suffix:
                while chunk := source.read(CHUNK):
                    sink.write(chunk)
                return
            try:
                age.decrypt(source, sink, self._identities)
            except age.CannotOpen as error:
                raise StackError(
                    f"{self.path(name)} cannot be decrypted ({error}): it is damaged, or not for this identity. Use "
                    "another backup."
                ) from error


def _identities(recipients: Sequence[str], path: str) -> list[str]:
    """Private keys of which one opens the backup. Raises StackError."""
    shown = ", ".join(recipients)
    if not path:
        raise StackError(
            f"This backup is encrypted for {shown}: set {IDENTITY} to the file with the private key to it."
        )
    keys = private_keys(path)
    try:
        held = [age.public_key_of(key) for key in keys]
    except age.CannotOpen as error:
        raise StackError(f"{IDENTITY}: a key in {path} is damaged ({error}).") from error
    if not set(held) & set(recipients):
        raise StackError(
            f"{IDENTITY}: {path} has the private key of {', '.join(held)}, the backup is encrypted for {shown}."
        )
    return keys


def private_keys(path: str) -> list[str]:
    """Those in the file that BACKUP_IDENTITY names. Raises StackError."""
    keys = age.private_keys(_text_of(IDENTITY, Path(path)))
    if not keys:
        raise StackError(f"{IDENTITY}: {path} holds no private key of age ({age.PRIVATE}…).")
    return keys
