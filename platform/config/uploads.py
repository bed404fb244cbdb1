"""Uploads stream to disk, under a cap; nothing of an upload is held in memory."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.files.uploadhandler import TemporaryFileUploadHandler

from tenants.errors import StorageFull, TooLarge, room_on_disk
from tenants.pipeline.audits import public_check

# Routes that take a file of many assets, and those that take one of anybody; every other takes one asset.
IMPORTS = frozenset({"api:imports", "console:dataset-import"})
OPEN = frozenset({"api:check", "console:check"})


class CappedUploadHandler(TemporaryFileUploadHandler):
    """Raises TooLarge as soon as the files of one request pass the cap of its route."""

    received = 0

    @cached_property
    def route(self) -> str:
        match = self.request.resolver_match if self.request else None
        return match.view_name if match else ""

    @cached_property
    def cap(self) -> int:
        """MAX_IMPORT_BYTES for an import, PUBLIC_CHECK_BYTES for a check by anybody, else MAX_UPLOAD_BYTES."""
        if self.route in OPEN:
            return settings.PUBLIC_CHECK_BYTES
        return settings.MAX_IMPORT_BYTES if self.route in IMPORTS else settings.MAX_UPLOAD_BYTES

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

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        with room_on_disk():
            super().new_file(*args, **kwargs)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.received += len(raw_data)
        if self.received > self.cap:
            self.file.close()
            raise self._too_large()
        try:
            with room_on_disk():
                super().receive_data_chunk(raw_data, start)
                # What waits in a buffer would fail where nobody expects it, when the file is read or closed.
                self.file.flush()
        except StorageFull:
            with suppress(OSError):
                self.file.close()
            raise

    def _too_large(self) -> TooLarge:
        if self.route in OPEN:
            return public_check.too_large()
        return TooLarge(f"Files of one request may have {self.cap // 2**20} MiB together. Split the upload.")
