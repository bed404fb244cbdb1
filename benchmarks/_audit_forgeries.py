"""Pictures with a copied region, and untouched ones, made from open photos: what copy-move detection is measured on."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

#: A region's radius as a share of the shorter side.
SMALLEST, LARGEST = 0.10, 0.22
#: A region needs so much contrast (standard deviation of its grey) to be worth copying.
TEXTURE = 22.0


@dataclass(frozen=True)
class Forgery:
    """A picture and where its copy lies (bool [h, w]); the mask of an untouched one is empty."""

    pixels: Pixels
    copied: NDArray[np.bool_]
    how: str


def forge(pixels: Pixels, rng: np.random.Generator) -> Forgery | None:
    """Copy one textured region elsewhere: as it is, turned or scaled, its edge blended. None where there is none."""
    import cv2

    height, width = pixels.shape[:2]
    for _ in range(40):
        radius = rng.uniform(SMALLEST, LARGEST) * min(height, width)
        turn = float(rng.choice([0.0, rng.uniform(-30, 30), rng.uniform(-180, 180)]))
        scale = float(rng.choice([1.0, rng.uniform(0.75, 1.35)]))
        margin = radius * max(1.0, scale) + 2
        if 2 * margin >= min(height, width):
            continue
        sx, tx = rng.uniform(margin, width - margin, 2)
        sy, ty = rng.uniform(margin, height - margin, 2)
        if np.hypot(sx - tx, sy - ty) < 1.1 * radius * (1 + scale):
            continue
        blob = _blob(height, width, sx, sy, radius, rng)
        if cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[blob > 0.5].std() < TEXTURE:
            continue
        move = cv2.getRotationMatrix2D((sx, sy), turn, scale)
        move[:, 2] += (tx - sx, ty - sy)
        moved = cv2.warpAffine(pixels, move, (width, height), flags=cv2.INTER_CUBIC)
        soft = cv2.warpAffine(blob, move, (width, height))
        soft = cv2.GaussianBlur(soft, (0, 0), float(rng.uniform(0.5, 3)))[..., None]
        mixed = np.clip(moved * soft + pixels * (1 - soft), 0, 255).astype(np.uint8)
        return Forgery(mixed, soft[..., 0] > 0.5, f"turned {turn:.0f}°, scaled {scale:.2f}")
    return None


def resaved(pixels: Pixels, quality: int) -> Pixels:
    """What a JPEG of this quality leaves."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def repetitive(rng: np.random.Generator, size: int = 512) -> list[tuple[str, Pixels]]:
    """Untouched pictures full of repetition, as hard as they come: a wall, a chequered cloth, windows, print.

    Every element has its own shade, shape and grain, as in a photo; nothing is copied.
    """
    return [(kind, _draw(kind, rng, size)) for kind in ("bricks", "cloth", "windows", "text")]


def _blob(
    height: int, width: int, x: float, y: float, radius: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """A star of ten corners, float32 [h, w] of 0 and 1."""
    import cv2

    at = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    reach = radius * rng.uniform(0.7, 1.0, 10)
    corners = np.stack([x + reach * np.cos(at), y + reach * np.sin(at)], axis=1).round().astype(np.int32)
    mask = np.zeros((height, width), np.float32)
    cv2.fillPoly(mask, [corners], 1.0)
    return mask


def _draw(kind: str, rng: np.random.Generator, size: int) -> Pixels:
    import cv2

    canvas = np.full((size, size, 3), rng.uniform(90, 160, 3), np.float32)
    steps = {"bricks": (64, 24), "cloth": (32, 32), "windows": (72, 96), "text": (20, 28)}[kind]
    for row, top in enumerate(range(0, size, steps[1])):
        for left in range(-(row % 2) * steps[0] // 2 if kind == "bricks" else 0, size, steps[0]):
            _element(kind, canvas, left, top, steps, rng)
    canvas = cv2.GaussianBlur(canvas, (0, 0), 0.8)
    light = 1 + 0.15 * np.sin(np.linspace(0, rng.uniform(1, 4), size))[:, None, None]
    return np.clip(canvas * light + rng.normal(0, 4, canvas.shape), 0, 255).astype(np.uint8)


def _element(
    kind: str, canvas: Any, left: int, top: int, steps: tuple[int, int], rng: np.random.Generator
) -> None:
    import cv2

    jitter = rng.normal(0, 1.0, 4).round().astype(int)
    box = (
        (left + 3 + jitter[0], top + 3 + jitter[1]),
        (left + steps[0] - 3 + jitter[2], top + steps[1] - 3 + jitter[3]),
    )
    shade = tuple(float(value) for value in rng.normal((150, 80, 60), 12))
    if kind == "text":
        letter = chr(int(rng.integers(97, 123)))
        cv2.putText(
            canvas,
            letter,
            (left + 2, top + 20),
            cv2.FONT_HERSHEY_DUPLEX,
            0.7,
            (20.0, 20.0, 20.0),
            1,
            cv2.LINE_AA,
        )
    elif kind == "cloth":
        cv2.rectangle(canvas, *box, shade if (left // 32 + top // 32) % 2 else (220.0, 220.0, 210.0), -1)
    else:
        cv2.rectangle(canvas, *box, shade, -1)
        if kind == "windows":
            cv2.rectangle(canvas, *box, (240.0, 240.0, 240.0), 3)
            middle = left + steps[0] // 2
            cv2.line(canvas, (middle, top + 3), (middle, top + steps[1] - 3), (240.0, 240.0, 240.0), 2)
