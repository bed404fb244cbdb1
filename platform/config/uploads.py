"""Uploads stream to disk, under a cap; nothing of an upload is held in memory."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.files.uploadhandler import TemporaryFileUploadHandler

from tenants.errors import TooLarge, room_on_disk


class CappedUploadHandler(TemporaryFileUploadHandler):
    """Raises TooLarge as soon as the files of one request pass MAX_UPLOAD_BYTES."""

    received = 0

    def handle_raw_input(
        self,
        input_data: Any,
        META: dict,  # noqa: N803 - Django's name
        content_length: int,
        boundary: str,
        encoding: str | None = None,
    ) -> None:
        # The announced length is checked first: a client that says so need not send it all.
        if content_length > settings.MAX_UPLOAD_BYTES + settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise too_large()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.received += len(raw_data)
        if self.received > settings.MAX_UPLOAD_BYTES:
            self.file.close()
            raise too_large()
        with room_on_disk():
            super().receive_data_chunk(raw_data, start)


def too_large() -> TooLarge:
    megabytes = settings.MAX_UPLOAD_BYTES // (1024 * 1024)
    return TooLarge(f"Files of one request may have {megabytes} MiB together. Split the upload.")
