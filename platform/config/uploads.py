"""Uploads stream to disk, under a cap; nothing of an upload is held in memory."""

from __future__ import annotations

from functools import cached_property

from django.conf import settings
from django.core.files.uploadhandler import TemporaryFileUploadHandler

from tenants.errors import TooLarge, room_on_disk

# Routes that take a file of many assets; every other takes one asset.
IMPORTS = frozenset({"api:imports", "console:dataset-import"})


class CappedUploadHandler(TemporaryFileUploadHandler):
    """Raises TooLarge as soon as the files of one request pass the cap of its route."""

    received = 0

    @cached_property
    def cap(self) -> int:
        """MAX_IMPORT_BYTES for an import, else MAX_UPLOAD_BYTES."""
        match = self.request.resolver_match if self.request else None
        return (
            settings.MAX_IMPORT_BYTES if match and match.view_name in IMPORTS else settings.MAX_UPLOAD_BYTES
        )

    def handle_raw_input(
        self,
        input_data: object,
        META: dict,  # noqa: N803 - Django's name
        content_length: int,
        boundary: str,
        encoding: str | None = None,
    ) -> None:
        # The announced length is checked first: a client that says so need not send it all.
        if content_length > self.cap + settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise self._too_large()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.received += len(raw_data)
        if self.received > self.cap:
            self.file.close()
            raise self._too_large()
        with room_on_disk():
            super().receive_data_chunk(raw_data, start)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"Files of one request may have {self.cap // 2**20} MiB together. Split the upload.")
