"""The tus 1.0 protocol over `tenants.datasets.resumable`, for the API and the console alike.

What requests and answers mean is the library's. Here: its storage and locks over our rows, and bodies that reach it
in pieces, as it takes a body whole. Why: docs/adr/0012-resumable-uploads-are-tus-in-pieces.md and 0053.
"""

from __future__ import annotations

import mmap
import time
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from tempfile import TemporaryFile
from typing import IO

from django.conf import settings
from django.utils.translation import gettext as _
from resumable_upload import TusServer
from resumable_upload.locks import LockBackend
from resumable_upload.storage import Storage

from tenants.datasets import resumable
from tenants.datasets.upload_bytes import Held
from tenants.errors import TooLarge, Unavailable, room_on_disk
from tenants.long_requests import UPLOADING
from tenants.scope import tenant_scope

VERSION = TusServer.TUS_VERSION
# What a request holds in memory.
PIECE = 1024 * 1024
LOCK_WAIT_S = 2.0
LOCK_POLL_S = 0.02
# The headers that the protocol is made of; nothing else of a request reaches the library.
UNDERSTOOD = (
    *("Tus-Resumable", "Content-Type", "Upload-Length", "Upload-Offset"),
    *("Upload-Metadata", "Upload-Checksum"),
)
CHECKSUM_MISMATCH = 460
REFUSALS = {
    HTTPStatus.BAD_REQUEST: ("malformed", "The request cannot be read"),
    HTTPStatus.FORBIDDEN: ("upload-complete", "The upload is complete"),
    HTTPStatus.NOT_FOUND: ("not-found", "Not found"),
    HTTPStatus.CONFLICT: ("offset-mismatch", "The upload stands elsewhere"),
    HTTPStatus.PRECONDITION_FAILED: ("unsupported-version", "This version of tus is not spoken here"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("too-large", "Too large"),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ("unsupported-media-type", "This kind of body is not accepted"),
    HTTPStatus.LOCKED: ("upload-locked", "Another request is writing"),
    CHECKSUM_MISMATCH: ("checksum-mismatch", "The bytes are not those that were sent"),
}


@dataclass(frozen=True)
class Reply:
    """The protocol's answer; one from 400 on has words instead of a body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    detail: str = ""

    @property
    def refusal(self) -> tuple[str, str]:
        """Slug and title of a problem."""
        return REFUSALS.get(self.status, ("upload-refused", "The upload cannot go on"))


@dataclass(frozen=True)
class TusRequest:
    """One request, of a tenant whose right to it was checked. `base` is the address under which uploads stand."""

    tenant_id: uuid.UUID
    method: str
    base: str
    headers: Mapping[str, str]
    upload_id: uuid.UUID | None = None

    def dispatch(self, body: object = b"", **changed: str) -> Reply:
        """Let the library answer; `body` is anything with a length that can be hashed and written."""
        path = f"{self.base}/{self.upload_id}" if self.upload_id else self.base
        headers = {name: self.headers[name] for name in UNDERSTOOD if name in self.headers}
        server = Protocol(self.tenant_id, self.base)
        status, answered, text = server.handle_request(self.method, path, {**headers, **changed}, body)
        return Reply(status, answered, text.decode() if isinstance(text, bytes) else "")


def handle(call: TusRequest) -> Reply:
    """Everything without a body: POST begins an upload, HEAD tells its offset, DELETE ends it, OPTIONS what is known.

    Raises NotFound, QuotaExceeded, StorageFull.
    """
    return call.dispatch()


def receive(call: TusRequest, body: IO[bytes], length: int) -> Reply:
    """PATCH: append a body of `length` bytes, however many. What came before a break is kept.

    Raises NotFound, TooLarge, StorageFull, Unavailable (too many send at once).
    """
    _check_length(call, length)
    with UPLOADING.taken() as there:
        if not there:
            raise Unavailable(_("Too many uploads run at this moment. Go on with this one soon."))
        return (_verified if "Upload-Checksum" in call.headers else _in_pieces)(call, body)


def _check_length(call: TusRequest, length: int) -> None:
    # Before anything is read: pieces alone would notice it only at the last. Of a client that stands elsewhere than the
    # upload nothing is known yet; it is told the offset.
    upload = resumable.look_up(call.tenant_id, call.upload_id) if call.upload_id else None
    known = upload and call.headers.get("Upload-Offset") == str(upload.offset)
    if upload and known and not upload.complete and upload.offset + length > upload.bytes:
        raise TooLarge(
            _("The upload was announced with %(bytes)s bytes; this would make it longer.")
            % {"bytes": upload.bytes}
        )


def _in_pieces(call: TusRequest, body: IO[bytes]) -> Reply:
    piece, reply = body.read(PIECE), call.dispatch()
    offset = reply.headers.get("Upload-Offset", "")
    while piece and reply.status == HTTPStatus.NO_CONTENT:
        reply = call.dispatch(piece, **{"Upload-Offset": offset})
        offset = reply.headers.get("Upload-Offset", "")
        piece = body.read(PIECE)
    return reply


def _verified(call: TusRequest, body: IO[bytes]) -> Reply:
    """Spooled first: bytes with a checksum count only if all of them are right."""
    with TemporaryFile(dir=settings.SPOOL_DIR) as spool:
        with room_on_disk():
            while piece := body.read(PIECE):
                spool.write(piece)
            spool.flush()
        if not spool.tell():
            return call.dispatch()
        with mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return call.dispatch(mapped)


class Protocol(TusServer):
    """The library's server for one tenant. Lengths are known from the start: quotas depend on them."""

    SUPPORTED_EXTENSIONS = ["creation", "expiration", "termination", "checksum"]

    def __init__(self, tenant_id: uuid.UUID, base: str) -> None:
        held: dict[str, Held] = {}
        super().__init__(
            storage=_Rows(tenant_id, held),
            lock_backend=_Locks(tenant_id, held),
            lock_wait_seconds=LOCK_WAIT_S,
            base_path=base,
            max_size=settings.MAX_IMPORT_BYTES,
            upload_expiry=settings.UPLOAD_EXPIRY_S,
            checksum_algorithms=("sha1", "sha256"),
            disable_concatenation=True,
        )


class _Rows(Storage):
    """Uploads of one tenant. What is held is known; everything else is looked up."""

    def __init__(self, tenant_id: uuid.UUID, held: dict[str, Held]) -> None:
        self.tenant_id, self._held = tenant_id, held

    def create_upload(
        self,
        upload_id: str,
        upload_length: int | None,
        metadata: dict[str, str],
        expires_at: datetime | None = None,
        is_partial: bool = False,
    ) -> None:
        if upload_length is None or expires_at is None:
            raise ValueError("an upload has a length and an end")
        with tenant_scope(self.tenant_id):
            resumable.begin(
                upload_id=uuid.UUID(upload_id),
                length=upload_length,
                metadata=metadata,
                expires_at=expires_at,
            )

    def get_upload(self, upload_id: str) -> dict[str, object] | None:
        held = self._held.get(upload_id)
        found = resumable.seen(held) if held else resumable.look_up(self.tenant_id, uuid.UUID(upload_id))
        if found is None:
            return None
        return {
            "offset": found.offset,
            "upload_length": found.bytes,
            "metadata": found.metadata,
            "completed": found.complete,
            "expires_at": found.expires_at,
        }

    def write_chunk(self, upload_id: str, offset: int, data: bytes) -> None:
        resumable.append(held=self._held[upload_id], offset=offset, data=data)

    def update_offset_atomic(self, upload_id: str, expected_offset: int, new_offset: int) -> bool:
        # Where bytes are stored, they count.
        return self._held[upload_id].offset == new_offset

    def delete_upload(self, upload_id: str) -> None:
        resumable.discard(self.tenant_id, uuid.UUID(upload_id))

    def cleanup_expired_uploads(self) -> int:
        return 0  # upkeep removes them; here it would be asked with every request

    # The library asks these only for features that are off.

    def update_offset(self, upload_id: str, offset: int) -> None:
        raise NotImplementedError

    def read_file(self, upload_id: str) -> bytes:
        raise NotImplementedError

    def get_expired_uploads(self) -> list[str]:
        raise NotImplementedError


class _Locks(LockBackend):
    """Locks over all processes and hosts, freed when their holder dies.

    Without a time-out, unlike the library's own: a slow write must not be joined by a second one.
    """

    def __init__(self, tenant_id: uuid.UUID, held: dict[str, Held]) -> None:
        self.tenant_id, self._held = tenant_id, held
        self._holders: dict[str, AbstractContextManager[Held | None]] = {}

    def acquire(self, key: str, ttl_seconds: float, wait_timeout: float = 0.0) -> str | None:
        deadline = time.monotonic() + wait_timeout
        while not (token := self._try_lock(key)) and time.monotonic() < deadline:
            time.sleep(LOCK_POLL_S)
        return token

    def _try_lock(self, key: str) -> str | None:
        holder = resumable.locked(self.tenant_id, uuid.UUID(key))
        held = holder.__enter__()
        if held is None:
            holder.__exit__(None, None, None)
            return None
        self._holders[key], self._held[key] = holder, held
        return key

    def release(self, key: str, token: str) -> None:
        self._held.pop(key, None)
        if holder := self._holders.pop(key, None):
            holder.__exit__(None, None, None)
