"""A certificate for each tenant: what its manifests are signed with names it, and leads to the installation's root.

root of the installation → issuing authority of the tenant (may issue no further authority) → the tenant's signer. Two
steps, so that a signer is renewed without the root's key, and so that a tenant's authority can be handed over or
forgotten alone. The name "Organisation" is the tenant's own, "Common name" has its id, which nobody else gets here.
"""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from ml.provenance import signing
from ml.provenance.secret_files import locked, write_secret

TENANTS = "tenants"
#: Of a tenant's authority; renewed while it still outlives every signer that it issues.
ISSUER_LIFE = timedelta(days=15 * 365)
#: What X.509 allows for a name.
MAX_NAME = 64
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,40}")


class Pair(NamedTuple):
    """A certificate and the key that it is about."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def tenant_keys(folder: Path, tenant_id: str, organisation: str) -> signing.Keys:
    """The tenant's keys in ``folder`` (the installation's), made by whoever comes first, renewed when half used up.

    A new name of the organisation gets a new signer. Raises ValueError for an id that cannot name a folder and for
    files that do not belong together, OSError where files cannot be read or written.
    """
    own = _folder(folder, tenant_id)
    root = signing.load_keys(folder).root
    with locked(folder / "lock"):
        # Whoever forgets a tenant in between must find all of it, so this waits for the lock, too.
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
        issuer = _issuer(folder, own, tenant_id, _named(organisation))
        signer = _signer(own, issuer, tenant_id, _named(organisation))
    chain = b"".join(map(_text, (signer.certificate, issuer.certificate)))
    return signing.Keys(root, chain + root.encode(), signing.private_pem(signer.key))


def forget_tenant(folder: Path, tenant_id: str) -> bool:
    """Delete the tenant's keys; whether there were any. What they signed stays readable, and nothing new is signed."""
    own = _folder(folder, tenant_id)
    if not own.is_dir():
        return False
    with locked(folder / "lock"):
        shutil.rmtree(own)
    return True


# --- The two certificates ---


def _issuer(folder: Path, own: Path, tenant_id: str, organisation: str) -> Pair:
    root = _read(folder, "root")
    if root is None:
        raise ValueError(f"{folder / 'root.key'} and root.pem are missing; restore both from a backup.")
    kept = _read(own, "issuer")
    if (
        kept is not None
        and _left(kept) > signing.LEAF_LIFE
        and _issued_by(kept, root)
        and _is_about(kept, organisation)
    ):
        return kept
    name = signing.subject(organisation, f"{signing.PRODUCT} tenant {tenant_id} authority")
    return _make(own, "issuer", name, root, issues=True)


def _signer(own: Path, issuer: Pair, tenant_id: str, organisation: str) -> Pair:
    kept = _read(own, "signer")
    fresh = kept is not None and _left(kept) >= signing.LEAF_LIFE - signing.LEAF_RENEWAL
    if kept is not None and fresh and _issued_by(kept, issuer) and _is_about(kept, organisation):
        return kept
    name = signing.subject(organisation, f"{signing.PRODUCT} tenant {tenant_id}")
    return _make(own, "signer", name, issuer, issues=False)


def _make(own: Path, stem: str, name: x509.Name, issuer: Pair, *, issues: bool) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = signing.issued(
        name,
        key.public_key(),
        issuer.certificate,
        issuer.key,
        issues=issues,
        life=ISSUER_LIFE if issues else signing.LEAF_LIFE,
    )
    write_secret(own / f"{stem}.key", signing.private_pem(key))
    write_secret(own / f"{stem}.pem", _text(certificate))
    return Pair(certificate, key)


def _read(folder: Path, stem: str) -> Pair | None:
    """None where a file is missing, or one was left over from a renewal that was killed between the two."""
    paths = folder / f"{stem}.pem", folder / f"{stem}.key"
    if not all(path.exists() for path in paths):
        return None
    try:
        certificate = x509.load_pem_x509_certificate(paths[0].read_bytes())
        key = load_pem_private_key(paths[1].read_bytes(), None)
    except ValueError as error:
        raise ValueError(f"{paths[0]} or {paths[1].name} is damaged; restore both or delete both.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        return None
    return Pair(certificate, key)


def _left(pair: Pair) -> timedelta:
    return pair.certificate.not_valid_after_utc - datetime.now(UTC)


def _issued_by(pair: Pair, issuer: Pair) -> bool:
    try:
        pair.certificate.verify_directly_issued_by(issuer.certificate)
    except (ValueError, InvalidSignature):
        return False
    return True


def _is_about(pair: Pair, organisation: str) -> bool:
    [name] = pair.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return name.value == organisation


# --- Names ---


def _folder(folder: Path, tenant_id: str) -> Path:
    if not _ID.fullmatch(tenant_id):
        raise ValueError(f"{tenant_id!r} is no id of a tenant.")
    return folder / TENANTS / tenant_id


def _named(organisation: str) -> str:
    """What a certificate can hold of it: one line of at most 64 characters."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in organisation).split())
    return shown[:MAX_NAME].strip() or signing.PRODUCT


def _text(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
