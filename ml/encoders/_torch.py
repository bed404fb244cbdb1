"""What the encoders that run on PyTorch share. torch itself is imported only when one is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ml.devices import in_halves
from ml.encoders.base import Vectors, as_pixels

MAX_BATCH = 16


def pick_device() -> str:
    """``cuda`` where there is one, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def in_batches(run: Callable[[Sequence[Any]], Any], batch: Sequence[Any], dimension: int) -> Vectors:
    """Call ``run`` (tensor [m, dimension] out) on slices without gradients; float32 [n, dimension]."""
    import torch

    with torch.inference_mode():
        slices = (batch[start : start + MAX_BATCH] for start in range(0, len(batch), MAX_BATCH))
        parts = [in_halves(lambda some: run(some).float().cpu().numpy(), part) for part in slices]
    return np.concatenate(parts) if parts else np.empty((0, dimension), np.float32)


def unit(vectors: Any) -> Any:
    """Rows of norm 1."""
    import torch

    return torch.nn.functional.normalize(vectors, dim=-1)


def as_images(batch: Sequence[Any]) -> list[Image.Image]:
    """Checked uint8 pictures as Pillow images, which every image processor takes."""
    return [Image.fromarray(as_pixels(picture)) for picture in batch]


def weights_version(files: Sequence[Path]) -> str:
    """Twelve digits over the weights' bytes: a folder whose weights are replaced is another version."""
    digest = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
