"""The keys with which this installation and its tenants sign, where every host finds the same ones; and the time stamps
over what they sign.

They are rows (`InstallationSecret`): certificates as they are, private keys sealed under data keys. Whichever host
needs them first makes them, under a lock of the database. Where `PROVENANCE_DIR` is set they are files there instead,
for a folder that all hosts mount. Keys that a former release kept in the data directory become rows at the first use,
and the roots of further hosts become anchors: what they signed stays known as our own. Why:
docs/adr/0054-signing-keys-are-shared-by-all-hosts.md.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.db import connection, transaction
from django.utils.translation import gettext as _

from ml.provenance import signing
from ml.provenance.signing import TENANTS, Keys, SecretFiles, SecretStore
from tenants.accounts import installation_secrets
from tenants.accounts.models import InstallationSecret, Tenant
from tenants.accounts.vault import InvalidToken
from tenants.errors import Unavailable
from tenants.events import ssrf_guard, time_stamps

log = logging.getLogger(__name__)

# An advisory lock, of the transaction that makes keys.
MAKING_KEYS = 0x0C05_516E
ROOT, ANCHORS = "root.pem", "anchors/"
PRIVATE = ".key"
#: Folders of the data directory whose keys are rows by now.
_adopted: set[Path] = set()


class SealedElsewhere(Unavailable):
    """The keys were sealed under a key that is not here; new ones are never made in their place."""

    slug = "signing-keys-sealed"


class Rows:
    """A `SecretStore` in the database."""

    @contextmanager
    def held(self) -> Iterator[None]:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [MAKING_KEYS])
            yield

    def read(self, name: str) -> bytes | None:
        row = InstallationSecret.objects.filter(pk=name).first()
        return _opened(row) if row is not None else None

    def write(self, name: str, content: bytes) -> None:
        owner, private = _tenant_of(name), name.endswith(PRIVATE)
        installation_secrets.write(name, content, tenant_id=UUID(owner) if owner else None, private=private)

    def forget(self, folder: str) -> bool:
        with self.held():
            return bool(InstallationSecret.objects.filter(pk__startswith=f"{folder}/").delete()[0])

    def place(self, name: str) -> str:
        return f"{name} in the database"


def _opened(row: InstallationSecret) -> bytes:
    """Raises SealedElsewhere."""
    try:
        return installation_secrets.content_of(row)
    except InvalidToken as error:
        raise SealedElsewhere(
            _(
                "The signing keys were sealed under another key (its id is %(sealed)s). Set the MASTER_KEY_FILE, "
                "KMS_URL or SECRET_KEY that they were made under: new keys are not made in their place."
            )
            % {"sealed": row.key_id}
        ) from error


def _tenant_of(name: str) -> str | None:
    kind, _slash, rest = name.partition("/")
    return rest.partition("/")[0] if kind == TENANTS else None


def _store() -> SecretStore:
    return SecretFiles(settings.PROVENANCE_DIR) if settings.PROVENANCE_MOUNTED else Rows()


def keys_of(tenant: Tenant) -> Keys:
    """The tenant's keys, made by whoever needs them first. Raises SealedElsewhere, ValueError for damaged ones."""
    _adopt()
    return signing.tenant_keys(_store(), str(tenant.pk), tenant.name)


def own_anchors() -> str:
    """The certificates of this installation's own signatures (PEM); empty where nothing was signed yet."""
    _adopt()
    kept = InstallationSecret.objects.filter(key_id="")
    rows = [*kept.filter(pk=ROOT), *kept.filter(pk__startswith=ANCHORS).order_by("pk")]
    mounted = SecretFiles(settings.PROVENANCE_DIR).read(ROOT) if settings.PROVENANCE_MOUNTED else None
    found = [*([mounted] if mounted else []), *(bytes(row.content) for row in rows)]
    # One that was mounted and is a row, too, is one.
    return "".join(dict.fromkeys(text.decode("ascii") for text in found))


