"""Content credentials (C2PA) for what the platform itself makes: PNG, JPEG, MP4, WAV and MP3.

The installation is its own authority: a root that stays here and a leaf that signs; tenants have leaves of their own
(``ml.provenance.signing``). The standard's profile wants the leaf issued by an authority, for digital signatures and
e-mail protection (C2PA 2.x, section 14.5). Nothing here opens a connection: a time stamp comes from whoever is given
to ``sign``. Without one a file verifies only while its leaf is valid: leaves live for ten years and are renewed after
five; roots live for thirty.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ml.provenance._sdk import context

# --- Secrets ---------------------------------------------------------------------------------------------
# Secrets in files: written whole or not at all, readable by their owner, made by one process only.


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the file ``path`` for this process and thread; others wait."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_secret(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` with mode 0600."""
    part = path.with_suffix(path.suffix + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


class SecretStore(Protocol):
    """Where keys are kept under names such as ``root.pem`` and ``tenants/<id>/signer.key``."""

    def held(self) -> AbstractContextManager[object]:
        """A context for one process and thread of all that share the store; others wait."""

    def read(self, name: str) -> bytes | None: ...

    def write(self, name: str, content: bytes) -> None:
        """Whole or not at all. Under ``held``."""

    def forget(self, folder: str) -> bool:
        """Remove everything below ``folder``; whether there was any."""

    def place(self, name: str) -> str:
        """Where it is, for people."""


class SecretFiles:
    """Files in a folder, which several hosts may mount: mode 0600, and ``flock`` has to work."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def held(self) -> AbstractContextManager[object]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return file_lock(self._folder / "lock")

    def read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_secret(path, content)

    def forget(self, folder: str) -> bool:
        if not (self._folder / folder).is_dir():
            return False
        with self.held():
            shutil.rmtree(self._folder / folder)
        return True

    def place(self, name: str) -> str:
        return str(self._folder / name)


def _store(where: Path | SecretStore) -> SecretStore:
    return SecretFiles(where) if isinstance(where, Path) else where


# --- Signing ---------------------------------------------------------------------------------------------


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


def load_keys(where: Path | SecretStore, organisation: str = PRODUCT) -> Keys:
    """The installation's keys in a folder or store, made there by whoever comes first.

    Raises OSError where the folder cannot be read or written, ValueError for secrets that do not belong together.
    """
    store = _store(where)
    with store.held():
        return _own_keys(store, organisation)


def _own_keys(store: SecretStore, organisation: str) -> Keys:
    if store.read("root.pem") is None:
        _make_root(store, organisation)
    elif not _issues_authorities(store):
        _remake_root(store)
    if _needs_leaf(store):
        _make_leaf(store, organisation)
    root, leaf = _present(store, "root.pem"), _present(store, "signer.pem")
    return Keys(root.decode("ascii"), leaf + root, _present(store, "signer.key"))


def _present(store: SecretStore, name: str) -> bytes:
    """Raises ValueError for what is missing."""
    content = store.read(name)
    if content is None:
        raise ValueError(f"{store.place(name)} is missing; restore it from a backup.")
    return content


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
    time_stamp: TimeStamp | None = None,
) -> bytes:
    """``content`` with a manifest inside that says who made it, by what and when; one that is there is replaced.

    ``made_by``: the model. ``source_type``: a code of IPTC's list of digital source types. ``details``: JSON that goes
    with the action, for instance the digest of a prompt; everybody can read it. ``time_stamp``: asked once for a time
    stamp over the signature. Raises ValueError for other formats than ``SIGNABLE``, NoTimeStamp where there is none or
    none that fits, and c2pa's C2paError for content that is not of its media type.
    """
    if media_type not in SIGNABLE:
        raise ValueError(f"{media_type} cannot be signed; these can: {', '.join(sorted(SIGNABLE))}.")
    import c2pa

    manifest = json.dumps(_manifest(title, made_by, source_type, details or {}, when or datetime.now(UTC)))
    target = io.BytesIO()
    with (
        _signer_of(keys, roomy=time_stamp is not None) as signer,
        c2pa.Builder(manifest, context(keys.root)) as builder,
    ):
        builder.sign(signer, media_type, io.BytesIO(content), target)
    signed = target.getvalue()
    return signed if time_stamp is None else _time_stamped(signed, media_type, time_stamp)


def _signer_of(keys: Keys, *, roomy: bool) -> Any:
    """`roomy`: its signatures are padded to 10 kB and more, which a time stamp takes the place of."""
    import c2pa

    if not roomy:
        return c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", keys.chain, keys.key, None))
    key = load_pem_private_key(keys.key, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("The signer's key is no elliptic curve key.")

    def raw_signature(data: bytes) -> bytes:
        halves = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return b"".join(half.to_bytes(32) for half in halves)

    return c2pa.Signer.from_callback(raw_signature, c2pa.C2paSigningAlg.ES256, keys.chain.decode("ascii"))


# --- Time stamps ---
# In the unprotected header of the COSE signature, as `sigTst2` (C2PA 2.x): a token over the finished signature, in
# place of as much padding, so that no length and no digest in the file changes.


#: Takes what is to be stamped, answers with an RFC 3161 token (DER). Raises NoTimeStamp.
TimeStamp = Callable[[bytes], bytes]
_SIGNATURE = re.compile(rb"c2pa\.signature\x00(.{4})cbor", re.DOTALL)
#: CBOR spells lengths from here to 65,535 in two bytes: padding that stays above is as long as it says.
_LEAST_PAD = 256


class NoTimeStamp(Exception):
    """There is none; the text says why."""


def _time_stamped(signed: bytes, media_type: str, time_stamp: TimeStamp) -> bytes:
    import cbor2

    boxes = list(_SIGNATURE.finditer(signed))
    if len(boxes) != 1:
        raise NoTimeStamp("The signature cannot be told from the rest of the file.")
    begin = boxes[0].end()
    end = begin + int.from_bytes(boxes[0][1]) - 8
    cose = cbor2.loads(signed[begin:end])
    protected, unprotected, payload, signature = cose.value
    asked = cbor2.dumps(["CounterSignature", protected, b"", cbor2.dumps(signature)])
    token = time_stamp(asked)
    header = {"sigTst2": {"tstTokens": [{"val": token}]}, **unprotected}
    spare = len(cbor2.dumps({**header, "pad": bytes(_LEAST_PAD)})) - len(cbor2.dumps(unprotected))
    if spare > 0:
        raise NoTimeStamp(f"The time stamp has {len(token):,} bytes, {spare:,} more than there is room for.")
    header["pad"] = bytes(_LEAST_PAD - spare)
    filled = cbor2.dumps(cbor2.CBORTag(cose.tag, [protected, header, payload, signature]))
    if len(filled) != end - begin:
        raise NoTimeStamp("The time stamp does not fit into its place.")
    content = signed[:begin] + filled + signed[end:]
    return _checksummed(content, begin) if media_type == "image/png" else content


def _checksummed(png: bytes, inside: int) -> bytes:
    """With the right checksum of the chunk around an offset."""
    at = 8
    while at < inside:
        after = at + 12 + int.from_bytes(png[at : at + 4])
        if after > inside:
            body = png[at + 4 : after - 4]
            return png[: after - 4] + zlib.crc32(body).to_bytes(4) + png[after:]
        at = after
    raise NoTimeStamp("The signature is in no chunk of the file.")


# --- The manifest ---


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


def _needs_leaf(store: SecretStore) -> bool:
    certificate, secret = store.read("signer.pem"), store.read("signer.key")
    if certificate is None or secret is None:
        return True
    leaf = x509.load_pem_x509_certificate(certificate)
    key = load_pem_private_key(secret, None)
    # Killed between the two parts of a renewal: they do not belong together.
    if leaf.public_key() != key.public_key():
        return True
    return leaf.not_valid_after_utc - datetime.now(UTC) < LEAF_LIFE - LEAF_RENEWAL


def _make_root(store: SecretStore, organisation: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    # The key first: a root without its key could never issue another leaf.
    store.write("root.key", private_pem(key))
    _write_root(store, subject_name(organisation, f"{PRODUCT} root"), key)


def _write_root(store: SecretStore, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> None:
    certificate = (
        _certificate(name, name, key.public_key(), ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_usage(signs=False, issues=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    store.write("root.pem", certificate.public_bytes(Encoding.PEM))


def _issues_authorities(store: SecretStore) -> bool:
    """Roots of before there were tenants' authorities may issue leaves only."""
    root = x509.load_pem_x509_certificate(_present(store, "root.pem"))
    return root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length != 0


def _remake_root(store: SecretStore) -> None:
    """The same name and key in a certificate that may issue authorities: what was signed stays verifiable."""
    root, authority = _authority(store)
    _write_root(store, root.subject, authority)


def _authority(store: SecretStore) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    root = x509.load_pem_x509_certificate(_present(store, "root.pem"))
    key = load_pem_private_key(_present(store, "root.key"), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != root.public_key():
        raise ValueError(f"{store.place('root.key')} is not the key of root.pem; restore both from a backup.")
    return root, key


def _make_leaf(store: SecretStore, organisation: str) -> None:
    root, authority = _authority(store)
    key = ec.generate_private_key(ec.SECP256R1())
    name = subject_name(organisation, f"{PRODUCT} signer")
    certificate = issue_certificate(name, key.public_key(), root, authority, issues=False)
    store.write("signer.key", private_pem(key))
    store.write("signer.pem", certificate.public_bytes(Encoding.PEM))


def issue_certificate(
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


def subject_name(organisation: str, common: str) -> x509.Name:
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


# --- Certificates of tenants -----------------------------------------------------------------------------
# A certificate for each tenant: what its manifests are signed with names it, and leads to the installation's root.
#
# root of the installation → issuing authority of the tenant (may issue no further authority) → the tenant's signer.
# Two steps, so that a signer is renewed without the root's key, and so that a tenant's authority can be handed over
# or forgotten alone. The name "Organisation" is the tenant's own, "Common name" has its id, which nobody else gets
# here.


TENANTS = "tenants"
#: Of a tenant's authority; renewed while it still outlives every signer that it issues.
ISSUER_LIFE = timedelta(days=15 * 365)
#: What X.509 allows for a name.
MAX_NAME = 64
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,40}")


class CertificateAndKey(NamedTuple):
    """A certificate and the key that it is about."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def tenant_keys(where: Path | SecretStore, tenant_id: str, organisation: str) -> Keys:
    """The tenant's keys in the installation's folder or store, made by whoever comes first, renewed when half used up.

    A new name of the organisation gets a new signer. Raises ValueError for an id that cannot name a folder and for
    secrets that do not belong together, OSError where files cannot be read or written.
    """
    own, store = _folder(tenant_id), _store(where)
    # Whoever forgets a tenant in between must find all of it, so this waits for the lock, too.
    with store.held():
        root = _own_keys(store, PRODUCT).root
        issuer = _issuer(store, own, tenant_id, _named(organisation))
        signer = _signer(store, own, issuer, tenant_id, _named(organisation))
    chain = b"".join(map(_text, (signer.certificate, issuer.certificate)))
    return Keys(root, chain + root.encode(), private_pem(signer.key))


def forget_tenant(where: Path | SecretStore, tenant_id: str) -> bool:
    """Delete the tenant's keys; whether there were any. What they signed stays readable, and nothing new is signed."""
    return _store(where).forget(_folder(tenant_id))


# --- The two certificates ---


def _issuer(store: SecretStore, own: str, tenant_id: str, organisation: str) -> CertificateAndKey:
    root = _read(store, "root")
    if root is None:
        raise ValueError(
            f"{store.place('root.key')} and root.pem do not belong together; restore both from a backup."
        )
    kept = _read(store, f"{own}/issuer")
    if (
        kept is not None
        and _left(kept) > LEAF_LIFE
        and _issued_by(kept, root)
        and _is_about(kept, organisation)
    ):
        return kept
    name = subject_name(organisation, f"{PRODUCT} tenant {tenant_id} authority")
    return _make(store, f"{own}/issuer", name, root, issues=True)


def _signer(
    store: SecretStore, own: str, issuer: CertificateAndKey, tenant_id: str, organisation: str
) -> CertificateAndKey:
    kept = _read(store, f"{own}/signer")
    fresh = kept is not None and _left(kept) >= LEAF_LIFE - LEAF_RENEWAL
    if kept is not None and fresh and _issued_by(kept, issuer) and _is_about(kept, organisation):
        return kept
    name = subject_name(organisation, f"{PRODUCT} tenant {tenant_id}")
    return _make(store, f"{own}/signer", name, issuer, issues=False)


def _make(
    store: SecretStore, stem: str, name: x509.Name, issuer: CertificateAndKey, *, issues: bool
) -> CertificateAndKey:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = issue_certificate(
        name,
        key.public_key(),
        issuer.certificate,
        issuer.key,
        issues=issues,
        life=ISSUER_LIFE if issues else LEAF_LIFE,
    )
    store.write(f"{stem}.key", private_pem(key))
    store.write(f"{stem}.pem", _text(certificate))
    return CertificateAndKey(certificate, key)


def _read(store: SecretStore, stem: str) -> CertificateAndKey | None:
    """None where a part is missing, or one was left over from a renewal that was killed between the two."""
    text, secret = store.read(f"{stem}.pem"), store.read(f"{stem}.key")
    if text is None or secret is None:
        return None
    try:
        certificate = x509.load_pem_x509_certificate(text)
        key = load_pem_private_key(secret, None)
    except ValueError as error:
        where, name = store.place(f"{stem}.pem"), stem.rpartition("/")[2]
        raise ValueError(f"{where} or {name}.key is damaged; restore both or delete both.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        return None
    return CertificateAndKey(certificate, key)


def _left(pair: CertificateAndKey) -> timedelta:
    return pair.certificate.not_valid_after_utc - datetime.now(UTC)


def _issued_by(pair: CertificateAndKey, issuer: CertificateAndKey) -> bool:
    try:
        pair.certificate.verify_directly_issued_by(issuer.certificate)
    except (ValueError, InvalidSignature):
        return False
    return True


def _is_about(pair: CertificateAndKey, organisation: str) -> bool:
    [name] = pair.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return name.value == organisation


# --- Names ---


def _folder(tenant_id: str) -> str:
    if not _ID.fullmatch(tenant_id):
        raise ValueError(f"{tenant_id!r} is no id of a tenant.")
    return f"{TENANTS}/{tenant_id}"


def _named(organisation: str) -> str:
    """What a certificate can hold of it: one line of at most 64 characters."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in organisation).split())
    return shown[:MAX_NAME].strip() or PRODUCT


def _text(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
