"""Luminance planes, and the small filters that marks are written and read through."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]


def luminance(pixels: Pixels) -> Plane:
    return pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def box(plane: Plane, side: int) -> Plane:
    import cv2

    blurred: Any = cv2.blur(plane, (side, side), borderType=cv2.BORDER_REFLECT)
    return blurred


def filtered(plane: Plane) -> Plane:
    """Without what changes slowly, which is nearly all picture and hardly any mark."""
    return plane - box(box(plane, 7), 7)


def deviation(plane: Plane, side: int) -> Plane:
    return root(box(filtered(plane) ** 2, side))


def root(plane: Plane) -> Plane:
    """Running sums leave a little less than nothing where there is nothing."""
    return np.sqrt(np.maximum(plane, 0))


def saved(pixels: Pixels, quality: int) -> Pixels:
    import cv2

    _, content = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded: Any = cv2.imdecode(content, cv2.IMREAD_COLOR)
    return np.asarray(decoded, np.uint8)[..., ::-1]
