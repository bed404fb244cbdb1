"""What decoding gives, and how it fails. Shared by parent and child; imports no numpy at run time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Code = Literal["unsupported", "corrupt", "too-large", "timeout", "empty", "decoder-died"]

#: Another try may end otherwise: the machine was busy, or somebody else ended the process.
TRANSIENT = frozenset({"timeout", "decoder-died"})

CODES: tuple[str, ...] = get_args(Code)


class MediaError(Exception):
    """A file that cannot be used. ``code`` is for programs, the message for the person who sent the file."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message


@dataclass(frozen=True)
class DecodedImage:
    """One picture, ready for an encoder and for a page.

    ``pixels``: uint8 [h, w, 3] sRGB, orientation applied, on white, longest side at most 1024.
    ``width``, ``height``: of the original after orientation. ``format``: JPEG, PNG, WEBP, GIF or AVIF.
    ``frames``: 1 unless animated; only the first is decoded. ``thumbnail``: WebP, longest side at most 384
    (empty when not asked for). ``clean``: with ``has_location``, the picture re-encoded at full size without
    any metadata, of media type ``clean_type``; None otherwise. ``cpu_s``: processor seconds of the decoding.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    frames: int
    has_location: bool
    thumbnail: bytes
    clean: bytes | None
    clean_type: str | None
    cpu_s: float = 0.0
