"""Watching a generator: progress and previews go out, a cancel comes in. And the picture that a remix begins with."""

from __future__ import annotations

import io
import time
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from django.conf import settings
from PIL import Image

from tenants.datasets import storage
from tenants.datasets.models import Blob
from tenants.generation import previews
from tenants.jobs import services as jobs
from tenants.retrieval.query import decoder

if TYPE_CHECKING:
    from ml.generators.base import Step

# What is left of the progress for looking at the files and storing them.
LAST = 5
TOTAL = 100
TELL_S = 0.3


class GenerationProgress:
    """Called at each step of a generation. Raises ml's Cancelled; `stopped` is why."""

    def __init__(self, claimed: jobs.Claim, generation_id: uuid.UUID) -> None:
        self._claimed, self._generation_id = claimed, generation_id
        self._told, self._done = 0.0, 0
        self.stopped: jobs.Cancelled | jobs.LeaseLost | None = None

    def __call__(self, step: Step) -> None:
        from ml.generators.base import Cancelled

        if step.preview is not None:
            previews.keep(self._claimed.tenant_id, self._generation_id, png(step.preview))
        try:
            self._report(step)
        except (jobs.Cancelled, jobs.LeaseLost) as stop:
            self.stopped = stop
            raise Cancelled from stop

    def _report(self, step: Step) -> None:
        self._done = max(self._done, (TOTAL - LAST) * step.done // max(1, step.total))
        if step.preview is None and time.monotonic() - self._told < TELL_S:
            jobs.require_wanted(self._claimed)
            return
        self._told = time.monotonic()
        jobs.progress(self._claimed, done=self._done, total=TOTAL)


def png(pixels: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def pixels_of(blob: Blob, width: int, height: int) -> object:
    """A stored picture in this size, uint8 [height, width, 3], cut at the longer sides. Raises MediaError."""
    path = storage.path_of(blob.tenant_id, blob.sha256)
    with (
        TemporaryDirectory(dir=settings.SPOOL_DIR, prefix="remix-") as folder,
        storage.local(path, Path(folder)) as local,
    ):
        return _crop_to(decoder().image(local).pixels, width, height)


def _crop_to(pixels: Any, width: int, height: int) -> object:
    import numpy as np
    from PIL import ImageOps

    return np.asarray(ImageOps.fit(Image.fromarray(pixels).convert("RGB"), (width, height)))
