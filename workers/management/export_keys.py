"""Keys that open an export, and those whose signature of it counts; as files on the command line."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from django.core.management.base import CommandError, CommandParser

from tenants import age
from tenants.pipeline.transfer.export_reading import ExportFile

BEGIN, END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"


def add_key_arguments(parser: CommandParser) -> None:
    parser.add_argument(
        "--key", default="", metavar="FILE", help="public keys (PEM) of which one must have signed"
    )
    parser.add_argument(
        "--identity", default="", metavar="FILE", help="private keys of age for an encrypted export"
    )


def private_keys(path: str) -> list[str]:
    """Raises CommandError."""
    if not path:
        return []
    found = age.private_keys(_text(path))
    try:
        for key in found:
            age.public_key_of(key)
    except age.CannotOpen as error:
        raise CommandError(f"A key in {path} is damaged.") from error
    if not found:
        raise CommandError(f"{path} holds no private key of age ({age.PRIVATE}…).")
    return found


def check_signer(export: ExportFile, path: str) -> None:
    """Raises CommandError where none of the keys in the file at `path` has signed; an empty path takes everything."""
    if not path:
        return
    wanted = _public_keys(path)
    if not export.signed_by:
        raise CommandError("This export is not signed: releases up to 0.2 did not sign.")
    if _raw(export.signed_by) not in wanted:
        raise CommandError(
            f"This export is signed by another key than those in {path}: somebody else made it."
        )


def _public_keys(path: str) -> set[bytes]:
    found = {_raw(f"{BEGIN}{part.partition(END)[0]}{END}\n") for part in _text(path).split(BEGIN)[1:]}
    if not found:
        raise CommandError(f"{path} holds no public key. `manage.py record_key > FILE` writes one.")
    return found


def _raw(pem: str) -> bytes:
    try:
        return load_pem_public_key(pem.encode()).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CommandError("A public key cannot be read: it has to be PEM.") from error


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error