def forget_tenant(tenant_id: UUID) -> None:
    """Delete the tenant's keys, wherever they are. What they signed stays readable, and nothing new is signed."""
    for store in (SecretFiles(settings.PROVENANCE_DIR), Rows()):
        signing.forget_tenant(store, str(tenant_id))


def unreadable() -> str:
    """Why keys that are there cannot be used, in a sentence; empty where they can."""
    try:
        for row in InstallationSecret.objects.exclude(key_id="").filter(tenant=None):
            _opened(row)
    except SealedElsewhere as error:
        return error.detail
    return ""


def _adopt() -> None:
    """Take over what a former release kept in this host's data directory."""
    folder: Path = settings.PROVENANCE_DIR
    if settings.PROVENANCE_MOUNTED or folder in _adopted:
        return
    root = SecretFiles(folder).read(ROOT)
    if root is not None:
        rows = Rows()
        with rows.held():
            kept = rows.read(ROOT)
            if kept is None:
                _copy_all(folder, rows)
            elif _fingerprint(kept) != _fingerprint(root):
                # Of a host that had keys of its own, before they were shared.
                rows.write(f"{ANCHORS}{_fingerprint(root)}.pem", root)
    if not connection.in_atomic_block:
        _adopted.add(folder)


def _copy_all(folder: Path, rows: Rows) -> None:
    tenants = {str(pk) for pk in Tenant.objects.values_list("pk", flat=True)}
    for path in sorted(path for kind in ("*.pem", "*.key") for path in folder.rglob(kind)):
        name = path.relative_to(folder).as_posix()
        if _tenant_of(name) in {None, *tenants}:
            rows.write(name, path.read_bytes())


def _fingerprint(certificate: bytes) -> str:
    """Of its public key: a root that was made anew for the same key is the same."""
    key = x509.load_pem_x509_certificate(certificate).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()[:32]


# --- Time stamps -----------------------------------------------------------------------------------------


class TimeStamper:
    """Asks the installation's authority for stamps over signatures. Where one cannot be had, it asks for no more: what
    is made by one request waits for an authority that is away once."""

    def __init__(self) -> None:
        allowed = ssrf_guard.Allowance(
            # Tokens are signed: authorities commonly answer by http.
            http=True,
            ports=settings.GENERATION_TSA_PORTS,
            hosts=settings.GENERATION_TSA_ALLOWED_HOSTS,
            networks=settings.GENERATION_TSA_ALLOWED_NETWORKS,
        )
        self._authority = time_stamps.Authority(
            settings.GENERATION_TSA_URL,
            settings.GENERATION_TSA_CA,
            allowed,
            settings.GENERATION_TSA_TIMEOUT_S,
        )
        self._failed = ""

    def __call__(self, message: bytes) -> bytes:
        """An RFC 3161 token over the message. Raises NoTimeStamp; never from within a transaction."""
        if self._failed:
            raise signing.NoTimeStamp(self._failed)
        try:
            return time_stamps.token_of(time_stamps.stamp(self._authority, message))
        except time_stamps.Unstamped as error:
            self._failed = str(error)
            raise signing.NoTimeStamp(self._failed) from error


def time_stamper() -> TimeStamper | None:
    """None where this installation asks no authority."""
    return TimeStamper() if settings.GENERATION_TSA_URL else None


def time_stamp_anchors() -> str:
    """The certificates (PEM) that time stamps are trusted by here; empty where none are, or they cannot be read."""
    return _read_anchors(settings.GENERATION_TSA_CA) if settings.GENERATION_TSA_CA else ""


@lru_cache(maxsize=4)
def _read_anchors(path: str) -> str:
    try:
        return Path(path).read_text("ascii")
    except (OSError, ValueError):
        log.warning("the certificates of the time stamp authority cannot be read", extra={"path": path})
        return ""


def wrong_time_stamps() -> str:
    """Why no time stamp can be asked for, in a sentence; empty where one can, or none is wanted. Asks nobody."""
    if not settings.GENERATION_TSA_URL:
        return ""
    try:
        time_stamps.check(TimeStamper()._authority)
    except time_stamps.Unstamped as error:
        return str(error)
    return ""
