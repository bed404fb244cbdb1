"""Content credentials (C2PA) for what the platform itself makes: PNG, JPEG, MP4, WAV and MP3.

The installation is its own authority: a root that stays here and a leaf that signs; tenants have leaves of their own
(``ml.provenance.authority``). The standard's profile wants the leaf issued by an authority, for digital signatures and
e-mail protection (C2PA 2.x, section 14.5). Without a time-stamping
authority, which would need a network, a file verifies only while its leaf is valid: leaves live for ten years and are
renewed after five; roots live for thirty.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ml.provenance._sdk import context
from ml.provenance.secret_files import locked, write_secret

PRODUCT, VERSION = "Crosslight", "1"
SIGNABLE = frozenset({"image/png", "image/jpeg", "video/mp4", "audio/wav", "audio/mpeg"})
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
ROOT_LIFE, LEAF_LIFE, LEAF_RENEWAL = timedelta(days=30 * 365), timedelta(days=3650), timedelta(days=1825)
_BACK = timedelta(hours=1)  # clocks of other machines may be behind


@dataclass(frozen=True)
class Keys:
    """PEM texts. ``root``: what others put among their trust anchors. ``chain``: the leaf, then the root."""

    root: str
    chain: bytes
    key: bytes


def load_keys(folder: Path, organisation: str = PRODUCT) -> Keys:
    """The installation's keys in ``folder``, made there (mode 0600) by whoever comes first.

    Raises OSError where the folder cannot be read or written, ValueError for files that do not belong together.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(folder / "lock"):
        if not (folder / "root.pem").exists():
            _make_root(folder, organisation)
        elif not _issues_authorities(folder):
            _remake_root(folder)
        if _needs_leaf(folder):
            _make_leaf(folder, organisation)
        root = (folder / "root.pem").read_text("ascii")
        leaf = (folder / "signer.pem").read_text("ascii")
        return Keys(root, (leaf + root).encode(), (folder / "signer.key").read_bytes())


def sign(
    keys: Keys,
    content: bytes,
    media_type: str,
    *,
    title: str = "",
    made_by: str = "",
    source_type: str = "trainedAlgorithmicMedia",
    details: Mapping[str, Any] | None = None,
    when: datetime | None = None,
) -> bytes:
    """``content`` with a manifest inside that says who made it, by what and when.

    ``made_by``: the model. ``source_type``: a code of IPTC's list of digital source types. ``details``: JSON that goes
    with the action, for instance the digest of a prompt; everybody can read it. Raises ValueError for other formats
    than ``SIGNABLE``, and c2pa's C2paError for content that is not of its media type.
    """
    if media_type not in SIGNABLE:
        raise ValueError(f"{media_type} cannot be signed; these can: {', '.join(sorted(SIGNABLE))}.")
    import c2pa

    manifest = json.dumps(_manifest(title, made_by, source_type, details or {}, when or datetime.now(UTC)))
    info = c2pa.C2paSignerInfo(b"es256", keys.chain, keys.key, None)
    target = io.BytesIO()
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(manifest, context(keys.root)) as builder:
        builder.sign(signer, media_type, io.BytesIO(content), target)
    return target.getvalue()


def _manifest(
    title: str, made_by: str, source_type: str, details: Mapping[str, Any], when: datetime
) -> dict[str, Any]:
    action: dict[str, Any] = {
        "action": "c2pa.created",
        "when": when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "digitalSourceType": SOURCE_TYPES + source_type,
    }
    if made_by:
        action["softwareAgent"] = {"name": made_by}
    if details:
        action["parameters"] = dict(details)
    return {
        "claim_generator_info": [{"name": PRODUCT, "version": VERSION}],
        **({"title": title} if title else {}),
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }


# --- Keys ---


def _needs_leaf(folder: Path) -> bool:
    if not ((folder / "signer.pem").exists() and (folder / "signer.key").exists()):
        return True
    leaf = x509.load_pem_x509_certificate((folder / "signer.pem").read_bytes())
    key = load_pem_private_key((folder / "signer.key").read_bytes(), None)
    # Killed between the two files of a renewal: they do not belong together.
    if leaf.public_key() != key.public_key():
        return True
    return leaf.not_valid_after_utc - datetime.now(UTC) < LEAF_LIFE - LEAF_RENEWAL


def _make_root(folder: Path, organisation: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    # The key first: a root without its key could never issue another leaf.
    write_secret(folder / "root.key", private_pem(key))
    _write_root(folder, subject(organisation, f"{PRODUCT} root"), key)


def _write_root(folder: Path, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> None:
    certificate = (
        _certificate(name, name, key.public_key(), ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_usage(signs=False, issues=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_secret(folder / "root.pem", certificate.public_bytes(Encoding.PEM))


def _issues_authorities(folder: Path) -> bool:
    """Roots of before there were tenants' authorities may issue leaves only."""
    root = x509.load_pem_x509_certificate((folder / "root.pem").read_bytes())
    return root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length != 0


def _remake_root(folder: Path) -> None:
    """The same name and key in a certificate that may issue authorities: what was signed stays verifiable."""
    root, authority = _authority(folder)
    _write_root(folder, root.subject, authority)


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    root = x509.load_pem_x509_certificate((folder / "root.pem").read_bytes())
    key = load_pem_private_key((folder / "root.key").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != root.public_key():
        raise ValueError(f"{folder / 'root.key'} is not the key of root.pem; restore both from a backup.")
    return root, key


def _make_leaf(folder: Path, organisation: str) -> None:
    root, authority = _authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    name = subject(organisation, f"{PRODUCT} signer")
    certificate = issued(name, key.public_key(), root, authority, issues=False)
    write_secret(folder / "signer.key", private_pem(key))
    write_secret(folder / "signer.pem", certificate.public_bytes(Encoding.PEM))


def issued(
    name: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate,
    authority: ec.EllipticCurvePrivateKey,
    *,
    issues: bool,
    life: timedelta = LEAF_LIFE,
) -> x509.Certificate:
    """A certificate of ``issuer``, whose key ``authority`` is: for a leaf that signs, or one that ``issues`` leaves."""
    certificate = (
        _certificate(name, issuer.subject, key, life)
        .add_extension(x509.BasicConstraints(ca=issues, path_length=0 if issues else None), critical=True)
        .add_extension(_usage(signs=not issues, issues=issues), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False
        )
    )
    return certificate.sign(authority, hashes.SHA256())


def subject(organisation: str, common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACK)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool, issues: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        key_cert_sign=issues,
        crl_sign=issues,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
