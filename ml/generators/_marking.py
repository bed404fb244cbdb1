"""What the wrapper needs beside the marks: reading credentials back, room for a mark, previews, lack of memory."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ml.generators.base import Marker, Pixels, Step, Watch
from ml.provenance import watermark

PREVIEW_SIDE, PREVIEW_SECONDS = 192, 0.8


def read_credentials(content: bytes, media_type: str, root: str) -> dict[str, Any]:
    """What the audit's detector ``c2pa`` says of these bytes, with ``root`` as the installation's own anchor."""
    from ml.detectors.base import Item, load_detector

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made"
        path.write_bytes(content)
        kind: Any = media_type.partition("/")[0]
        item = Item(kind, media_type, path=path, options={"own_anchors": root})
        found: dict[str, Any] = dict(load_detector("c2pa").examine(item).fields.get("c2pa", {}))
    return found


def out_of_memory(error: BaseException) -> bool:
    """Whether it says so: Python's, torch's on a GPU, or torch's allocator of the processor."""
    words = str(error)
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return (
        named or "out of memory" in words or "not enough memory" in words or "can't allocate memory" in words
    )


def eased(pixels: Pixels, room: float) -> Pixels:
    """With its contrast reduced to ``room`` around middle grey."""
    if room >= 1:
        return pixels
    return np.clip(np.rint((pixels.astype(np.float32) - 127.5) * room + 127.5), 0, 255).astype(np.uint8)


class Marked:
    """A watch that counts over ``batches``, and lets previews through small, marked, and not too often."""

    def __init__(self, watch: Watch, marker: Marker, batches: int) -> None:
        self._watch, self._marker, self._batches = watch, marker, batches
        self.batch = 0
        self._last, self._step = 0.0, Step(0, 1)

    def __call__(self, step: Step) -> None:
        done = self.batch * step.total + min(step.done, step.total)
        self._step = Step(done, step.total * self._batches)
        self._watch(replace(self._step, preview=self._preview(step.preview)))

    def alive(self) -> None:
        """The last step once more: a chance to cancel."""
        self._watch(self._step)

    def _preview(self, pixels: Pixels | None) -> Pixels | None:
        now = time.monotonic()
        if pixels is None or now - self._last < PREVIEW_SECONDS:
            return None
        self._last = now
        height, width = pixels.shape[:2]
        scale = PREVIEW_SIDE / max(height, width)
        size = (max(watermark.MIN_SIDE, round(width * scale)), max(watermark.MIN_SIDE, round(height * scale)))
        small = np.asarray(Image.fromarray(pixels).resize(size))
        return watermark.embed(small, self._marker.payload, self._marker.watermark_key)
