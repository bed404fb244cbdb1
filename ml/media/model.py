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
    """A file that cannot be used. ``code`` is for programs, the message for the person who sent the file.

    ``cpu_s``: processor seconds that finding this out took, beside what pieces that came before it told.
    """

    cpu_s = 0.0

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message


@dataclass(frozen=True)
class DecodedImage:
    """One picture, ready for an encoder and for a page.

    ``pixels``: uint8 [h, w, 3] sRGB, orientation applied, on white, longest side at most 1024.
    ``width``, ``height``: of the original after orientation. ``format``: JPEG, PNG, WEBP, GIF, AVIF or HEIF.
    ``frames``: 1 unless animated; only the first is decoded. ``thumbnail``: JPEG, longest side at most 384
    (empty when not asked for). ``clean``: with ``has_location``, and of HEIF, which no browser shows, always: the
    picture re-encoded at full size without any metadata, of media type ``clean_type``; None otherwise. ``cpu_s``:
    processor seconds of the decoding.
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


@dataclass(frozen=True)
class MediaInfo:
    """What a sound or film is, measured rather than believed.

    ``media_type``: refined by content: an MP4 or WebM with only sound is audio/mp4 or audio/webm.
    ``duration_s``: by the packets. ``width``, ``height``: as shown, after rotation and pixel shape; None for
    sound. ``has_picture``: a film; cover art does not count. ``frame_rate``: the average, None where unknown or
    for sound. ``codecs``: of all streams. ``has_location``: metadata, streams or unknown parts that tell a
    place, or may; ``Decoder.clean`` gives a copy without. ``truncated``: the header promises more than there is.
    """

    media_type: str
    duration_s: float
    width: int | None
    height: int | None
    has_sound: bool
    has_picture: bool
    frame_rate: float | None
    codecs: tuple[str, ...]
    has_location: bool
    truncated: bool = False


@dataclass(frozen=True)
class Sound:
    """A piece of sound: ``samples`` float32 [n] mono 16 kHz in -1..1, from ``start_s`` on.

    ``cpu_s``: processor seconds for this piece. ``truncated``: the file is damaged, and by here decoding had to
    leave parts out, or its end is missing; look at the last piece.
    """

    start_s: float
    samples: NDArray[np.float32]
    cpu_s: float
    truncated: bool = False


@dataclass(frozen=True)
class Frame:
    """One picture of a film: ``pixels`` uint8 [h, w, 3] sRGB, upright, longest side at most 640.

    ``at_s``: its own time, not the one asked for. ``same``: looks like the last frame without this mark, whose
    vector will do. ``cpu_s``, ``truncated``: as in ``Sound``.
    """

    at_s: float
    pixels: NDArray[np.uint8]
    same: bool
    cpu_s: float
    truncated: bool = False
